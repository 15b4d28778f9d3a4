"""Names of the types that the whole package speaks of.

`Tensor` is what the running backend computes with: an array or tensor of that
framework, a symbolic one while a model is traced, or a NumPy array. There is no
common class of these, so that it is `Any` under a name. Shapes of tensors stand
in docstrings, in the alphabet of `keras_treegate.core.rows`.
"""

from typing import Any, TypeAlias

import keras

Tensor: TypeAlias = Any
Variable: TypeAlias = keras.Variable
Shape: TypeAlias = tuple[int | None, ...]
Config: TypeAlias = dict[str, Any]
