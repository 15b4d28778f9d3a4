"""Settings of the documentation, which `python -m sphinx` builds.

Everything is built from the checkout and from installed packages, without a
network. The notebooks of the tutorials are shown as they were executed.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

import keras_treegate

project = "keras_treegate"
author = "The keras_treegate authors"
copyright = author
release = version = keras_treegate.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "api_reference",
    "gallery",
]
exclude_patterns = ["_build", "extensions", "pictures"]
templates_path = []

# Backticks in docstrings are code, and links where they name something.
default_role = "py:obj"
highlight_language = "text"  # of formulas; examples are recognized
python_maximum_signature_line_length = 60

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autoclass_content = "class"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Attributes", "params_style"),
    ("Call arguments", "params_style"),
    "Input shape",
    "Output shape",
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"

html_theme = "furo"
html_title = f"keras_treegate {version}"
html_static_path = ["style"]
html_css_files = ["wide.css"]
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
copybutton_prompt_text = ">>> "
