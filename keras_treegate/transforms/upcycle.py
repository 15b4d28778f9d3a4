"""The transform of Dense layers to trees that compute the same at first."""

from functools import partial
from typing import Any

import keras
from keras import ops

from keras_treegate.core import checks, sizes
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.gates import Gate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.transforms.calibrate import source_means
from keras_treegate.transforms.convertible import convertible
from keras_treegate.transforms.graphs import GateInputs
from keras_treegate.transforms.rebuild import check_model, rebuilt
from keras_treegate.transforms.state import copied_activation, copy_variable
from keras_treegate.transforms.sublayers import LayerSelection
from keras_treegate.transforms.upcycle_gates import NewGates, check_gate_inputs
from keras_treegate.types import Levels

# The attributes that a tree layer takes over from a Dense layer.
KEPT = (
    "name",
    "trainable",
    "units",
    "use_bias",
    "kernel_initializer",
    "bias_initializer",
    "bias_regularizer",
    "bias_constraint",
    "activity_regularizer",
)


def upcycle(
    model: keras.Model,
    depth: int,
    num_trees: int | str | None = "auto",
    layers: LayerSelection = None,
    gate_threshold: str = "running_mean",
    calibrate: object = None,
    seed: int | None = None,
    levels: Levels = "all",
    gate: Gate | None = None,
    gate_inputs: keras.KerasTensor | None = None,
) -> keras.Model:
    """Turns trained Dense layers into trees without changing outputs.

    Each chosen `keras.layers.Dense` becomes a `TreeGatedDense` with the old
    kernel at its roots and zeros below, so that the new model computes what the
    old one does. Then train on: the trees learn what the kernel has no room
    for.

    The new model is not compiled, and the optimizer state of the old one, which
    stays as it is, is not carried over. A `kernel_regularizer` is not either,
    with a warning: use the `weight_decay` of a step-aware optimizer. A model of
    a class of your own keeps its class, and a Dense layer inside of another
    layer or a subclassed model is converted, where Keras can make them anew
    from their config. Where that config does not tell of the layer inside, a
    file of the model could not be loaded: it then refuses `save`, and
    `save_weights` saves it.

    Gates read the inputs of each layer, or, in a functional model, a tensor
    `gate_inputs` that is computed from the inputs of the model. Trees that read
    the last tokens of a trained text model:

        tokens = keras_treegate.layers.TokenWindow(3)(model.input)
        model = keras_treegate.upcycle(
            model,
            depth=9,
            levels=(0, 3, 6, 9),
            gate=keras_treegate.gates.HashGate((1, 2, 3)),
            gate_inputs=tokens,
        )

    Reference: A. Komatsuzaki et al., "Sparse Upcycling: Training
    Mixture-of-Experts from Dense Checkpoints", arXiv 2212.05055, for the name
    and the use; that the outputs stay as they are is ours.

    Args:
        model: A built model.
        depth: Integer of at least 0, the depth of the trees.
        num_trees: As for `TreeGatedDense`. Defaults to `"auto"`.
        layers: The Dense layers to convert: `None` for all that can be, with a
            warning that names the others; a name or a list of names; or a
            function that is given a layer and returns a boolean. Defaults to
            `None`.
        gate_threshold: `"running_mean"` or `"zero"`, as for `SignGate`; the
            former also splits inputs that are hardly ever 0 or less. Defaults
            to `"running_mean"`.
        calibrate: A sample of inputs, arrays as the model takes them: running
            means then start at the means over this sample, and not at zero. For
            gates with running means alone. Defaults to `None`.
        seed: Integer or `None`, for drawing the gate units. Defaults to `None`.
        levels: As for `TreeGatedDense`. Defaults to `"all"`.
        gate: A gate whose config each layer gets a gate of; those with a seed
            get different ones. `None` for a `SignGate` with `gate_threshold`
            and `seed`, which are for that alone. Defaults to `None`.
        gate_inputs: A symbolic tensor (..., S) for the gates to read, made of
            the inputs or of other tensors of a functional model, with the
            leading axes of what the layers are called on. Defaults to `None`.

    Returns:
        The new model.

    Raises:
        ValueError: For a model that is not built or cannot be cloned, sizes as
            for `TreeGatedDense`, names of no layer, named layers that cannot be
            converted and models without any that can: each is named, with the
            reason. For a `gate` that is none, and for `gate_inputs` of another
            model or for a model that is not functional, and for `calibrate`
            where no gate has a running mean.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(16), keras.layers.ReLU()]
    ... )
    >>> x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    >>> larger = keras_treegate.upcycle(model, depth=3, calibrate=x)
    >>> y, z = model.predict(x, verbose=0), larger.predict(x, verbose=0)
    >>> bool(np.allclose(y, z, atol=1e-5)), larger.layers[0].capacity
    (True, 1936)
    """
    check_model(model)
    _, depth, num_trees, stored = sizes.checked_sizes(
        1, depth, num_trees, levels
    )
    gates = NewGates(gate, gate_threshold, seed, gate_inputs)
    if calibrate is not None and gate is None and gate_threshold == "zero":
        raise ValueError(
            '`calibrate` is for `gate_threshold="running_mean"` alone. '
            f"Received: gate_threshold={gate_threshold!r}. Leave one of them "
            "out."
        )
    why_not = partial(_why_not, num_trees=num_trees, levels=stored, gates=gates)
    found = convertible(model, layers, keras.layers.Dense, why_not, "kernel")
    if gate_inputs is not None:
        check_gate_inputs(model, gate_inputs, found)
    made: list[TreeGatedDense] = []
    makers = {
        id(layer): partial(
            _upcycled,
            layer,
            made,
            depth=depth,
            num_trees=num_trees,
            levels=levels,
            gate=gates.make(number),
            sources=gates.sources(layer),
        )
        for number, layer in enumerate(found)
    }
    read = None
    if gate_inputs is not None:
        read = GateInputs(gate_inputs, found)
    new = rebuilt(model, makers, read).model
    if calibrate is not None:
        _calibrate(new, made, calibrate)
    return new


def _calibrate(
    model: keras.Model, made: list[TreeGatedDense], data: Any
) -> None:
    """Lets the running means of new gates start at those of a sample."""
    made = [layer for layer in made if layer.gate.needs_means]
    for layer, mean in zip(made, source_means(model, made, data), strict=True):
        layer.gate.set_means(mean.mean, mean.batches)


def _why_not(
    layer: keras.layers.Dense,
    num_trees: int | str | None,
    levels: tuple[int, ...],
    gates: NewGates,
) -> str | None:
    """Returns why a layer cannot be converted, or `None`."""
    if layer.kernel_constraint is not None:
        return "has a `kernel_constraint`, which sums of nodes would not keep"
    dtype = _input_dtype(layer)
    if dtype is not None and "float" not in dtype:
        return f"has inputs of the dtype {dtype}, which must be cast first"
    inputs, units = layer.kernel.shape
    if isinstance(num_trees, int) and num_trees > inputs:
        return f"has {inputs} inputs, too few for {num_trees} trees"
    trees = TreeShape.of(num_trees, inputs, levels[-1], units, levels)
    try:
        sizes.check_tree_shape(trees, checks.itemsize(layer.variable_dtype))
    except ValueError as error:
        return f"would be too large: {error}"
    source = (None, gates.sources(layer))
    try:
        gates.make(0).check(source, trees.num_trees, trees.depth)
    except ValueError as error:
        return f"does not fit its gate: {str(error).rstrip('.')}"
    return None


def _input_dtype(layer: keras.layers.Dense) -> str | None:
    """Returns the dtype of a layer's inputs in a graph, or `None`."""
    try:
        return keras.backend.standardize_dtype(layer.input.dtype)
    except (AttributeError, ValueError):  # it was called on values only
        return None


def _upcycled(
    layer: keras.layers.Dense,
    made: list[TreeGatedDense],
    sources: int,
    **arguments: Any,
) -> TreeGatedDense:
    """Makes the tree layer of a Dense layer, built and with its weights."""
    new = TreeGatedDense(
        **{name: getattr(layer, name) for name in KEPT},
        dtype=layer.dtype_policy,
        activation=copied_activation(layer.activation),
        **arguments,
    )
    inputs = layer.kernel.shape[0]
    new.build((None, inputs), (None, sources))
    roots = new.nodes[0]
    padding = roots.shape[0] * roots.shape[1] - inputs
    kernel = ops.pad(
        ops.convert_to_tensor(layer.kernel), ((0, padding), (0, 0))
    )
    roots.assign(ops.copy(ops.reshape(kernel, roots.shape)))
    if layer.bias is not None and new.bias is not None:
        copy_variable(layer.bias, new.bias)
    made.append(new)
    return new
