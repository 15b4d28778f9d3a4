"""Adam whose step costs nothing for rows that the batch did not touch."""

from typing import Any

from keras import ops

from keras_treegate.core import checks
from keras_treegate.core.saving import register
from keras_treegate.optimizers.arguments import LearningRate
from keras_treegate.optimizers.row_state import Slot, Step
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer
from keras_treegate.types import Config, Tensor


@register
class StepAwareAdam(StepAwareOptimizer):
    """Adam that reads and writes only touched rows of a table.

    For every other variable it is `keras.optimizers.AdamW`. A row of a level of
    a `TreeGatedDense`, or of a `SparseEmbedding`, that the batch touched in
    step `t`, after `dt` steps, is updated by

        row = row * product of (1 - lr_t * weight_decay) over the dt steps
        m   = beta_1^dt * m + (1 - beta_1) * gradient
        v   = beta_2^dt * v + (1 - beta_2) * gradient^2
        row = row - lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) +
        epsilon)

    The moments are those that zero gradients would have left; the drift that
    leftover momentum would have caused in the idle steps is not replayed. Rows
    that were not touched stay as they are, and are read with the decay they
    owe. Where every row is touched in every step this is AdamW.

    Reference: D. Kingma and J. Ba, arXiv 1412.6980; I. Loshchilov and F.
    Hutter, arXiv 1711.05101 (decoupled decay); K. Cho and Y. Bengio, arXiv
    1406.7362, section 5 (step-aware decay).

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule`
            or callable. Defaults to `0.001`.
        beta_1: Float in [0, 1). Defaults to `0.9`.
        beta_2: Float in [0, 1). Defaults to `0.999`.
        epsilon: Float of at least 0. Defaults to `1e-07`.
        weight_decay: Float of at least 0, or `None`. Decoupled: weights are
            multiplied by `1 - learning_rate * weight_decay`. Defaults to
            `None`.
        amsgrad: Must be `False`: the largest `v` a row has had does not follow
            from the steps in which it was touched. Defaults to `False`.
        name: String. Defaults to `"step_aware_adam"`.
        **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm` and
            `loss_scale_factor`, as for all Keras optimizers.

    Raises:
        ValueError: For arguments of a wrong type, numbers that are not finite,
            `amsgrad`, betas outside [0, 1), a negative `epsilon` or
            `weight_decay`, and for `use_ema` and `gradient_accumulation_steps`,
            which would touch every row.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential([keras_treegate.layers.TreeGatedDense(1)])
    >>> model.compile(keras_treegate.optimizers.StepAwareAdam(1e-3), "mse")
    >>> x, y = np.eye(8), np.ones((8, 1))
    >>> history = model.fit(x, y, epochs=5, verbose=0)
    >>> bool(history.history["loss"][-1] < history.history["loss"][0])
    True
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        amsgrad: bool = False,
        name: str = "step_aware_adam",
        **kwargs: Any,
    ) -> None:
        if checks.boolean("amsgrad", amsgrad):
            raise ValueError(
                "`amsgrad` must be `False`: the largest second moment a row "
                "has had does not follow from the steps that touched it. "
                f"Received: amsgrad={amsgrad}. Leave it out, or use "
                "`keras.optimizers.AdamW(amsgrad=True)`, which trains densely."
            )
        beta_1 = checks.number("beta_1", beta_1, least=0, below=1)
        beta_2 = checks.number("beta_2", beta_2, least=0, below=1)
        epsilon = checks.number("epsilon", epsilon, least=0)
        super().__init__(
            learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def slot_kinds(self) -> list[Slot]:
        return [
            Slot("momentum", decay=self.beta_1),
            Slot("velocity", decay=self.beta_2),
        ]

    def step_scalars(self, step: Step) -> tuple[Tensor, ...]:
        """Returns the learning rate with Adam's two bias corrections."""
        dtype = step.learning_rate.dtype
        number = ops.cast(step.number, dtype)
        power_1 = ops.power(ops.cast(self.beta_1, dtype), number)
        power_2 = ops.power(ops.cast(self.beta_2, dtype), number)
        return (step.learning_rate * ops.sqrt(1 - power_2) / (1 - power_1),)

    def next_slots(
        self, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> list[Tensor]:
        m, v = slots
        m = m + (gradient - m) * (1 - self.beta_1)
        v = v + (ops.square(gradient) - v) * (1 - self.beta_2)
        return [m, v]

    def next_value(
        self, value: Tensor, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> Tensor:
        m, v = slots
        (alpha,) = step.scalars
        return value - m * alpha / (ops.sqrt(v) + self.epsilon)

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            amsgrad=False,
        )
        return config
