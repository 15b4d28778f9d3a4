"""Executes the tutorials and writes them as notebooks with their output.

python tutorials/build_notebooks.py [--text-only] [01_quickstart ...]

Needs `pip install -e ".[notebooks]"` and a backend. The notebooks
stand next to the scripts, have the same cells, and name no folder of the
machine that made them.
"""

import argparse
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted(HERE.glob("[0-9][0-9]_*.py"))


def notebook(script):
    """Returns the notebook of a script in the percent format, not executed."""
    made = jupytext.read(script)
    kernel = {"display_name": "Python 3", "language": "python"}
    made.metadata = {
        "kernelspec": kernel | {"name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(made.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return made


def execute(unexecuted):
    """Returns the notebook with its output."""
    from nbclient import NotebookClient

    client = NotebookClient(
        unexecuted, timeout=3600, resources={"metadata": {"path": str(HERE)}}
    )
    return client.execute()


def clean(executed):
    """Removes what is only true on this machine, or only noise."""
    for cell in executed["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] != "code":
            continue
        cell["outputs"] = merged(cell["outputs"])
        for output in cell["outputs"]:
            if "text" in output:
                output["text"] = clean_text("".join(output["text"]))
            data = output.get("data", {})
            if "image/png" in data:  # without it, the text is all there is
                data.pop("text/plain", None)
    executed["metadata"]["language_info"] = {"name": "python"}
    return nbformat.from_dict(executed)


def merged(outputs):
    """Returns outputs without standard error, joining standard output."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        text = "".join(output.get("text", ""))
        if text and kept and "text" in kept[-1]:
            kept[-1]["text"] += text
        else:
            kept.append(output | ({"text": text} if text else {}))
    return kept


def clean_text(text):
    """Returns text as a screen shows it, with no folder of this machine."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    shown: list = []
    for character in text:
        if character != "\b":
            shown.append(character)
        elif shown:
            shown.pop()
    text = "".join(shown)
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    text = "\n".join(line.rstrip() for line in lines)
    return text.replace(f"{HERE}", "tutorials")


def with_new_text(script):
    """Returns the stored notebook with the script's text between the code."""
    stored, new = jupytext.read(script.with_suffix(".ipynb")), notebook(script)
    if codes(stored) != codes(new):
        sys.exit(f"The code of {script.stem} changed: leave out --text-only.")
    return combine_inputs_with_outputs(new, stored)


def codes(made):
    """Returns the sources of the code cells."""
    return [cell.source for cell in made.cells if cell.cell_type == "code"]


def main(names, text_only):
    for script in SCRIPTS:
        if names and script.stem not in names:
            continue
        print(script.stem, flush=True)
        if text_only:
            made = with_new_text(script)
        else:
            made = clean(execute(notebook(script)))
        jupytext.write(made, script.with_suffix(".ipynb"))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    choices = [script.stem for script in SCRIPTS]
    parser.add_argument("names", nargs="*", help=f"of {', '.join(choices)}")
    parser.add_argument(
        "--text-only",
        action="store_true",
        help="execute nothing; for changes between the code only",
    )
    options = parser.parse_args()
    sys.exit(main(options.names, options.text_only))
