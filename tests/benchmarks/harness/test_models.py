"""Contestants compute what they say, and touch the rows they say."""

import keras
import numpy as np
import pytest

from benchmarks import memory
from benchmarks.baselines.naive_tree import NaiveTree
from benchmarks.harness import machine, models, rounds, targets
from keras_treegate.layers import TreeGatedDense

SIZES = {"batch": 3, "units": 8, "depth": 2, "trees": 2, "batches": 2}


def make(model, work="forward", **changes):
    values = {"name": model, "model": model, "work": work} | SIZES | changes
    return models.Case(**values)


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
    model = models.build_model(make("tree"))
    assert models.count_parameters(model) == 7 * 8 * 8 + 8
    assert make("tree").tree_parameters == 7 * 8 * 8
    model = models.build_model(make("naive"))
    assert models.count_parameters(model) == 4 * 8 * 8
    model = models.build_model(make("naive", "gradients"))
    assert models.count_parameters(model) == 7 * 8 * 8
    tree = make("tree", hidden=6)
    model = models.build_model(tree)
    biases = 6 + 8
    assert models.count_parameters(model) - biases == tree.tree_parameters
    dense = make("large-dense", parameters=1200)
    model = models.build_model(dense)
    assert models.count_parameters(model) == 1200 + 75 + 8


def test_tables_are_not_zero():
    # Pages of zeros that were never written may be one page of memory.
    (_, layer) = models.build_model(make("tree")).layers
    for nodes in layer.nodes:
        assert np.all(numpy(nodes.value) != 0)


def test_each_call_brings_another_batch():
    one = make("dense")
    work = models.build(one, None)
    first, second, third = (numpy(work.call()) for _ in range(3))
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, third, atol=1e-6)


def test_a_case_is_built_and_takes_turns():
    case = make("tree", "step", optimizer="StepAwareAdam")
    told = rounds.build(case, None, 0.001)
    assert told["parameters"] == 7 * 8 * 8 + 8
    assert told["first_seconds"] > 0
    inputs, _ = models.draw_data(case)
    (_, layer) = models.build_model(make("tree")).layers
    nodes = set()
    for number, batch in enumerate(inputs):
        for (_, tree), code in np.ndenumerate(numpy(layer.leaf_codes(batch))):
            nodes |= {(number, tree, up, code >> up) for up in range(3)}
    assert told["touched_bytes"] == len(nodes) / 2 * 4 * 8 * 4
    # The layer reads; the optimizer reads and writes the row and two slots.
    assert told["moved_bytes"] == 7 * told["touched_bytes"]
    assert rounds.turn("tree", 0.001) > 0
    rounds.clear()
    with pytest.raises(KeyError):
        rounds.turn("tree", 1)


def test_what_reads_and_writes_rows_alone_has_a_limit():
    for work, optimizer in (("gradients", ""), ("step", "Adam")):
        case = make("tree", work, optimizer=optimizer)
        told = rounds.build(case, None, 0.001)
        assert told["touched_bytes"] > 0
        assert told["moved_bytes"] is None
    told = rounds.build(make("tree"), None, 0.001)  # reads each row once
    assert told["moved_bytes"] == told["touched_bytes"] > 0
    assert rounds.build(make("dense"), None, 0.001)["touched_bytes"] is None
    rounds.clear()
    # A copy of 10 bytes a second, read and written, of which 3 are used.
    assert targets.limit(6.0, 2000.0, 10.0) == pytest.approx(0.3)


def test_the_peak_of_a_step_is_what_it_holds_at_once():
    if not machine.forget_peak():
        pytest.skip("peaks cannot be forgotten here")

    def step(x, y):
        for _ in range(3):  # one after the other
            np.ones(64 * 2**20, "uint8")
        return keras.ops.zeros(())

    peak = memory.peak(step, None, None)
    assert 60 * 2**20 < peak < 120 * 2**20
