"""SGD whose step costs nothing for rows that the batch did not touch."""

from typing import Any

from keras_treegate.core import checks
from keras_treegate.core.saving import register
from keras_treegate.optimizers.arguments import LearningRate
from keras_treegate.optimizers.row_state import Slot, Step
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer
from keras_treegate.types import Config, Tensor


@register
class StepAwareSGD(StepAwareOptimizer):
    """Gradient descent that reads and writes only touched rows of a table.

    For every other variable it is `keras.optimizers.SGD`. A row of a level of a
    `TreeGatedDense`, or of a `SparseEmbedding`, that the batch touched, after
    `dt` steps, is updated by

        row      = row * product of (1 - lr_t * weight_decay) over the dt steps
        velocity = momentum^dt * velocity - lr * gradient
        row      = row + velocity
        row      = row + momentum * velocity - lr * gradient     (nesterov)

    Rows that were not touched stay as they are, and are read with the decay
    they owe. So weight decay is exactly that of dense training, and without
    momentum the whole of training is; the drift that leftover momentum would
    have caused in idle steps is not replayed.

    Reference: K. Cho and Y. Bengio, arXiv 1406.7362, section 5 (step-aware
    decay); I. Sutskever et al., ICML 2013 (momentum, as Keras writes it).

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule`
            or callable. Defaults to `0.01`.
        momentum: Float in [0, 1]. Defaults to `0.0`.
        nesterov: Boolean. Defaults to `False`.
        weight_decay: Float of at least 0, or `None`. Decoupled: weights are
            multiplied by `1 - learning_rate * weight_decay`. Defaults to
            `None`.
        name: String. Defaults to `"step_aware_sgd"`.
        **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm` and
            `loss_scale_factor`, as for all Keras optimizers.

    Raises:
        ValueError: For arguments of a wrong type, numbers that are not finite,
            a momentum outside [0, 1], a negative `weight_decay`, and for
            `use_ema` and `gradient_accumulation_steps`, which would touch every
            row.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential([keras_treegate.layers.TreeGatedDense(1)])
    >>> optimizer = keras_treegate.optimizers.StepAwareSGD(
    ...     0.1, momentum=0.9, weight_decay=1e-4
    ... )
    >>> model.compile(optimizer, "mse")
    >>> x, y = np.eye(8), np.ones((8, 1))
    >>> history = model.fit(x, y, epochs=5, verbose=0)
    >>> bool(history.history["loss"][-1] < history.history["loss"][0])
    True
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        name: str = "step_aware_sgd",
        **kwargs: Any,
    ) -> None:
        momentum = checks.number("momentum", momentum, least=0, most=1)
        nesterov = checks.boolean("nesterov", nesterov)
        super().__init__(
            learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.momentum = momentum
        self.nesterov = nesterov

    def slot_kinds(self) -> list[Slot]:
        return [Slot("momentum", decay=self.momentum)] if self.momentum else []

    def next_slots(
        self, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> list[Tensor]:
        move = gradient * step.learning_rate
        return [velocity * self.momentum - move for velocity in slots]

    def next_value(
        self, value: Tensor, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> Tensor:
        move = gradient * step.learning_rate
        if not slots:
            return value - move
        (velocity,) = slots
        if self.nesterov:
            return value + (velocity * self.momentum - move)
        return value + velocity

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(momentum=self.momentum, nesterov=self.nesterov)
        return config
