"""The base class of gates, with the contract that a gate fulfils."""

from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_treegate.core import checks, saving, tensor_checks
from keras_treegate.types import Config, Shape, Store, Tensor, Variable


class Gate(keras.layers.Layer):
    """Base of the gates, which decide the path of each example in each tree.

    A `TreeGatedDense` tells its gate the sizes of the trees, as `num_trees` and
    `depth`, builds it for the gate source (..., S), and calls it once in each
    forward pass for the leaf codes (..., G).

    A gate of your own needs `call`; `keras_treegate.gates.codes_from_bits`
    makes leaf codes of boolean bits (..., G, D), the first of which decides at
    the root. What else it may define:

    - `build(input_shape)`, where it makes variables; call `super().build` in
      it. They must not be trainable.
    - `get_config()`, as every layer with arguments of its own.
    - `activations(inputs, training, mask)`, if `credit="reinforce"` and
      `"noisy_rectifier"` are to work with it.
    - `with_depth(depth, generator)` and `take_over(old)`, if
      `keras_treegate.grow` and `prune` are to work with it.
    - `set_means(means, batches, first)` and the property `needs_means`, if its
      thresholds can start at the means of a sample (`calibrate=`).
    - `reads_integers = True` in the class, if its source are integers, which
      then must be given as `gate_inputs`; and `moves = False`, if an example
      takes the same path for ever, whatever the network learns.

    Register the class with `keras.saving.register_keras_serializable`.

    Args:
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: The gate source (..., S).
        training: Boolean. Defaults to `None`.
        mask: Booleans (...), false for padding, which must leave no trace in a
            moving mean. Defaults to `None`.

    Output shape:
        (..., num_trees), int32, from 0 to `2^depth - 1`. A larger code is not
        noticed, and reads the weights of another leaf.

    Attributes:
        num_trees: The number of trees `G`; `None` before it is known.
        depth: The bits of a path `D`; `None` before it is known.
        reads_integers: Whether the gate source is of an integer dtype. Defaults
            to `False`.
        moves: Whether the path of an example may change while the network
            learns. Defaults to `True`.

    Example:

    >>> import keras
    >>> from keras_treegate import gates
    >>> @keras.saving.register_keras_serializable("example")
    ... class FirstUnits(gates.Gate):
    ...     def call(self, inputs, training=None, mask=None):
    ...         bits = inputs[..., None, : self.depth] > 0
    ...         codes = gates.codes_from_bits(bits)
    ...         return keras.ops.repeat(codes, self.num_trees, axis=-1)
    >>> import numpy as np
    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     8, depth=2, num_trees=2, gate=FirstUnits()
    ... )
    >>> x = np.array([[1.0, -1.0, 1.0]], dtype="float32")
    >>> outputs = layer(x)
    >>> np.array(layer.leaf_codes(x)).tolist()
    [[2, 2]]
    """

    reads_integers: ClassVar[bool] = False
    moves: ClassVar[bool] = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.num_trees: int | None = None
        self.depth: int | None = None
        self.refusal: saving.Refusal | None = None  # that of its layer

    def check(
        self, source_shape: Shape, num_trees: int | None, depth: int | None
    ) -> int:
        """Raises where the gate cannot be built for a source and trees.

        It is called before anything is allocated, by the layer and by `build`.

        Args:
            source_shape: The shape of the gate source.
            num_trees: The number of trees, `None` if not known.
            depth: The depth, `None` if not known.

        Returns:
            The number of units of the gate source, `S`.
        """
        if self.built:
            raise ValueError(
                f"The gate {self.name!r} is already built and belongs to "
                "another layer. Give each layer a gate of its own, e.g. "
                f"`{type(self).__name__}.from_config(gate.get_config())`."
            )
        if num_trees is None or depth is None:
            raise ValueError(
                f"A {type(self).__name__} is built by its TreeGatedDense, "
                "which knows the number of trees and the depth. Received: no "
                "layer. Pass it as `gate=` to one, or call "
                "`gate.setup(num_trees, depth)` first."
            )
        return tensor_checks.feature_axis("gate_inputs", source_shape)

    def setup(self, num_trees: int, depth: int) -> None:
        """Tells the gate the sizes of its layer's trees, before it is built.

        Args:
            num_trees: The number of trees `G`.
            depth: The bits of a path `D`.
        """
        self.num_trees, self.depth = num_trees, depth

    def build(self, input_shape: Shape) -> None:
        num_sources = self.check(input_shape, self.num_trees, self.depth)
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: num_sources}
        )

    def activations(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns how far each gate unit is above its threshold.

        Args:
            inputs: The gate source (..., S).
            training: Boolean. Defaults to `None`.
            mask: As for the call. Defaults to `None`.

        Returns:
            (..., G, D), of a floating dtype, with a gradient for `inputs`. A
            bit is 1 where it is above 0.
        """
        raise ValueError(
            "`credit` must be 'straight' for gates that have no activations. "
            f"Received: a layer whose gate is a {type(self).__name__}, with a "
            "credit that trains its gates. Leave `credit` out, or give the "
            "gate an `activations` method."
        )

    @property
    def has_activations(self) -> bool:
        """A flag, true where the class defines `activations`."""
        return type(self).activations is not Gate.activations

    def with_depth(self, depth: int, generator: np.random.Generator) -> "Gate":
        """Returns an unbuilt gate for another depth, for `grow` and `prune`.

        Its first bits must be those of this one.

        Args:
            depth: The new depth.
            generator: For drawing what is new.

        Returns:
            A gate of the same class. `take_over` then gives it the state.
        """
        if depth != self.depth:
            raise ValueError(
                f"`depth` must be {self.depth}, that of the layer, for a gate "
                f"that cannot change it. Received: depth={depth}, for a "
                f"{type(self).__name__}. Leave the layer out with `layers`, or "
                "give the gate a `with_depth` method."
            )
        return type(self).from_config(self.get_config())

    def take_over(self, old: "Gate") -> None:
        """Copies the state of the bits that this gate and an old one share.

        Args:
            old: A gate that this one was made of, by `with_depth`.
        """
        for source, target in zip(old.variables, self.variables, strict=True):
            if source.shape != target.shape:
                raise ValueError(
                    f"`take_over` must be defined by {type(self).__name__}, "
                    "whose variables change their shapes with the depth. "
                    f"Received: {source.name!r} of shape {source.shape}, for "
                    f"one of shape {target.shape}."
                )
            # Copied to new memory, because JAX deletes what a step replaces.
            target.assign(ops.copy(ops.convert_to_tensor(source.value)))

    @property
    def needs_means(self) -> bool:
        """A flag, true where `set_means` does anything."""
        return False

    def set_means(
        self, means: np.ndarray, batches: int, first: int = 0
    ) -> None:
        """Lets thresholds start at means over a sample of data.

        Args:
            means: The mean of each unit of the gate source (S,).
            batches: The number of batches they are of.
            first: The first bit that is new; what was learned of those before
                it stays. Defaults to `0`.
        """

    @property
    def stored_variables(self) -> dict[str, Variable]:
        """The variables that files have, by their names there."""
        return saving.numbered(self.non_trainable_variables)

    def load_own_variables(self, store: Store) -> None:
        saving.load_part(self, store, self.stored_variables)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.num_trees)

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> keras.KerasTensor:
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape), dtype="int32"
        )

    # A layer and an operation of Keras name the first argument differently.
    def rematerialized_call(  # type: ignore[override]
        self,
        layer_call: Callable[..., Tensor],
        *args: object,
        **kwargs: object,
    ) -> Callable[..., Tensor]:
        return layer_call  # Recomputing integers would save no memory.

    def quantize(
        self,
        mode: object = None,
        type_check: bool = True,
        config: object = None,
    ) -> None:
        """Raises for the whole layer: Keras also asks the layers inside."""
        checks.no_quantization(self.path or self.name, mode)

    # The layer that owns the gate builds it, also when it is loaded.
    def get_build_config(self) -> Config | None:
        return None
