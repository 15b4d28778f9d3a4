"""Random layers and what the oracle says they compute.

A case is small, but of an odd shape: batches of one, inputs that do not divide
by the trees, trees of padding only, depth 0, more leaves than examples.
"""

import math
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_treegate.layers import TreeGatedDense
from tests import oracle

few = settings(max_examples=20, deadline=None, derandomize=True)


class Case(NamedTuple):
    """One layer and one batch; `lead` is the shape before the features."""

    lead: tuple
    inputs: int
    units: int
    depth: int
    num_trees: object
    seed: int
    levels: object = "all"

    @property
    def trees(self):
        if self.num_trees is None:
            return self.inputs
        return (
            min(64, self.inputs) if self.num_trees == "auto" else self.num_trees
        )


@st.composite
def cases(draw):
    inputs = draw(st.integers(1, 7))
    depth = draw(st.integers(0, min(inputs, 4)))
    middle = draw(st.sets(st.integers(1, max(depth - 1, 1)), max_size=2))
    return Case(
        lead=draw(st.sampled_from([(1,), (2,), (5,), (2, 3), (1, 2, 2)])),
        inputs=inputs,
        units=draw(st.integers(1, 3)),
        depth=depth,
        num_trees=draw(
            st.one_of(
                st.sampled_from([None, 1, "auto"]), st.integers(1, inputs)
            )
        ),
        seed=draw(st.integers(0, 2**16)),
        levels=draw(
            st.sampled_from(["all", "ends", sorted({0, depth} | middle)])
        )
        if depth > 1
        else "all",
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(
        ops.convert_to_numpy(actual),
        expected,
        rtol=tolerance,
        atol=tolerance,
    )


def random_inputs(case):
    """Returns normal inputs with some exact zeros, float32."""
    random = np.random.default_rng(case.seed)
    x = random.normal(size=(*case.lead, case.inputs)).astype("float32")
    x[random.random(x.shape) < 0.1] = 0.0
    return x


def random_layer(case, x, **kwargs):
    """Returns a layer built on `x` whose nodes and bias are random."""
    layer = TreeGatedDense(
        case.units,
        depth=case.depth,
        num_trees=case.num_trees,
        levels=case.levels,
        seed=case.seed,
        **kwargs,
    )
    layer.build(x.shape)
    randomize(layer, case.seed)
    return layer


def randomize(layer, seed=0):
    """Draws every level and the bias of a built layer anew."""
    random = np.random.default_rng(seed + 1)
    for variable in parameters(layer):
        variable.assign(random.normal(size=variable.shape))


def parameters(layer):
    """Returns the levels and the bias, without the state of gate and decay."""
    return [*layer.nodes, *([] if layer.bias is None else [layer.bias])]


def all_levels(layer):
    """Returns the nodes of every depth; zeros where none are stored."""
    trees, width, units = layer.nodes[0].shape
    stored = dict(zip(layer.levels, layer.nodes, strict=True))
    return [
        stored[level].numpy()
        if level in stored
        else np.zeros((trees * 2**level, width, units), "float32")
        for level in range(layer.depth + 1)
    ]


class Expected:
    """The results that the oracle computes from the numbers in a layer.

    Args:
        layer: A built layer.
        x: Inputs `(..., P)`.
        source: The gate source `(..., S)`. Defaults to the inputs.
        threshold: `(G, D)`. Defaults to zeros.
    """

    def __init__(self, layer, x, source=None, threshold=None):
        self.lead = x.shape[:-1]
        self.x = x.reshape(math.prod(self.lead), x.shape[-1])
        source = self.x if source is None else source
        source = source.reshape(len(self.x), source.shape[-1])
        self.levels = layer.levels
        self.nodes = all_levels(layer)
        self.bias = None if layer.bias is None else layer.bias.numpy()
        bits = oracle.gate_bits(source, np.array(layer.gate.units), threshold)
        self._codes = oracle.leaf_codes(bits)

    @property
    def codes(self):
        return self._codes.reshape(*self.lead, -1)

    @property
    def kernel(self):
        inputs = self.x.shape[-1]
        kernel = oracle.effective_kernel(self.nodes, self._codes, inputs)
        return kernel.reshape(*self.lead, *kernel.shape[1:])

    @property
    def output(self):
        y = oracle.forward(self.x, self.nodes, self._codes, self.bias)
        return y.reshape(*self.lead, -1)

    @property
    def leaf_table(self):
        return oracle.leaf_table(self.nodes)

    def gradients(self, dy):
        """Returns `dx` of the inputs' shape, then those of nodes and bias."""
        dy = dy.reshape(len(self.x), -1)
        dx, dnodes, dbias = oracle.gradients(
            self.x, dy, self.nodes, self._codes
        )
        dnodes = [dnodes[level] for level in self.levels]
        return dx.reshape(*self.lead, -1), dnodes, dbias
