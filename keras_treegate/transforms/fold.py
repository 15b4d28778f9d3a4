"""The transform of tree layers to tables of path sums, for inference."""

from functools import partial

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core.numerics import dequantize, quantize
from keras_treegate.layers import FoldedTreeDense, TreeGatedDense
from keras_treegate.layers.folded_tree_dense import check_table_dtype
from keras_treegate.transforms.leaves import (
    StoredLeaves,
    chunks,
    row_bytes,
    stored_leaves,
    sums_of_leaves,
)
from keras_treegate.transforms.rebuild import check_model, rebuilt
from keras_treegate.transforms.state import (
    copied_activation,
    copy_variable,
    input_shapes,
)
from keras_treegate.transforms.sublayers import descendants
from keras_treegate.types import Tensor

# The attributes that a folded layer shares with the tree layer.
KEPT = (
    "name",
    "activity_regularizer",
    "units",
    "depth",
    "use_bias",
    "num_trees",
)


def fold(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """Makes a model for inference, which stores the sums of all paths.

    Each `TreeGatedDense` becomes a `FoldedTreeDense`: one table of the sums
    from root to leaf, with all weight decay settled. Outputs are the same up to
    rounding, and an example does the work of a Dense layer, not that of one for
    each stored level. With `levels="all"` about half of the numbers are stored,
    with `"ends"` about as many as before. Leaves that are equal,
    because the nodes that tell them apart are zero, are stored once.

    The table is made a few megabytes at a time: folding needs no memory but the
    table itself.

    `dtype="bfloat16"` or `"int8"` makes it smaller still, at an error that each
    folded layer reports in `folding_error`.

    The new model is not compiled and cannot be trained. The old one stays as
    it is. A model of a class of your own keeps its class, and a layer inside of
    a layer or subclassed model is folded, where Keras can make them anew from
    their config. Where that config does not tell of the layer inside, a file of
    the model could not be loaded: it then refuses `save`, and `save_weights`
    saves it.

    Args:
        model: A built model.
        dtype: Dtype of the tables: `"float64"`, `"float32"`, `"bfloat16"`,
            `"float16"`, `"int8"` (with one scale for each input unit of a
            leaf), or `None` for the compute dtype of each layer. Defaults to
            `None`.

    Returns:
        The new model.

    Raises:
        ValueError: For a model that is not built, has no `TreeGatedDense` or
            cannot be cloned, an unknown `dtype`, and a layer whose kernel is no
            sum along a path, such as one with credit `"noisy_rectifier"`.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras_treegate.layers.TreeGatedDense(4)]
    ... )
    >>> folded = keras_treegate.fold(model)
    >>> small = keras_treegate.fold(model, dtype="int8")
    >>> small.layers[0].folding_error < 0.01
    True
    """
    check_model(model)
    check_table_dtype("dtype", dtype)
    layers = [
        layer
        for layer in descendants(model)
        if isinstance(layer, TreeGatedDense)
    ]
    if not layers:
        raise ValueError(
            "`model` must have at least one `TreeGatedDense` layer to fold. "
            f"Received: {model.name!r}, which has none. Use it as it is."
        )
    for layer in layers:
        _check_credit(layer)
    makers = {id(layer): partial(_folded, layer, dtype) for layer in layers}
    return rebuilt(model, makers).model


def _check_credit(layer: TreeGatedDense) -> None:
    if not layer.credit.foldable:
        raise ValueError(
            "`model` must have layers whose kernels are sums along paths. "
            f"Received: {layer.name!r} with "
            f"credit={type(layer.credit).__name__}, which scales the nodes of "
            "each example by its gates. Use the model as it is."
        )


def _folded(layer: TreeGatedDense, dtype: str | None) -> FoldedTreeDense:
    """Returns the folded form of a layer, built and with its weights."""
    leaves: StoredLeaves = stored_leaves(layer)
    all_differ = leaves.keys.size == leaves.slots.size
    folded = FoldedTreeDense(
        **{name: getattr(layer, name) for name in KEPT},
        dtype=layer.dtype_policy,
        gate=layer.gate.with_depth(layer.depth, np.random.default_rng()),
        activation=copied_activation(layer.activation),
        table_dtype=dtype,
        stored_leaves=None if all_differ else leaves.keys.shape[1],
    )
    folded.build(*input_shapes(layer))
    folded.gate.take_over(layer.gate)
    if layer.bias is not None and folded.bias is not None:
        copy_variable(layer.bias, folded.bias)
    if folded.slots is not None:
        folded.slots.assign(leaves.slots.reshape(-1))
    _write_table(layer, folded, leaves.keys.reshape(-1))
    return folded


def _write_table(
    layer: TreeGatedDense, folded: FoldedTreeDense, keys: np.ndarray
) -> None:
    exact = changes = 0.0
    for start, stop in chunks(len(keys), row_bytes(layer.nodes[0])):
        sums = sums_of_leaves(layer, keys[start:stop])
        rows, scale = quantize(sums, folded.table.dtype)
        backend.write_rows(folded.table, start, rows)
        if scale is not None and folded.scale is not None:
            backend.write_rows(folded.scale, start, scale)
        exact += _sum_of_squares(sums)
        changes += _sum_of_squares(dequantize(rows, scale, sums.dtype) - sums)
    folded.folding_error = (changes / exact) ** 0.5 if exact else 0.0


def _sum_of_squares(rows: Tensor) -> float:
    return float(ops.sum(ops.square(ops.cast(rows, "float32"))))
