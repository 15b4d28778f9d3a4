"""What upcycling and growing are worth: the study runs, and tells all."""

import json
import types

import numpy as np
import pytest

from keras_treegate.benchmarks import __main__, source_text, transforms


def test_both_studies_run_and_are_written(tmp_path, capsys, monkeypatch):
    text = np.random.default_rng(0).integers(0, 256, 4000).astype("uint8")
    source = types.SimpleNamespace(texts=(text, text[::-1]))
    monkeypatch.setattr(source_text, "read", lambda: source)
    options = {"seeds": 1, "epochs": 1, "steps": 4, "units": 8}
    options = [f"--{name}={value}" for name, value in options.items()]
    options.append(f"--output={tmp_path}")
    status = __main__.main(["transforms", *options])
    assert status == 0
    found = json.loads((tmp_path / "transforms.json").read_text())
    (digits,) = found["digits"]
    assert all(0 <= digits[name] <= 1 for name in ("before", "dense"))
    assert [row["depths"] for row in found["bytes"]] == [[0], [6], [0, 2, 4, 6]]
    assert all(row["steps"] == 4 for row in found["bytes"])
    assert all(row["bits_per_byte"] > 7 for row in found["bytes"])
    printed = capsys.readouterr().out
    assert "| mean |" in printed
    assert "| 0, 2, 4, 6 | 4 |" in printed


def test_windows_are_bytes_and_the_one_that_follows():
    text = np.random.default_rng(0).integers(0, 256, 40).astype("uint8")
    context, target = transforms._windows(text, np.array([20, 21]))
    np.testing.assert_array_equal(context[0], text[4:20])
    np.testing.assert_array_equal(context[1], text[5:21])
    np.testing.assert_array_equal(target, text[20:22])


def test_a_number_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["transforms", "--steps", "0"])
    message = capsys.readouterr().err
    assert "`--steps` must be at least 1. Received: 0" in message
