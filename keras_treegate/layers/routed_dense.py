"""The base class of the layers that route examples through trees."""

from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops

from keras_treegate import backend, gates
from keras_treegate.core import checks, saving, sizes, tensor_checks
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.types import (
    Activation,
    Config,
    Levels,
    Shape,
    Store,
    Tensor,
    Variable,
)


class RoutedDense(keras.layers.Layer):
    """Base of the dense layers whose kernel a path through trees chooses.

    It knows the sizes, the gate, what an input may be and what follows the
    product. A subclass stores the weights and takes the product.
    """

    # The names of variables that a file may lack.
    _optional_variables: ClassVar[tuple[str, ...]] = ()

    # Whether `call` takes a mask. Keras is slower with a layer that does.
    _reads_mask: ClassVar[bool] = True

    def __init__(
        self,
        units: int,
        depth: int,
        num_trees: int | str | None,
        gate: gates.Gate | Config | None,
        activation: Activation,
        use_bias: bool,
        levels: Levels = "ends",
        **kwargs: Any,
    ) -> None:
        units, depth, num_trees, stored = sizes.checked_sizes(
            units, depth, num_trees, levels
        )
        gate = gates.get(gate)
        function: Callable[..., Tensor] = checks.keras_object(
            "activation", keras.activations.get, activation
        )
        use_bias = checks.boolean("use_bias", use_bias)
        super().__init__(autocast=False, **kwargs)
        self._check_policy()
        self.units = units
        self.depth = depth
        self.gate = gate
        self.activation = function
        self.use_bias = use_bias
        self.supports_masking = True
        self.bias: Variable | None = None
        self.refusal = saving.Refusal()
        self._given_num_trees = num_trees
        self._given_levels = levels
        self._levels = stored
        self._trees: TreeShape | None = None  # once built

    def _build_trees(
        self,
        inputs_shape: Shape,
        gate_inputs_shape: Shape | None,
        check_size: Callable[[TreeShape], None],
    ) -> TreeShape:
        """Builds the gate for trees of the sizes that it returns.

        `check_size` is given these sizes before, and raises if they are too
        large.
        """
        width = tensor_checks.feature_axis("inputs", inputs_shape)
        trees = TreeShape.of(
            *(self._given_num_trees, width, self.depth, self.units),
            self._levels,
        )
        self._check_gate_inputs_given(gate_inputs_shape is not None)
        source = (
            inputs_shape if gate_inputs_shape is None else gate_inputs_shape
        )
        tensor_checks.leading_axes("gate_inputs", source, inputs_shape)
        check_size(trees)
        self.gate.check(source, trees.num_trees, self.depth)
        self.gate.setup(trees.num_trees, self.depth)
        self.gate.build(source)
        check_gate_variables(self.gate)
        self.gate.refusal = self.refusal
        self._trees = trees
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: width})
        return trees

    def __call__(
        self,
        inputs: Tensor,
        gate_inputs: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        # Checked before `call`, which runs after the variables are made.
        check_input("inputs", inputs)
        if not self._reads_mask:
            for name in ("mask", "inputs_mask", "gate_inputs_mask"):
                kwargs.pop(name, None)
        if gate_inputs is None:
            return super().__call__(inputs, **kwargs)
        self._check_gate_inputs(gate_inputs)
        return super().__call__(inputs, gate_inputs=gate_inputs, **kwargs)

    def _check_gate_inputs(self, gate_inputs: Tensor) -> None:
        check_input(
            "gate_inputs", gate_inputs, integers=self.gate.reads_integers
        )

    def _gate_source(
        self, inputs: Tensor, gate_inputs: Tensor | None
    ) -> Tensor:
        """Returns the tensor that the gate reads."""
        self._check_gate_inputs_given(gate_inputs is not None)
        if gate_inputs is None:
            return inputs
        tensor_checks.leading_axes(
            "gate_inputs", gate_inputs.shape, inputs.shape
        )
        return gate_inputs

    def _check_gate_inputs_given(self, given: bool) -> None:
        if self.gate.reads_integers and not given:
            raise ValueError(
                "`gate_inputs` must be given to a layer whose gate is a "
                f"{type(self.gate).__name__}, which reads integers. Received: "
                f"`inputs` alone, for {self.name!r}. Write `layer(x, "
                "gate_inputs=tokens)`."
            )

    def _flat(self, inputs: Tensor) -> Tensor:
        """Returns inputs (..., P) as examples (B, P) of the compute dtype."""
        if backend.is_exporting():
            stored = [x.dtype for x in self._own_variables().values()]
            backend.check_export(inputs.shape, [self.compute_dtype, *stored])
        x = ops.cast(inputs, self.compute_dtype)
        if len(inputs.shape) == 2:  # saves an operation in a file
            return x
        return ops.reshape(x, (-1, self._built_trees.inputs))

    def _outputs(self, products: Tensor, inputs: Tensor) -> Tensor:
        """Returns the outputs (..., Q) for the products (B, Q) of inputs."""
        if self.bias is not None:
            products = products + ops.cast(self.bias.value, self.compute_dtype)
        if len(inputs.shape) > 2:
            axes = ops.shape(inputs)[:-1]
            products = ops.reshape(products, (*axes, self.units))
        return self.activation(products)

    # A layer and an operation of Keras name the first argument differently.
    def rematerialized_call(  # type: ignore[override]
        self,
        layer_call: Callable[..., Tensor],
        *args: object,
        **kwargs: object,
    ) -> Callable[..., Tensor]:
        # Recomputing the forward pass would lose the rows of the gradient.
        return layer_call

    def save_own_variables(self, store: Store) -> None:
        saving.save(store, self._own_variables(), self._parts())

    def load_own_variables(self, store: Store) -> None:
        variables, optional = self._own_variables(), self._optional_variables
        saving.load(store, variables, optional, self, self._parts())

    def _own_variables(self) -> dict[str, Variable]:
        """Returns the layer's own variables by their names in files."""
        raise NotImplementedError

    def _parts(self) -> dict[str, dict[str, Variable]]:
        """Returns the variables of the layers inside, for checks of a file."""
        return {"gate": self.gate.stored_variables}

    def quantize(
        self,
        mode: object = None,
        type_check: bool = True,
        config: object = None,
    ) -> None:
        """Raises: trees are quantized by folding them."""
        checks.no_quantization(self.name, mode)

    def _check_policy(self) -> None:
        if self.quantization_mode is not None:
            raise ValueError(
                "`dtype` must not be the policy of a quantized layer. "
                f"Received: dtype={self.dtype_policy.name!r}. Train with e.g. "
                '`dtype="mixed_bfloat16"`, and fold the trained model: '
                '`keras_treegate.fold(model, dtype="int8")`.'
            )

    @property
    def num_trees(self) -> int | str | None:
        """The number of trees; before the layer is built, as it was given."""
        if self._trees is None:
            return self._given_num_trees
        return self._trees.num_trees

    def levels_at(self, depth: int) -> Levels:
        """Returns the `levels` of such a layer with trees of another depth."""
        if self._given_levels == "all" or depth == self.depth:
            return self._given_levels
        kept = {level for level in self._levels if level < depth}
        return sorted({*kept, depth})

    def _checked_tensors(
        self, inputs: Tensor, gate_inputs: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns inputs and gate inputs as tensors, or raises."""
        self._check_built()
        check_input("inputs", inputs)
        if gate_inputs is not None:
            self._check_gate_inputs(gate_inputs)
            gate_inputs = ops.convert_to_tensor(gate_inputs)
        return ops.convert_to_tensor(inputs), gate_inputs

    @property
    def _built_trees(self) -> TreeShape:
        """The sizes of the trees; an error before the layer is built."""
        if self._trees is None:
            raise self._not_built()
        return self._trees

    def _not_built(self) -> ValueError:
        """Returns the error for a layer that is not built."""
        return ValueError(
            f"The layer {self.name!r} is not built: it does not know its "
            "inputs yet. Call it on a batch first, or build it with "
            "`layer.build((None, features))`."
        )

    def _check_built(self) -> None:
        if self._trees is None:
            raise self._not_built()

    def compute_output_shape(
        self, inputs_shape: Shape, gate_inputs_shape: Shape | None = None
    ) -> Shape:
        return (*inputs_shape[:-1], self.units)

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            units=self.units,
            depth=self.depth,
            num_trees=self._given_num_trees,
            gate=keras.saving.serialize_keras_object(self.gate),
            activation=keras.activations.serialize(self.activation),
            use_bias=self.use_bias,
        )
        return config


def check_input(name: str, value: Tensor, integers: bool = False) -> None:
    """Raises for a value that cannot be the inputs or gate inputs."""
    tensor_checks.tensor(name, value)
    tensor_checks.dense(name, value, backend.is_dense(value))
    if integers:
        tensor_checks.integers(name, value)
    else:
        tensor_checks.floating(name, value)


def check_gate_variables(gate: gates.Gate) -> None:
    """Refuses a gate whose variables are trainable."""
    trained = [variable.name for variable in gate.trainable_variables]
    if trained:
        raise ValueError(
            "The variables of a gate must not be trainable, because a gate is "
            f"trained by what it reads. Received: {trained}, of the gate "
            f"{type(gate).__name__!r}. Make them with "
            "`add_weight(..., trainable=False)`."
        )
