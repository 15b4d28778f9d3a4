"""Contestants compute what they say, and touch the rows they say."""

import keras
import numpy as np
import pytest

from benchmarks import memory_step
from benchmarks.baselines.naive_tree import NaiveTree
from benchmarks.harness import models as contestant
from benchmarks.harness.worker import Worker, answer
from keras_treegate.layers import TreeGatedDense

SIZES = {
    **{"batch": 3, "inputs": 8, "units": 4, "depth": 2, "trees": 2},
    "batches": 2,
}


def make(model, work="forward", **changes):
    values = {"name": model, "model": model, "work": work} | SIZES | changes
    return contestant.Contestant(**values)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("leaves_only", [False, True])
@pytest.mark.parametrize("inputs", [8, 7])  # 7 pads the last block
def test_the_naive_layer_is_the_tree(leaves_only, inputs):
    normal = keras.initializers.RandomNormal(seed=1)
    layer = TreeGatedDense(
        4, depth=3, num_trees=2, node_initializer=normal, seed=0, use_bias=False
    )
    x = np.random.default_rng(0).normal(size=(5, inputs)).astype("float32")
    expected = numpy(layer(x))
    naive = NaiveTree(4, 3, 2, leaves_only=leaves_only, seed=0)
    naive.build(x.shape)
    if leaves_only:
        leaves = numpy(layer.leaf_table())
        naive.tables[0].assign(leaves.reshape(naive.tables[0].shape))
    else:
        for table, nodes in zip(naive.tables, layer.nodes, strict=True):
            table.assign(numpy(nodes.value))
    np.testing.assert_allclose(numpy(naive(x)), expected, atol=1e-5)


def test_parameters_are_those_of_nodes_and_bias():
    model = contestant.build_model(make("tree"))
    assert contestant.count_parameters(model) == 7 * 8 * 4 + 4
    assert contestant.tree_parameters(make("tree")) == 7 * 8 * 4
    model = contestant.build_model(make("naive"))
    assert contestant.count_parameters(model) == 4 * 8 * 4
    model = contestant.build_model(make("naive", "gradients"))
    assert contestant.count_parameters(model) == 7 * 8 * 4
    tree = make("tree", hidden=6)
    model = contestant.build_model(tree)
    biases = 6 + 4
    assert contestant.count_parameters(model) - biases == (
        contestant.tree_parameters(tree)
    )
    dense = make("large-dense", parameters=1200)
    model = contestant.build_model(dense)
    assert contestant.count_parameters(model) == 1200 + 100 + 4


def test_tables_are_not_zero():
    # Pages of zeros that were never written may be one page of memory.
    (_, layer) = contestant.build_model(make("tree")).layers
    for nodes in layer.nodes:
        assert np.all(numpy(nodes.value) != 0)


def test_each_call_brings_another_batch():
    one = make("dense")
    work = contestant.build(one, None)
    first, second, third = (numpy(work.call()) for _ in range(3))
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, third, atol=1e-6)


def test_a_worker_builds_and_takes_turns():
    worker = Worker(None)
    told = worker.build(list(make("tree", "step")), 0.001)
    assert told["parameters"] == 7 * 8 * 4 + 4
    assert told["first_seconds"] > 0
    inputs, _ = contestant.draw_data(make("tree", "step"))
    (_, layer) = contestant.build_model(make("tree")).layers
    nodes = set()
    for number, batch in enumerate(inputs):
        for (_, tree), code in np.ndenumerate(numpy(layer.leaf_codes(batch))):
            nodes |= {(number, tree, up, code >> up) for up in range(3)}
    assert told["touched_bytes"] == len(nodes) / 2 * 4 * 4 * 4
    turn = worker.turn("tree", 0.001)
    assert turn["ms"] > 0
    assert turn["calls"] >= 1
    worker.clear()
    failed = answer(worker, {"ask": "turn", "name": "tree", "seconds": 1})
    assert failed["error"].startswith("KeyError")


def test_the_peak_of_a_step_is_what_it_holds_at_once():
    if not memory_step.machine.forget_peak():
        pytest.skip("peaks cannot be forgotten here")

    def step(x, y):
        for _ in range(3):  # one after the other
            np.ones(64 * 2**20, "uint8")
        return keras.ops.zeros(())

    peak = memory_step._peak(step, None, None)
    assert 60 * 2**20 < peak < 120 * 2**20
