"""Prepares the docstrings for Sphinx, and checks that none is left out."""

import importlib
import inspect
import pkgutil
import re

from sphinx.util import logging

PACKAGE = "keras_treegate"
# These folders are not for users.
PRIVATE = {"backend", "benchmarks", "core", "trees"}
logger = logging.getLogger(__name__)


def prepare(app, kind, name, value, options, lines):
    """Marks what reStructuredText would not see in a docstring.

    Formulas are indented paragraphs. They become literal blocks, or Sphinx
    would fill their lines.
    """
    if name == PACKAGE:  # the front page says it
        lines.clear()
    prepared = []
    in_section = in_formula = False
    for line in lines:
        indented = line.startswith("    ")
        starts_paragraph = not prepared or not prepared[-1]
        if line and not indented:
            in_section = re.fullmatch(r"[A-Z][a-z ]+:", line) is not None
            in_formula = False
        elif indented and starts_paragraph and not in_section:
            if not in_formula:
                prepared += ["::", ""]
            in_formula = True
        prepared.append(re.sub(r"^Reference: ", "**Reference:** ", line))
    lines[:] = prepared


def sign(app, kind, name, value, options, signature, result):
    """Takes the signature of a class from its `__init__`.

    Keras layers have a `__new__` that takes anything, and Sphinx prefers that.
    """
    if kind != "class":
        return None
    made_by = value.__new__ if issubclass(value, tuple) else value.__init__
    _, *own = inspect.signature(made_by).parameters.values()
    own = [parameter.replace(annotation=parameter.empty) for parameter in own]
    return str(inspect.Signature(own)), None


def skip(app, kind, name, value, skipped, options):
    """Leaves out the fields of named tuples, which have no text of their own.

    They are arguments of the class, and described there.
    """
    if (inspect.getdoc(value) or "").startswith("Alias for field number"):
        return True
    return None


def public_names():
    """Returns the full name of every class and function that users find."""
    package = importlib.import_module(PACKAGE)
    modules = [package] + [
        importlib.import_module(f"{PACKAGE}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if module.name not in PRIVATE
    ]
    names = {}
    for module in modules:
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if callable(value):
                names.setdefault(id(value), f"{module.__name__}.{name}")
    return sorted(names.values())


def check(app, env):
    """Warns, and so fails, where a public name has no place in the pages."""
    described = {entry[0] for entry in env.get_domain("py").get_objects()}
    for name in public_names():
        if name not in described:
            logger.warning(
                "%s is public and on no page of the API reference: add it to "
                "a page in docs/api/.",
                name,
            )


def setup(app):
    # Before napoleon, which turns the sections into fields.
    app.connect("autodoc-process-docstring", prepare, priority=400)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-skip-member", skip)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "version": "1"}
