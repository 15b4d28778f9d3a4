"""The quickstart trains, compares and saves."""

import re

import keras
import pytest

import keras_treegate  # noqa: F401  (registers the layer that is loaded)
from tests.tutorials.running import ONLY_ONE_FRAMEWORK, run_tutorial

NAMES = ("Dense 128", "Dense 512", "trees 128")
# An embedding, two hidden layers with a normalization, and the outputs.
DENSE_128 = 256 * 32 + 513 * 128 + 2 * 128 + 129 * 128 + 129 * 256
WORK_128 = 512 * 128 + 128 * 128 + 128 * 256


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    run = run_tutorial(
        "01_quickstart", folder, "--smoke", before=ONLY_ONE_FRAMEWORK
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, folder / "out"


def table_row(name, output):
    found = re.search(rf"^{name}((?: +[\d.,]+){{4}})$", output, re.MULTILINE)
    assert found, output
    return [float(cell.replace(",", "")) for cell in found[1].split()]


def test_it_runs_with_one_framework_and_prints_the_table(smoke):
    output, _ = smoke
    assert f"on {keras.backend.backend()}" in output
    rows = {name: table_row(name, output) for name in NAMES}
    assert rows["Dense 128"][:2] == [DENSE_128, WORK_128]
    # 16 trees with a root and 64 leaves of 8 x 128, in place of a kernel.
    more = 16 * 65 * 8 * 128 - 128 * 128
    assert rows["trees 128"][:2] == [DENSE_128 + more, WORK_128]
    assert all(2 < bits < 9 for *_, bits in rows.values())


@pytest.mark.parametrize("name", ["quickstart_curves", "quickstart_leaves"])
def test_it_draws(smoke, name):
    _, folder = smoke
    picture = (folder / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_it_saves_a_network_that_loads(smoke):
    output, folder = smoke
    loaded, saved = re.search(
        r"loaded it: (\S+) bits, saved (\S+)", output
    ).groups()
    assert loaded == saved
    model = keras.models.load_model(folder / "quickstart.keras")
    assert model.output_shape == (None, 256)


def test_images_have_a_tutorial_of_their_own(tmp_path):
    run = run_tutorial(
        "01_quickstart", tmp_path, "--dataset", "digits", "--smoke"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "out" / "trees_on_pixels.keras").is_file()
