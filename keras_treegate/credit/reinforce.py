"""A credit assignment from the loss of each example, by score functions."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core import checks, saving
from keras_treegate.core.numerics import at_least_float32
from keras_treegate.core.rows import codes_from_bits
from keras_treegate.core.saving import register
from keras_treegate.credit import scores, seeds
from keras_treegate.credit.base import Credit, Route
from keras_treegate.types import Config, Store, Tensor, Variable

BASELINES = ("moving_mean", None)

# Losses of a step that have a baseline of their own; more share the last.
MAX_BASELINES = 8


@register
class Reinforce(keras.layers.Layer, Credit):
    """Samples the bits in training, and credits them with the loss.

    Use it where the units that gate have no other way to learn, such as a
    projection that is passed as `gate_inputs`. It needs the loss of each
    example: wrap the loss in `keras_treegate.losses.ReinforceLoss`.

        activation  a(g, l) = z[units[g, l]] - threshold[g, l]
        training    b(g, l) ~ Bernoulli(p(g, l)), p = sigmoid(a / temperature)
        inference   b(g, l) = 1 if a(g, l) > 0 else 0
        gradient    (loss of the example - baseline)
                        * d/da (sum over g, l of log P(b(g, l)))

    The gradient, added to the ordinary one of all that is multiplied, is an
    unbiased estimate of that of the expected loss. The baseline is a moving
    mean of the loss, of its value before the step, and changes the variance
    only:

        rate = max(1 - momentum, 1 / (updates + 1))
        baseline += rate * (weighted mean of the losses - baseline)

    Each loss of a model has its own (the first eight do). The entropy bonus
    adds `-entropy_bonus` times the mean over the bits of their entropy, in
    nats, to the loss of each example that is trained on, not to its reported
    value.

    The layer has to be called where the loss can see it, and not inside of a
    model that is rematerialized as a whole, an inner `jit`, `scan` or `vmap`.
    JAX refuses that; under TensorFlow and PyTorch a rematerialized model draws
    other samples when it is recomputed, and nothing tells. A layer that is made
    in a `keras.RematScope` is not recomputed, and is right.

    Reference: Y. Bengio, "Estimating or Propagating Gradients Through
    Stochastic Neurons", arXiv 1305.2982, section 3; R. Williams, "Simple
    Statistical Gradient-Following Algorithms for Connectionist Reinforcement
    Learning", Machine Learning 8 (1992).

    Args:
        baseline: `"moving_mean"`, or `None` for none. Defaults to
            `"moving_mean"`.
        temperature: Positive float. A low one is close to the signs. Defaults
            to `1.0`.
        entropy_bonus: Float of at least 0. Defaults to `0.0`.
        momentum: Float in [0, 1), of the baseline. Defaults to `0.99`.
        seed: Integer or `None`, of the samples. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Raises:
        ValueError: For arguments outside of these. In the backward pass of a
            training step whose loss is not wrapped.

    Example:

    >>> import keras
    >>> import keras_treegate
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8,)),
    ...         keras_treegate.layers.TreeGatedDense(
    ...             3, depth=2, credit="reinforce"
    ...         ),
    ...     ]
    ... )
    >>> model.compile(loss=keras_treegate.losses.ReinforceLoss("mse"))
    """

    trains_gates = True
    needs_activations = True

    def __init__(
        self,
        baseline: str | None = "moving_mean",
        temperature: float = 1.0,
        entropy_bonus: float = 0.0,
        momentum: float = 0.99,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        named = baseline is None or isinstance(baseline, str)
        if not named or baseline not in BASELINES:
            raise ValueError(
                "`baseline` must be 'moving_mean' or `None`. Received: "
                f"baseline={baseline!r}. Leave it out for 'moving_mean'."
            )
        temperature = checks.number("temperature", temperature, above=0)
        entropy_bonus = checks.number("entropy_bonus", entropy_bonus, least=0)
        momentum = checks.number("momentum", momentum, least=0, below=1)
        seed = checks.optional_seed(seed)
        super().__init__(autocast=False, **kwargs)
        self.baseline = baseline
        self.temperature = temperature
        self.entropy_bonus = entropy_bonus
        self.momentum = momentum
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # The mean of each loss, and how often it was updated.
        self.moving_means = self._state("moving_means")
        self.updates = self._state("updates")
        self.refusal: saving.Refusal | None = None  # that of its layer
        self.built = True

    def _state(self, name: str) -> Variable:
        return self.add_weight(
            name=name,
            shape=(MAX_BASELINES,),
            dtype="float32",
            initializer="zeros",
            trainable=False,
            autocast=False,
        )

    def route(
        self,
        gate: keras.layers.Layer,
        source: Tensor,
        training: bool,
        mask: Tensor | None = None,
    ) -> Route:
        """Returns the `Route` of a source (..., S), sampled in training."""
        if not training or gate.depth == 0:
            source = ops.stop_gradient(source)
            return Route(gate(source, training=training, mask=mask))
        seeds.check(self.seed_generator, source)
        # (..., G, D)
        activations = gate.activations(source, training=True, mask=mask)
        dtype = at_least_float32(activations)
        logits = ops.cast(activations, dtype) / self.temperature
        probabilities = ops.sigmoid(logits)
        bits = self.sample(ops.stop_gradient(probabilities))
        signs = ops.where(bits, ops.ones_like(logits), -1)
        claim = scores.add(
            self,
            ops.sum(ops.log_sigmoid(signs * logits), axis=(-2, -1)),
            # The entropy of a Bernoulli bit: log(1 + exp(a)) - a * sigmoid(a).
            ops.mean(
                ops.softplus(logits) - logits * probabilities, axis=(-2, -1)
            ),
            mask,
        )
        return Route(codes_from_bits(bits), claim=claim)

    def sample(self, probabilities: Tensor) -> Tensor:
        """Draws boolean bits, true with the probabilities (..., G, D)."""
        draw = keras.random.uniform(
            ops.shape(probabilities), dtype="float32", seed=self.seed_generator
        )
        return ops.cast(draw, probabilities.dtype) < probabilities

    def baseline_of(self, loss: int) -> Tensor:
        """Returns the baseline of a step's n-th loss, a scalar."""
        if self.baseline is None:
            return ops.zeros((), dtype="float32")
        return self.moving_means.value[min(loss, MAX_BASELINES - 1)]

    def update_baseline(self, loss: int, mean: Tensor) -> None:
        """Moves the baseline of a step's n-th loss towards its mean."""
        if self.baseline is None:
            return
        means, updates = self.moving_means.value, self.updates.value
        mean = ops.cast(ops.stop_gradient(mean), "float32")
        mean = backend.mean_of_processes(self.moving_means, mean)
        of_loss = np.eye(MAX_BASELINES, dtype="float32")[
            min(loss, MAX_BASELINES - 1)
        ]
        of_loss = ops.where(
            ops.isfinite(mean), of_loss, ops.zeros_like(of_loss)
        )
        rate = ops.maximum(1 - self.momentum, 1 / (updates + 1))
        moved = means + rate * (mean - means)
        backend.assign_in_step(
            self.moving_means, ops.where(of_loss > 0, moved, means)
        )
        # Past 1 / (1 - momentum) the count no longer matters.
        backend.assign_in_step(
            self.updates, ops.minimum(updates + of_loss, 2.0**24)
        )

    # Saves the generator, so that the samples go on after loading.
    def save_own_variables(self, store: Store) -> None:
        store["moving_means"] = self.moving_means
        store["updates"] = self.updates
        seeds.save(store, self.seed_generator)

    def load_own_variables(self, store: Store) -> None:
        saving.load_part(self, store, self.stored_variables, self._assign)

    def _assign(self, store: Store, variables: dict[str, Variable]) -> None:
        self.moving_means.assign(store["moving_means"])
        self.updates.assign(store["updates"])
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
        return {
            "moving_means": self.moving_means,
            "updates": self.updates,
            seeds.NAME: self.seed_generator.state,
        }

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            baseline=self.baseline,
            temperature=self.temperature,
            entropy_bonus=self.entropy_bonus,
            momentum=self.momentum,
            seed=self.seed,
        )
        return config
