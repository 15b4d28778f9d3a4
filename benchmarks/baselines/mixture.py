"""A mixture of experts that uses one of them for each example."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_treegate.benchmarks")
class TopOneMixture(keras.layers.Layer):
    """One kernel for each expert; a router chooses the expert.

        shares  p = softmax(x @ router)                  (B, E)
        output  y = scale * p[e] * (x @ kernels[e]) + bias,  e = argmax(p)
        loss    balance * E * sum over e of (examples of e / B) * mean(p[e])

    What `quality` compares trees with. It computes all experts and picks one,
    which is fast enough for a comparison and right; the arithmetic that it
    would need is that of one expert and the router.

    Reference: W. Fedus, B. Zoph and N. Shazeer, "Switch Transformers", arXiv
    2101.03961, with no limit to the examples of an expert.

    Args:
        units: Output units `Q`.
        experts: The number of experts `E`.
        balance: Weight of the loss. Defaults to `0.01`.
        scale: Factor of the outputs. Defaults to `1.0`, as in the reference,
            where all shares start near `1 / E`. With `E`, outputs start about
            as large as those of a Dense layer.
        **kwargs: Keyword arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        units: int,
        experts: int,
        balance: float = 0.01,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.experts = experts
        self.balance = balance
        self.scale = scale

    def build(self, input_shape: Any) -> None:
        inputs = input_shape[-1]
        bound = (6 / (inputs + self.units)) ** 0.5  # Glorot's, of one expert
        self.router = self.add_weight(
            name="router", shape=(inputs, self.experts)
        )
        self.kernels = self.add_weight(
            name="kernels",
            shape=(inputs, self.experts * self.units),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer="zeros"
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        shares = ops.softmax(ops.matmul(inputs, self.router))  # (B, E)
        chosen = ops.one_hot(
            ops.argmax(shares, axis=-1), self.experts, dtype=shares.dtype
        )
        if training:
            load = ops.mean(chosen, axis=0) * ops.mean(shares, axis=0)
            self.add_loss(self.balance * self.experts * ops.sum(load))
        outputs = ops.reshape(
            ops.matmul(inputs, self.kernels), (-1, self.experts, self.units)
        )
        factors = self.scale * chosen * shares
        return ops.einsum("beq,be->bq", outputs, factors) + self.bias

    @property
    def multiply_adds(self) -> int:
        """Counts the arithmetic of one expert and the router."""
        return self.router.shape[0] * (self.units + self.experts)

    def get_config(self) -> dict:
        return super().get_config() | {
            "units": self.units,
            "experts": self.experts,
            "balance": self.balance,
            "scale": self.scale,
        }
