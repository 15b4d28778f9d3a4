"""The part of a step that all variables have in common, computed once.

The clocks of the tables are advanced as one tensor: some forty small operations
that each table would have otherwise.
"""

from keras import ops

from keras_treegate import backend
from keras_treegate.core import decay
from keras_treegate.optimizers.apply_state import ApplyState
from keras_treegate.optimizers.row_state import Step, VariableState
from keras_treegate.optimizers.table_update import Rule
from keras_treegate.types import Tensor, Variable


def step_after(
    rule: Rule,
    iterations: Variable,
    steps_taken: Variable | None,
    weight_decay: float | None,
    learning_rate: Tensor,
    dtype: str,
) -> tuple[Step, Tensor | None]:
    """Returns the step that follows, for variables of a dtype.

    With it comes the rate of their weight decay, `None` where there is none.
    """
    # Read here, because rows are updated after Keras has counted the step.
    number = ops.cast(iterations + 1, "int32")
    count = number
    if steps_taken is not None:
        count = ops.convert_to_tensor(steps_taken + 1)
    step = Step(number, ops.cast(learning_rate, dtype), count)
    step = step._replace(scalars=rule.step_scalars(step))
    if not weight_decay:
        return step, None
    return step, step.learning_rate * ops.cast(weight_decay, dtype)


def advanced_clocks(
    states: list[VariableState],
    like: VariableState,
    rate: Tensor | None,
    applying: ApplyState,
) -> dict[int, tuple[Tensor, tuple[Tensor, Tensor | bool]]]:
    """Returns the clocks after a step, by the `id` of their table.

    With each comes what `backend.read_clocks` says of it.

    Args:
        states: Those of an optimizer; the tables are those with a gradient.
        like: A state of the same dtype, whose weights decay likewise.
        rate: That of weight decay; with `None` clocks stay as they are.
        applying: The state of the step.
    """
    tables = [
        state.table
        for state in states
        if state.table is not None
        and applying.updates(state.variable)
        and state.variable.dtype == like.variable.dtype
        and state.decays == like.decays
    ]
    clocks = ops.stack([table.clock.value for table in tables], axis=1)
    if rate is not None:
        clocks = applying.if_applied(decay.advance(clocks, rate), clocks)
    each = ops.unstack(clocks, axis=1)
    pairs = zip(each, backend.read_clocks(clocks), strict=True)
    return dict(zip(map(id, tables), pairs, strict=True))
