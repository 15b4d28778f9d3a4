"""Executes the tutorials and writes them as notebooks with their output.

python tutorials/build_notebooks.py [--text-only] [01_quickstart ...]

Needs `pip install "keras_treegate[notebooks]"` and a backend. The notebooks
stand next to the scripts, have the same cells, and name no folder of the
machine that made them.
"""

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted(HERE.glob("[0-9][0-9]_*.py"))


def cells(script):
    """Yields (cell type, source) of a script in the percent format."""
    text = "\n" + script.read_text(encoding="utf-8")
    for part in re.split(r"\n(?=# %%)", text)[1:]:
        head, _, body = part.partition("\n")
        body = body.strip("\n")
        if head == "# %% [markdown]":
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.M)
        else:
            yield "code", body


def notebook(script):
    """The notebook of a script, not executed."""
    made = [
        {
            "id": f"cell-{number}",
            "cell_type": kind,
            "metadata": {},
            "source": source,
        }
        | ({"outputs": [], "execution_count": None} if kind == "code" else {})
        for number, (kind, source) in enumerate(cells(script))
    ]
    kernel = {"display_name": "Python 3", "language": "python"}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": kernel | {"name": "python3"},
            "language_info": {"name": "python"},
        },
        "cells": made,
    }


def execute(unexecuted):
    """The notebook with its output, as a dictionary."""
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.from_dict(unexecuted)
    client = NotebookClient(
        node, timeout=3600, resources={"metadata": {"path": str(HERE)}}
    )
    client.execute()
    return json.loads(nbformat.writes(node))


def clean(executed):
    """Leaves out what is only true on this machine, or only noise."""
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
    return executed


def merged(outputs):
    """Without standard error; each run of standard output is one."""
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
    """As a screen shows it in the end, with no folder of this machine."""
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
    """The stored notebook, with the text between the code as it is now."""
    stored = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    executed, new = json.loads(stored), notebook(script)["cells"]
    old = executed["cells"]
    if [code(cell) for cell in old] != [code(cell) for cell in new]:
        sys.exit(f"The code of {script.stem} changed: leave out --text-only.")
    for cell, now in zip(old, new, strict=True):
        cell["source"] = now["source"]
    return executed


def code(cell):
    """The source of a code cell, `None` for text."""
    return "".join(cell["source"]) if cell["cell_type"] == "code" else None


def main(names, text_only):
    for script in SCRIPTS:
        if names and script.stem not in names:
            continue
        print(script.stem, flush=True)
        if text_only:
            made = with_new_text(script)
        else:
            made = clean(execute(notebook(script)))
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        script.with_suffix(".ipynb").write_text(text, encoding="utf-8")
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
