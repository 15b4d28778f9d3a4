"""Steps as TensorFlow records them: backward passes, graphs, assignments."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_treegate.types import Tensor, Variable


def watch(
    tensor: Tensor, variable: Variable, check: Callable[[], None] | None
) -> Tensor:
    if check is None:
        variable.regularizer = None
        return tensor

    if tf.executing_eagerly():
        variable.regularizer = None
        return _watched(tensor, check)

    # Avoids `tf.custom_gradient`, which keeps each graph alive for ever.
    variable.regularizer = _Checking(check)
    return tensor


class _Checking(keras.regularizers.Regularizer):
    """A regularizer of nothing that calls a check."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def __call__(self, x: Tensor) -> Tensor:
        self.check()
        return tf.zeros(())


def _watched(tensor: Tensor, check: Callable[[], None]) -> Tensor:
    """Returns the tensor; a tape that records it keeps the check alive.

    This is for tapes alone, because with them TensorFlow releases the check.
    """

    @tf.custom_gradient
    def identity(
        tensor: Tensor,
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def gradient(outputs: Tensor) -> Tensor:
            check()
            return outputs

        return tf.identity(tensor), gradient

    return identity(tensor)


def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
    return tf.executing_eagerly()


def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
    if tf.executing_eagerly():
        return not tf.is_symbolic_tensor(tensor)
    if not tf.is_symbolic_tensor(tensor):
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if graph is tensor.graph:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def can_assign(variable: Variable, tensor: Tensor) -> bool:
    return True


def assign_in_step(variable: Variable, value: Tensor) -> None:
    variable.assign(value)
