"""Trees on pixels train, and say clearly what is wrong where they cannot."""

import re

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_treegate  # noqa: F401  (registers the layer that is loaded)
from tests.tutorials.running import (
    ONLY_ONE_FRAMEWORK,
    TUTORIALS,
    run_tutorial,
)

NO_NETWORK = """
import tensorflow_datasets as tfds

def refuse(*args, **kwargs):
    raise ConnectionError("the host has no name")

tfds.data_source = refuse
"""

# These are as large as MNIST's images, but few, and not downloaded.
MADE_UP_MNIST = """
import numpy as np
import tensorflow_datasets as tfds

def examples(count):
    draw = np.random.default_rng(0)
    for label in draw.integers(0, 10, count):
        image = draw.integers(0, 256, (28, 28, 1)).astype("uint8")
        yield {"image": image, "label": label}

tfds.data_source = lambda name, **kwargs: {
    "train": list(examples(200)), "test": list(examples(20))
}
"""


def run_on_pixels(folder, *arguments, before=""):
    name = "08_trees_on_pixels"
    return run_tutorial(name, folder, *arguments, before=before)


def table_row(name, output):
    found = re.search(rf"^{name}( +[\d.,]+){{5}}$", output, re.MULTILINE)
    assert found, output
    cells = found[0].split()[1:]
    return [float(cell.replace(",", "")) for cell in cells]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    run = run_on_pixels(folder, "--smoke", before=ONLY_ONE_FRAMEWORK)
    assert run.returncode == 0, run.stderr
    return run.stdout, folder / "out"


def test_it_runs_with_one_framework_and_prints_the_table(smoke):
    output, _ = smoke
    assert f"on {keras.backend.backend()}" in output
    *counts, mean, seed_0 = table_row("Dense", output)
    assert counts == [1242, 1184, 1184]
    assert mean == seed_0 > 0.5
    *counts, mean, seed_0 = table_row("TreeGatedDense", output)
    assert counts == [31962, 5280, 1184]
    assert mean == seed_0 > 0.5


def test_it_shows_the_progress_bar_of_keras(smoke):
    output, _ = smoke
    assert output.count("Epoch 2/2") == 2
    assert "72/72" in output


@pytest.mark.parametrize(
    "name", ["learning_curves", "leaf_usage", "leaf_digits"]
)
def test_it_draws(smoke, name):
    _, folder = smoke
    picture = (folder / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_it_saves_a_network_that_loads(smoke):
    output, folder = smoke
    differ = re.search(r"predictions differ by at most (\S+)", output)
    assert float(differ[1]) < 1e-6
    model = keras.models.load_model(folder / "trees_on_pixels.keras")
    image = load_digits().images[:1, ..., np.newaxis].astype("float32") / 16
    shares = model.predict(image, verbose=0)
    assert shares.shape == (1, 10)
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)


def test_without_a_network_it_says_what_to_do(tmp_path):
    run = run_on_pixels(tmp_path, "--dataset", "mnist", before=NO_NETWORK)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "Could not get the dataset mnist." in run.stderr
    assert "Cause: ConnectionError: the host has no name" in run.stderr
    assert "leave --dataset out" in run.stderr


def test_it_trains_on_images_of_another_size(tmp_path):
    run = run_on_pixels(
        tmp_path, "--dataset", "mnist", "--smoke", before=MADE_UP_MNIST
    )
    assert run.returncode == 0, run.stderr
    assert "128 images to train, 72 to validate, 20 to test" in run.stdout
    # 64 trees of 13 pixels, the last ones padded: 64 * 13 * 31 * 16 and 16.
    parameters = table_row("TreeGatedDense", run.stdout)[0]
    assert parameters == 64 * 13 * 31 * 16 + 16 + 32 + 170


@pytest.fixture(scope="module")
def digits_builder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TUTORIALS)
        from tfds_builders.sklearn_digits import SklearnDigits

        def prepare():
            builder = SklearnDigits(data_dir=tmp_path_factory.mktemp("data"))
            builder.download_and_prepare()
            return builder

        yield prepare


def test_the_splits_hold_the_digits_of_sklearn(digits_builder):
    splits = digits_builder().as_data_source()
    digits = load_digits()
    in_test = np.arange(len(digits.target)) % 3 == 2
    assert set(splits) == {"train", "test"}
    for name, chosen in {"train": ~in_test, "test": in_test}.items():
        expected = [
            (image.astype("uint8").tobytes(), label)
            for image, label in zip(
                digits.images[chosen], digits.target[chosen], strict=True
            )
        ]
        found = [
            (example["image"].tobytes(), example["label"])
            for example in splits[name]
        ]
        assert len(splits[name]) == {"train": 1198, "test": 599}[name]
        assert sorted(found) == sorted(expected)


def test_an_example_is_an_image_and_a_label(digits_builder):
    builder = digits_builder()
    example = builder.as_data_source(split="train")[0]
    assert set(example) == {"image", "label"}
    assert example["image"].shape == (8, 8, 1)
    assert example["image"].dtype == np.uint8
    assert builder.info.features["label"].num_classes == 10


def test_the_order_is_always_the_same(digits_builder):
    first, second = (
        [
            example["image"].tobytes()
            for example in digits_builder().as_data_source(split="train")
        ]
        for _ in range(2)
    )
    assert first == second
