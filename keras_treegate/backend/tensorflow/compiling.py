"""Functions that are compiled once for all who call them."""

import functools
from collections.abc import Callable, Hashable
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


# By key and by the signature of the arguments.
_compiled: dict[tuple[Hashable, ...], Callable[..., Tensor]] = {}


def run_by_xla(
    function: Callable[..., Result],
    key: tuple[Hashable, ...],
    *arguments: Tensor,
) -> Result:
    """Calls a function compiled by XLA, or one compiled for an equal key.

    What XLA compiles stays until the process ends, and so do graphs. A function
    of variables that it is given, and not of a model's own, is compiled for the
    first model and serves all that follow.
    """
    key = (*key, _signature(arguments))
    compiled = _compiled.get(key)
    if compiled is None:
        compiled = tf.function(function, jit_compile=True, autograph=False)
        trace = compiled.get_concrete_function(*arguments)
        # A rule that reads a tensor or variable beside its arguments would give
        # others what is its own.
        if None not in key and not trace.captured_inputs:
            _compiled[key] = compiled
    return compiled(*arguments)


def _signature(arguments: tuple[Tensor, ...]) -> Hashable:
    """Describes the structure of arguments, their kinds and repetitions."""
    leaves = tf.nest.flatten(arguments)
    first: dict[int, int] = {}
    kinds = tuple(
        None
        if leaf is None
        else (
            tuple(leaf.shape),
            leaf.dtype,
            first.setdefault(id(leaf), number),
        )
        for number, leaf in enumerate(leaves)
    )
    lengths = tf.nest.map_structure(lambda _: 0, arguments)
    return kinds, repr(lengths)
