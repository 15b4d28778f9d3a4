"""Names of the types that the whole package speaks of.

`Tensor` is what the running backend computes with: an array or tensor of that
framework, a symbolic one while a model is traced, or a NumPy array. There is no
common class of these, so that it is `Any` under a name. Shapes of tensors stand
in docstrings, in the alphabet of `keras_treegate.core.rows`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import keras

Tensor: TypeAlias = Any
Variable: TypeAlias = keras.Variable
Shape: TypeAlias = tuple[int | None, ...]
Config: TypeAlias = dict[str, Any]
PathLike: TypeAlias = str | os.PathLike[str]

# Arguments that Keras takes as a name, an object, a function or a config.
Activation: TypeAlias = str | Callable[..., Tensor] | Config | None
Initializer: TypeAlias = (
    str | keras.initializers.Initializer | Callable[..., Tensor] | Config
)
Regularizer: TypeAlias = (
    str | keras.regularizers.Regularizer | Callable[..., Tensor] | Config | None
)
Constraint: TypeAlias = (
    str | keras.constraints.Constraint | Callable[..., Tensor] | Config | None
)

# The depths that store nodes: "all", "ends" or the depths themselves.
Levels: TypeAlias = str | Sequence[int]


class Store(Protocol):
    """A part of a file, in which Keras keeps the variables of one object."""

    def keys(self) -> Iterable[str]:
        """Returns the names of the variables."""

    def __getitem__(self, name: str, /) -> Tensor: ...

    def __setitem__(self, name: str, value: Tensor, /) -> None: ...
