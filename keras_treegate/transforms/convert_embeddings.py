"""The transform of embeddings to sparse ones that compute the same."""

from functools import partial

import keras

from keras_treegate.core import checks, sizes
from keras_treegate.layers import SparseEmbedding
from keras_treegate.transforms.convertible import convertible
from keras_treegate.transforms.rebuild import check_model, rebuilt
from keras_treegate.transforms.state import copy_variable
from keras_treegate.transforms.sublayers import LayerSelection

# The attributes that a sparse embedding takes over.
KEPT = (
    "name",
    "trainable",
    "input_dim",
    "output_dim",
    "embeddings_initializer",
    "mask_zero",
    "activity_regularizer",
)


def convert_embeddings(
    model: keras.Model, layers: LayerSelection = None
) -> keras.Model:
    """Turns embeddings into sparse ones without changing outputs.

    Each chosen `keras.layers.Embedding` becomes a
    `keras_treegate.layers.SparseEmbedding` with its weights. Compile the new
    model with a step-aware optimizer, and a training step costs the rows that
    the batch looked up, and no longer all of them.

    The new model is not compiled, and the optimizer state of the old one, which
    stays as it is, is not carried over. An `embeddings_regularizer` is not
    either, with a warning: use the `weight_decay` of a step-aware optimizer. A
    model of a class of your own keeps its class, and an embedding inside of
    another layer or a subclassed model is converted, where Keras can make them
    anew from their config. Where that config does not tell of the layer inside,
    a file of the model could not be loaded: it then refuses `save`, and
    `save_weights` saves it.

    Args:
        model: A built model.
        layers: The embeddings to convert: `None` for all that can be, with a
            warning that names the others; a name or a list of names; or a
            function that is given a layer and returns a boolean. Defaults to
            `None`.

    Returns:
        The new model.

    Raises:
        ValueError: For a model that is not built or cannot be cloned, names of
            no layer, named layers that cannot be converted and models without
            any that can: each is named, with the reason, such as an
            `embeddings_constraint` or LoRA weights.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential([
    ...     keras.Input((4,), dtype="int32"), keras.layers.Embedding(1000, 8)
    ... ])
    >>> sparse = keras_treegate.convert_embeddings(model)
    >>> ids = np.array([[1, 2, 3, 999]])
    >>> y, z = model.predict(ids, verbose=0), sparse.predict(ids, verbose=0)
    >>> type(sparse.layers[0]).__name__, bool(np.all(y == z))
    ('SparseEmbedding', True)
    """
    check_model(model)
    found = convertible(
        model, layers, keras.layers.Embedding, _why_not, "embeddings"
    )
    makers = {id(layer): partial(_converted, layer) for layer in found}
    return rebuilt(model, makers).model


def _why_not(layer: keras.layers.Embedding) -> str | None:
    """Returns why a layer cannot be converted, or `None`."""
    if layer.embeddings_constraint is not None:
        return (
            "has an `embeddings_constraint`, which would read every row in "
            "each step"
        )
    itemsize = checks.itemsize(layer.variable_dtype)
    try:
        sizes.check_embedding_size(layer.input_dim, layer.output_dim, itemsize)
    except ValueError as error:
        return f"would be too large: {error}"
    return None


def _converted(layer: keras.layers.Embedding) -> SparseEmbedding:
    """Makes the sparse embedding of an embedding, with its weights."""
    new = SparseEmbedding(
        **{name: getattr(layer, name) for name in KEPT},
        dtype=layer.dtype_policy,
    )
    new.build()
    copy_variable(layer.embeddings, new.embeddings)
    return new
