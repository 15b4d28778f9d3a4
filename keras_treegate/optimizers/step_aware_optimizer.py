"""What the step-aware optimizers have in common."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_treegate import backend
from keras_treegate.core import checks, decay, loading
from keras_treegate.optimizers import arguments, touched_rows, untrained_gates
from keras_treegate.optimizers.entry import Entry, Slot, Step
from keras_treegate.trees import level as tree_level


class StepAwareOptimizer(keras.optimizers.Optimizer):
    """Base of the optimizers that touch only the rows a batch touched.

    A subclass names its slots and gives the rule for one step, the same for the
    rows of a tree level and for any other variable; this class finds the rows.

    A row of a tree level is *touched* when its block of the gradient is not all
    zero, whether the gradient came as rows or dense. In a step, a touched row

    1. pays the weight decay it owes, `row *= exp(clock - stamp)`, and gets a
       new stamp;
    2. catches its slots up, `slot *= decay^(idle steps)`, as zero gradients
       would have; the drift that leftover momentum would have caused in these
       steps is not replayed;
    3. is updated by the rule.

    All other rows, and their slots, are neither read nor written.
    """

    # How many replicas are in `apply`.
    _applying = 0

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        use_ema: bool = False,
        gradient_accumulation_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments.refuse_dense(use_ema, gradient_accumulation_steps)
        super().__init__(
            learning_rate=arguments.learning_rate(learning_rate),
            weight_decay=weight_decay,
            **arguments.scales(kwargs),
        )
        self._excluded: tuple = ((), ())
        self._entries: list[Entry] = []
        self._warned: set = set()
        self._gates_told: set = set()
        self._updater: Any = None  # see `backend.updating_rows`
        self._condition: Any = None
        self._steps_taken: Any = None  # once built, where a slot needs it
        # What a subclass adds to these is what its rule may depend on.
        self._attributes_of_base: frozenset = frozenset()
        self._attributes_of_base = frozenset(vars(self))

    @property
    def weight_decay(self) -> float | None:
        """`None` while Keras applies gradients: it would decay whole tables."""
        return None if self._applying else self._weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        if value is not None:
            value = checks.number("weight_decay", value, least=0)
        self._weight_decay = value

    def slot_kinds(self) -> list[Slot]:
        """The slots that each variable has."""
        raise TypeError("A StepAwareOptimizer is used through its subclasses.")

    def next_slots(self, gradient: Any, slots: list, step: Step) -> list:
        """The slots after one step; comes before `next_value`.

        Args:
            gradient: of the variable, or of rows of it (R, W, Q).
            slots: one tensor for each of `slot_kinds`, as `gradient`.
            step: its number and learning rate.

        Returns:
            The list of new slots.
        """
        raise TypeError("A StepAwareOptimizer is used through its subclasses.")

    def next_value(
        self, value: Any, gradient: Any, slots: list, step: Step
    ) -> Any:
        """The value after one step, from the new slots.

        Args:
            value: the variable, or rows of it (R, W, Q).
            gradient: as `value`.
            slots: what `next_slots` returned.
            step: its number and learning rate.

        Returns:
            The new value.
        """
        raise TypeError("A StepAwareOptimizer is used through its subclasses.")

    @property
    def rule_key(self) -> tuple | None:
        """A value that optimizers with the same rule have in common.

        It is the class and the hyperparameters. `None` where attributes of a
        subclass are anything but numbers, strings and `None`: then no other
        optimizer is known to have the same rule.
        """
        attributes = {
            name: value
            for name, value in vars(self).items()
            if name not in self._attributes_of_base
        }
        if not all(_is_plain(value) for value in attributes.values()):
            return None
        items = sorted(attributes.items())
        return (type(self), *((name, repr(value)) for name, value in items))

    def build(self, variables: list) -> None:
        if not self.built:
            with backend.outside_of_traces():
                self._build(list(variables))

    def _build(self, variables: list) -> None:
        _check_decay_state(variables)
        with tree_level.step_aware():
            super().build(variables)
            kinds = self.slot_kinds()
            self._entries = [
                Entry(variable, kinds, decays=not self.is_excluded(variable))
                for variable in variables
            ]
        for entry in self._entries:
            entry.add_variables(self)
            if entry.level is not None:
                entry.level.listeners.add(self)
        if any(entry.last_step is not None for entry in self._entries):
            # Not `iterations`, which a user may set. The last variable, so that
            # a file without it can be told.
            self._steps_taken = self.add_variable(
                shape=(),
                initializer="zeros",
                dtype="int32",
                aggregation="only_first_replica",
                name="steps_taken",
            )

    def exclude_from_weight_decay(
        self, var_list: list | None = None, var_names: list | None = None
    ) -> None:
        super().exclude_from_weight_decay(var_list, var_names)
        self._excluded = (
            tuple(map(id, var_list or ())),
            tuple(var_names or ()),
        )
        for entry in self._entries:  # where it was built before
            entry.decays = not self.is_excluded(entry.variable)

    def is_excluded(self, variable: Any) -> bool:
        """Returns whether a variable was excluded from weight decay."""
        ids, names = self._excluded
        return id(variable) in ids or any(
            re.search(name, variable.name) for name in names
        )

    @property
    def excluded_names(self) -> tuple[str, ...]:
        """The patterns of names that were excluded from weight decay."""
        return self._excluded[1]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Updates the variables, each of the rows its gradient touches.

        Keras scales and clips the gradients and calls `update_step`. It is
        handed the rows of a `RowGradient` in place of the dense gradient they
        stand for, which has the same norm, being zero elsewhere.
        """
        grads = list(grads)
        if not grads:
            return
        variables = self.variables_of(grads, trainable_variables)
        gradients = self.lifted(grads, variables)
        states = self._decay_states()
        self._applying += 1
        try:
            with tree_level.step_aware():
                kept = [
                    (self._handed_over(gradient, variable), variable)
                    for gradient, variable in zip(
                        gradients, variables, strict=True
                    )
                    if id(variable) not in states
                ]
                with backend.updating_rows() as self._updater:
                    super().apply(*map(list, zip(*kept, strict=True)))
            if self._steps_taken is not None:
                self._steps_taken.assign_add(1)
        finally:
            self._applying -= 1
            if not self._applying:
                self._updater = None
            for entry in self._entries:
                entry.gradient = None

    def apply_where(
        self, condition: Any, grads: Any, trainable_variables: Any = None
    ) -> None:
        """Does what `apply` does if a boolean tensor is true, else nothing."""
        self._condition = condition
        try:
            self.apply(grads, trainable_variables)
        finally:
            self._condition = None
        for count in (self.iterations, self._steps_taken):
            if count is not None:
                skipped = ops.cast(ops.logical_not(condition), count.dtype)
                count.assign(count - skipped)

    def lifted(self, grads: Any, trainable_variables: Any = None) -> list:
        """The gradients: those of tree levels as rows, where they were carried.

        Those of other variables are dense, and those of clocks and stamps,
        which are not updated by a gradient, are `None`.
        """
        variables = self.variables_of(grads, trainable_variables)
        states = self._decay_states()
        lifted = []
        causes: dict[tuple, list] = {}
        for gradient, variable in zip(grads, variables, strict=True):
            if gradient is None or id(variable) in states:
                gradient = None
            elif tree_level.of(variable) is None:
                gradient = ops.convert_to_tensor(gradient)
            elif not isinstance(gradient, backend.RowGradient):
                gradient, lost = backend.lift(gradient, variable)
                if lost is not None:
                    layer, _, level = variable.path.rpartition("/")
                    causes.setdefault((layer, lost), []).append(level)
            lifted.append(gradient)
        self._warn_once(causes)
        return lifted

    def variables_of(self, grads: Any, trainable_variables: Any) -> list:
        """Returns the variables of gradients, and builds the optimizer."""
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                with keras.name_scope(self.name):
                    self.build(trainable_variables)
            return trainable_variables
        if not self.built or len(grads) != len(self._entries):
            super().apply(grads)  # raises, and says what is wrong
        return [entry.variable for entry in self._entries]

    def _decay_states(self) -> set[int]:
        """The clocks and stamps, which are not written with their gradients."""
        levels = [entry.level for entry in self._entries if entry.level]
        return {id(v) for level in levels for v in (level.clock, level.stamps)}

    def _handed_over(self, gradient: Any, variable: Any) -> Any:
        """What Keras gets for a gradient; its rows, where it has but some."""
        if gradient is not None and variable.overwrite_with_gradient:
            # Keras assigns it at once, whatever the condition of the step.
            return self._if_applied(gradient, variable.value)
        if not isinstance(gradient, backend.RowGradient):
            return gradient
        self._entries[self._get_variable_index(variable)].gradient = gradient
        return gradient.rows

    @staticmethod
    def _given_back(gradient: Any, entry: Entry) -> Any:
        """What Keras made of a gradient, with the rows it is of."""
        dtype = entry.variable.dtype
        if entry.gradient is None:
            return ops.cast(gradient, dtype)
        rows = ops.cast(gradient, dtype)
        if rows is entry.gradient.rows:
            return entry.gradient
        return entry.gradient.with_rows(rows)

    def _if_applied(self, new: Any, old: Any) -> Any:
        """The new value, or the old one in a step of `apply_where` not done."""
        if self._condition is None:
            return new
        return ops.where(self._condition, new, old)

    def _warn_once(self, causes: dict[tuple, list]) -> None:
        """Says of which levels of a layer the rows were lost, and why."""
        for (layer, cause), levels in causes.items():
            if (layer, cause) not in self._warned:
                self._warned.add((layer, cause))
                warnings.warn(
                    f"The gradient of {', '.join(levels)} of the layer "
                    f"{layer!r} is dense: {cause}. Updates are right, but "
                    "every row of these levels is read and written.",
                    stacklevel=3,
                )

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        entry = self._entries[self._get_variable_index(variable)]
        # Now: an update of rows may be made after Keras has counted the step.
        number = ops.cast(self.iterations + 1, "int32")
        count = number
        if self._steps_taken is not None:
            count = ops.convert_to_tensor(self._steps_taken + 1)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        step = Step(number, learning_rate, count)
        gradient = self._given_back(gradient, entry)
        rate = 0.0
        if entry.decays and self._weight_decay:
            rate = step.learning_rate * ops.cast(
                self._weight_decay, variable.dtype
            )
        if entry.level is None:
            old = [ops.convert_to_tensor(v) for v in (variable, *entry.slots)]
            slots = self.next_slots(gradient, old[1:], step)
            value = old[0] - old[0] * rate
            value = self.next_value(value, gradient, slots, step)
            for target, new, before in zip(
                (variable, *entry.slots), (value, *slots), old, strict=True
            ):
                self.assign(target, self._if_applied(new, before))
        else:
            self._update_rows(entry, gradient, step, rate)

    def _update_rows(
        self, entry: Entry, gradient: Any, step: Step, rate: Any
    ) -> None:
        level = entry.level
        before = ops.convert_to_tensor(level.clock.value)
        clock = before
        if entry.decays and self._weight_decay:
            clock = self._if_applied(decay.advance(before, rate), before)
            level.clock.assign(clock)
        update = touched_rows.update_of(
            self, entry, clock, step, self._condition
        )
        self._updater(entry.tables, gradient, update)

    def last_steps(self, nodes: Any) -> Any:
        """The step in which each row of a tree level was last written.

        Counted from 1, and 0 for never, as `steps_taken` counts. `None` where
        the optimizer does not keep it: its slots owe nothing for the steps in
        between.
        """
        return self._entries[self._get_variable_index(nodes)].last_step

    @property
    def steps_taken(self) -> Any:
        """The number of steps, also where a user has set `iterations`.

        A variable; `None` where no slot needs it.
        """
        return self._steps_taken

    def load_own_variables(self, store: Any) -> None:
        with self.counting_steps(store, self.variables) as complete:
            loading.check_optimizer(complete, self)
            super().load_own_variables(complete)

    @contextlib.contextmanager
    def counting_steps(self, store: Any, variables: list) -> Iterator[Any]:
        """Yields a store of numbered variables that has the steps taken too.

        They are the last of the variables, and files of version 0.1.0 are
        without them. What is loaded then tells them.
        """
        last = str(len(variables) - 1)
        numbers = list(map(str, range(len(variables) - 1)))
        if self._steps_taken is None or set(store.keys()) != set(numbers):
            yield store
            return
        yield {**{number: store[number] for number in numbers}, last: 0}
        steps = [self.iterations, *(e.last_step for e in self._entries)]
        self._steps_taken.assign(
            max(
                int(ops.convert_to_numpy(step).max())
                for step in steps
                if step is not None
            )
        )

    def finalize_variable_values(self, var_list: list) -> None:
        """Settles all decay that rows still owe; `fit` calls it at its end."""
        for entry in self._entries:
            if entry.level is not None:
                entry.level.settle()
        untrained_gates.warn(self, self._entries, self._gates_told)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _check_decay_state(variables: list) -> None:
    given = {id(variable) for variable in variables}
    for variable in variables:
        level = tree_level.of(variable)
        if level is None or not level.clock.trainable:
            continue
        if not {id(level.clock), id(level.stamps)} <= given:
            raise ValueError(
                "`variables` must hold the clock and stamps of each tree level "
                "along with its nodes. Received: nodes "
                f"{variable.path!r} without them. Pass all of "
                "`model.trainable_variables`."
            )
