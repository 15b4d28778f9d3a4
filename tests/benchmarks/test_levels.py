"""The benchmark of stored levels, run once in a tiny size."""

import json

import keras
import pytest

from benchmarks.__main__ import main

BACKEND = keras.backend.backend()
SIZES = "--depths 3 --batch 4 --units 6 --trees 2 --steps 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, in_this_process):
    folder = tmp_path_factory.mktemp("levels")
    arguments = ["levels", "--backend", BACKEND, *SIZES.split()]
    with in_this_process():
        assert main([*arguments, "--output", str(folder)]) == 0
    return folder


def test_all_levels_and_the_ends_are_measured(folder):
    found = json.loads((folder / "levels.json").read_text())
    assert [row["levels"] for row in found["rows"]] == ["all", "ends"]
    row_bytes = 3 * 6 * 4
    stored = [row["stored_bytes"] / row_bytes for row in found["rows"]]
    assert stored == [2 * (1 + 2 + 4 + 8), 2 * (1 + 8)]
    touched = [row["touched_bytes"] for row in found["rows"]]
    assert touched[1] < touched[0]
    whole, ends = found["rows"]
    (ratio,) = found["ratios"]
    assert ratio["time"] == pytest.approx(
        whole["ms"]["median"] / ends["ms"]["median"]
    )
    assert ratio["first"] == pytest.approx(
        whole["first_seconds"] / ends["first_seconds"]
    )


def test_the_ratio_is_told(folder):
    text = (folder / "levels.txt").read_text()
    assert f"{BACKEND} StepAwareAdam, depth 3: all levels take " in text
