"""The base class of the step-aware optimizers."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_treegate import backend
from keras_treegate.core import saving
from keras_treegate.optimizers import arguments, untrained_gates
from keras_treegate.optimizers.apply_state import (
    ApplyState,
    in_step,
    warn_of_lost_rows,
)
from keras_treegate.optimizers.arguments import LearningRate
from keras_treegate.optimizers.common_step import advanced_clocks, step_after
from keras_treegate.optimizers.row_state import (
    Slot,
    Step,
    VariableState,
    check_decay_state,
    counting_steps,
    key_of_rule,
)
from keras_treegate.optimizers.table_update import update_of
from keras_treegate.tables import row_table
from keras_treegate.types import Store, Tensor, Variable

_NOT_DEFINED = (
    "`{}` must define `slot_kinds`, `next_slots` and `next_value`, as "
    "`keras_treegate.optimizers.StepAwareOptimizer` says."
)


class StepAwareOptimizer(keras.optimizers.Optimizer):
    """Base of the optimizers that touch only the rows a batch touched.

    A subclass names its slots in `slot_kinds` and gives the rule for one step
    in `next_slots` and `next_value`. It is the same for the rows of a tree
    level (R, W, Q) or a `SparseEmbedding` (R, Q), for any other variable, and
    on every backend; this class finds the rows. Register a class of your own
    with `keras.saving.register_keras_serializable`, and add its arguments to
    `get_config`.

    A row of such a table is *touched* when its block of the gradient is not all
    zero, whether the gradient came as rows or dense. In a step, a touched row

    1. pays the weight decay it owes, `row *= exp(clock - stamp)`, and gets a
       new stamp;
    2. catches its slots up, `slot *= decay^(idle steps)`, as zero gradients
       would have; the drift that leftover momentum would have caused in these
       steps is not replayed;
    3. is updated by the rule.

    All other rows, and their slots, are neither read nor written.

    Args:
        learning_rate: Float, learning rate schedule of Keras, or callable.
        weight_decay: Float of at least 0, or `None`. Decoupled: weights are
            multiplied by `1 - learning_rate * weight_decay`. Defaults to
            `None`.
        use_ema: Must be `False`: an average would touch every row. Defaults to
            `False`.
        gradient_accumulation_steps: Must be `None`, for the same reason.
            Defaults to `None`.
        **kwargs: `name`, `clipnorm`, `clipvalue`, `global_clipnorm` and
            `loss_scale_factor`, as for all Keras optimizers.

    Raises:
        ValueError: For a `weight_decay` below 0, and for `use_ema` and
            `gradient_accumulation_steps`.

    Example:

    >>> from keras_treegate.optimizers import StepAwareOptimizer
    >>> class SignDescent(StepAwareOptimizer):
    ...     def slot_kinds(self):
    ...         return []
    ...     def next_slots(self, gradient, slots, step):
    ...         return []
    ...     def next_value(self, value, gradient, slots, step):
    ...         return value - step.learning_rate * keras.ops.sign(gradient)
    >>> import keras, keras_treegate
    >>> model = keras.Sequential([keras_treegate.layers.TreeGatedDense(1)])
    >>> model.compile(SignDescent(0.01, weight_decay=0.1), "mse")
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        use_ema: bool = False,
        gradient_accumulation_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments.refuse_dense(use_ema, gradient_accumulation_steps)
        super().__init__(
            learning_rate=arguments.learning_rate(learning_rate),
            weight_decay=arguments.weight_decay(weight_decay),
            **arguments.scales(kwargs),
        )
        self._excluded: tuple[tuple[int, ...], tuple[str, ...]] = ((), ())
        self.states: list[VariableState] = []
        self._warned: set[tuple[str, str]] = set()
        self._gates_warned: set[int] = set()
        # The steps that are in progress: one, or one for each replica.
        self._applying: list[ApplyState] = []
        # Once built, where a slot needs it.
        self._steps_taken: Variable | None = None
        # The rule may depend on the attributes that a subclass adds to these.
        self._attributes_of_base: frozenset[str] = frozenset()
        self._attributes_of_base = frozenset(vars(self))

    @property
    def weight_decay(self) -> float | None:
        """The weight decay; `None` while Keras applies gradients.

        Keras would otherwise decay whole tables.
        """
        return None if getattr(self, "_applying", ()) else self._weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        self._weight_decay = arguments.weight_decay(value)

    def slot_kinds(self) -> list[Slot]:
        """Returns a `Slot` for each kind of state that a variable has."""
        raise NotImplementedError(_NOT_DEFINED.format(type(self).__name__))

    def step_scalars(self, step: Step) -> tuple[Tensor, ...]:
        """Returns what the rule computes of a step alone, `step.scalars`.

        It does so once for all variables of a dtype, and not for each table.
        Defaults to `()`.

        Args:
            step: its number and learning rate.
        """
        return ()

    def next_slots(
        self, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> list[Tensor]:
        """Returns the slots after one step; called before `next_value`.

        Args:
            gradient: of the variable, or of rows of it (R, ...).
            slots: one tensor for each of `slot_kinds`, as `gradient`.
            step: its number, learning rate and scalars.

        Returns:
            The list of new slots.
        """
        raise NotImplementedError(_NOT_DEFINED.format(type(self).__name__))

    def next_value(
        self, value: Tensor, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> Tensor:
        """Returns the value after one step, from the new slots.

        Args:
            value: the variable, or rows of it (R, ...).
            gradient: as `value`.
            slots: what `next_slots` returned.
            step: its number, learning rate and scalars.

        Returns:
            The new value.
        """
        raise NotImplementedError(_NOT_DEFINED.format(type(self).__name__))

    @property
    def rule_key(self) -> tuple[object, ...] | None:
        """A value that optimizers with the same rule have in common.

        `None` where no other optimizer is known to have the same rule.
        """
        return key_of_rule(self, self._attributes_of_base)

    def build(self, variables: list[Variable]) -> None:
        if not self.built:
            with backend.outside_of_traces():
                self._build(list(variables))

    def _build(self, variables: list[Variable]) -> None:
        check_decay_state(variables)
        with row_table.step_aware():
            super().build(variables)
            kinds = self.slot_kinds()
            self.states = [
                VariableState(
                    variable, kinds, decays=not self.is_excluded(variable)
                )
                for variable in variables
            ]
        for state in self.states:
            state.add_variables(self)
            if state.table is not None:
                state.table.listeners.add(self)
        if any(state.last_step is not None for state in self.states):
            # Kept apart from `iterations`, which a user may set. It is the last
            # variable, so that a file without it can be recognized.
            self._steps_taken = self.add_variable(
                shape=(),
                initializer="zeros",
                dtype="int32",
                aggregation="only_first_replica",
                name="steps_taken",
            )

    def exclude_from_weight_decay(
        self,
        var_list: list[Variable] | None = None,
        var_names: list[str] | None = None,
    ) -> None:
        super().exclude_from_weight_decay(var_list, var_names)
        self._excluded = (
            tuple(map(id, var_list or ())),
            tuple(var_names or ()),
        )
        for state in self.states:  # There are some if it was built before.
            state.decays = not self.is_excluded(state.variable)

    def is_excluded(self, variable: Variable) -> bool:
        """Returns whether a variable was excluded from weight decay."""
        ids, names = self._excluded
        return id(variable) in ids or any(
            re.search(name, variable.name) for name in names
        )

    @property
    def excluded_names(self) -> tuple[str, ...]:
        """The patterns of names that were excluded from weight decay."""
        return self._excluded[1]

    def apply(
        self,
        grads: Sequence[Tensor | backend.RowGradient | None],
        trainable_variables: Iterable[Variable] | None = None,
    ) -> None:
        """Updates the variables, each of the rows its gradient touches."""
        self._apply(grads, trainable_variables)

    def apply_where(
        self,
        condition: Tensor,
        grads: Sequence[Tensor | backend.RowGradient | None],
        trainable_variables: Iterable[Variable] | None = None,
    ) -> None:
        """Does what `apply` does if a boolean tensor is true, else nothing."""
        self._apply(grads, trainable_variables, condition)
        for count in (self.iterations, self._steps_taken):
            if count is not None:
                skipped = ops.cast(ops.logical_not(condition), count.dtype)
                count.assign(count - skipped)

    def _apply(
        self,
        grads: Sequence[Tensor | backend.RowGradient | None],
        trainable_variables: Iterable[Variable] | None,
        condition: Tensor | None = None,
    ) -> None:
        """Makes a step; `apply_state.py` shows the path of a gradient."""
        grads = list(grads)
        if not grads:
            return
        variables = self.variables_of(grads, trainable_variables)
        gradients = self.as_row_gradients(grads, variables)
        written_here = self._decay_variables()
        with (
            row_table.step_aware(),
            backend.updating_rows() as update_rows,
            in_step(self._applying, update_rows, condition) as applying,
        ):
            pairs = [
                (applying.hand_over(gradient, variable), variable)
                for gradient, variable in zip(gradients, variables, strict=True)
                if id(variable) not in written_here
            ]
            given = map(list, zip(*pairs, strict=True))
            backend.apply_gradients(super().apply, *given)
        if self._steps_taken is not None:
            self._steps_taken.assign_add(1)

    def as_row_gradients(
        self,
        grads: Sequence[Tensor | backend.RowGradient | None],
        trainable_variables: Iterable[Variable] | None = None,
    ) -> list[Tensor | backend.RowGradient | None]:
        """Returns gradients, those of tables as rows if they are carried.

        Those of other variables are dense, and those of clocks and stamps,
        which are not updated by a gradient, are `None`.
        """
        variables = self.variables_of(grads, trainable_variables)
        written_here = self._decay_variables()
        row_gradients = []
        causes: dict[tuple[str, str], list[str]] = {}
        for gradient, variable in zip(grads, variables, strict=True):
            if gradient is None or id(variable) in written_here:
                gradient = None
            elif row_table.of(variable) is None:
                gradient = ops.convert_to_tensor(gradient)
            elif not isinstance(gradient, backend.RowGradient):
                gradient, lost = backend.as_row_gradient(gradient, variable)
                if lost is not None:
                    layer, _, table = variable.path.rpartition("/")
                    causes.setdefault((layer, lost), []).append(table)
            row_gradients.append(gradient)
        warn_of_lost_rows(causes, self._warned)
        return row_gradients

    def variables_of(
        self,
        grads: Sequence[Tensor | backend.RowGradient | None],
        trainable_variables: Iterable[Variable] | None,
    ) -> list[Variable]:
        """Returns the variables of gradients, and builds the optimizer."""
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                with keras.name_scope(self.name):
                    self.build(trainable_variables)
            return trainable_variables
        if not self.built or len(grads) != len(self.states):
            super().apply(grads)  # raises, and says what is wrong
        return [state.variable for state in self.states]

    def _decay_variables(self) -> set[int]:
        """Returns the clocks and stamps, by `id`; no gradient is for them."""
        tables = [state.table for state in self.states if state.table]
        return {id(v) for table in tables for v in (table.clock, table.stamps)}

    def update_step(
        self, gradient: Tensor, variable: Variable, learning_rate: Tensor
    ) -> None:
        state, applying = self._state_of(variable), self._applying[-1]
        dtype = state.variable.dtype
        own = self.iterations, self._steps_taken, self._weight_decay
        step, rate = applying.once(
            dtype, lambda: step_after(self, *own, learning_rate, dtype)
        )
        gradient = applying.take_back(gradient, state.variable)
        if not state.decays:
            rate = None
        if state.table is None:
            old = [ops.convert_to_tensor(v) for v in (variable, *state.slots)]
            slots = self.next_slots(gradient, old[1:], step)
            value = old[0] if rate is None else old[0] - old[0] * rate
            value = self.next_value(value, gradient, slots, step)
            for target, new, before in zip(
                (variable, *state.slots), (value, *slots), old, strict=True
            ):
                self.assign(target, applying.if_applied(new, before))
            return
        clocks = applying.once(
            (dtype, state.decays),
            lambda: advanced_clocks(self.states, state, rate, applying),
        )
        clock, now = clocks[id(state.table)]
        if rate is not None:
            state.table.clock.assign(clock)
        update = update_of(self, state, now, step, applying.condition)
        tables = backend.OptimizerTables(
            state.table.values, state.table.stamps, state.slots, state.last_step
        )
        applying.update_rows(tables, gradient, update)

    def _state_of(self, variable: Variable) -> VariableState:
        return self.states[self._get_variable_index(variable)]

    def last_steps(self, variable: Variable) -> Variable | None:
        """Returns the step in which each row of a table was last written.

        Steps are counted from 1, as `steps_taken` counts them; 0 stands for
        never. `None` where the optimizer does not keep them, because its slots
        owe nothing for the steps in between.
        """
        return self._state_of(variable).last_step

    @property
    def steps_taken(self) -> Variable | None:
        """The steps so far, a variable; `None` where no slot needs it."""
        return self._steps_taken

    def load_own_variables(self, store: Store) -> None:
        with counting_steps(self, store, self.variables) as complete:
            saving.check_optimizer(complete, self)
            super().load_own_variables(complete)

    def finalize_variable_values(self, var_list: list[Variable]) -> None:
        """Settles all decay that rows still owe; `fit` calls it at its end."""
        for state in self.states:
            if state.table is not None:
                state.table.settle()
        untrained_gates.warn(self, self.states, self._gates_warned)
