"""The transform of Dense layers to trees that compute the same at first."""

import warnings
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_treegate.core import checks
from keras_treegate.core.rows import TreeShape
from keras_treegate.gates import SignGate
from keras_treegate.gates.sign_gate import THRESHOLDS
from keras_treegate.layers import TreeGatedDense
from keras_treegate.transforms.calibrate import source_means
from keras_treegate.transforms.rebuild import check_model, rebuilt
from keras_treegate.transforms.state import copied_activation, copy_variable
from keras_treegate.transforms.sublayers import select_layers

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
    layers: Any = None,
    gate_threshold: str = "running_mean",
    calibrate: Any = None,
    seed: int | None = None,
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
            former also splits inputs that are never negative. Defaults to
            `"running_mean"`.
        calibrate: A sample of inputs, arrays as the model takes them: running
            means then start at the means over this sample, and not at zero.
            Defaults to `None`.
        seed: Integer or `None`, for drawing the gate units. Defaults to `None`.

    Returns:
        The new model.

    Raises:
        ValueError: For a model that is not built or cannot be cloned, sizes as
            for `TreeGatedDense`, names of no layer, named layers that cannot be
            converted and models without any that can: each is named, with the
            reason.

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
    _, depth, num_trees = checks.layer_sizes(1, depth, num_trees)
    if seed is not None:
        seed = checks.integer("seed", seed, 0)
    named = isinstance(gate_threshold, str) and gate_threshold in THRESHOLDS
    if not named:
        raise ValueError(
            f"`gate_threshold` must be one of {THRESHOLDS}. Received: "
            f"gate_threshold={gate_threshold!r}. Leave it out for "
            "'running_mean'."
        )
    if calibrate is not None and gate_threshold != "running_mean":
        raise ValueError(
            '`calibrate` is for `gate_threshold="running_mean"` alone. '
            f"Received: gate_threshold={gate_threshold!r}. Leave one of them "
            "out."
        )
    convertible = _convertible(model, layers, depth, num_trees)
    made: list[TreeGatedDense] = []
    makers = {
        id(layer): partial(
            _upcycled,
            layer,
            made,
            depth=depth,
            num_trees=num_trees,
            gate=SignGate(
                threshold=gate_threshold,
                seed=None if seed is None else (seed + number) % 2**31,
            ),
        )
        for number, layer in enumerate(convertible)
    }
    new = rebuilt(model, makers).model
    if calibrate is not None:
        means = source_means(new, made, calibrate)
        for layer, mean in zip(made, means, strict=True):
            layer.gate.set_means(mean.mean, mean.batches)
    return new


def _convertible(
    model: keras.Model, layers: Any, depth: int, num_trees: int | str | None
) -> list[keras.layers.Dense]:
    """Returns the layers to convert; names the others, with the reason."""
    by_name = layers is not None and not callable(layers)
    candidates = [
        layer
        for layer in select_layers(model, layers)
        if by_name or isinstance(layer, keras.layers.Dense)
    ]
    reasons = [_why_not(layer, depth, num_trees) for layer in candidates]
    found = [
        layer
        for layer, reason in zip(candidates, reasons, strict=True)
        if reason is None
    ]
    others = "; ".join(
        f"{layer.name!r} {reason}"
        for layer, reason in zip(candidates, reasons, strict=True)
        if reason is not None
    )
    if not found or (by_name and others):
        raise ValueError(
            "`layers` must be `keras.layers.Dense` layers that can be "
            f"converted. Received: {others or 'no Dense layer'}. Choose others."
        )
    if others:
        warnings.warn(f"Not converted: {others}.", stacklevel=3)
    regularized = [layer.name for layer in found if layer.kernel_regularizer]
    if regularized:
        warnings.warn(
            f"The `kernel_regularizer` of {', '.join(map(repr, regularized))} "
            "is not carried over. Use the `weight_decay` of a step-aware "
            "optimizer.",
            stacklevel=3,
        )
    return found


def _why_not(
    layer: keras.layers.Layer, depth: int, num_trees: Any
) -> str | None:
    """Returns why a layer cannot be converted, or `None`."""
    if type(layer) is not keras.layers.Dense:
        return f"is a {type(layer).__name__}, and not `keras.layers.Dense`"
    if not layer.built:
        return "is not built"
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        return f"is quantized to {mode}"
    if layer.lora_enabled:
        return "has LoRA weights"
    if layer.kernel_constraint is not None:
        return "has a `kernel_constraint`, which sums of nodes would not keep"
    inputs, units = layer.kernel.shape
    if depth > inputs:
        return f"has {inputs} inputs, too few to read {depth} gates from"
    if isinstance(num_trees, int) and num_trees > inputs:
        return f"has {inputs} inputs, too few for {num_trees} trees"
    trees = TreeShape.of(num_trees, inputs, depth, units)
    itemsize = checks.itemsize(layer.variable_dtype)
    try:
        checks.tree_size(trees.num_trees, depth, trees.width, units, itemsize)
    except ValueError as error:
        return f"would be too large: {error}"
    return None


def _upcycled(
    layer: keras.layers.Dense, made: list[TreeGatedDense], **arguments: Any
) -> TreeGatedDense:
    """Makes the tree layer of a Dense layer, built and with its weights."""
    new = TreeGatedDense(
        **{name: getattr(layer, name) for name in KEPT},
        dtype=layer.dtype_policy,
        activation=copied_activation(layer.activation),
        **arguments,
    )
    inputs = layer.kernel.shape[0]
    new.build((None, inputs))
    roots = new.nodes[0]
    padding = roots.shape[0] * roots.shape[1] - inputs
    kernel = ops.pad(
        ops.convert_to_tensor(layer.kernel), ((0, padding), (0, 0))
    )
    roots.assign(ops.copy(ops.reshape(kernel, roots.shape)))
    if layer.bias is not None:
        copy_variable(layer.bias, new.bias)
    made.append(new)
    return new
