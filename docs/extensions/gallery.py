"""Copies the executed notebooks of the tutorials, with a picture of each.

Sphinx reads pages from its own folder only. The copies are in
`docs/tutorials/`, which git ignores.
"""

import base64
import json
import shutil
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
NOTEBOOKS = DOCS.parent / "tutorials"
GALLERY = DOCS / "tutorials"


def copy_notebooks(app):
    """Fills the folder of the gallery anew."""
    shutil.rmtree(GALLERY, ignore_errors=True)
    GALLERY.mkdir()
    for notebook in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        shutil.copy(notebook, GALLERY)
        pictures = pictures_of(notebook)
        if pictures:
            name = notebook.with_suffix(".png").name
            (GALLERY / name).write_bytes(pictures[-1])


def pictures_of(notebook):
    """Returns the PNG files that a notebook shows, in order."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [
        base64.b64decode("".join(output["data"]["image/png"]))
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def setup(app):
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True, "version": "1"}
