"""What upcycling and growing are worth: the study runs, and tells all."""

import json
import re
import types

import numpy as np
import pytest

from benchmarks import __main__, transforms
from benchmarks.quality import tasks as quality_tasks
from tutorials.tfds_builders import source_text


@pytest.fixture(autouse=True)
def little_to_validate(monkeypatch):
    monkeypatch.setattr(quality_tasks, "VALIDATION_BYTES", 64)


def test_both_studies_run_and_are_written(tmp_path, capsys, monkeypatch):
    text = np.random.default_rng(0).integers(0, 256, 4000).astype("uint8")
    source = types.SimpleNamespace(
        texts=(text, text[::-1]), python="3", checksum="0"
    )
    monkeypatch.setattr(source_text, "read", lambda folder=None: source)
    monkeypatch.setattr(transforms, "SCHEDULES", ((1,), (0, 1)))
    options = ["--seeds=1", "--digits-steps=1", "--steps=4", "--units=8"]
    options.append(f"--output={tmp_path}")
    status = __main__.main(["transforms", *options])
    assert status == 0
    found = json.loads((tmp_path / "transforms.json").read_text())
    (digits,) = found["digits"]
    assert all(0 <= digits[name] <= 1 for name in ("before", "dense"))
    assert [row["depths"] for row in found["bytes"]] == [[1], [0, 1]]
    assert all(row["steps"] == 4 for row in found["bytes"])
    assert all(row["bits_per_byte"] > 7 for row in found["bytes"])
    printed = capsys.readouterr().out
    assert re.search(r"^mean +0\.", printed, re.M)
    assert re.search(r"^0, 1 +4 +\d", printed, re.M)


def test_a_tree_that_grows_has_its_last_depth_and_all_steps(monkeypatch):
    fitted = []
    fit = transforms.fit
    monkeypatch.setattr(
        transforms,
        "fit",
        lambda model, *rest: (fitted.append(model), fit(model, *rest)),
    )
    row = transforms.grown(0, 5, 8, (0, 2))
    assert row["steps"] == 4
    assert [model.layers[5].depth for model in fitted] == [0, 2]
    assert [int(m.optimizer.iterations) for m in fitted] == [2, 4]


def test_a_number_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["transforms", "--steps", "0"])
    message = capsys.readouterr().err
    assert "must be integers of at least 1. Received: '0'" in message
