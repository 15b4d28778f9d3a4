"""The rules of the house that a reading of the source can check."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "keras_treegate"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module or folder of the package imports from lower floors only.
FLOORS = (
    {"types"},
    {"core"},
    {"backend"},
    {"tables"},
    {"gates", "credit", "trees"},
    {"layers", "optimizers", "losses"},
    {"transforms", "callbacks", "distribution"},
    {"plotting", "saved_models"},
    {"keras_treegate"},  # the package's own `__init__.py`
)
FRAMEWORKS = {"flax", "jax", "jaxlib", "tensorflow", "torch"}

each_file = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: str(file.relative_to(PACKAGE))
)


def unit_of(file):
    """Returns the module or folder of the package that a file belongs to."""
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "keras_treegate" if part == "__init__" else part


def unit_of_name(name):
    """Returns the module or folder of a full name, `None` for others'."""
    parts = [*name.split("."), ""]
    if parts[0] != "keras_treegate":
        return None
    folder, module = PACKAGE / parts[1], PACKAGE / f"{parts[1]}.py"
    if parts[1] and (folder.is_dir() or module.is_file()):
        return parts[1]
    return "keras_treegate"


def floor_of(unit):
    for number, units in enumerate(FLOORS):
        if unit in units:
            return number
    return pytest.fail(
        f"`{unit}` stands on no floor. Put it into `FLOORS` of "
        f"{Path(__file__).name}, above all that it imports."
    )


def imported_names(file, tree):
    """Yields (line, full name) of each import, wherever it stands."""
    package = [PACKAGE.name, *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1]
            parts = above if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            function, first = node.func, node.args[0]
            name = getattr(function, "attr", getattr(function, "id", ""))
            dynamic = name in ("import_module", "__import__")
            if dynamic and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def upward_imports(file, tree):
    unit = unit_of(file)
    floor = floor_of(unit)
    for line, name in imported_names(file, tree):
        target = unit_of_name(name)
        if target not in (None, unit) and floor_of(target) >= floor:
            yield f"{file.relative_to(PACKAGE)}:{line} imports {name}"


def framework_names(file, tree):
    """Yields each import of a framework and each question for its name."""
    for line, name in imported_names(file, tree):
        if name.split(".")[0] in FRAMEWORKS:
            yield f"line {line} imports {name}"
        if name in ("keras.backend.backend", "keras.config.backend"):
            yield f"line {line} imports {name}"
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr == "backend":
            yield f"line {node.lineno} calls {ast.unparse(called)}()"


def asserts(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno} asserts {ast.unparse(node.test)}"


def test_there_are_files_to_read():
    assert len(FILES) > 1


@each_file
def test_imports_point_downwards(file):
    found = list(upward_imports(file, ast.parse(file.read_text())))
    assert found == []


@each_file
def test_frameworks_are_named_in_backend_only(file):
    if unit_of(file) != "backend":
        found = list(framework_names(file, ast.parse(file.read_text())))
        assert found == []


@each_file
def test_only_public_names_of_keras(file):
    assert "keras.src" not in file.read_text()


def test_files_of_the_package_are_short():
    long = {
        path.name: lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert not long


def test_few_types_are_left_open():
    # `Any` is for what may truly be anything.
    nodes = [
        node for file in FILES for node in ast.walk(ast.parse(file.read_text()))
    ]
    functions = sum(isinstance(node, ast.FunctionDef) for node in nodes)
    open_types = sum(
        isinstance(node, ast.Name) and node.id == "Any" for node in nodes
    )
    assert 0 < open_types < functions / 10


# Private names of Keras and the frameworks, each with the one file that uses
# it. A new one is a decision: `docs/design.md` lists them.
PRIVATE = {
    "_keras_history": "core/tensor_checks.py",
    "_tracker": "transforms/sublayers.py",
    "_track_variables": "transforms/rebuild.py",
    "_compile_config": "transforms/recompile.py",
    "_get_variable_index": "optimizers/step_aware_optimizer.py",
    "_use_weight_decay": "optimizers/transfer_state.py",
    "_exclude_from_weight_decay_pattern": "optimizers/transfer_state.py",
    "_trace": "backend/jax/traces.py",
    "parent_trace": "backend/jax/traces.py",
    "_C": "backend/torch/lazy_gradient.py",
    "_make_wrapper_subclass": "backend/torch/lazy_gradient.py",
    "_set_params_and_buffers_to_ignore_for_model": (
        "backend/torch/data_parallel.py"
    ),
    "_execution_engine": "backend/torch/data_parallel.py",
    "_schema": "backend/torch/lazy_gradient.py",
}

NAMED_TUPLE = {"_asdict", "_fields", "_replace"}  # public, in spite of the name


def own_names(tree):
    """Yields the names that a file defines, as attributes or otherwise."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(
            node.ctx, ast.Store
        ):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.asname or node.name


def private_names(tree):
    """Yields the private attributes that a file asks for, dynamically too."""
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            asked = getattr(node.func, "id", "") in ("getattr", "hasattr")
            if asked and isinstance(node.args[1], ast.Constant):
                name = str(node.args[1].value)
        dunder = name.startswith("__") and name.endswith("__")
        if (name.startswith("_") and not dunder) or name in PRIVATE:
            yield name


OWN = {
    name for file in FILES for name in own_names(ast.parse(file.read_text()))
}


@each_file
def test_private_names_of_others_are_a_decision(file):
    here = file.relative_to(PACKAGE).as_posix()
    found = {
        name
        for name in private_names(ast.parse(file.read_text()))
        if name not in OWN | NAMED_TUPLE and PRIVATE.get(name) != here
    }
    assert found == set()


def test_every_private_name_is_on_the_page_of_the_design():
    page = PACKAGE.parent / "docs" / "design.md"
    text = page.read_text(encoding="utf-8")
    names = set(PRIVATE) - {"_C"}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


@each_file
def test_errors_are_raised_and_not_asserted(file):
    found = list(asserts(ast.parse(file.read_text())))
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import keras_treegate",
        "import keras_treegate.layers",
        "from keras_treegate import layers",
        "from keras_treegate.layers import TreeGatedDense",
        "from ..layers import TreeGatedDense",
        "from .. import layers",
        "def f():\n    from keras_treegate import layers",
        "import_module('keras_treegate.layers')",
    ],
)
def test_an_upward_import_is_found(line):
    file = PACKAGE / "gates" / "example.py"
    assert list(upward_imports(file, ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "import numpy",
        "import keras",
        "from keras_treegate.core import checks",
        "from keras_treegate.core.checks import integer",
        "from ..core import checks",
        "from .sign_gate import SignGate",
        "from keras_treegate.gates.sign_gate import SignGate",
    ],
)
def test_a_downward_import_is_allowed(line):
    file = PACKAGE / "gates" / "example.py"
    assert not list(upward_imports(file, ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "import jax.numpy as jnp",
        "from torch import nn",
        "def f():\n    import tensorflow as tf",
        "importlib.import_module('jax')",
        "keras.backend.backend()",
        "keras.config.backend()",
        "from keras.config import backend",
    ],
)
def test_a_framework_is_found(line):
    file = PACKAGE / "layers" / "example.py"
    assert list(framework_names(file, ast.parse(line)))
