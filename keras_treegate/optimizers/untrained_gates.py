"""A warning of layers that only gate, and that no gradient reaches.

Under JAX they get gradients of zeros like any other layer. Under the other
backends Keras warns of missing gradients, but does not name the cure. On every
backend their slots are what they were at the beginning.
"""

import warnings

import keras
from keras import ops

from keras_treegate.optimizers.row_state import VariableState


def warn(
    optimizer: keras.optimizers.Optimizer,
    states: list[VariableState],
    warned: set[int],
) -> None:
    """Warns of layers whose outputs are gate inputs and that never learned.

    Args:
        optimizer: the step-aware optimizer.
        states: its state of each variable.
        warned: the ids of tree layers that need no warning, which are added to.
    """
    of_variables = {id(state.variable): state for state in states}
    for state in states:
        layer = getattr(state.variable, "tree_layer", lambda: None)()
        if layer is None or id(layer) in warned:
            continue
        names = [
            inner.name
            for inner in _layers_of_gate_inputs(layer)
            if _is_untrained(inner, of_variables)
        ]
        if names and not int(ops.convert_to_numpy(optimizer.iterations)):
            continue  # There was no step yet.
        warned.add(id(layer))
        if names:
            warnings.warn(
                f"No gradient reached {', '.join(map(repr, names))}, of whose "
                f"outputs the layer {layer.name!r} makes its gates: with "
                '`credit="straight"` gates are constants for the gradient, and '
                "these weights stay as they are. Make the tree layer with "
                '`credit="reinforce"` or `credit="noisy_rectifier"`, which '
                "train its gates, or read gates from units that are also used "
                "elsewhere.",
                stacklevel=4,
            )


def _layers_of_gate_inputs(
    layer: keras.layers.Layer,
) -> list[keras.layers.Layer]:
    """Finds the layers that compute `gate_inputs`, where nothing trains them.

    Nothing does where the credit gives gates no gradient, unless their outputs
    are also used elsewhere. Only functional models tell the layers.
    """
    try:
        tensors = keras.tree.flatten(layer.input)
    except (AttributeError, TypeError, ValueError):
        return []  # The model is subclassed, or has no gate inputs.
    if layer.credit.trains_gates or len(tensors) != 2:
        return []
    sources = keras.utils.get_source_inputs(tensors[1])
    return list(keras.Model(sources, tensors[1]).layers)


def _is_untrained(
    layer: keras.layers.Layer, of_variables: dict[int, VariableState]
) -> bool:
    states = [of_variables.get(id(v)) for v in layer.trainable_variables]
    return len(states) > 0 and all(
        state is not None and state.is_untouched() for state in states
    )
