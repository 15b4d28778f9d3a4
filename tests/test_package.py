"""The wheel, and what importing it does."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Imports the package with a hook around `import`, which tells whose statement
# asked for a framework: Keras itself imports more than one if it finds them.
IMPORT_AND_TELL = """
import builtins, json, sys

FRAMEWORKS = {"jax", "jaxlib", "tensorflow", "torch"}
asked = set()
plain_import = builtins.__import__

def telling_import(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    framework = name.split(".")[0]
    if level == 0 and framework in FRAMEWORKS:
        if importer.split(".")[0] == "keras_treegate":
            asked.add(framework)
    return plain_import(name, globals, locals, fromlist, level)

import keras

before = FRAMEWORKS & set(sys.modules)
has_matplotlib = "matplotlib" in sys.modules
builtins.__import__ = telling_import
import keras_treegate

told = {
    "file": keras_treegate.__file__,
    "asked": sorted(asked),
    "added": sorted((FRAMEWORKS & set(sys.modules)) - before),
    "backend_modules": sorted(
        name.split(".")[2]
        for name in sys.modules
        if name.startswith("keras_treegate.backend.")
    ),
    "attributes": sorted(vars(keras_treegate)),
    "matplotlib": "matplotlib" in sys.modules and not has_matplotlib,
    "saved_name": keras.saving.get_registered_name(
        keras_treegate.layers.TreeGatedDense
    ),
}

outputs = {}
for name in ("digits", "byte_language_model_folded"):
    model = keras_treegate.load_saved_model(name)
    zeros = keras.ops.zeros((1, *model.input_shape[1:]), model.inputs[0].dtype)
    outputs[name] = list(model(zeros).shape)
refused = ""
try:
    keras_treegate.load_saved_model("byte_language_model")
except ValueError as error:
    refused = str(error)
print(json.dumps(told | {"saved_models": [outputs, refused]}))
"""


def run(command, folder, **environment):
    process = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    run([*command, "--outdir", str(folder)], ROOT)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def imported(wheel, tmp_path_factory):
    """Returns what an import of the unpacked wheel in an empty folder told."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    output = run(
        [sys.executable, "-c", IMPORT_AND_TELL],
        tmp_path_factory.mktemp("empty"),
        PYTHONPATH=str(site),
        KERAS_BACKEND=keras.config.backend(),
    )
    told = json.loads(output.splitlines()[-1])
    return told | {"site": site}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.split("/")[0] for name in names} == {
        "keras_treegate",
        metadata,
    }
    assert "keras_treegate/py.typed" in names
    assert f"{metadata}/licenses/LICENSE" in names
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("keras_treegate/**/*.py")
    }
    assert modules <= set(names)
    models = {
        f"keras_treegate/packaged_models/{model}/{file}"
        for model in ("digits", "byte_language_model_folded")
        for file in ("card.json", "model.keras")
    }
    inside = {name for name in names if name.startswith("keras_treegate/")}
    assert inside == modules | models | {"keras_treegate/py.typed"}


def test_the_small_saved_models_come_with_the_wheel(imported):
    outputs, error = imported["saved_models"]
    assert outputs == {
        "digits": [1, 10],
        "byte_language_model_folded": [1, 64, 256],
    }
    assert "A checkout of the repository has all models" in error


def test_the_wheel_is_imported_from_an_empty_folder(imported):
    expected = imported["site"] / "keras_treegate" / "__init__.py"
    assert Path(imported["file"]) == expected
    assert imported["saved_name"] == "keras_treegate>TreeGatedDense"


def test_the_import_asks_for_no_other_framework(imported):
    own = {keras.config.backend()}
    if own == {"jax"}:
        own.add("jaxlib")
    assert set(imported["asked"]) <= own
    assert set(imported["added"]) <= own


DOORS = {"layers", "gates", "credit", "losses", "optimizers", "callbacks"}
DOORS |= {"plotting", "transforms", "distribution"}


def test_the_import_opens_every_door(imported):
    # Docstrings write `import keras_treegate; keras_treegate.plotting`.
    assert set(imported["attributes"]) >= DOORS
    assert not imported["matplotlib"]


def test_the_import_loads_no_other_backend_module(imported):
    others = {"tensorflow", "jax", "torch"} - {keras.config.backend()}
    assert not others & set(imported["backend_modules"])
