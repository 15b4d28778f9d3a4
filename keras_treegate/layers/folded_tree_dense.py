"""The inference form of a tree-gated layer: the sums of all paths, stored."""

import warnings
from typing import Any

from keras import ops

from keras_treegate import backend, gates
from keras_treegate.core import checks, saving, sizes
from keras_treegate.core.numerics import dequantize
from keras_treegate.core.saving import register
from keras_treegate.core.tree_shape import FoldedTables, TreeShape
from keras_treegate.layers.routed_dense import RoutedDense
from keras_treegate.trees import exported
from keras_treegate.types import Activation, Config, Shape, Tensor, Variable

TABLE_DTYPES = ("float64", "float32", "bfloat16", "float16", "int8")


@register
class FoldedTreeDense(RoutedDense):
    """A `TreeGatedDense` whose paths are summed once and for all.

    `keras_treegate.fold` puts it in the place of a trained `TreeGatedDense`.
    It has the same outputs, one table instead of trees, no weight decay to
    settle and nothing for an optimizer to do; the work per example is that of a
    Dense layer. It is rarely made by hand: a new one is all zeros.

        output    y = activation(sum over g of x[g] @ table[g, c(g)] + b)

    where `c(g)` is the leaf code of tree g. Leaves that are equal, as those
    below a pruned node are, can be stored once: then `slots` says where.

    It cannot be trained: it is not `trainable`, and setting that is refused. In
    a model that is trained it is a constant function, which the gradients of
    the layers before it pass through, and says so in a warning.

    Reference: K. Cho and Y. Bengio, arXiv 1406.7362. Folding is ours.

    Args:
        units: Positive integer, the output units `Q`.
        depth: Integer of at least 0, the bits of a path `D`. Defaults to `4`.
        num_trees: As for `TreeGatedDense`. Defaults to `"auto"`.
        gate: A `keras_treegate.gates.Gate`, or `None` for a default
            `SignGate`. Defaults to `None`.
        activation: Activation function. Defaults to `None`.
        use_bias: Boolean. Defaults to `True`.
        table_dtype: `"float64"`, `"float32"`, `"bfloat16"`, `"float16"`,
            `"int8"` (with one scale for each input unit of a leaf), or `None`
            for the compute dtype of the layer. Defaults to `None`.
        stored_leaves: Integer, how many leaves are stored for each tree, where
            some are equal; `None` for all `2^depth`. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`; `trainable` must
            not be true.

    Call arguments:
        inputs: (..., P), of a floating dtype and a rank of at least 2.
        gate_inputs: (..., S), as for `TreeGatedDense`. Defaults to `None`.
        training: Boolean, which changes nothing. Defaults to `None`.
        mask: Accepted as by `TreeGatedDense`, and not used: the outputs have
            the mask of the inputs. Defaults to `None`.

    Output shape:
        (..., Q), of the compute dtype.

    Attributes:
        table: The variable (G * K, W, Q) of the K stored leaves of each tree.
        scale: The variable (G * K, W) of an int8 table, else `None`: the
            weights are `scale * table`.
        slots: The variable (G * 2^D,), the row of `table` of each leaf, or
            `None` where every leaf has its own.
        bias: The bias variable (Q,), or `None`.
        gate: The gate.
        folding_error: What rounding the table to its dtype changed when the
            layer was folded: the root mean square of the changes, over that of
            the exact sums. `None` for a layer that was made otherwise.

    Raises:
        ValueError: For sizes and gates as `TreeGatedDense`, for an unknown
            `table_dtype`, and for a `trainable` that is true.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras_treegate.layers.TreeGatedDense(4)]
    ... )
    >>> folded = keras_treegate.fold(model)
    >>> type(folded.layers[0]).__name__, folded.layers[0].trainable_weights
    ('FoldedTreeDense', [])
    >>> x = np.ones((2, 8), dtype="float32")
    >>> y, z = model.predict(x, verbose=0), folded.predict(x, verbose=0)
    >>> bool(np.allclose(y, z, atol=1e-5))
    True
    """

    _reads_mask = False

    def __init__(
        self,
        units: int,
        depth: int = 4,
        num_trees: int | str | None = "auto",
        gate: gates.Gate | Config | None = None,
        activation: Activation = None,
        use_bias: bool = True,
        table_dtype: str | None = None,
        stored_leaves: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_table_dtype("table_dtype", table_dtype)
        if stored_leaves is not None:
            _, depth, _, _ = sizes.checked_sizes(units, depth, num_trees)
            stored_leaves = checks.integer(
                "stored_leaves", stored_leaves, 1, 2**depth
            )
        self._refuse_to_train(kwargs.pop("trainable", False))
        super().__init__(
            *(units, depth, num_trees, gate, activation, use_bias),
            trainable=False,
            **kwargs,
        )
        self.table_dtype = table_dtype
        self.stored_leaves = stored_leaves
        self.folding_error: float | None = None
        self._warned = False
        self.table: Any = None
        self.scale: Variable | None = None
        self.slots: Variable | None = None

    def build(
        self, inputs_shape: Shape, gate_inputs_shape: Shape | None = None
    ) -> None:
        if self.built:  # `fold` builds it, and then the model it stands in
            return
        trees = self._build_trees(
            inputs_shape, gate_inputs_shape, self._check_size
        )
        rows = trees.num_trees * (self.stored_leaves or 2**self.depth)
        dtype = self.table_dtype or self.compute_dtype
        self.table = self._constant(
            "table", (rows, trees.width, self.units), dtype
        )
        if dtype == "int8":
            self.scale = self._constant("scale", (rows, trees.width), "float32")
        if self.stored_leaves is not None:
            leaves = trees.num_trees * 2**self.depth
            self.slots = self._constant("slots", (leaves,), "int32")
        if self.use_bias:
            self.bias = self._constant(
                "bias", (self.units,), self.variable_dtype
            )

    def _check_size(self, trees: TreeShape) -> None:
        dtype = self.table_dtype or self.compute_dtype
        sizes.check_table_size(
            *(trees.num_trees, trees.depth, trees.width, trees.units),
            dtype,
            self.stored_leaves,
        )

    def _constant(
        self, name: str, shape: tuple[int, ...], dtype: str
    ) -> Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            autocast=False,
        )

    def call(
        self,
        inputs: Tensor,
        gate_inputs: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        if training and not self._warned:
            self._warned = True
            warnings.warn(
                f"The layer {self.name!r} is folded: it stays as it is while "
                "other layers train. To train it, train the model from before "
                "`keras_treegate.fold`, and fold that again.",
                stacklevel=2,
            )
        source = ops.stop_gradient(self._gate_source(inputs, gate_inputs))
        # Not by `__call__`, which takes longer than the product of an example.
        codes = self.gate.call(source)
        if backend.is_exporting():
            products = self._exported_products(self._flat(inputs), codes)
            return self._outputs(products, inputs)
        outputs = backend.folded_outputs(inputs, self._tables(), codes)
        return self.activation(outputs)

    def _tables(self) -> FoldedTables:
        scale, slots, bias = (
            None if variable is None else variable.value
            for variable in (self.scale, self.slots, self.bias)
        )
        return FoldedTables(
            *(self.table.value, scale, slots, bias),
            self._built_trees,
            self.compute_dtype,
        )

    def _exported_products(self, x: Tensor, codes: Tensor) -> Tensor:
        """Multiplies inputs (B, P) in operations that any file can hold."""
        trees = self._built_trees
        table, scale = self.table.value, None
        if self.scale is not None:
            scale = ops.convert_to_tensor(self.scale.value)
        table = ops.convert_to_tensor(table)
        if table.shape[0] == trees.num_trees:  # all leaves are equal
            blocks = dequantize(table, scale, x.dtype)
            return ops.matmul(x, trees.kernels(blocks))
        positions = exported.rows_of(codes, trees.num_trees, 1, 2**self.depth)
        if self.slots is not None:
            positions = backend.gather(self.slots.value, positions, 0)
        factors = None if scale is None else backend.gather(scale, positions, 0)
        parts = [exported.PathRows(table, positions, factors)]
        return exported.multiply(trees, x, parts)

    def _own_variables(self) -> dict[str, Variable]:
        variables = (self.table, self.scale, self.slots, self.bias)
        return saving.numbered([v for v in variables if v is not None])

    @property
    def trainable(self) -> bool:
        """A constant `False`; setting it to a true value is refused."""
        return False

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._refuse_to_train(trainable)

    @staticmethod
    def _refuse_to_train(trainable: object) -> None:
        if trainable:
            raise ValueError(
                "`trainable` must be `False` for a folded layer, which keeps "
                f"only sums of what was trained. Received: trainable="
                f"{trainable}. Train the model from before "
                "`keras_treegate.fold`, and fold that again; to train layers "
                "around it, set their `trainable` one by one."
            )

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            table_dtype=self.table_dtype,
            stored_leaves=self.stored_leaves,
        )
        return config


def check_table_dtype(name: str, dtype: object) -> None:
    """Raises for anything but a dtype of a table or `None`."""
    known = isinstance(dtype, str) and dtype in TABLE_DTYPES
    if dtype is not None and not known:
        raise ValueError(
            f"`{name}` must be `None` or one of "
            f"{', '.join(map(repr, TABLE_DTYPES))}. Received: "
            f"{name}={dtype!r}. Leave it out for the compute dtype."
        )
