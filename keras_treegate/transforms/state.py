"""New layers like old ones, with the state of the old ones."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Container, Iterator
from typing import TypeVar

import keras
import numpy as np
from keras import ops

from keras_treegate.layers.routed_dense import RoutedDense
from keras_treegate.layers.sparse_embedding import SparseEmbedding
from keras_treegate.layers.tree_gated_dense import TreeGatedDense
from keras_treegate.transforms.configs import explaining_failures, remade
from keras_treegate.transforms.sublayers import get_at, is_graph, sublayer_paths
from keras_treegate.types import Shape, Tensor, Variable

TreeLayer = TypeVar("TreeLayer", bound=RoutedDense)


def copy_variable(source: Variable, target: Variable) -> None:
    """Copies the value of a variable into separate memory."""
    target.assign(ops.copy(ops.convert_to_tensor(source.value)))


def copied_activation(
    activation: Callable[..., Tensor],
) -> Callable[..., Tensor]:
    """Returns the activation for a new layer, a copy if it has weights."""
    if not isinstance(activation, keras.Layer):
        return activation
    with explaining_failures(activation):
        new = remade(activation)
    copy_saved_state(activation, new)
    for source, target in zip(activation.variables, new.variables, strict=True):
        copy_variable(source, target)
    return new


@contextlib.contextmanager
def scopes_around(layer: keras.layers.Layer) -> Iterator[None]:
    """Opens the name scopes in which a layer was built, in a `with` block.

    A layer that is built there has variables of the same paths. Under PyTorch
    Keras finds parameters by their paths, and would lose all but one of those
    of equal paths: `fit` would never clear their gradients.
    """
    with contextlib.ExitStack() as scopes:
        for name in (layer.path or "").split("/")[:-1]:
            scopes.enter_context(keras.name_scope(name))
        yield


def tree_like(layer: TreeLayer, **changes: object) -> TreeLayer:
    """Makes a tree layer like another, built, without its weights.

    Args:
        layer: the old layer, built.
        **changes: entries of the config that are to differ.
    """
    with explaining_failures(layer):
        activation = copied_activation(layer.activation)
        new = remade(layer, activation=activation, **changes)
    new.build(*input_shapes(layer))
    for name in ("row_levels", "folding_error"):
        if hasattr(layer, name):
            setattr(new, name, getattr(layer, name))
    return new


def own_variables(layer: TreeGatedDense) -> list[Variable]:
    """Returns the variables of a tree layer alone, without its parts.

    A gate, a credit assignment or an activation may have variables of the same
    names.
    """
    parts = (layer.gate, layer.credit, layer.activation)
    elsewhere = {
        id(variable)
        for part in parts
        for variable in getattr(part, "variables", [])
    }
    return [one for one in layer.variables if id(one) not in elsewhere]


def paired_parts(
    layer: TreeGatedDense, new: TreeGatedDense
) -> list[tuple[Variable, Variable]]:
    """Pairs the variables of two credit assignments and two activations.

    They are paired by their order, as far as both have any: a credit assignment
    may have some for each level.
    """
    pairs: list[tuple[Variable, Variable]] = []
    for name in ("credit", "activation"):
        before = getattr(getattr(layer, name), "variables", [])
        after = getattr(getattr(new, name), "variables", [])
        if before and not after:
            raise ValueError(
                f"`{name}` must make its variables when it is made, so that "
                f"they can be copied. Received: one of {layer.name!r} with "
                f"{len(before)} variables, whose copy has none. Make them in "
                "its `__init__`."
            )
        pairs += zip(before, after, strict=False)
    return pairs


def embedding_like(layer: SparseEmbedding) -> SparseEmbedding:
    """Makes a sparse embedding like another, built, without its weights."""
    with explaining_failures(layer):
        new = remade(layer)
    new.build()
    return new


def input_shapes(layer: RoutedDense) -> tuple[Shape, ...]:
    """Returns the shapes of inputs and gate inputs a layer was built for."""
    axes = (layer.input_spec.axes[-1], layer.gate.input_spec.axes[-1])
    return tuple((None, axis) for axis in axes)


def copy_saved_state(
    old: keras.Operation, new: keras.Operation, apart: Container[int] = ()
) -> None:
    """Copies what a layer, and all layers in it, write into saved files.

    Some layers keep more than variables: a vocabulary, or tensors that are
    made when variables are loaded. They are moved by the methods that Keras
    calls when it saves and loads a layer: `save_own_variables` and
    `load_own_variables`, `save_assets` and `load_assets`.

    Args:
        old: the layer to copy from.
        new: a layer of the same class to copy to.
        apart: `id` of layers inside of the old one to leave out.
    """
    for before, after in _layer_pairs(old, new, apart):
        if before.built and not after.built:  # as one that is called later is
            after.build_from_config(before.get_build_config() or {})
        if _has_own_variables(before):
            store = _Store()
            before.save_own_variables(store)
            after.load_own_variables(store)
        if hasattr(before, "save_assets") and hasattr(after, "load_assets"):
            with tempfile.TemporaryDirectory() as folder:
                before.save_assets(folder)
                if os.listdir(folder):
                    after.load_assets(folder)


def _layer_pairs(
    old: object, new: object, apart: Container[int]
) -> Iterator[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Yields two layers, and the layers in the same places inside of them."""
    if not isinstance(old, keras.Layer) or type(old) is not type(new):
        return
    yield old, new
    if is_graph(old):  # its layers are pairs of their own
        return
    for path, inner in sublayer_paths(old):
        if id(inner) not in apart:
            yield from _layer_pairs(inner, get_at(new, path), apart)


def _has_own_variables(layer: keras.layers.Layer) -> bool:
    default = keras.layers.Layer.load_own_variables
    return layer.built and type(layer).load_own_variables is not default


class _Store(dict[str, np.ndarray]):
    """A store of arrays to save variables in, like a file."""

    def __setitem__(self, name: str, value: Tensor) -> None:
        if isinstance(value, keras.Variable):
            value = value.value
        super().__setitem__(name, np.array(ops.convert_to_numpy(value)))
