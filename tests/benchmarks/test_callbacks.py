"""The benchmark compares what it says; how long it takes is not asked."""

import json

import keras
import numpy as np
import pytest

from benchmarks import callbacks
from benchmarks.__main__ import main
from benchmarks.harness import models, process, tables

BACKEND = keras.backend.backend()
SMALL = "--depths 2 --units 4 --trees 2 --batch 4 --steps 2 --rounds 3"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Returns the folder that a tiny run of the command wrote to."""
    folder = tmp_path_factory.mktemp("results")
    arguments = ["callbacks", "--backend", BACKEND, *SMALL.split()]
    assert main([*arguments, "--output", str(folder)]) == 0
    return folder


def test_one_run_has_the_ratios_of_all_kinds(benchmark):
    found = json.loads((benchmark / "callbacks.json").read_text())
    (row,) = found["rows"]
    assert (row["backend"], row["depth"], row["steps"]) == (BACKEND, 2, 2)
    assert set(row["ms"]) == {"plain", "counted", "callbacks"}
    for ratios in (*row["over_plain"].values(), row["callbacks_over_counted"]):
        low, high = ratios["quartiles"]
        assert 0 < low <= ratios["median"] <= high
    assert BACKEND in found["versions"]
    assert found["command"].endswith(str(benchmark))


def test_the_table_and_the_picture_are_written(benchmark):
    text = (benchmark / "callbacks.txt").read_text()
    lines = [line for line in text.splitlines() if line.startswith(BACKEND)]
    assert lines[0].split()[1:3] == ["2", "2"]
    picture = (benchmark / "callbacks.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_ratios_are_paired_in_rounds():
    times = np.array([2.0, 6.0, 3.0]) / np.array([1.0, 2.0, 3.0])
    spread = tables.spread(times)
    assert (spread["median"], *spread["quartiles"]) == (2.0, 1.5, 2.5)


def test_only_plain_models_do_not_count():
    case = models.Case("tree", batch=4, units=4, depth=1, trees=2)
    for counted in (True, False):
        model = models.build_for_fit(case, count_visits=counted)
        assert model.layers[0].count_visits is counted


def test_a_case_that_fails_does_not_end_the_run(capsys, monkeypatch, tmp_path):
    def fail(self, function, *arguments):
        raise RuntimeError("OSError: full")

    monkeypatch.setattr(process.Process, "call", fail)
    arguments = ["callbacks", "--backend", BACKEND, "--output", str(tmp_path)]
    assert main(arguments) == 1
    case = "StepAwareAdam, depth 4"
    assert f"failed: {BACKEND} {case}: OSError" in capsys.readouterr().out
    found = json.loads((tmp_path / "callbacks.json").read_text())
    assert len(found["failures"]) == 2


def test_options_that_cannot_be_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["callbacks", "--rounds", "0"])
    assert "integers of at least 1. Received: '0'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["callbacks", "--depths", "9", "--units", "8"])
    assert "`--depths` must be at most" in capsys.readouterr().err


def test_the_legend_explains_every_column():
    for kind in callbacks.KINDS:
        assert f"\n{kind} " in f"\n{callbacks.LEGEND}"
