"""New objects from the configs of old ones, with their live objects."""

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import keras

from keras_treegate.types import Config


class Configured(Protocol):
    """An object of Keras that tells what it was made with."""

    def get_config(self) -> Config:
        """Returns the arguments of the constructor."""


Owner = TypeVar("Owner", bound=Configured)


@contextlib.contextmanager
def explaining_failures(layer: keras.Operation) -> Iterator[None]:
    """Adds to an error the layer that it is of, and what can be done."""
    try:
        yield
    except Exception as error:
        advice = "Give the class a `get_config` with the arguments of its"
        if isinstance(layer, keras.Model):
            advice = (
                "Transform the models inside of it one by one, and put each in "
                "its place, as in `model.backbone = "
                "keras_treegate.upcycle(model.backbone, depth=4)`, or give the "
                "class a `get_config` with the arguments of its"
            )
        raise ValueError(
            "`model` must be made of layers that Keras can clone from "
            f"their config. Received: {layer.name!r} of class "
            f"{type(layer).__name__}, which it cannot: {error} "
            f"{advice} `__init__`."
        ) from error


def remade(owner: Owner, **changes: object) -> Owner:
    """Makes an unbuilt layer, metric or model like another, from its config.

    Initializers, activations and other objects of the user's own that a config
    holds in a serialized form are passed on as live objects, because a lambda
    or a class that is not registered cannot be found again by its name.

    Args:
        owner: the old object.
        **changes: entries of the new config that differ from the old one.
    """
    config = live_config(owner) | changes
    kind: Any = type(owner)
    try:
        return kind.from_config(dict(config))
    except Exception as error:
        # Some `from_config` methods take only serialized forms.
        others = (
            lambda: kind(**config),
            lambda: kind.from_config(kind.get_config(owner) | changes),
        )
        for make in others:
            with contextlib.suppress(Exception):
                return make()
        raise error


def live_config(owner: Configured) -> Config:
    """Returns the config of an object, with live objects where it has them."""
    with _stand_ins(owner), warnings.catch_warnings():
        # Keras warns of lambdas, but none is serialized here.
        warnings.simplefilter("ignore")
        config = dict(type(owner).get_config(owner))
        serialized = [
            (value, _serialized(value))
            for value in vars(owner).values()
            if hasattr(value, "get_config") and _is_plain_object(value)
        ]
    for key, value in config.items():
        live = getattr(owner, key, None)
        if isinstance(value, str):
            # A function of the user's own may have the name of one of Keras.
            if inspect.isfunction(live) and not _is_of_keras(live.__module__):
                config[key] = live
        elif isinstance(value, dict) and not _is_of_keras(value.get("module")):
            if _is_plain_object(live):
                config[key] = live
            for live, form in serialized:
                if form == value:
                    config[key] = live
            is_lost = config[key] is value
            if is_lost and value.get("config") == _stand_in.__name__:
                raise ValueError(
                    f"`{key}` must be an attribute of the layer, too, where it "
                    "is no function with a name. Received: none. Write it as "
                    "one with `def`."
                )
    return config


def _is_of_keras(module: str | None) -> bool:
    """Returns whether objects of a module are found again from a config."""
    return module is not None and module.split(".")[0] == "keras"


def _serialized(value: object) -> object:
    try:
        return keras.saving.serialize_keras_object(value)
    except Exception:  # such a value is in no config
        return None


def _is_plain_object(value: object) -> bool:
    """Returns whether this is a function or object without weights."""
    if isinstance(value, type | keras.Layer | keras.Metric | keras.Variable):
        return False
    if isinstance(value, keras.optimizers.Optimizer) or inspect.ismethod(value):
        return False
    return callable(value) or hasattr(value, "get_config")


def _has_form(value: object) -> bool:
    """Returns whether an object can be serialized, if not always restored."""
    if hasattr(value, "get_config"):
        return _serialized(value) is not None
    return getattr(value, "__name__", "<lambda>") != "<lambda>"


def _stand_in(*args: object, **kwargs: object) -> None:
    """Stands for a function that Keras cannot serialize."""


@contextlib.contextmanager
def _stand_ins(owner: object) -> Iterator[None]:
    """Replaces the nameless functions in an object, for a `with` block."""
    nameless = {
        name: value
        for name, value in vars(owner).items()
        if not name.startswith("_")
        and _is_plain_object(value)
        and not _has_form(value)
    }
    try:
        for name in nameless:
            setattr(owner, name, _stand_in)
        yield
    finally:
        for name, value in nameless.items():
            setattr(owner, name, value)
