"""The benchmark of the first step, run once in a tiny size."""

import json

import keras
import pytest

from benchmarks.__main__ import main

BACKEND = keras.backend.backend()
SIZES = "--layers 2 --depths 2 --batch 4 --units 6 --trees 2 --steps 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, in_this_process):
    folder = tmp_path_factory.mktemp("first")
    arguments = ["first-step", "--backend", BACKEND, *SIZES.split()]
    with in_this_process():
        assert main([*arguments, "--output", str(folder)]) == 0
    return folder


def test_trees_are_compared_with_as_many_dense_layers(folder):
    found = json.loads((folder / "first-step.json").read_text())
    kinds = [(row["model"], row["levels"]) for row in found["rows"]]
    assert kinds == [("dense", "all"), ("tree", "all"), ("tree", "ends")]
    dense, whole, _ = found["rows"]
    first, second = found["ratios"]
    assert (first["levels"], second["levels"]) == ("all", "ends")
    assert first["ms_over"] == pytest.approx(
        whole["ms"]["median"] / dense["ms"]["median"]
    )
    assert all(row["fit_seconds"] > 0 for row in found["rows"])


def test_the_ratios_are_told(folder):
    text = (folder / "first-step.txt").read_text()
    assert f"{BACKEND}, 2 layers of depth 2, levels ends: first fit" in text
