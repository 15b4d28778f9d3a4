"""The layer as one writes it first: gather a kernel for each example."""

from typing import Any

import keras
from keras import ops

from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.gates import SignGate


class NaiveTree(keras.layers.Layer):
    """The layer of a `TreeGatedDense`, by way of (B, P, Q) kernels.

        kernel[b, g] = sum over l of T[l][node of b in tree g at level l]
        y[b]         = sum over g, w of x[b, g, w] * kernel[b, g, w]

    Paths, weights and their start are alike, gradients are dense, and there is
    no decay. For benchmarks alone.

    Args:
        units: Q.
        depth: D.
        num_trees: G.
        leaves_only: stores the leaves and no other nodes, as if folded.
        seed: of the gate.
    """

    def __init__(
        self,
        units: int,
        depth: int,
        num_trees: int,
        leaves_only: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.units = units
        self.depth = depth
        self.num_trees = num_trees
        self.level_numbers = tuple(
            range(depth if leaves_only else 0, depth + 1)
        )
        self.gate = SignGate(seed=seed)
        self.tables: list[Any] = []

    def build(self, input_shape: Any) -> None:
        trees = TreeShape.of(
            *(self.num_trees, input_shape[-1], self.depth, self.units),
            self.level_numbers,
        )
        self.gate.setup(self.num_trees, self.depth)
        self.gate.build(input_shape)
        self.tables = [
            self.add_weight(
                name=f"table_{level}",
                shape=trees.level_shape(level),
                initializer=keras.initializers.RandomUniform(seed=level),
            )
            for level in self.level_numbers
        ]
        self.trees = trees

    def call(self, inputs: Any) -> Any:
        codes = self.gate(ops.stop_gradient(inputs))  # (B, G)
        trees = ops.arange(self.num_trees, dtype="int32")
        kernels: Any = 0.0
        for level, table in zip(self.level_numbers, self.tables, strict=True):
            rows = trees * 2**level + ops.right_shift(codes, self.depth - level)
            # The gradient of a reshape is dense on every backend.
            nodes = ops.reshape(table.value, table.shape)
            kernels = kernels + ops.take(nodes, rows, axis=0)  # (B, G, W, Q)
        return ops.einsum("bgw,bgwq->bq", self.trees.blocks(inputs), kernels)
