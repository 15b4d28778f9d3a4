"""Rows on the host are the same, fetched before a step or beside it."""

import json

import keras
import numpy as np
import pytest

from benchmarks import prefetch
from benchmarks.__main__ import main

BACKEND = keras.backend.backend()
SIZES = "--depths 3 --batch 8 --units 4 --trees 2 --steps 3"


def test_rows_pass_from_one_batch_to_the_next():
    ids = [np.array(rows) for rows in ([0, 2, 5], [2, 3], [3], [0, 5])]
    seen = {}
    for way in (prefetch.between, prefetch.beside):
        host = prefetch.Host(6, 2)
        steps = []
        way(host, ids, steps.append)
        assert steps == [0, 1, 2, 3]
        seen[way] = np.stack(host.tables)
    uses = np.bincount(np.concatenate(ids), minlength=6)
    for table in seen.values():
        assert (table[..., 0] == uses).all()
        assert not table[..., 1].any()


def test_the_share_that_two_batches_have_in_common():
    ids = [np.array(rows) for rows in ([0, 2, 5], [2, 3], [3, 4])]
    assert prefetch.common_share(ids) == 0.5


def test_a_row_that_was_lost_is_found():
    host = prefetch.Host(3, 2)
    with pytest.raises(AssertionError):
        prefetch.check(host, [np.array([1])])


def test_the_run_is_told(tmp_path, in_this_process):
    arguments = ["prefetch", "--backend", BACKEND, *SIZES.split()]
    with in_this_process():
        assert main([*arguments, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "prefetch.json").read_text())
    (row,) = found["rows"]
    assert 2 <= row["rows"] <= 16
    assert row["fetched_bytes"] == row["rows"] * 3 * 2 * 4 * 4
    assert row["table_bytes"] == 16 * 3 * 2 * 4 * 4
    assert all(row[way]["median"] > 0 for way in prefetch.WAYS)
    assert "beside" in (tmp_path / "prefetch.txt").read_text()
