"""The benchmark counts and reports rightly; how long steps take is not asked.

One tiny run stands for all: two depths, a step-aware optimizer and Keras's own.
"""

import importlib.util
import io
import json
import re
import runpy
import sys

import keras
import numpy as np
import pytest

from benchmarks import step_time
from benchmarks.__main__ import main
from benchmarks.harness import models, plots, process, tables

BACKEND = keras.backend.backend()
BATCH, UNITS, TREES, STEPS = 4, 3, 2, 2
WIDTH = 2  # of a tree's block of the three inputs


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory, in_this_process):
    """Returns what a run printed, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("benchmark") / "new" / "folder"
    arguments = [
        *("step-time", "--backend", BACKEND, "--depths", "2", "1"),
        *("--optimizers", "StepAwareAdam", "Adam"),
        *("--batch", BATCH, "--units", UNITS, "--trees", TREES),
        *("--steps", STEPS, "--output", folder),
    ]
    output = io.StringIO()
    package = "benchmarks"
    with pytest.MonkeyPatch.context() as patch, in_this_process():
        patch.setattr(sys, "argv", ["", *map(str, arguments)])
        patch.setattr(sys, "stdout", output)
        # Does what `python -m` does, without another import of Keras.
        patch.delitem(sys.modules, f"{package}.__main__")
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(package, run_name="__main__")
    assert ended.value.code == 0, output.getvalue()
    return output.getvalue(), folder


@pytest.fixture(scope="module")
def found(benchmark):
    return json.loads((benchmark[1] / "step-time.json").read_text())


def test_a_row_for_each_depth_and_optimizer(found):
    cases = [(row["depth"], row["optimizer"]) for row in found["rows"]]
    assert cases == [
        (depth, optimizer)
        for depth in (1, 2)
        for optimizer in ("StepAwareAdam", "Adam")
    ]
    for row in found["rows"]:
        assert row["backend"] == BACKEND
        assert row["steps"] == STEPS
        low, high = row["ms"]["quartiles"]
        assert 0 < row["ms"]["min"] <= low <= row["ms"]["median"] <= high
        assert row["peak_bytes"] >= 0
        assert row["copy_bytes_per_second"] > 0


def test_the_run_is_told(found):
    assert found["machine"]
    assert found["date"]
    assert "step-time --backend" in found["command"]
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"][BACKEND] == sys.modules[BACKEND].__version__
    assert found["failures"] == []


def test_stored_bytes_are_those_of_all_nodes(found):
    for row in found["rows"]:
        nodes = TREES * (2 ** (row["depth"] + 1) - 1)
        assert row["stored_bytes"] == nodes * WIDTH * UNITS * 4


def test_touched_bytes_are_those_of_the_rows_on_the_paths(found):
    for row in found["rows"]:
        case = models.Case(**{k: row[k] for k in models.Case._fields})
        (layer,) = models.build_for_fit(case).layers
        inputs, _ = models.draw_for_fit(case, STEPS)
        codes = keras.ops.convert_to_numpy(layer.leaf_codes(inputs))
        nodes = {
            (example // BATCH, tree, level, code >> (case.depth - level))
            for (example, tree), code in np.ndenumerate(codes)
            for level in range(case.depth + 1)
        }
        row_bytes = WIDTH * UNITS * 4
        assert row["touched_bytes"] == len(nodes) / STEPS * row_bytes
        assert row["touched_bytes"] <= row["stored_bytes"]


def test_the_share_of_the_limit_counts_the_moves(found):
    adam, stock = found["rows"][:2]
    assert stock["limit"] is None
    assert adam["moves"] == 3 + 2 * 2  # momentum and velocity
    moved = adam["touched_bytes"] * 7 / (adam["ms"]["median"] / 1e3)
    share = moved / adam["copy_bytes_per_second"]
    assert adam["limit"]["median"] == pytest.approx(share)


def time_of(row):
    return row["ms"]["median"]


def test_the_ratios_are_those_of_the_rows(found):
    first, _, last, last_stock = found["rows"]
    assert found["growth"] == [
        {
            "backend": BACKEND,
            "optimizer": "StepAwareAdam",
            "depths": [1, 2],
            "time": time_of(last) / time_of(first),
            "touched": last["touched_bytes"] / first["touched_bytes"],
        }
    ]
    assert found["adam_over_step_aware_adam"] == [
        {
            "backend": BACKEND,
            "depth": 2,
            "time": time_of(last_stock) / time_of(last),
        }
    ]


def test_growth_is_told_from_depth_10_where_it_can_be():
    def base(*depths):
        return step_time.base_row([{"depth": depth} for depth in depths])[
            "depth"
        ]

    assert base(4, 10, 14) == 10
    assert base(14, 10, 4) == 10
    assert base(4, 10) == 4
    assert base(12, 8) == 8


def test_the_table_is_printed_and_written(benchmark, found):
    output, folder = benchmark
    text = (folder / "step-time.txt").read_text()
    assert text in output
    assert found["machine"] in text
    assert "plain copy:" in text
    assert "touched * (3 + 2 * slots)" in text
    assert "limit (moved/copy)" in text
    assert "Adam takes" in text
    table = [line for line in text.splitlines() if line.startswith(BACKEND)]
    for row, line in zip(found["rows"], table, strict=False):
        assert line.split()[1:3] == [row["optimizer"], str(row["depth"])]
        assert line.split()[3] == f"{row['ms']['median']:.2f}"


def test_the_picture_is_written(benchmark):
    written = (benchmark[1] / "step-time.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    assert len(written) > 10_000


def test_the_picture_shows_the_rows(found):
    (panel, *_) = plots.draw("machine", step_time.panels(found["rows"])).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert set(lines) == {
        "StepAwareAdam",
        "Adam",
        "proportional to touched bytes",
    }
    stock = tables.find(found["rows"], optimizer="Adam")
    drawn = lines["Adam"]
    assert list(drawn.get_ydata()) == [row["ms"]["median"] for row in stock]
    megabytes = [row["stored_bytes"] / 1e6 for row in stock]
    assert list(drawn.get_xdata()) == megabytes
    assert panel.get_xscale() == panel.get_yscale() == "log"
    assert "[MB]" in panel.get_xlabel()
    assert "[ms]" in panel.get_ylabel()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("steptime", "argument NAME: invalid choice: 'steptime'"),
        ("", "the following arguments are required: NAME"),
        ("step-time --backend numpy", "--backend: invalid choice: 'numpy'"),
        ("step-time --optimizers Lion", "choose from .*StepAwareAdagrad"),
        ("step-time --depths 0", "integers of at least 1. Received: '0'"),
        ("step-time --batch many", "Received: 'many'"),
        ("step-time --depths 9 --units 8", "`--depths` must be at most"),
        ("step-time --trees 99", "`--trees` must be at most `--units`, 64"),
    ],
)
def test_arguments_that_cannot_be_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, " ".join(error.split())), error


def test_a_backend_that_is_missing_is_told_first(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["step-time", "--backend", BACKEND])
    error = capsys.readouterr().err
    assert f'pip install -e ".[{BACKEND}]"' in error


def test_matplotlib_that_is_missing_is_told_first(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit):
        main(["step-time", "--backend", BACKEND])
    error = capsys.readouterr().err
    assert "pip install matplotlib" in error


def test_a_case_that_fails_does_not_end_the_run(capsys, monkeypatch, tmp_path):
    def fail(self, function, *arguments):
        raise RuntimeError("OSError: full")

    monkeypatch.setattr(process.Process, "call", fail)
    arguments = ["step-time", "--backend", BACKEND, "--depths", "1", "2"]
    output = tmp_path / "results"
    status = main([*arguments, "--output", str(output)])
    assert status == 1
    printed = capsys.readouterr().out
    name = f"{BACKEND} StepAwareSGD, depth 1"
    assert f"{name}: failed\n" in printed
    assert f"failed: {name}: OSError: full" in printed
    found = json.loads((output / "step-time.json").read_text())
    assert found["rows"] == []
    assert len(found["failures"]) == 8
