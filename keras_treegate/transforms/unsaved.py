"""Models whose file would not load, which refuse to be saved.

A layer that makes other layers itself makes those of its class when it is
loaded, and not those that a transform has put into their place: its config does
not tell of them. Its weights can be saved; its config is refused.
"""

import contextlib
import warnings
from collections.abc import Iterator

import keras

from keras_treegate.transforms.sublayers import descendants, is_plain_graph
from keras_treegate.types import Config


class _Refusal:
    """A `get_config` that refuses, in the place of that of a layer."""

    def __init__(self, layer: keras.layers.Layer, inner: str) -> None:
        self.layer, self.kind, self.inner = layer.name, type(layer), inner

    def __call__(self) -> Config:
        raise ValueError(
            "The model must be of layers whose configs tell of all that is in "
            f"them to be saved whole, cloned or pickled. Received: "
            f"{self.layer!r} of class {self.kind.__name__}, in which "
            f"{self.inner!r} was put by a transform, so that a file of it "
            "could not be loaded. Save the weights with "
            "`model.save_weights`, and load them into what the same "
            "transform makes of the model that it was made of."
        )


def refuse_to_save(model: keras.Model, made: list[keras.layers.Layer]) -> None:
    """Makes layers refuse their config if it omits new layers inside them.

    Args:
        model: the new model.
        made: the layers in it that its layers' configs may not tell of.
    """
    made_ids = {id(layer) for layer in made}
    for layer in descendants(model):
        if id(layer) in made_ids or is_plain_graph(layer):
            continue
        inside = [each for each in descendants(layer) if id(each) in made_ids]
        if inside:
            omitted = _omitted(layer, inside)
            if omitted is not None:
                layer.get_config = _Refusal(layer, omitted.name)


def inside_refusal(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers in one that refuses its config; else none."""
    refuses = isinstance(vars(layer).get("get_config"), _Refusal)
    return list(descendants(layer)) if refuses else []


def _omitted(
    layer: keras.layers.Layer, inside: list[keras.layers.Layer]
) -> keras.layers.Layer | None:
    """Returns the first of the layers inside that a config omits."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of lambdas
            described = set(_classes_and_names(layer.get_config()))
    except Exception:  # it cannot be saved, and says why
        return None
    for each in inside:
        if (type(each).__name__, each.name) not in described:
            return each
    return None


def _classes_and_names(config: object) -> Iterator[tuple[object, object]]:
    """Finds the serialized objects in a config."""
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and "class_name" in config:
            yield config["class_name"], inner.get("name")
        config = list(config.values())
    if isinstance(config, list | tuple):
        for each in config:
            yield from _classes_and_names(each)


@contextlib.contextmanager
def saving_allowed(layers: list[keras.layers.Layer]) -> Iterator[None]:
    """Lets layers that refuse their config give it, in a `with` block."""
    refusals = [
        (layer, vars(layer)["get_config"])
        for layer in layers
        if isinstance(vars(layer).get("get_config"), _Refusal)
    ]
    for layer, _ in refusals:
        del layer.get_config
    try:
        yield
    finally:
        for layer, refusal in refusals:
            layer.get_config = refusal
