"""Gates whose activation scales what they let through."""

from typing import Any

import keras
from keras import ops

from keras_treegate.core import checks, saving
from keras_treegate.core.numerics import (
    at_least_float32,
    without_subnormals,
)
from keras_treegate.core.rows import codes_from_bits
from keras_treegate.core.saving import register
from keras_treegate.credit import seeds
from keras_treegate.credit.base import Credit, Route
from keras_treegate.types import Config, Store, Tensor, Variable


@register
class NoisyRectifier(keras.layers.Layer, Credit):
    """Scales each node by the rectified, noisy gates on the path to it.

    Use it where gates should learn by the ordinary gradient: the output is a
    continuous function of the gates also where a bit flips, because all that
    switches there is scaled by zero.

        activation  a(g, l) = z[units[g, l]] - threshold[g, l]
        noise       h(g, l) = a(g, l) + stddev * e(g, l), e ~ Normal(0, 1) in
                        training; h = a at inference
        bits        b(g, l) = 1 if h(g, l) > 0 else 0, as `SignGate` compares
        rectified   r(g, l) = max(0, h(g, l)) if b(g, l) else max(0, -h(g, l))
        scales      s(g, 0) = 1, s(g, l) = r(g, 1) * ... * r(g, l)
        kernel      K[g] = sum over l = 0..D of s(g, l) * T[g, n(g, l)]

    So each child of a node is gated by a rectifier of its own, `max(0, h)` or
    `max(0, -h)`, of which one is zero: only one path is read. Kernels depend on
    the activations and not on the leaf alone, so that they cannot be folded
    into a table, and cost one product for each stored level.

    Reference: Y. Bengio, "Estimating or Propagating Gradients Through
    Stochastic Neurons", arXiv 1305.2982, section 4 (noisy rectifier), and K.
    Cho and Y. Bengio, arXiv 1406.7362, section 4. The product along the path is
    our reading of the latter.

    Args:
        stddev: Float of at least 0, of the noise. Defaults to `1.0`.
        seed: Integer or `None`, of the noise. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Raises:
        ValueError: For a `stddev` below 0, and when the layer is asked for a
            table of its leaves, to fold it.

    Example:

    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     8, credit=keras_treegate.credit.NoisyRectifier(stddev=0.5)
    ... )
    >>> layer.credit.foldable, layer.credit.trains_gates
    (False, True)
    """

    foldable = False
    trains_gates = True
    needs_activations = True

    def __init__(
        self, stddev: float = 1.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        stddev = checks.number("stddev", stddev, least=0)
        seed = checks.optional_seed(seed)
        super().__init__(autocast=False, **kwargs)
        self.stddev = stddev
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.refusal: saving.Refusal | None = None  # that of its layer
        self.built = True

    def route(
        self,
        gate: keras.layers.Layer,
        source: Tensor,
        training: bool,
        mask: Tensor | None = None,
    ) -> Route:
        """Returns the `Route` of a gate source (..., S), with its scales."""
        activations = gate.activations(source, training=training, mask=mask)
        dtype = at_least_float32(activations)
        activations = ops.cast(activations, dtype)  # (..., G, D)
        if training:
            seeds.check(self.seed_generator, source)
            noise = ops.cast(self.noise(ops.shape(activations)), dtype)
            activations = activations + self.stddev * noise
        bits = without_subnormals(activations) > 0
        rectified = ops.where(bits, activations, -activations)
        return Route(codes_from_bits(bits), scales=_running_product(rectified))

    def noise(self, shape: tuple[int | Tensor, ...]) -> Tensor:
        """Draws from Normal(0, 1), float32."""
        return keras.random.normal(
            shape, dtype="float32", seed=self.seed_generator
        )

    def save_own_variables(self, store: Store) -> None:
        seeds.save(store, self.seed_generator)

    def load_own_variables(self, store: Store) -> None:
        saving.load_part(self, store, self.stored_variables, self._assign)

    def _assign(self, store: Store, variables: dict[str, Variable]) -> None:
        seeds.load(store, self.seed_generator)

    def quantize(
        self,
        mode: object = None,
        type_check: bool = True,
        config: object = None,
    ) -> None:
        """Does nothing; the gate raises for the whole layer."""

    @property
    def stored_variables(self) -> dict[str, Variable]:
        """The variables that files have, by their names there."""
        return {seeds.NAME: self.seed_generator.state}

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(stddev=self.stddev, seed=self.seed)
        return config


def _running_product(rectified: Tensor) -> Tensor:
    """Returns the products (..., D) of the factors up to each place."""
    # Avoids `ops.cumprod`, whose gradient divides by factors that may be 0.
    depth = rectified.shape[-1]
    if depth == 0:
        return rectified
    products = []
    product: Tensor | int = 1
    for level in range(depth):
        product = product * rectified[..., level : level + 1]
        products.append(product)
    return ops.concatenate(products, axis=-1)
