"""The gates of upcycled layers, and what they read."""

import keras

from keras_treegate.core import checks, tensor_checks
from keras_treegate.gates import Gate, SignGate
from keras_treegate.gates.sign_gate import THRESHOLDS
from keras_treegate.transforms.graphs import inputs_of
from keras_treegate.transforms.sublayers import is_plain_graph

# The first is the default.
UPCYCLED_THRESHOLDS = THRESHOLDS[::-1]


class NewGates:
    """Makes the gates of the new layers, each its own.

    Raises for arguments of `upcycle` that make none.
    """

    def __init__(
        self,
        pattern: Gate | None,
        threshold: str,
        seed: int | None,
        gate_inputs: keras.KerasTensor | None,
    ) -> None:
        seed = checks.optional_seed(seed)
        _check_gate(pattern, threshold, seed, gate_inputs)
        if pattern is None:
            checks.choice("gate_threshold", threshold, UPCYCLED_THRESHOLDS)
            pattern = SignGate(threshold=threshold, seed=seed)
        self._pattern = pattern
        self._gate_inputs = gate_inputs

    def make(self, number: int) -> Gate:
        """Returns a gate for the layer of this number."""
        config = self._pattern.get_config()
        if config.get("seed") is not None:
            config["seed"] = (config["seed"] + number) % 2**31
        config.pop("name", None)
        return type(self._pattern).from_config(config)

    def sources(self, layer: keras.layers.Dense) -> int:
        """Returns the width of what the gate of a layer reads."""
        if self._gate_inputs is None:
            return int(layer.kernel.shape[0])
        return tensor_checks.feature_axis(
            "gate_inputs", self._gate_inputs.shape
        )


def _check_gate(
    gate: object,
    threshold: str,
    seed: int | None,
    gate_inputs: keras.KerasTensor | None,
) -> None:
    if gate is None:
        return
    if not isinstance(gate, Gate):
        raise ValueError(
            "`gate` must be `None` or a `keras_treegate.gates.Gate`. Received: "
            f"gate={gate!r}. Write e.g. "
            "`gate=keras_treegate.gates.HashGate((1, 2))`."
        )
    if threshold != "running_mean" or seed is not None:
        raise ValueError(
            "`gate_threshold` and `seed` must be left out where a `gate` is "
            "given, which has its own. Received: "
            f"gate_threshold={threshold!r}, seed={seed!r}. Write them into the "
            "gate."
        )
    if gate.reads_integers and gate_inputs is None:
        raise ValueError(
            f"`gate_inputs` must be given for a {type(gate).__name__}, which "
            "reads integers. Received: None. Pass e.g. "
            "`keras_treegate.layers.TokenWindow(3)(model.input)`."
        )


def check_gate_inputs(
    model: keras.Model,
    gate_inputs: keras.KerasTensor,
    layers: list[keras.layers.Dense],
) -> None:
    """Refuses gate inputs that the layers of a model cannot be given."""
    advice = (
        "Make it of the model's own tensors, e.g. "
        "`keras_treegate.layers.TokenWindow(3)(model.input)`."
    )
    if not is_plain_graph(model) or isinstance(model, keras.Sequential):
        raise ValueError(
            "`gate_inputs` must be for a functional model, a `keras.Model` of "
            f"inputs and outputs. Received: a {type(model).__name__}. Make one "
            "of it, `keras.Model(model.inputs, model.outputs)`."
        )
    inside = {id(layer) for layer in model.layers}
    nested = [layer.name for layer in layers if id(layer) not in inside]
    if nested:
        raise ValueError(
            "`gate_inputs` must be for layers of the model itself. Received: "
            f"{nested}, which are inside of another layer or model. Choose "
            "others with `layers`, or upcycle that model by itself."
        )
    try:
        _check_source(model, gate_inputs)
    except Exception as error:
        raise ValueError(
            "`gate_inputs` must be one symbolic tensor that is computed from "
            f"the inputs of the model. Received: {gate_inputs!r}. {advice}"
        ) from error


def _check_source(model: keras.Model, tensor: keras.KerasTensor) -> None:
    """Raises for a tensor that is not computed from a model's inputs."""
    needed = inputs_of(model, tensor)
    # Keras 3.12 makes a model of an input that it is not given.
    for layer in keras.Model(needed, tensor).layers:
        is_input = isinstance(layer, keras.layers.InputLayer)
        if is_input and all(layer.output is not one for one in needed):
            raise ValueError(f"{layer.name!r} is not an input of the model.")
