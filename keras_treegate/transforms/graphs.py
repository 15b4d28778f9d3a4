"""Sequential and functional models of classes of the user's own.

Because Keras makes plain models of them when it clones them, they are cloned
here, and keep their class. A constructor that is given the graph is called with
a new graph. One that makes the graph is called as before, and the layers that
it made are replaced afterwards.
"""

import contextlib
import inspect
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras

from keras_treegate.transforms.configs import explaining_failures, live_config
from keras_treegate.transforms.sublayers import own_attributes, plain_class
from keras_treegate.types import Config, Tensor


class GateInputs(NamedTuple):
    """Another input for some layers of a functional model.

    tensor: a symbolic tensor that is computed from the inputs of the model.
    layers: the layers of the model whose clones read it as `gate_inputs`.
    """

    tensor: keras.KerasTensor
    layers: list[keras.layers.Layer]


# The keys of a config that describe the graph itself.
GRAPH_KEYS = {"layers", "input_layers", "output_layers", "build_input_shape"}


def takes_its_graph(model: keras.Model) -> bool:
    """Returns whether the constructor of a model is given its graph."""
    kind: Any = type(model)
    if kind.get_config is not plain_class(model).get_config:
        with explaining_failures(model):
            return "layers" in live_config(model)
    if isinstance(model, keras.Sequential):
        return True
    given = inspect.signature(kind.__init__).parameters
    kinds = {parameter.kind for parameter in given.values()}
    return {"inputs", "outputs"} <= set(given) or {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    } <= kinds


def of_its_class(
    model: keras.Model, clone: Callable[..., keras.Operation]
) -> keras.Model:
    """Clones the layers of a model, and makes a model of its class of them."""
    kind: Any = type(model)
    plain = plain_class(model)
    config: Config = {"name": model.name}
    if kind.get_config is not plain.get_config:
        config |= live_config(model)
    if isinstance(model, keras.Sequential):
        with not_compiled(model):
            graph = keras.models.clone_model(model, clone_function=clone)
        config.pop("build_input_shape", None)
        with explaining_failures(model):
            new = kind.from_config(config | {"layers": []})
        return _with_layers(new, graph, graph.layers)
    graph = keras.models.clone_model(
        keras.Model(model.input, model.output), clone_function=clone
    )
    extra = {key: config[key] for key in set(config) - GRAPH_KEYS}
    with explaining_failures(model):
        return kind(inputs=graph.input, outputs=graph.output, **extra)


def with_gate_inputs(
    model: keras.Model,
    clone: Callable[..., keras.Operation],
    gate_inputs: GateInputs,
) -> keras.Model:
    """Clones a functional model, and calls some layers with gate inputs."""
    calls: dict[tuple[int, ...], tuple[list[Tensor], Tensor]] = {}

    def call(
        layer: keras.Operation, *args: Tensor, **options: Tensor
    ) -> Tensor:
        """Calls a layer once for the same tensors, for both graphs."""
        given = keras.tree.flatten((args, options))
        key = (id(layer), *map(id, given))
        if key not in calls:
            if any(layer is clone(old) for old in gate_inputs.layers):
                options["gate_inputs"] = source
            calls[key] = (given, layer(*args, **options))
        return calls[key][1]

    inputs = new_inputs(model.input)
    flat = zip(model.inputs, keras.tree.flatten(inputs), strict=True)
    new = {id(old): one for old, one in flat}
    source = new.get(id(gate_inputs.tensor))
    if source is None:
        needed = inputs_of(model, gate_inputs.tensor)
        source = keras.models.clone_model(
            keras.Model(needed, gate_inputs.tensor),
            input_tensors=[new[id(tensor)] for tensor in needed],
            clone_function=clone,
            call_function=call,
        ).output
    return keras.models.clone_model(
        model,
        input_tensors=inputs,
        clone_function=clone,
        call_function=call,
    )


def new_inputs(tensors: Any) -> Any:
    """Returns inputs as Keras makes them for a clone, in the same structure."""
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name),
        tensors,
    )


def inputs_of(
    model: keras.Model, tensor: keras.KerasTensor
) -> list[keras.KerasTensor]:
    """Returns the inputs of a model that one of its tensors needs.

    Keras 3.12 makes no model of inputs that are not needed.
    """
    needed = list(model.inputs)
    for one in model.inputs:
        fewer = [other for other in needed if other is not one]
        with contextlib.suppress(ValueError):
            keras.Model(fewer, tensor)
            needed = fewer
    return needed


def operation_pairs(
    model: keras.Model, clone: keras.Model, replacements: Container[int]
) -> list[tuple[keras.layers.Layer, keras.layers.Layer]]:
    """Pairs the layers and operations of two models of the same structure.

    Args:
        model: the old model.
        clone: the one that was made from its config.
        replacements: the `id` of the layers of the old
            model to replace; the clone may have any other layer there.
    """
    old, new = _operations(model), _operations(clone)
    pairs = list(zip(old, new, strict=False))
    same = all(
        type(before) is type(after) or id(before) in replacements
        for before, after in pairs
    )
    if len(old) != len(new) or not same:
        raise ValueError(
            "`model` must be made of models that Keras can clone from their "
            f"config. Received: {model.name!r} of class "
            f"{type(model).__name__}, whose clone has other layers. Give the "
            "class a `get_config` with the arguments of its `__init__`."
        )
    return pairs


def _operations(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model, and the operations beside them."""
    if isinstance(model, keras.Sequential):
        return list(model.layers)
    return list(model.operations)


def with_operations(
    model: keras.Model, operations: Mapping[int, keras.Operation]
) -> keras.Model:
    """Makes a model with some of its layers replaced.

    Args:
        model: a model that is used nowhere else; it is not usable afterwards.
        operations: for the `id` of a layer the one to take its place.
    """

    def swapped(operation: keras.Operation) -> keras.Operation:
        return operations.get(id(operation), operation)

    if isinstance(model, keras.Sequential):
        return _with_layers(model, model, list(map(swapped, model.layers)))
    graph = keras.models.clone_model(
        keras.Model(model.input, model.output), clone_function=swapped
    )
    # Avoids the constructor of the user's class, which would make its layers
    # anew. The attributes that it has set are copied instead.
    kind: Any = type(model)
    new = kind.__new__(kind)
    plain_class(model).__init__(
        new, inputs=graph.input, outputs=graph.output, name=model.name
    )
    for name in own_attributes(model):
        setattr(new, name, getattr(model, name))
    new.dtype_policy = model.dtype_policy
    return new


def _with_layers(
    model: keras.Sequential,
    like: keras.Model,
    layers: Iterable[keras.Operation],
) -> keras.Sequential:
    """Gives a Sequential model only these layers, and another's inputs."""
    (inputs,) = like.inputs
    while model.layers:
        model.pop()
    with contextlib.suppress(ValueError):  # it still has its inputs
        model.add(
            keras.Input(
                batch_shape=inputs.shape, dtype=inputs.dtype, name=inputs.name
            )
        )
    for layer in layers:
        model.add(layer)
    return model


@contextlib.contextmanager
def not_compiled(model: keras.Model) -> Iterator[None]:
    """Keeps a clone from being compiled, and from making optimizer state."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled
