"""Checks of the tensors that layers are called with, and of their shapes."""

import keras

from keras_treegate.core.checks import integer, shown
from keras_treegate.types import Shape, Tensor


def tensor(name: str, value: object) -> None:
    """Refuses a value that is neither a tensor nor an array."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise ValueError(
            f"`{name}` must be one tensor or array. Received: a value of type "
            f"{type(value).__name__}. Convert it with "
            "`keras.ops.convert_to_tensor`; what gates are read from is passed "
            "as `gate_inputs`."
        )


def is_sparse(value: object, is_dense: bool) -> bool:
    """Returns whether a value is a sparse or ragged tensor, or stands for one.

    `is_dense` is what the backend says of it.
    """
    return not is_dense or _is_sparse_symbol(value) or hasattr(value, "tocoo")


def _is_sparse_symbol(value: object) -> bool:
    """Returns whether a symbolic tensor says that it is sparse or ragged.

    Only that of an input is believed: Keras takes a number for sparse, and so
    `x * 2`, too. Tensors with values are looked at when the layer is called.
    """
    history = getattr(value, "_keras_history", None)
    is_input = history is None or isinstance(
        history.operation, keras.layers.InputLayer
    )
    return is_input and any(
        getattr(value, name, False) for name in ("sparse", "ragged")
    )


def dense(name: str, value: object, is_dense: bool) -> None:
    """Refuses sparse and ragged tensors."""
    if is_sparse(value, is_dense):
        raise ValueError(
            f"`{name}` must be a dense tensor: each example is multiplied with "
            "a kernel of its own. Received: a sparse or ragged tensor of type "
            f"{type(value).__name__}. Convert it before the layer, e.g. with "
            f"`keras.ops.convert_to_tensor({name}, sparse=False)`, or put a "
            "`keras.layers.Dense` in between, which takes sparse ones."
        )


def integers(name: str, tensor: Tensor) -> None:
    """Refuses tensors that are not of an integer dtype."""
    dtype = _dtype_unless("int", tensor)
    if dtype is not None:
        raise ValueError(
            f"`{name}` must have an integer dtype, for gates that read tokens. "
            f"Received: dtype={dtype}. Pass the integers themselves, e.g. of "
            '`keras.Input((8,), dtype="int32")`.'
        )


def floating(name: str, tensor: Tensor) -> None:
    """Refuses tensors that are not of a floating dtype."""
    dtype = _dtype_unless("float", tensor)
    if dtype is not None:
        raise ValueError(
            f"`{name}` must have a floating dtype. Received: dtype={dtype}. "
            f'Cast it first, e.g. `keras.ops.cast({name}, "float32")`, or look '
            "integers up in a `keras.layers.Embedding`."
        )


def _dtype_unless(kind: str, tensor: Tensor) -> object:
    """Returns the dtype of a tensor if it is known and not of a kind."""
    dtype = getattr(tensor, "dtype", None)
    return None if kind in str(dtype) else dtype


def leading_axes(name: str, shape: Shape, inputs_shape: Shape) -> None:
    """Refuses shapes whose leading axes differ from those of the inputs."""
    leading, expected = tuple(shape)[:-1], tuple(inputs_shape)[:-1]
    if len(leading) != len(expected) or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(leading, expected, strict=True)
    ):
        raise ValueError(
            f"`{name}` must have the leading axes of `inputs`, {expected}, and "
            "then one more, of what the gate reads of each example. Received: "
            f"shape={tuple(shape)}. Of tokens (..., steps), "
            "`keras_treegate.layers.TokenWindow(n)(tokens)` makes the last n "
            "of each step."
        )


def codes_per_tree(codes: object, expected: Shape, made_by: str) -> None:
    """Refuses leaf codes that are no integers, or not one for each tree.

    Args:
        codes: the leaf codes.
        expected: their shape (..., G), `None` for an axis of unknown size.
        made_by: what made them, for the message.
    """
    shape, dtype = getattr(codes, "shape", None), getattr(codes, "dtype", None)
    # A graph may not know the rank of what a Python function computes.
    unknown = getattr(shape, "rank", 0) is None
    found = None if shape is None or unknown else tuple(shape)
    fits = unknown or (
        found is not None
        and len(found) == len(expected)
        and all(
            None in pair or pair[0] == pair[1]
            for pair in zip(found, expected, strict=True)
        )
    )
    if not fits or "int" not in str(dtype):
        kind = type(codes).__name__
        received = kind if found is None else f"shape={found}, dtype={dtype}"
        raise ValueError(
            f"Leaf codes must be integers of shape {expected}, one for each "
            f"tree. Received: {received}, from {made_by}. Make them of boolean "
            "bits (..., num_trees, depth) with "
            "`keras_treegate.gates.codes_from_bits`."
        )


def mask_axes(name: str, shape: Shape, inputs_shape: Shape) -> int:
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


def feature_axis(name: str, shape: Shape) -> int:
    """Returns the size of the last axis, which must be known; rank >= 2."""
    try:
        shape = tuple(shape)
    except TypeError:
        raise ValueError(
            f"The shape of `{name}` must be a tuple, (batch, ..., features). "
            f"Received: shape={shown(shape)}. Write e.g. "
            "`layer.build((None, 8))`."
        ) from None
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
    return integer(f"{name}.shape[-1]", shape[-1], 1)
