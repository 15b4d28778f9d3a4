"""The saved models load on every backend, and are what their cards say."""

import concurrent.futures
import hashlib
import importlib.util
import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate import layers, saved_models

ROOT = Path(__file__).resolve().parent.parent
FOLDED = "byte_language_model_folded"
NAMES = ("digits", "byte_language_model", FOLDED)
each_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def build():
    """Returns the script that makes the models."""
    path = ROOT / "saved_models" / "build.py"
    spec = importlib.util.spec_from_file_location("build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    return Path(
        shutil.copytree(ROOT / "saved_models" / "digits", tmp_path / "copy")
    )


def give_the_card_the_checksum(folder):
    card = json.loads((folder / "card.json").read_text())
    content = (folder / "model.keras").read_bytes()
    card["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))


@each_model
def test_the_metric_of_the_card_is_measured_here(name, build):
    card = saved_models.read_card(name)
    measured = build.measure(name)
    assert set(card["metric"]) == {"jax", "torch", "tensorflow"}
    for told in card["metric"].values():
        assert told == pytest.approx(measured, abs=1e-3)


@each_model
def test_the_card_tells_the_sizes(name, build):
    card = saved_models.read_card(name)
    model = keras_treegate.load_saved_model(name)
    assert card["parameters"] == sum(map(build.parameters, model.layers))
    assert card["multiply_adds"] == build.multiply_adds(model)
    file = ROOT / "saved_models" / name / "model.keras"
    assert card["bytes"] == file.stat().st_size < 5e6
    for entry in ("task", "data", "licence", "command", "seed", "versions"):
        assert card[entry] is not None


def test_the_folded_model_is_the_one_its_card_names_folded(build):
    card = saved_models.read_card(FOLDED)
    source = card["folded_from"]["name"]
    its_card = saved_models.read_card(source)
    assert card["folded_from"]["sha256"] == its_card["sha256"], (
        f"{source} was built anew. Run: {card['command']}"
    )
    x, _ = build.metric_data(saved_models.FOLDER / FOLDED)
    model = keras_treegate.load_saved_model(FOLDED)
    trees = keras_treegate.load_saved_model(source)
    found = {type(layer) for layer in model.layers}
    assert layers.FoldedTreeDense in found
    assert layers.TreeGatedDense not in found
    np.testing.assert_allclose(
        model.predict(x, verbose=0), trees.predict(x, verbose=0), atol=0.1
    )
    for backend, told in card["metric"].items():
        assert told == pytest.approx(its_card["metric"][backend], abs=1e-3)
    assert card["table_dtype"] == "int8"
    assert card["bytes"] < its_card["bytes"] / 2
    assert card["largest_change_of_an_output"] < 0.1
    assert 0 <= card["folding_error"] < 0.01


def test_a_model_is_loaded_from_a_path(copy):
    by_path = keras_treegate.load_saved_model(copy)
    by_name = keras_treegate.load_saved_model("digits")
    for weights, others in zip(
        by_path.get_weights(), by_name.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weights, others)


def test_a_changed_file_is_refused(copy):
    content = bytearray((copy / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"must be the one that its card"):
        keras_treegate.load_saved_model(copy)


@pytest.mark.parametrize("allowed", [False, True])
def test_code_in_a_file_is_not_executed(copy, allowed):
    # A program may allow it for files of its own, and that changes nothing.
    executed = copy / "executed"
    code = keras.layers.Lambda(
        lambda x, path=str(executed): (open(path, "w"), x)[1]  # noqa: SIM115
    )
    model = keras.Sequential([keras.Input((64,)), code])
    executed.unlink()  # the model was called to be built
    model.save(copy / "model.keras")
    give_the_card_the_checksum(copy)

    def load():
        if allowed:
            keras.config.enable_unsafe_deserialization()  # for this thread
        keras_treegate.load_saved_model(copy)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        loaded = threads.submit(load)
    with pytest.raises(ValueError, match=r"Received: .*Lambda.*safe_mode"):
        loaded.result()
    assert not executed.exists()


def test_a_foreign_class_in_a_file_is_not_imported(copy, tmp_path):
    # A config that names a function of the standard library is refused.
    changed = tmp_path / "changed.keras"
    with (
        zipfile.ZipFile(copy / "model.keras") as old,
        zipfile.ZipFile(changed, "w") as new,
    ):
        for entry in old.namelist():
            content = old.read(entry)
            if entry == "config.json":
                config = json.loads(content)
                layer = config["config"]["layers"][1]
                layer |= {"module": "os", "class_name": "system"}
                layer["registered_name"] = None
                content = json.dumps(config).encode()
            new.writestr(entry, content)
    shutil.move(changed, copy / "model.keras")
    give_the_card_the_checksum(copy)
    with pytest.raises(ValueError, match="'system' of the module 'os'"):
        keras_treegate.load_saved_model(copy)


NAMES_OF_NONE = [
    "digit",
    "",
    "saved_models",
    "a\0b",
    3,
    None,
    b"digits",
    ["digits"],
]


@pytest.mark.parametrize("name", NAMES_OF_NONE)
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(
        ValueError, match=r"`name` must be .* Received: "
    ) as error:
        keras_treegate.load_saved_model(name)
    assert str(sorted(NAMES)) in str(error.value)
    assert f"name={name!r} (of type {type(name).__name__})" in str(error.value)


def test_a_folder_without_a_card_is_refused(copy):
    (copy / "card.json").unlink()
    with pytest.raises(ValueError, match=r"with card.json and model.keras"):
        keras_treegate.load_saved_model(copy)


BAD_CARDS = {
    "no JSON": (b"{", "must be a JSON object"),
    "no text": (b"\xff\xfe\xff", "must be a JSON object"),
    "a list": (b"[1]", "must be a JSON object.*list"),
    "no checksum": (b"{}", "'sha256'.*sha256=None"),
    "a number": (b'{"sha256": 1}', "'sha256'.*sha256=1"),
    "half a checksum": (b'{"sha256": "ab12"}', "'sha256'.*sha256='ab12'"),
}


@pytest.mark.parametrize("case", BAD_CARDS)
def test_a_card_that_is_none_is_refused(case, copy):
    content, message = BAD_CARDS[case]
    (copy / "card.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"(?s)The card '.*card.json'.*{message}.*Get it"
    ):
        keras_treegate.load_saved_model(copy)


def test_a_string_is_a_path_too(copy):
    assert keras_treegate.load_saved_model(str(copy)).built


@each_model
def test_older_keras_finds_no_argument_that_it_does_not_know(name, build):
    path = saved_models.FOLDER / name / saved_models.MODEL
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    pruned = json.loads(json.dumps(config), object_hook=build.without_newer)
    assert pruned == config
