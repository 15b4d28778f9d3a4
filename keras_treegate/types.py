"""Names of the types that the whole package speaks of.

`Tensor` is what the running backend computes with: an array or tensor of that
framework, a symbolic one while a model is traced, or a NumPy array. There is no
common class of these, so that it is `Any` under a name. Shapes of tensors stand
in docstrings, in the alphabet of `keras_treegate.core.rows`.
"""

import os
from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

import keras

Tensor: TypeAlias = Any
Variable: TypeAlias = keras.Variable
Shape: TypeAlias = tuple[int | None, ...]
Config: TypeAlias = dict[str, Any]
PathLike: TypeAlias = str | os.PathLike[str]


class Store(Protocol):
    """A part of a file, in which Keras keeps the variables of one object."""

    def keys(self) -> Iterable[str]:
        """Returns the names of the variables."""

    def __getitem__(self, name: str, /) -> Tensor: ...

    def __setitem__(self, name: str, value: Tensor, /) -> None: ...
