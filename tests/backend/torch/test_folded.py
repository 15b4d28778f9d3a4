"""No product is made in place if the numbers of rows cannot be had."""

import numpy as np
import pytest
import torch
from keras import ops

from keras_treegate import backend
from keras_treegate.backend.torch import folded
from keras_treegate.core.tree_shape import FoldedTables, TreeShape

SHAPE = TreeShape(num_trees=2, inputs=5, depth=1, units=3, levels=(0, 1))


@pytest.fixture(autouse=True)
def rows_are_large(monkeypatch):
    monkeypatch.setattr(folded, "SMALL", 0)
    monkeypatch.setattr(folded, "LARGE_ROW", 0)


def outputs(x, codes, dtype="float32"):
    """Returns the outputs (B, 3) of inputs (B, 5) and codes (B, 2)."""
    table = np.random.default_rng(0).normal(size=(4, SHAPE.width, SHAPE.units))
    table = ops.convert_to_tensor(table, "float16")
    tables = FoldedTables(table, None, None, None, SHAPE, dtype)
    return backend.folded_outputs(x, tables, codes)


@pytest.fixture(name="in_place")
def products_that_were_made_in_place(monkeypatch):
    calls, function = [], folded._products_in_place
    monkeypatch.setattr(
        folded,
        "_products_in_place",
        lambda *arguments: calls.append(arguments) or function(*arguments),
    )
    return calls


def drawn(seed):
    random = np.random.default_rng(seed)
    x = torch.tensor(random.normal(size=(3, 5)), dtype=torch.float32)
    return x, torch.tensor(random.integers(0, 2, (3, 2)), dtype=torch.int32)


def test_a_trace_reads_the_rows_of_each_call(in_place):
    traced = torch.jit.trace(outputs, drawn(0), check_trace=False)
    assert not in_place
    for seed in range(4):
        expected = outputs(*drawn(seed))
        torch.testing.assert_close(traced(*drawn(seed)), expected)
    assert in_place


def test_examples_are_mapped(in_place):
    x, codes = drawn(1)
    expected = outputs(x, codes)
    assert in_place
    mapped = torch.func.vmap(lambda *one: outputs(*(v[None] for v in one))[0])
    torch.testing.assert_close(mapped(x, codes), expected)


@pytest.mark.parametrize("examples", [1, 3])
def test_one_example_of_the_dtype_of_the_table_is_enough(examples, in_place):
    table = torch.randn(4, SHAPE.width, SHAPE.units)
    x, codes = (v[:examples] for v in drawn(3))
    tables = FoldedTables(table, None, None, None, SHAPE, "float32")
    found = backend.folded_outputs(x, tables, codes)
    assert bool(in_place) == (examples == 1)
    kernels = table[codes.long() + torch.tensor([0, 2])].flatten(1, 2)
    expected = torch.einsum("bp,bpq->bq", x, kernels[:, :5])
    torch.testing.assert_close(found, expected)


def test_a_low_precision_is_not_rounded_after_each_tree(in_place):
    x, codes = drawn(2)
    x = x.half()
    expected = outputs(x, codes, "float32").half()
    assert len(in_place) == 1
    found = outputs(x, codes, "float16")
    assert len(in_place) == 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("small", [0, 2**15])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_compiler_gets_the_same_operations(dtype, small, monkeypatch):
    monkeypatch.setattr(folded, "SMALL", small)
    x, codes = drawn(4)
    expected = outputs(x, codes)
    table = np.random.default_rng(0).normal(size=(4, SHAPE.width, SHAPE.units))
    table = ops.convert_to_tensor(table.astype("float16"), dtype)
    tables = FoldedTables(table, None, None, None, SHAPE, "float32")
    graphs, served = [], dtype == "float32"  # and no table that is cast

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(
        lambda x, codes: backend.folded_outputs(x, tables, codes),
        backend=compiler,
        fullgraph=served,  # Keras's own operations may break a graph
    )
    torch.testing.assert_close(compiled(x, codes), expected)
    targets = (node.target for graph in graphs for node in graph.graph.nodes)
    names = {getattr(target, "__name__", target) for target in targets}
    assert ("embedding_bag" in names) == (served and not small)
    assert ("bmm" in names) == (served and bool(small))
