"""Checks of user input; each raises before anything is allocated."""

import math
import operator
import os
import re
from typing import Any

MAX_ROWS = 2**31
DEFAULT_MAX_LAYER_GIB = 64.0
MAX_LAYER_GIB_VARIABLE = "KERAS_TREEGATE_MAX_LAYER_GIB"


def integer(name: str, value: Any, minimum: int) -> int:
    """Returns `value` as an `int` of at least `minimum`, or raises."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. "
            f"Received: {name}={value!r} (of type {type(value).__name__}). "
            f"Pass a whole number, e.g. `{name}={max(minimum, 4)}`."
        )
    return number


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float = math.inf,
) -> float:
    """Returns `value` as a finite `float` within bounds, or raises."""
    try:
        if isinstance(value, bool | str):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    inside = (
        found < below
        and (least is None or found >= least)
        and (above is None or found > above)
    )
    if not inside:
        bounds = [
            *([f"of at least {least:g}"] if least is not None else []),
            *([f"above {above:g}"] if above is not None else []),
            *([f"below {below:g}"] if below < math.inf else []),
        ]
        raise ValueError(
            f"`{name}` must be a finite number {' and '.join(bounds)}. "
            f"Received: {name}={value!r}. Leave it out for its default."
        )
    return found


def max_layer_bytes() -> int:
    """The most bytes that the nodes of one layer may take."""
    text = os.environ.get(MAX_LAYER_GIB_VARIABLE, str(DEFAULT_MAX_LAYER_GIB))
    try:
        gib = float(text)
    except ValueError:
        gib = 0.0
    if not gib > 0:
        raise ValueError(
            f"The environment variable `{MAX_LAYER_GIB_VARIABLE}` must be a "
            f"positive number of GiB. Received: {text!r}. Unset it to allow "
            f"{DEFAULT_MAX_LAYER_GIB:g} GiB for each layer."
        )
    return int(gib * 2**30)


def tree_size(
    num_trees: int, depth: int, width: int, units: int, itemsize: int
) -> None:
    """Refuses trees of too many rows or too many bytes.

    At construction, where `num_trees` or `width` may not be known yet, 1 stands
    for them: what is refused then would be refused for any input.
    """
    # No power of a depth beyond reason is computed.
    if num_trees > MAX_ROWS or num_trees * 2 ** min(depth, 32) > MAX_ROWS:
        raise ValueError(
            "`depth` and `num_trees` must make a deepest level of at most "
            "2**31 rows, `num_trees * 2**depth`. Received: "
            f"depth={depth}, with {num_trees} tree(s). Lower `depth` or "
            "`num_trees`."
        )
    size = num_trees * (2 ** (depth + 1) - 1) * width * units * itemsize
    limit = max_layer_bytes()
    if size > limit:
        raise ValueError(
            "`units` and `depth` must make nodes of at most "
            f"{limit / 2**30:g} GiB. Received: units={units}, depth={depth}, "
            f"with {num_trees} tree(s) of width {width}, which takes "
            f"{size / 2**30:.1f} GiB ({size} bytes). Lower `depth` (one less "
            "halves it) or `units`, or raise the bound with the environment "
            f"variable `{MAX_LAYER_GIB_VARIABLE}`."
        )


def layer_sizes(units: Any, depth: Any, num_trees: Any) -> tuple:
    """A layer's arguments, checked; integers as Python's own."""
    units = integer("units", units, 1)
    depth = integer("depth", depth, 0)
    known_trees = 1  # at least
    if num_trees is not None and num_trees != "auto":
        if isinstance(num_trees, str):
            raise ValueError(
                '`num_trees` must be "auto", `None` or a positive integer. '
                f"Received: num_trees={num_trees!r}. Leave it out for "
                '"auto", which is `min(64, inputs)`.'
            )
        num_trees = integer("num_trees", num_trees, 1)
        known_trees = num_trees
    tree_size(known_trees, depth, 1, units, itemsize=1)
    return units, depth, num_trees


def itemsize(dtype: str) -> int:
    """The bytes of a number of a dtype, e.g. 2 for "bfloat16"."""
    bits = re.search(r"\d+", dtype)
    return int(bits.group()) // 8 if bits else 1


def floating(name: str, tensor: Any) -> None:
    """Refuses tensors that are not of a floating dtype."""
    dtype = getattr(tensor, "dtype", None)
    if dtype is not None and "float" not in str(dtype):
        raise ValueError(
            f"`{name}` must have a floating dtype. Received: dtype={dtype}. "
            f'Cast it first, e.g. `keras.ops.cast({name}, "float32")`, or look '
            "integers up in a `keras.layers.Embedding`."
        )


def leading_axes(name: str, shape: Any, inputs_shape: Any) -> None:
    """Refuses shapes whose leading axes differ from those of the inputs."""
    leading, expected = tuple(shape)[:-1], tuple(inputs_shape)[:-1]
    if len(leading) != len(expected) or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(leading, expected, strict=True)
    ):
        raise ValueError(
            f"`{name}` must have the leading axes of `inputs`, {expected}. "
            f"Received: shape={tuple(shape)}. Each example needs a gate source "
            "of its own."
        )


def mask_axes(name: str, shape: Any, inputs_shape: Any) -> int:
    """Refuses masks that do not fit inputs; returns how many axes they lack.

    A mask has the first axes of its inputs, all but the features at most.
    """
    shape, expected = tuple(shape), tuple(inputs_shape)[:-1]
    if len(shape) > len(expected) or any(
        size not in (None, 1) and of_inputs not in (None, size)
        for size, of_inputs in zip(shape, expected, strict=False)
    ):
        raise ValueError(
            f"`{name}` must have the first axes of `inputs`, {expected} or the "
            f"first of them. Received: shape={shape}. A mask says of each "
            "example or time step, and not of each feature, whether it counts."
        )
    return len(expected) - len(shape)


def feature_axis(name: str, shape: Any) -> int:
    """Returns the size of the last axis, which must be known; rank >= 2."""
    shape = tuple(shape)
    if len(shape) < 2:
        raise ValueError(
            f"`{name}` must have a rank of at least 2, (batch, ..., features). "
            f"Received: shape={shape}. Add a batch axis, e.g. "
            f"`keras.ops.expand_dims({name}, 0)`."
        )
    if shape[-1] is None:
        raise ValueError(
            f"The last dimension of `{name}` must be known. Received: "
            f"shape={shape}. Define it in `keras.Input` or with a Reshape."
        )
    return int(shape[-1])
