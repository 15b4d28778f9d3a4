"""A new model with some layers of an old one replaced.

Sequential and functional models are cloned layer by layer, with
`keras.models.clone_model`. Any other layer or model is made anew from its
config; a layer to replace that it holds in an attribute is then put in place
there. No variable is shared: under JAX, training one of two models that share
an array would delete that of the other.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

import keras

from keras_treegate.layers.routed_dense import RoutedDense
from keras_treegate.layers.sparse_embedding import SparseEmbedding
from keras_treegate.transforms.configs import explaining_failures, remade
from keras_treegate.transforms.graphs import (
    GateInputs,
    not_compiled,
    of_its_class,
    operation_pairs,
    takes_its_graph,
    with_gate_inputs,
    with_operations,
)
from keras_treegate.transforms.state import (
    copy_saved_state,
    copy_variable,
    embedding_like,
    scopes_around,
    tree_like,
)
from keras_treegate.transforms.sublayers import (
    children,
    descendants,
    get_at,
    is_graph,
    is_plain_graph,
    set_at,
    sublayer_paths,
)
from keras_treegate.transforms.unsaved import (
    inside_refusal,
    refuse_to_save,
    saving_allowed,
)
from keras_treegate.types import Variable

Layer: TypeAlias = keras.layers.Layer

# Returns the layer that takes the place of another, built.
MakeLayer: TypeAlias = Callable[[], Layer]

# The layers that transforms put in, and what makes another like each.
COPIED: dict[type[Layer], Callable[..., Layer]] = {
    RoutedDense: tree_like,
    SparseEmbedding: embedding_like,
}


class Rebuilt(NamedTuple):
    """A new model, with its layers and variables paired with the old ones.

    layers: pairs of an old and a new layer, of the layers that were cloned.
    variables: pairs of an old variable and the new one with a copy of it.
    """

    model: keras.Model
    layers: list[tuple[Layer, Layer]]
    variables: list[tuple[Variable, Variable]]


def rebuilt(
    model: keras.Model,
    replacements: Mapping[int, MakeLayer],
    gate_inputs: GateInputs | None = None,
) -> Rebuilt:
    """Clones a model with some of its layers replaced, and copies the rest.

    Args:
        model: the old model.
        replacements: for the `id` of each layer to replace a function without
            arguments that returns the new layer, built and with its weights.
        gate_inputs: what replaced layers of a plain functional model read.
    """
    layers = descendants(model)
    # Copies the others too, because an earlier transform may have put them in.
    copies = {
        id(layer): partial(like, layer)
        for layer in layers
        for kind, like in COPIED.items()
        if isinstance(layer, kind) and layer.built
    }
    cloner = _Cloner({**copies, **replacements}, gate_inputs)
    with saving_allowed(layers):
        new = cloner.clone(model)
        if not new.built:
            _build_like(model, new)
        cloner.mend_all()
        cloner.check(layers)
        pairs = [
            (layer, clone)
            for layer, clone in cloner.pairs
            if id(layer) not in replacements
        ]
        for layer, clone in pairs:
            copy_saved_state(layer, clone, cloner.replacements)
    # Copied last, because Keras merges factors of LoRA when it saves a layer.
    variables = list(cloner.copied_variables(pairs))
    _restore_trainable(model, new, cloner.clones)
    refused = {id(inner) for layer in layers for inner in inside_refusal(layer)}
    refuse_to_save(
        new,
        [
            cloner.clones[key]
            for key in cloner.replacements
            if key in replacements or key in refused
        ],
    )
    return Rebuilt(new, cloner.pairs, variables)


def check_model(model: object) -> None:
    """Raises an error if this is no built model."""
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


class _Cloner:
    """Clones made so far, of layers and of models inside of models."""

    def __init__(
        self,
        replacements: Mapping[int, MakeLayer],
        gate_inputs: GateInputs | None,
    ) -> None:
        self.replacements = replacements
        self._gate_inputs = gate_inputs  # of the model that is cloned first
        self.clones: dict[int, Layer] = {}
        self.pairs: list[tuple[Layer, Layer]] = []
        self._put: list[tuple[Layer, Layer]] = []  # by `mend`

    def clone(self, layer: Layer) -> Layer:
        """Returns the one clone of a layer, and makes it at first."""
        if id(layer) not in self.clones:
            self._keep(layer, self._new(layer))
        return self.clones[id(layer)]

    def _keep(self, layer: Layer, clone: Layer) -> None:
        self.clones[id(layer)] = clone
        self.pairs.append((layer, clone))

    def _new(self, layer: Layer) -> Layer:
        if id(layer) in self.replacements:
            with scopes_around(layer):
                return self.replacements[id(layer)]()
        if is_plain_graph(layer):
            gate_inputs, self._gate_inputs = self._gate_inputs, None
            with not_compiled(layer):
                if gate_inputs is not None:
                    new = with_gate_inputs(layer, self.clone, gate_inputs)
                else:
                    new = keras.models.clone_model(
                        layer, clone_function=self.clone
                    )
            return self._with_attributes(layer, new)
        if is_graph(layer) and takes_its_graph(layer):
            new = of_its_class(layer, self.clone)
            return self._with_attributes(layer, new)
        with explaining_failures(layer):
            clone = remade(layer)
        if is_graph(layer):
            return self._with_new_operations(layer, clone)
        if isinstance(layer, keras.Layer):
            self._mend(layer, clone, is_last=False)
        return clone

    def _with_new_operations(self, layer: Layer, clone: Layer) -> Layer:
        """Puts new layers into a model whose constructor made its layers."""
        operations = {}
        for old, new in operation_pairs(layer, clone, self.replacements):
            counterpart = self._counterpart(old, new)
            if counterpart is not new:
                operations[id(new)] = counterpart
        if operations:
            clone = with_operations(clone, operations)
        clone = self._with_attributes(layer, clone)
        if self._is_changed(layer):
            _track_again(clone)
        return clone

    def _counterpart(self, old: Layer, new: Layer) -> Layer:
        """Returns the clone of a layer, made of `new` where possible."""
        if id(old) not in self.clones:
            if id(old) in self.replacements:
                return self.clone(old)
            if is_graph(old):
                if is_plain_graph(old) or takes_its_graph(old):
                    return self.clone(old)
                new = self._with_new_operations(old, new)
            elif isinstance(old, keras.Layer):
                self._mend(old, new, is_last=False)
            self._keep(old, new)
        return self.clones[id(old)]

    def _with_attributes(self, layer: Layer, clone: Layer) -> Layer:
        """Lets the attributes of a model hold the clones that it is made of."""
        for path, old in sublayer_paths(layer):
            new = get_at(clone, path)
            if new is not None and not is_plain_graph(layer):
                self._counterpart(old, new)  # it may be no part of the graph
            has_room = len(path) == 1 or get_at(clone, path[:-1]) is not None
            counterpart = self.clones.get(id(old), new)
            if counterpart is not new and has_room:
                set_at(clone, path, counterpart)
        return clone

    def mend_all(self) -> None:
        """Puts layers in place that were made only when others were built."""
        for layer, clone in list(self.pairs):
            if id(layer) not in self.replacements and not is_graph(layer):
                self._mend(layer, clone, is_last=True)

    def _mend(self, layer: Layer, clone: Layer, is_last: bool) -> bool:
        """Puts new layers into a clone; returns whether any was put there."""
        changed = False
        if not isinstance(layer, keras.Layer):  # an operation
            return changed
        for path, old in sublayer_paths(layer):
            if not self._is_changed(old):
                continue
            new = get_at(clone, path)
            if id(old) in self.replacements or is_graph(old):
                if new is not None and new is not self.clones.get(id(old)):
                    new = self.clone(old)
                    set_at(clone, path, new)
                    self._put.append((old, new))
                    changed = True
            elif new is not None:
                changed = self._mend(old, new, is_last) or changed
            if new is None and is_last:
                raise ValueError(
                    "`model` must be made of layers that Keras can clone from "
                    f"their config. Received: {layer.name!r} of class "
                    f"{type(layer).__name__}, whose clone has no "
                    f"{'.'.join(map(str, path))!r}, where {old.name!r} is to "
                    "be replaced. Give the class a `build` that makes it."
                )
        if changed and clone.built:
            _track_again(clone)
        return changed

    def _is_changed(self, layer: Layer) -> bool:
        return any(
            id(inner) in self.replacements for inner in descendants(layer)
        )

    def check(self, layers: list[keras.layers.Layer]) -> None:
        """Refuses a model in which a layer was not found to be replaced."""
        for layer in layers:
            if id(layer) in self.replacements and id(layer) not in self.clones:
                raise ValueError(
                    "`model` must be made of layers that Keras can clone. "
                    f"Received: a layer {layer.name!r} that the clone has no "
                    "place for. Leave it out of `layers`, or call it in the "
                    "model."
                )

    def copied_variables(
        self, pairs: list[tuple[Layer, Layer]]
    ) -> Iterator[tuple[Variable, Variable]]:
        """Copies the variables of the clones, and yields the pairs."""
        old_elsewhere = _ids(old for old, _ in self._put)
        new_elsewhere = _ids(new for _, new in self._put)
        for layer, clone in pairs:
            if is_graph(layer):  # those of its layers are copied with them
                old_inside = old_elsewhere | _ids(children(layer))
                new_inside = new_elsewhere | _ids(children(clone))
            else:
                old_inside, new_inside = old_elsewhere, new_elsewhere
            sources = _variables(layer, old_inside)
            targets = _variables(clone, new_inside)
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


def _track_again(layer: Layer) -> None:
    # Because under PyTorch a built layer has a list of the parameters inside.
    getattr(layer, "_track_variables", lambda: None)()


def _variables(layer: keras.Operation, elsewhere: set[int]) -> list[Variable]:
    return [
        variable
        for variable in getattr(layer, "variables", [])
        if id(variable) not in elsewhere
    ]


def _ids(layers: Iterable[Layer]) -> set[int]:
    return {id(variable) for layer in layers for variable in layer.variables}


def _build_like(model: keras.Model, new: keras.Model) -> None:
    config = model.get_build_config()
    if not config:
        raise ValueError(
            "`model` must be a model that Keras can clone and build. Received: "
            f"{model.name!r} of class {type(model).__name__}, which has no "
            "build config. Give the class a `get_build_config` and a "
            "`build_from_config`."
        )
    # Does the same as `keras.models.load_model`.
    new.build_from_config(config)
    new.built = True


def _restore_trainable(
    old: Layer, new: Layer, clones: dict[int, Layer]
) -> None:
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
        pairs = [
            (child, get_at(new, path)) for path, child in sublayer_paths(old)
        ]
    for child, clone in pairs:
        if clone is not None:
            _restore_trainable(child, clone, clones)
