"""The choice of the layers that a transform converts."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import keras

from keras_treegate.transforms.sublayers import (
    LayerSelection,
    descendants,
    select_layers,
)

Layer = TypeVar("Layer", bound=keras.layers.Layer)

NORMALIZED = "is in a `SpectralNormalization`, which changes its whole weight"


def convertible(
    model: keras.Model,
    layers: LayerSelection,
    kind: type[Layer],
    why_not: Callable[[Layer], str | None],
    weight: str,
) -> list[Layer]:
    """Returns the layers to convert; names the others, with the reason.

    It is called by the transform itself, whose caller the warnings name.

    Args:
        model: the model.
        layers: the argument of the transform.
        kind: the class of Keras that is converted.
        why_not: returns why a layer cannot be converted, or `None`.
        weight: the weight whose regularizer is not carried over.
    """
    by_name = layers is not None and not callable(layers)
    candidates = [
        layer
        for layer in select_layers(model, layers)
        if by_name or isinstance(layer, kind)
    ]
    normalized = _normalized(model)
    reasons = [
        _not_exactly(kind, layer)
        or (NORMALIZED if id(layer) in normalized else why_not(layer))
        for layer in candidates
    ]
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
        name = kind.__name__
        raise ValueError(
            f"`layers` must be `keras.layers.{name}` layers that can be "
            f"converted. Received: {others or f'no {name} layer'}. Choose "
            "others."
        )
    if others:
        warnings.warn(f"Not converted: {others}.", stacklevel=3)
    regularizer = f"{weight}_regularizer"
    regularized = [x.name for x in found if getattr(x, regularizer)]
    if regularized:
        warnings.warn(
            f"The `{regularizer}` of {', '.join(map(repr, regularized))} "
            "is not carried over. Use the `weight_decay` of a step-aware "
            "optimizer.",
            stacklevel=3,
        )
    return found


def _normalized(model: keras.Model) -> set[int]:
    """Returns the `id` of each layer whose weight a wrapper normalizes."""
    return {
        id(wrapper.layer)
        for wrapper in descendants(model)
        if isinstance(wrapper, keras.layers.SpectralNormalization)
    }


def _not_exactly(kind: type, layer: keras.layers.Layer) -> str | None:
    """Returns why a layer of another class, or not built, is not converted."""
    if type(layer) is not kind:
        name = kind.__name__
        return f"is a {type(layer).__name__}, and not `keras.layers.{name}`"
    if not layer.built:
        return "is not built"
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        return f"is quantized to {mode}"
    if layer.lora_enabled:
        return "has LoRA weights"
    return None
