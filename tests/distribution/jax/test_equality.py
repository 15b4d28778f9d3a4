"""Training on four devices equals training on one, on the same batches."""

import functools

import pytest

from tests.distribution.jax.programs import report_of

SPLIT_ROWS = {
    "sparse_embedding/embeddings",
    "sparse_embedding/stamps",
    "signs/nodes_6",
    "signs/stamps_6",
    "signs/visits_low",
    "signs/visits_high",
    "hashes/nodes_6",
    "hashes/stamps_6",
}
SPLIT_UNITS = {"signs/nodes_6", "hashes/nodes_6"}
# The slots that have to be split along, by the names after the optimizer's.
SLOTS = {
    "adam": {"nodes_6_momentum", "nodes_6_velocity"},
    "sgd": {"nodes_6_momentum"},
    "adagrad": set(),
    "stock": {"nodes_6_momentum", "nodes_6_velocity"},
}
SLOTS_OF_ROWS = {
    "adam": {"clock_6_last_step"},
    "sgd": {"clock_6_last_step"},
    "adagrad": {"clock_6_accumulator"},
    "stock": set(),
}


ENGINES = {
    "adam": ["data", "rows", "units", "nodes"],
    "sgd": ["data", "rows"],
    "adagrad": ["rows", "nodes"],
    "stock": ["rows"],
}


@functools.cache
def reports_of(optimizer):
    return report_of("equal_to_one_device", optimizer, *ENGINES[optimizer])


@pytest.mark.parametrize(
    ("engine", "optimizer"),
    [(engine, key) for key, engines in ENGINES.items() for engine in engines],
)
def test_training_equals_that_of_one_device(engine, optimizer):
    # In 200 steps with decay most rows sleep.
    report = reports_of(optimizer)[engine]
    # Adam divides by the root of tiny velocities, in a stock step in all rows.
    tolerance = 2e-5 if optimizer == "stock" else 5e-6
    for part in ("weights", "slots", "outputs"):
        assert report[part] < tolerance, part
    if optimizer in ("adam", "sgd"):
        assert report["untouched"] > 100
    assert report["changed"] == 0  # not a bit of them
    sharded = set(report["sharded"])
    if engine == "data":
        assert not sharded
        return
    slots = SLOTS[optimizer]
    if engine == "rows":
        slots = slots | SLOTS_OF_ROWS[optimizer]
    assert sharded >= (SPLIT_ROWS if engine == "rows" else SPLIT_UNITS)
    names = {path.rpartition("/")[2] for path in sharded}
    assert names >= {f"signs_{slot}" for slot in slots}
