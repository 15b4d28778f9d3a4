"""The study of credit counts and reports rightly, on a tiny network."""

import json
import types

import keras
import numpy as np
import pytest

from benchmarks import credit
from benchmarks.__main__ import main
from benchmarks.harness import process, tables
from tutorials.tfds_builders import source_text

BACKEND = keras.backend.backend()
STUDY = credit.Study(seeds=[3], steps=2, hidden=8, depth=2, trees=2, batch=8)


def test_leaf_use():
    codes = np.array([[0, 1], [1, 1], [2, 1], [3, 1]])
    assert credit.leaf_use(codes, 2) == {
        "gate_entropy": 0.5,  # one tree even, one with a single leaf
        "path_utilization": (1.0 + 0.25) / 2,
    }


def test_windows_are_bytes_and_the_one_that_follows():
    text = np.arange(200, dtype="uint8")
    windows = credit.Windows(text, batch=5, steps=3, seed=1)
    assert len(windows) == 3
    contexts, following = windows[2]
    assert contexts.shape == (5, credit.CONTEXT)
    np.testing.assert_array_equal(contexts[:, -1] + 1, following)
    np.testing.assert_array_equal(contexts, windows[2][0])
    assert (contexts != windows[1][0]).any()


@pytest.fixture
def found(monkeypatch):
    text = np.arange(500, dtype="uint8") % 7
    source = types.SimpleNamespace(texts=(text, text))
    monkeypatch.setattr(source_text, "read", lambda: source)
    monkeypatch.setattr(credit, "VALIDATION_BATCHES", 2)
    monkeypatch.setattr(credit, "ROUNDS", 1)
    monkeypatch.setattr(credit, "TIMED_STEPS", 1)
    return json.loads(json.dumps(credit.measure(STUDY)))


def test_a_row_and_a_cost_for_each_credit(found, tmp_path):
    names = ["straight", "reinforce", "noisy_rectifier"]
    assert [row["credit"] for row in found["rows"]] == names
    assert [cost["credit"] for cost in found["costs"]] == names
    assert found["framework"] == BACKEND
    assert found["costs"][0]["ratio"] == 1.0
    for row in found["rows"]:
        assert row["seed"] == 3
        # An untrained guess of 256 bytes takes 8 bits.
        assert 2 < row["bits_per_byte"] < 20
        assert 0 <= row["gate_entropy"] <= 1
        assert 0 < row["path_utilization"] <= 1
    results = {
        "machine": "a machine",
        "load_before": None,
        "date": "today",
        "command": "a command",
        "versions": {"keras": "3"},
        "studies": [{"backend": BACKEND} | found],
        "failures": ["one failed"],
    }
    lines = credit.lines(results["studies"])
    assert tables.publish("credit", results, lines, None, tmp_path) == 1
    assert json.loads((tmp_path / "credit.json").read_text()) == results
    text = (tmp_path / "credit.txt").read_text()
    bits = found["rows"][1]["bits_per_byte"]
    line = next(x for x in text.splitlines() if x.startswith("reinforce "))
    assert line.split()[1] == f"{found['costs'][1]['ms']:.1f}"
    assert f"  {bits:.3f} ({bits:.3f} to {bits:.3f})  " in line
    assert "one failed" in text


def test_a_failure_is_told(monkeypatch, tmp_path, capsys):
    def fail(self, function, *arguments):
        raise RuntimeError("OSError: full")

    monkeypatch.setattr(process.Process, "call", fail)
    status = main(["credit", "--backend", BACKEND, "--output", str(tmp_path)])
    assert status == 1
    assert "3 seeds: OSError: full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("credit --backend numpy", "invalid choice: 'numpy'"),
        ("credit --seeds one", "invalid int value: 'one'"),
        ("credit --steps 0", "integers of at least 1. Received: '0'"),
    ],
)
def test_refused_options(arguments, text, capsys):
    with pytest.raises(SystemExit):
        main(arguments.split())
    assert text in capsys.readouterr().err
