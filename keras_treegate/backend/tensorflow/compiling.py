"""Functions that are compiled once for all who call them."""

import functools
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from keras_treegate.backend.tensorflow.exporting import is_exporting
from keras_treegate.backend.tensorflow.in_place import is_shared
from keras_treegate.types import Tensor

Result = TypeVar("Result")


@functools.cache
def _traced(
    function: Callable[..., Result], by_xla: bool
) -> Callable[..., Result]:
    def with_shapes(arguments: tuple[Tensor, ...], shapes: object) -> Result:
        del shapes  # tells traces apart
        return function(*arguments)

    return tf.function(with_shapes, jit_compile=by_xla, autograph=False)


def _is_variable(argument: object) -> bool:
    return isinstance(argument, tf.Variable) or is_shared(argument)


def compiled(
    function: Callable[..., Result], eagerly: bool = False, by_xla: bool = True
) -> Callable[..., Result]:
    """Compiles a function of its arguments alone by XLA, once for each shape.

    Where no graph is made, it is compiled only if `eagerly` is true. Without
    XLA it is a graph, made once for each shape.

    It is given the static shapes as well: `tf.function` would take a trace of
    unknown sizes, if there is one, for sizes that are known, and forget these.
    """

    def call(*arguments: Tensor) -> Result:
        if tf.executing_eagerly() and not eagerly:
            return function(*arguments)
        if is_exporting():  # no other runtime knows a compiled function
            return function(*arguments)
        # Not variables: a graph that reads one can be called only while that
        # one lives, and is kept for all others of its shape.
        arguments = tf.nest.map_structure(
            lambda x: tf.convert_to_tensor(x) if _is_variable(x) else x,
            arguments,
        )
        shapes = tuple(
            tuple(leaf.shape) if tf.is_tensor(leaf) else None
            for leaf in tf.nest.flatten(arguments)
        )
        return _traced(function, by_xla)(arguments, shapes)

    return call
