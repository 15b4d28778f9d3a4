"""The transform to deeper trees that compute the same at first."""

from functools import partial

import keras
import numpy as np
from keras import ops

from keras_treegate.core import checks, sizes
from keras_treegate.gates import Gate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.transforms.calibrate import source_means
from keras_treegate.transforms.rebuild import check_model, rebuilt
from keras_treegate.transforms.recompile import compile_like
from keras_treegate.transforms.state import (
    copy_variable,
    own_variables,
    paired_parts,
    tree_like,
)
from keras_treegate.transforms.sublayers import LayerSelection, select_layers
from keras_treegate.types import Variable


def grow(
    model: keras.Model,
    depth: int,
    layers: LayerSelection = None,
    calibrate: object = None,
    seed: int | None = None,
) -> keras.Model:
    """Makes the trees of a model deeper without changing its outputs.

    Each `TreeGatedDense` gets new levels, of zeros, and new gate bits: a
    `SignGate` draws units that its tree does not read yet, a `HashGate` takes
    more bits of its longest context. The old levels stay as they are, and so do
    the paths through them. A layer with `levels="all"` gets every level down to
    the new depth; any other gets one, of the new leaves.

    A model that was compiled with a step-aware optimizer is compiled with one
    of the same settings, which keeps the state of all variables that were there
    before, and those excluded from weight decay; the slots of the new levels
    are empty. A model
    compiled with any other optimizer gets a new one, with a warning. Losses,
    metrics, schedules and all other arguments of `compile` are kept. The old
    model stays as it is.

    A running `fit` cannot change the variables it trains. To grow a model while
    it is trained, train it in parts:

        for depth in (2, 4, 6):
            model = keras_treegate.grow(model, depth)
            model.fit(x, y, epochs=3)

    The threshold of a new gate unit with a running mean starts at the mean
    that another tree has of this unit, or else at the average of all; with
    `calibrate` at its mean over a sample. Counts of visits start anew.

    Args:
        model: A built model.
        depth: Integer, the new depth; at least the old one of each layer.
        layers: The tree layers to grow: `None` for all, a name or a list of
            names, or a function that is given a layer and returns a boolean.
            Defaults to `None`.
        calibrate: A sample of inputs, arrays as the model takes them. Defaults
            to `None`.
        seed: Integer or `None`, for drawing the new gate units. Defaults to
            `None`.

    Returns:
        The new model.

    Raises:
        ValueError: For a model that is not built, has no such layer or cannot
            be cloned, for a `depth` that is below that of a layer, above the
            number of units its gates can read, or too large, and for a sample
            where no gate has a running mean.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(4, depth=1)
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> deeper = keras_treegate.grow(model, depth=3)
    >>> [level.shape[0] for level in deeper.layers[0].nodes]
    [8, 16, 32, 64]
    """
    check_model(model)
    depth = checks.integer("depth", depth, 0)
    seed = checks.optional_seed(seed)
    found = selected_tree_layers(model, layers)
    for layer in found:
        _check(layer, depth)
    generator = np.random.default_rng(seed)
    gates = [_deeper_gate(layer, depth, generator) for layer in found]
    made: list[tuple[TreeGatedDense, TreeGatedDense]] = []
    makers = {
        id(layer): partial(_grown, layer, gate, depth, made)
        for layer, gate in zip(found, gates, strict=True)
    }
    new, _, variables = rebuilt(model, makers)
    if calibrate is not None:
        _calibrate(new, made, calibrate)
    for layer, grown in made:
        variables += _same_variables(layer, grown)
    if model.compiled:
        compile_like(model, new, variables)
    return new


def selected_tree_layers(
    model: keras.Model, layers: LayerSelection = None
) -> list[TreeGatedDense]:
    """Returns the `TreeGatedDense` layers that are meant, at least one."""
    found = [
        layer
        for layer in select_layers(model, layers)
        if isinstance(layer, TreeGatedDense)
    ]
    if not found:
        raise ValueError(
            "`model` must have at least one `TreeGatedDense` layer, among "
            f"`layers` if given. Received: {model.name!r}, which has none. "
            "Make some with `keras_treegate.upcycle`."
        )
    return found


def _check(layer: TreeGatedDense, depth: int) -> None:
    if depth < layer.depth:
        raise ValueError(
            "`depth` must be at least that of each layer. Received: "
            f"depth={depth}, for {layer.name!r} of depth {layer.depth}. Choose "
            "`layers`, or lower the depth with `keras_treegate.prune`."
        )
    num_trees, width, units = layer.nodes[0].shape
    itemsize = checks.itemsize(layer.variable_dtype)
    levels = sizes.checked_levels(layer.levels_at(depth), depth)
    sizes.check_tree_size(num_trees, levels, width, units, itemsize)


def _deeper_gate(
    layer: TreeGatedDense, depth: int, generator: np.random.Generator
) -> Gate:
    """Returns an unbuilt gate for a deeper layer; an error names the layer."""
    try:
        return layer.gate.with_depth(depth, generator)
    except ValueError as error:
        raise ValueError(
            f"{error} That is the gate of the layer {layer.name!r}: choose "
            "others with `layers`."
        ) from error


def _grown(
    layer: TreeGatedDense,
    gate: Gate,
    depth: int,
    made: list[tuple[TreeGatedDense, TreeGatedDense]],
) -> TreeGatedDense:
    """Returns a deeper layer, built and with the weights of the old one."""
    levels = layer.levels_at(depth)
    new = tree_like(layer, depth=depth, levels=levels, gate=gate)
    for source, target in _same_variables(layer, new):
        copy_variable(source, target)
    for nodes in new.nodes[len(layer.nodes) :]:  # whatever the initializer is
        nodes.assign(ops.zeros(nodes.shape, dtype=nodes.dtype))
    new.gate.take_over(layer.gate)
    made.append((layer, new))
    return new


def _same_variables(
    layer: TreeGatedDense, new: TreeGatedDense
) -> list[tuple[Variable, Variable]]:
    """Pairs variables of the same name and shape, without those of the gate."""
    targets = {variable.name: variable for variable in own_variables(new)}
    named = [
        (source, targets[source.name])
        for source in own_variables(layer)
        if source.name in targets
    ]
    return [
        (source, target)
        for source, target in [*named, *paired_parts(layer, new)]
        if source.shape == target.shape
    ]


def _calibrate(
    new: keras.Model,
    made: list[tuple[TreeGatedDense, TreeGatedDense]],
    data: object,
) -> None:
    made = [pair for pair in made if pair[1].gate.needs_means]
    means = source_means(new, [grown for _, grown in made], data)
    for (layer, grown), mean in zip(made, means, strict=True):
        grown.gate.set_means(mean.mean, mean.batches, first=layer.depth)
