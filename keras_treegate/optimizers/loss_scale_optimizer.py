"""Dynamic loss scaling that keeps gradients of tree levels as rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_treegate import backend
from keras_treegate.core import checks, saving
from keras_treegate.core.saving import register
from keras_treegate.optimizers.row_state import counting_steps
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer
from keras_treegate.tables import row_table
from keras_treegate.types import Store, Tensor, Variable


@register
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling around a step-aware optimizer.

    Under the `mixed_float16` policy `model.compile` wraps an optimizer in
    `keras.optimizers.LossScaleOptimizer`, which looks at every number of every
    gradient: right, but with the cost of dense training. Wrap a step-aware
    optimizer in this one yourself, and `compile` leaves it as it is. The rule
    is Keras's own:

        loss is multiplied by scale, gradients are divided by it
        a gradient that is not finite:  no update, scale = scale / 2
        `dynamic_growth_steps` steps without one:  scale = scale * 2

    A skipped step leaves the weights, all slots, the decay and the iterations
    as they are. Replicas skip a step together, where one of them overflows.
    Variables with `overwrite_with_gradient`, such as the scales of float8
    layers, are not divided.

    Reference: P. Micikevicius et al., "Mixed Precision Training",
    arXiv 1710.03740.

    Args:
        inner_optimizer: A `StepAwareOptimizer`, such as `StepAwareAdam`.
        initial_scale: Float. Defaults to `32768.0`.
        dynamic_growth_steps: Integer. Defaults to `2000`.
        name: String or `None`. Defaults to `None`.
        **kwargs: As for `keras.optimizers.LossScaleOptimizer`.

    Raises:
        ValueError: For an inner optimizer that is not step-aware, and for a
            scale or a number of steps that is not positive.

    Example:

    >>> import keras, keras_treegate
    >>> model = keras.Sequential(
    ...     [keras_treegate.layers.TreeGatedDense(1, dtype="mixed_float16")]
    ... )
    >>> optimizer = keras_treegate.optimizers.LossScaleOptimizer(
    ...     keras_treegate.optimizers.StepAwareAdam()
    ... )
    >>> model.compile(optimizer, "mse")
    """

    def __init__(
        self,
        inner_optimizer: StepAwareOptimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(inner_optimizer, StepAwareOptimizer):
            raise ValueError(
                "`inner_optimizer` must be a step-aware optimizer. Received: "
                f"inner_optimizer={inner_optimizer!r}. Wrap any other in "
                "`keras.optimizers.LossScaleOptimizer`."
            )
        super().__init__(
            inner_optimizer,
            initial_scale=checks.number(
                "initial_scale", initial_scale, above=0
            ),
            dynamic_growth_steps=checks.integer(
                "dynamic_growth_steps", dynamic_growth_steps, 1
            ),
            name=name,
            **kwargs,
        )

        # Keras makes these when it builds, which is too late where a graph that
        # is traced once has multiplied its loss before.
        with backend.outside_of_traces():
            self.step_counter = self.add_variable(
                shape=(),
                initializer="zeros",
                dtype="int",
                aggregation="none",
                name="step_counter",
            )
            self.dynamic_scale = self.add_variable(
                shape=(),
                initializer=keras.initializers.Constant(self.initial_scale),
                dtype="float32",
                aggregation="none",
                name="dynamic_scale",
            )

    def build(self, var_list: list[Variable]) -> None:
        with backend.outside_of_traces():
            self.inner_optimizer.build(var_list)
            keras.optimizers.Optimizer.build(self, var_list)

    def scale_loss(self, loss: Tensor) -> Tensor:
        return ops.multiply(loss, self.dynamic_scale)

    @property
    def weight_decay(self) -> float | None:
        """The weight decay of the inner optimizer; setting it sets that."""
        inner = getattr(self, "inner_optimizer", None)
        return None if inner is None else inner.weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        # Keras sets `None` before there is an inner optimizer.
        if hasattr(self, "inner_optimizer"):
            self.inner_optimizer.weight_decay = value

    def exclude_from_weight_decay(
        self,
        var_list: list[Variable] | None = None,
        var_names: list[str] | None = None,
    ) -> None:
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def load_own_variables(self, store: Store) -> None:
        inner = self.inner_optimizer
        with counting_steps(inner, store, self.variables) as complete:
            saving.check_optimizer(complete, self)
            super().load_own_variables(complete)

    def stateless_apply(
        self,
        optimizer_variables: list[Tensor],
        grads: list[Tensor],
        trainable_variables: list[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        # Avoids the method of Keras's loss scale optimizer, which would carry
        # whole tables through a conditional.
        return keras.optimizers.Optimizer.stateless_apply(
            self, optimizer_variables, grads, trainable_variables
        )

    def apply(
        self,
        grads: Sequence[Tensor | backend.RowGradient | None],
        trainable_variables: Iterable[Variable] | None = None,
    ) -> None:
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
        inner = self.inner_optimizer
        variables = inner.variables_of(grads, trainable_variables)
        gradients = inner.as_row_gradients(grads, variables)
        finite = ops.convert_to_tensor(True)
        for gradient in gradients:
            if gradient is not None:
                rows = _rows(gradient)
                finite = ops.logical_and(finite, ops.all(ops.isfinite(rows)))
        finite = self._everywhere(finite)
        scale = ops.convert_to_tensor(self.dynamic_scale.value)
        with row_table.step_aware():
            unscaled = [
                # A gradient that overwrites its variable is not of the loss.
                gradient
                if variable.overwrite_with_gradient
                else _divided(gradient, scale)
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
        inner.apply_where(finite, unscaled, variables)
        count = ops.convert_to_tensor(self.step_counter.value)
        grows = ops.equal(count, self.dynamic_growth_steps - 1)
        factor = ops.where(finite, ops.where(grows, 2.0, 1.0), 0.5)
        self.dynamic_scale.assign(scale * ops.cast(factor, scale.dtype))
        keeps_counting = ops.logical_and(finite, ops.logical_not(grows))
        self.step_counter.assign(
            ops.where(keeps_counting, count + 1, ops.zeros_like(count))
        )

    def _everywhere(self, finite: Tensor) -> Tensor:
        """Returns whether a boolean is true in all replicas.

        Each has its own gradients, which are added up only when they are
        applied.
        """
        failed = ops.cast(ops.logical_not(finite), "float32")
        failed = backend.mean_of_processes(self.dynamic_scale, failed)
        return ops.equal(failed, 0)


def _rows(gradient: Tensor | backend.RowGradient) -> Tensor:
    if isinstance(gradient, backend.RowGradient):
        return gradient.rows
    return gradient


def _divided(
    gradient: Tensor | backend.RowGradient | None, scale: Tensor
) -> Tensor | backend.RowGradient | None:
    if gradient is None:
        return None
    if isinstance(gradient, backend.RowGradient):
        return gradient.with_rows(_divided(gradient.rows, scale))
    return gradient / ops.cast(scale, gradient.dtype)
