"""Files of trees run without Keras, and compute what Keras computes."""

import re

import keras
import pytest

from tests.tutorials.running import TUTORIALS, run_tutorial

NAME = "09_serve_anywhere"
FORMS = {"tensorflow": ("onnx", "litert", "keras")}.get(
    keras.backend.backend(), ("onnx", "keras")
)
NETWORKS = ("Dense 16", "Dense 64", "Dense 256", "trees 16", "trees 16, int8")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    run = run_tutorial(NAME, folder, "--smoke")
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, folder / "out"


def test_every_network_runs_everywhere_with_the_same_numbers(run):
    text, folder = run
    assert "frameworks that were imported: none" in text
    rows = re.findall(
        r"^(\S.*?\S) +(onnx|litert|keras) +(\S+) +(\S+)% +(\S+)$", text, re.M
    )
    assert {(name, form) for name, form, *_ in rows} == {
        (name, form) for name in NETWORKS for form in FORMS
    }
    for _, _, difference, accuracy, microseconds in rows:
        assert float(difference) < 1e-4
        assert 0 <= float(accuracy) <= 100
        assert float(microseconds) > 0
    assert (TUTORIALS / "serve_file.py").read_text() in text
    picture = (folder / "serve_anywhere.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_an_int8_file_is_smaller(run):
    _, folder = run
    sizes = [
        (folder / f"served_trees_16{form}.onnx").stat().st_size
        for form in ("", "_int8")
    ]
    assert sizes[1] < 0.5 * sizes[0]
