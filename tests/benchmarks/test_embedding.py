"""The benchmark of sparse embeddings, run once in a tiny size."""

import json

import keras

from benchmarks.__main__ import main

BACKEND = keras.backend.backend()
SIZES = "--rows 30 --batch 4 --units 2 --steps 2"


def test_every_contestant_is_measured_and_compared(tmp_path):
    arguments = ["embedding", "--backend", BACKEND, *SIZES.split()]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "embedding.json").read_text())
    names = ["StepAwareAdam", "Adam"]
    if BACKEND == "torch":
        names.append("SparseAdam")
    assert [row["contestant"] for row in found["rows"]] == names
    ours, stock, *_ = found["rows"]
    ratio = stock["ms"]["median"] / ours["ms"]["median"]
    (told,) = found["ratios"]
    assert told["table_rows"] == told["base_rows"] == 30
    assert abs(told["times"]["Adam"] - ratio) < 1e-9
    text = (tmp_path / "embedding.txt").read_text()
    assert f"{BACKEND} 30 rows: 1.00 of the time at 30" in text
