"""Checks of arguments; each raises before anything is allocated."""

import math
import operator
import os
import re
from collections.abc import Callable
from typing import SupportsFloat, SupportsIndex, TypeVar

import keras
import numpy as np

from keras_treegate.types import Config, Tensor

Found = TypeVar("Found")

# The types that `float` takes, except for texts.
NUMERIC = SupportsFloat | SupportsIndex

MAX_INTEGER = 2**31 - 1  # of all backends; a seed of PyTorch's is no larger


def shown(value: object) -> str:
    """Returns the `repr` of a value; the size of an integer too long for it."""
    try:
        return repr(value)
    except ValueError:  # Python does not write integers of 4,301 digits
        if not isinstance(value, int):
            raise
        return f"<an integer of {value.bit_length()} bits>"


def integer(
    name: str, value: object, minimum: int, maximum: int = MAX_INTEGER
) -> int:
    """Returns `value` as an `int` within bounds, or raises."""
    try:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not minimum <= number <= maximum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum} and at most "
            f"{maximum}. Received: {name}={shown(value)} (of type "
            f"{type(value).__name__}). Pass a whole number, e.g. "
            f"`{name}={min(max(minimum, 4), maximum)}`."
        )
    return number


def optional_seed(seed: object) -> int | None:
    """Returns a seed as an `int`, or `None`, or raises."""
    return None if seed is None else integer("seed", seed, 0)


def boolean(name: str, value: object) -> bool:
    """Returns `value` as a `bool`, or raises."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(
            f"`{name}` must be `True` or `False`. Received: "
            f"{name}={shown(value)} (of type {type(value).__name__}). Leave it "
            "out for its default."
        )
    return bool(value)


def path(name: str, value: object) -> str:
    """Returns a path as a string, or raises."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(
            f"`{name}` must be a path, a string or `pathlib.Path`. Received: "
            f"{name}={shown(value)} (of type {type(value).__name__}). Write "
            f'e.g. `{name}="logs"`.'
        )
    return os.fsdecode(value)


def keras_object(name: str, get: Callable[..., Found], value: object) -> Found:
    """Returns the object that a `get` function of Keras makes of `value`."""
    try:
        return get(value)
    except Exception as error:
        raise ValueError(
            f"`{name}` must be what `keras.{get.__module__.split('.')[-1]}.get`"
            " accepts: a name that Keras knows, an object or its config. "
            f"Received: {name}={shown(value)} (of type "
            f"{type(value).__name__}). Leave it out for its default."
        ) from error


def initializer(name: str, value: object) -> Callable[..., Tensor]:
    """Returns an initializer; raises where there is none."""
    found = keras_object(name, keras.initializers.get, value)
    if found is None:
        raise ValueError(
            f"`{name}` must be an initializer. Received: {name}=None. Leave it "
            "out for its default."
        )
    return found


def unpenalized(weight: str, rows_of: str, kwargs: Config) -> None:
    """Refuses the penalties of a weight; removes those that are `None`.

    A penalty on all rows reads and writes every row in each step.

    Args:
        weight: the name before `_regularizer` and `_constraint`.
        rows_of: what has the rows, for the message.
        kwargs: the keyword arguments, from which they are removed.
    """
    for name in (f"{weight}_regularizer", f"{weight}_constraint"):
        value = kwargs.pop(name, None)
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out: it would read and write every row "
                f"of the {rows_of} in each step. Received: {name}={value!r}. "
                "Use "
                "the `weight_decay` of a step-aware optimizer, e.g. "
                "`keras_treegate.optimizers.StepAwareAdam(weight_decay=0.01)`, "
                "which decays rows when they are next used."
            )


def number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float = math.inf,
    or_none: bool = False,
) -> float:
    """Returns `value` as a finite `float` within bounds, or raises.

    `or_none` says that the caller takes `None` as well.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, NUMERIC):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    inside = (
        math.isfinite(found)
        and found < below
        and (least is None or found >= least)
        and (above is None or found > above)
        and (most is None or found <= most)
    )
    if not inside:
        bounds = [
            *([f"of at least {least:g}"] if least is not None else []),
            *([f"above {above:g}"] if above is not None else []),
            *([f"below {below:g}"] if below < math.inf else []),
            *([f"of at most {most:g}"] if most is not None else []),
        ]
        kind = "`None` or a finite number" if or_none else "a finite number"
        accepted = " ".join([kind, " and ".join(bounds)]).strip()
        raise ValueError(
            f"`{name}` must be {accepted}. Received: {name}={shown(value)} (of "
            f"type {type(value).__name__}). Leave it out for its default."
        )
    return found


def choice(name: str, value: object, accepted: tuple[str, ...]) -> None:
    """Refuses what is none of some strings; the first is the default."""
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(
            f"`{name}` must be one of {accepted}. Received: "
            f"{name}={value!r}. The default is {accepted[0]!r}."
        )


def itemsize(dtype: str) -> int:
    """Returns the bytes of a number of a dtype, e.g. 2 for "bfloat16"."""
    bits = re.search(r"\d+", dtype)
    return int(bits.group()) // 8 if bits else 1


def unquantized(policy: keras.dtype_policies.DTypePolicy) -> None:
    """Refuses the dtype policy of a quantized layer."""
    if policy.quantization_mode is not None:
        raise ValueError(
            "`dtype` must not be the policy of a quantized layer. Received: "
            f"dtype={policy.name!r}. Use e.g. "
            '`dtype="mixed_bfloat16"`.'
        )


def no_quantization(name: str, mode: object) -> None:
    """Refuses to quantize trees in place, as Keras's `quantize` would.

    `keras.Model.quantize` turns this error into a warning, and goes on with the
    layers that it can quantize.
    """
    raise NotImplementedError(
        f"The rows of the trees of {name!r} are summed along paths, and are not"
        f" quantized by `quantize`. Received: mode={mode!r}. Fold the trained "
        'model instead: `keras_treegate.fold(model, dtype="int8")`.'
    )
