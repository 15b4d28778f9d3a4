"""Adagrad whose step costs nothing for rows that the batch did not touch."""

from typing import Any

from keras import ops

from keras_treegate.core import checks
from keras_treegate.core.saving import register
from keras_treegate.optimizers.arguments import LearningRate
from keras_treegate.optimizers.row_state import Slot, Step
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer
from keras_treegate.types import Config, Tensor


@register
class StepAwareAdagrad(StepAwareOptimizer):
    """Adagrad that reads and writes only touched rows of a table.

    For every other variable it is `keras.optimizers.Adagrad`. A row of a level
    of a `TreeGatedDense`, or of a `SparseEmbedding`, that the batch touched,
    after `dt` steps, is updated by

        row         = row * product over the dt steps of (1 - lr * weight_decay)
        accumulator = accumulator + gradient^2
        row         = row - lr * gradient / sqrt(accumulator + epsilon)

    Rows that were not touched stay as they are, and are read with the decay
    they owe. A zero gradient moves nothing in Adagrad, so training is exactly
    that of the dense optimizer. With `rowwise=True` such a row has one
    accumulator, of the mean over the row of `gradient^2`: the choice when
    memory counts.

    Reference: J. Duchi et al., JMLR 12 (2011); K. Cho and Y. Bengio, arXiv
    1406.7362, section 5 (step-aware decay); row-wise accumulators as in
    D. Mudigere et al., arXiv 2104.05158.

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule`
            or callable. Defaults to `0.001`.
        initial_accumulator_value: Float of at least 0. Defaults to `0.1`.
        epsilon: Float of at least 0. Defaults to `1e-07`.
        rowwise: Boolean, one accumulator for each such row. Defaults to
            `False`.
        weight_decay: Float of at least 0, or `None`. Decoupled: weights are
            multiplied by `1 - learning_rate * weight_decay`. Defaults to
            `None`.
        name: String. Defaults to `"step_aware_adagrad"`.
        **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm` and
            `loss_scale_factor`, as for all Keras optimizers.

    Raises:
        ValueError: For arguments of a wrong type, numbers that are not finite,
            a negative `initial_accumulator_value`, `epsilon` or `weight_decay`,
            and for `use_ema` and `gradient_accumulation_steps`, which would
            touch every row.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential([keras_treegate.layers.TreeGatedDense(1)])
    >>> optimizer = keras_treegate.optimizers.StepAwareAdagrad(
    ...     0.1, rowwise=True
    ... )
    >>> model.compile(optimizer, "mse")
    >>> x, y = np.eye(8), np.ones((8, 1))
    >>> history = model.fit(x, y, epochs=5, verbose=0)
    >>> bool(history.history["loss"][-1] < history.history["loss"][0])
    True
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        rowwise: bool = False,
        weight_decay: float | None = None,
        name: str = "step_aware_adagrad",
        **kwargs: Any,
    ) -> None:
        initial_accumulator_value = checks.number(
            "initial_accumulator_value", initial_accumulator_value, least=0
        )
        epsilon = checks.number("epsilon", epsilon, least=0)
        rowwise = checks.boolean("rowwise", rowwise)
        super().__init__(
            learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon
        self.rowwise = rowwise

    def slot_kinds(self) -> list[Slot]:
        return [
            Slot(
                "accumulator",
                initial=self.initial_accumulator_value,
                per_row=self.rowwise,
            )
        ]

    def next_slots(
        self, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> list[Tensor]:
        (accumulator,) = slots
        square = ops.square(gradient)
        axes = tuple(range(1, len(accumulator.shape)))
        if self.rowwise and axes and {*accumulator.shape[1:]} == {1}:
            square = ops.mean(square, axis=axes, keepdims=True)
        return [accumulator + square]

    def next_value(
        self, value: Tensor, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> Tensor:
        (accumulator,) = slots
        scale = ops.sqrt(accumulator + self.epsilon)
        return value - step.learning_rate * gradient / scale

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            initial_accumulator_value=self.initial_accumulator_value,
            epsilon=self.epsilon,
            rowwise=self.rowwise,
        )
        return config
