"""Each tutorial is a script and an executed notebook with the same cells."""

import json
import re

import jupytext
import pytest

from tests.tutorials.running import TUTORIALS

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(TUTORIALS)
    import build_notebooks

SCRIPTS = build_notebooks.SCRIPTS
each_script = pytest.mark.parametrize(
    "script", SCRIPTS, ids=[script.stem for script in SCRIPTS]
)
# Pictures that a tutorial shows, and how it ends where that is certain.
PICTURES = {
    "01_quickstart": 2,
    "02_the_idea_in_pictures": 6,
    "05_watching_the_gates": 5,
    "07_upcycle_and_fold": 2,
    "08_trees_on_pixels": 3,
    "10_hashed_n_grams": 1,
}


def cells(script):
    """Returns (cell type, source) of what the script becomes."""
    made = build_notebooks.notebook(script)
    return [(cell.cell_type, cell.source) for cell in made.cells]


def stored(script):
    text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    return json.loads(text), text


def test_there_are_scripts():
    assert len(SCRIPTS) >= 8


@each_script
def test_script_and_notebook_have_the_same_cells(script):
    notebook, _ = stored(script)
    found = [
        (cell["cell_type"], "".join(cell["source"]))
        for cell in notebook["cells"]
    ]
    assert found == cells(script), (
        f"Run: python tutorials/build_notebooks.py {script.stem}"
    )


@each_script
def test_the_notebook_was_executed_in_order(script):
    notebook, _ = stored(script)
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == PICTURES.get(script.stem, len(pictures))


@each_script
def test_the_notebook_names_no_folder_of_the_machine(script):
    _, text = stored(script)
    assert not re.search(r"[\"' ]/(tmp|home|root|work|usr|opt)/", text)


def test_cells_are_cut_at_their_marks(tmp_path):
    script = tmp_path / "00_example.py"
    script.write_text(
        "# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\nx = 1\n\n\n"
        "# %%\n# a comment\ny = 2\n"
    )
    assert cells(script) == [
        ("markdown", "# Title\n\nText"),
        ("code", "x = 1"),
        ("code", "# a comment\ny = 2"),
    ]


def test_new_text_is_taken_over_and_new_code_is_not(tmp_path):
    script = tmp_path / "00_example.py"
    script.write_text("# %% [markdown]\n# Old\n\n# %%\nx = 1\n")
    executed = build_notebooks.notebook(script)
    output = {"output_type": "stream", "name": "stdout", "text": "1\n"}
    executed.cells[1] |= {"execution_count": 1, "outputs": [output]}
    script.with_suffix(".ipynb").write_text(json.dumps(executed))
    script.write_text("# %% [markdown]\n# New\n\n# %%\nx = 1\n")
    text, code = build_notebooks.with_new_text(script).cells
    assert text.source == "New"
    assert code.execution_count == 1
    assert code.outputs == [output]
    script.write_text("# %% [markdown]\n# New\n\n# %%\nx = 2\n")
    with pytest.raises(SystemExit, match="code of 00_example changed"):
        build_notebooks.with_new_text(script)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("1/2\r2/2\ndone", "2/2\ndone"),
        ("ab\b\bcd", "cd"),
        ("\x1b[1mbold\x1b[0m  \n", "bold\n"),
        (f"wrote {build_notebooks.HERE}/output/a", "wrote tutorials/output/a"),
    ],
)
def test_output_is_kept_as_a_screen_shows_it(raw, shown):
    assert build_notebooks.clean_text(raw) == shown


def test_output_is_one_text_without_warnings():
    def stream(name, text):
        return {"output_type": "stream", "name": name, "text": text}

    outputs = [
        stream("stdout", ["a\n", "b"]),
        stream("stderr", "warning"),
        stream("stdout", "c"),
    ]
    assert build_notebooks.merged(outputs) == [stream("stdout", "a\nbc")]


def test_a_cleaned_notebook_is_written_as_it_is(tmp_path):
    script = tmp_path / "00_example.py"
    script.write_text("# %% [markdown]\n# Text\n\n# %%\nprint(1)\n")
    executed = build_notebooks.notebook(script)
    executed.cells[1].outputs = [
        {"output_type": "stream", "name": name, "text": f"{name}\n"}
        for name in ("stderr", "stdout")
    ]
    file = script.with_suffix(".ipynb")
    jupytext.write(build_notebooks.clean(executed), file)
    text, code = json.loads(file.read_text())["cells"]
    assert (text["id"], text["source"]) == ("cell-0", ["Text"])
    assert [output["text"] for output in code["outputs"]] == [["stdout\n"]]
