"""A new model with some layers of an old one replaced.

Sequential and functional models are cloned layer by layer, with
`keras.models.clone_model`. Any other layer or model is made anew from its
config; a layer to replace that it holds in an attribute is then put in place
there. No variable is shared: under JAX, training one of two models that share
an array would delete that of the other.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_treegate.transforms.places import (
    at,
    children,
    descendants,
    is_graph,
    places,
    put,
)


class Rebuilt(NamedTuple):
    """A new model, and what in it comes from where.

    layers: pairs of an old and a new layer, of the layers that were cloned.
    variables: pairs of an old variable and the new one with a copy of it.
    """

    model: Any
    layers: list[tuple[Any, Any]]
    variables: list[tuple[Any, Any]]


def rebuilt(model: Any, replacements: Mapping[int, Callable]) -> Rebuilt:
    """Clones a model with some of its layers replaced, and copies the rest.

    Args:
        model: the old model.
        replacements: for the `id` of each layer to replace a function without
            arguments that returns the new layer, built and with its weights.
    """
    cloner = _Cloner(replacements)
    new = cloner.clone(model)
    if not new.built:
        _build_like(model, new)
    cloner.mend_all()
    variables = list(cloner.copied_variables())
    _restore_trainable(model, new, cloner.clones)
    return Rebuilt(new, cloner.pairs, variables)


def check_model(model: Any) -> None:
    """Refuses what is no built model."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a `keras.Model`. Received: "
            f"{type(model).__name__}. Put a layer into a "
            "`keras.Sequential([keras.Input(shape), layer])`."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built, so that the shapes of its weights are "
            f"known. Received: {model.name!r}, which is not. Call it on a "
            "batch first."
        )


def copy_variable(source: Any, target: Any) -> None:
    """Copies the value of a variable, to memory of its own."""
    target.assign(ops.copy(ops.convert_to_tensor(source.value)))


class _Cloner:
    """The clones made so far, of layers and of models inside of models."""

    def __init__(self, replacements: Mapping[int, Callable]) -> None:
        self.replacements = replacements
        self.clones: dict[int, Any] = {}
        self.pairs: list[tuple[Any, Any]] = []
        self._put: list[tuple[Any, Any]] = []  # by `mend`

    def clone(self, layer: Any) -> Any:
        if id(layer) not in self.clones:
            self.clones[id(layer)] = self._new(layer)
            self.pairs.append((layer, self.clones[id(layer)]))
        return self.clones[id(layer)]

    def _new(self, layer: Any) -> Any:
        if id(layer) in self.replacements:
            return self.replacements[id(layer)]()
        if is_graph(layer):
            with _not_compiled(layer):
                return keras.models.clone_model(
                    layer, clone_function=self.clone
                )
        try:
            clone = type(layer).from_config(layer.get_config())
        except Exception as error:
            raise ValueError(
                f"`model` must be made of layers that Keras can clone from "
                f"their config. Received: {layer.name!r} of class "
                f"{type(layer).__name__}, which it cannot: {error} Give the "
                "class a `get_config` with the arguments of its `__init__`."
            ) from error
        if isinstance(layer, keras.Layer):
            self._mend(layer, clone, is_last=False)
        return clone

    def mend_all(self) -> None:
        """Puts layers in place that were made only when others were built."""
        for layer, clone in list(self.pairs):
            if id(layer) not in self.replacements and not is_graph(layer):
                self._mend(layer, clone, is_last=True)

    def _mend(self, layer: Any, clone: Any, is_last: bool) -> bool:
        """Puts new layers into a clone; returns whether any was put there."""
        changed = False
        if not isinstance(layer, keras.Layer):  # an operation
            return changed
        for place, old in places(layer):
            if not self._is_changed(old):
                continue
            new = at(clone, place)
            if id(old) in self.replacements or is_graph(old):
                if new is not None and new is not self.clones.get(id(old)):
                    new = self.clone(old)
                    put(clone, place, new)
                    self._put.append((old, new))
                    changed = True
            elif new is not None:
                changed = self._mend(old, new, is_last) or changed
            if new is None and is_last:
                raise ValueError(
                    "`model` must be made of layers that Keras can clone from "
                    f"their config. Received: {layer.name!r} of class "
                    f"{type(layer).__name__}, whose clone has no "
                    f"{'.'.join(map(str, place))!r}, where {old.name!r} is to "
                    "be replaced. Give the class a `build` that makes it."
                )
        if changed and clone.built:
            # Under PyTorch a built layer has a list of the parameters inside.
            getattr(clone, "_track_variables", lambda: None)()
        return changed

    def _is_changed(self, layer: Any) -> bool:
        return any(
            id(inner) in self.replacements for inner in descendants(layer)
        )

    def copied_variables(self) -> Iterator[tuple[Any, Any]]:
        """Copies the variables of the clones, and yields the pairs."""
        old_elsewhere = _ids(old for old, _ in self._put)
        new_elsewhere = _ids(new for _, new in self._put)
        for layer, clone in self.pairs:
            if id(layer) in self.replacements or is_graph(layer):
                continue
            sources = _variables(layer, old_elsewhere)
            targets = _variables(clone, new_elsewhere)
            if [v.shape for v in sources] != [v.shape for v in targets]:
                raise ValueError(
                    "`model` must be made of layers whose clones have the "
                    f"same weights. Received: {layer.name!r} of class "
                    f"{type(layer).__name__}, whose clone has "
                    f"{[tuple(v.shape) for v in targets]} in place of "
                    f"{[tuple(v.shape) for v in sources]}. Let its `build` "
                    "make all weights."
                )
            for source, target in zip(sources, targets, strict=True):
                copy_variable(source, target)
                yield source, target


def _variables(layer: Any, elsewhere: set[int]) -> list:
    return [
        variable
        for variable in getattr(layer, "variables", [])
        if id(variable) not in elsewhere
    ]


def _ids(layers: Any) -> set[int]:
    return {id(variable) for layer in layers for variable in layer.variables}


def _build_like(model: Any, new: Any) -> None:
    config = model.get_build_config()
    if not config:
        raise ValueError(
            "`model` must be a model that Keras can clone and build. Received: "
            f"{model.name!r} of class {type(model).__name__}, which has no "
            "build config. Give the class a `get_build_config` and a "
            "`build_from_config`."
        )
    # As `keras.models.load_model` does it.
    new.build_from_config(config)
    new.built = True


@contextlib.contextmanager
def _not_compiled(model: Any) -> Iterator[None]:
    """Keeps a clone from being compiled, and from making optimizer state."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def _restore_trainable(old: Any, new: Any, clones: dict[int, Any]) -> None:
    """Freezes what was frozen, from the outside in."""
    if not isinstance(old, keras.Layer):
        return
    if new.trainable != old.trainable:
        # Folded layers inside refuse to be trainable, after `new` has changed;
        # all others get their own turn.
        with contextlib.suppress(ValueError):
            new.trainable = old.trainable
    if is_graph(old):
        # All but the inputs, which `clone_model` makes.
        pairs = [(child, clones.get(id(child))) for child in children(old)]
    else:
        pairs = [(child, at(new, place)) for place, child in places(old)]
    for child, clone in pairs:
        if clone is not None:
            _restore_trainable(child, clone, clones)
