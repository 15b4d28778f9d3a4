"""An embedding whose training step costs the rows that were looked up."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_treegate import backend, types
from keras_treegate.core import checks, saving, sizes, tensor_checks
from keras_treegate.core.saving import register
from keras_treegate.tables.layout_errors import naming_layout_errors
from keras_treegate.tables.lookup import look_up, look_up_plainly
from keras_treegate.tables.row_table import RowTable
from keras_treegate.types import Config, Shape, Store, Tensor, Variable


@register
class SparseEmbedding(keras.layers.Layer):
    """An embedding for tables that are much larger than a batch.

    Use it in place of a `keras.layers.Embedding` with many rows, together with
    a step-aware optimizer such as `keras_treegate.optimizers.StepAwareAdam`.
    It has the same outputs, and a training step reads and writes only the rows
    that the batch looked up, and their slots. All other rows still get their
    weight decay, exactly: they are read with what they owe, see
    `keras_treegate.optimizers`. With other optimizers it trains densely, as
    `keras.layers.Embedding` does.

        output    y[b] = E[id[b]] * (product of 1 - lr_t * weight_decay over
                         the steps t since row id[b] was last written)

    Equal ids of a batch are looked up once, and their gradients add up. A table
    of no more rows than a batch has ids is read and updated whole, which is
    cheaper then.

    `keras_treegate.convert_embeddings` puts it into an existing model, weights
    kept. A file has of it what it has of a `keras.layers.Embedding`: the rows,
    with all decay paid.

    Reference: Z. Lipton and C. Elkan, "Efficient Elastic Net Regularization for
    Sparse Linear Models", arXiv 1505.06449, for decay that waits until a weight
    is needed; O. Press and L. Wolf, arXiv 1608.05859, for tied weights.

    Args:
        input_dim: Positive integer, the number of rows `N`.
        output_dim: Positive integer, the numbers of a row `Q`.
        embeddings_initializer: Initializer of the table. Defaults to
            `"uniform"`.
        mask_zero: Boolean, whether id 0 is padding, which the mask of the
            outputs leaves out. Defaults to `False`.
        weights: Array (N, Q) of initial values, or `None` for those of the
            initializer. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Ids (...), of any shape and integer dtype. Negative ones count
            from the end, as for `keras.layers.Embedding`. As there, other ids
            of no row raise under TensorFlow and PyTorch, and make a row of NaN
            where XLA compiles the step; other dtypes are cast to int32.
        reverse: Boolean, whether to multiply with the transposed table instead,
            as an output layer with tied weights does. It reads all rows and
            gives all of them a gradient, so that such a step is dense. Defaults
            to `False`.

    Output shape:
        (..., Q), of the compute dtype. With `reverse`, (..., N) for inputs
        (..., Q).

    Attributes:
        embeddings: The variable (N, Q), the rows as they were last written.
            Call `settle` before you read it inside of a training loop; the end
            of `fit` does so.
        table: The `RowTable` of the embeddings with the state of their decay.

    Raises:
        ValueError: At construction for an `input_dim` or `output_dim` that is
            no such integer or makes a table of more than 64 GiB (the
            environment variable `KERAS_TREEGATE_MAX_LAYER_GIB` sets another
            bound), for an `embeddings_regularizer` or `embeddings_constraint`,
            which would read every row in each step, for `weights` of another
            shape, and for the dtype policy of a quantized layer; when called,
            for sparse and ragged ids.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> model = keras.Sequential([
    ...     keras.Input((None,), dtype="int32"),
    ...     keras_treegate.layers.SparseEmbedding(10_000, 4),
    ...     keras.layers.GlobalAveragePooling1D(),
    ...     keras.layers.Dense(1),
    ... ])
    >>> optimizer = keras_treegate.optimizers.StepAwareAdam(weight_decay=0.01)
    >>> model.compile(optimizer, "mse")
    >>> ids = np.array([[3, 9_999, 3], [7, 1, 0]])
    >>> history = model.fit(ids, np.ones((2, 1)), verbose=0)
    >>> tuple(model.layers[0].embeddings.shape)
    (10000, 4)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: types.Initializer = "uniform",
        mask_zero: bool = False,
        weights: object = None,
        **kwargs: Any,
    ) -> None:
        input_dim = checks.integer("input_dim", input_dim, 1)
        output_dim = checks.integer("output_dim", output_dim, 1)
        mask_zero = checks.boolean("mask_zero", mask_zero)
        checks.unpenalized("embeddings", "table", kwargs)
        initializer = checks.initializer(
            "embeddings_initializer", embeddings_initializer
        )
        super().__init__(autocast=False, **kwargs)
        checks.unquantized(self.dtype_policy)
        sizes.check_embedding_size(
            input_dim, output_dim, checks.itemsize(self.variable_dtype)
        )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer: Callable[..., Tensor] = initializer
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self._table: RowTable | None = None  # once built
        self._in_reverse = False
        if weights is not None:
            values = _checked_weights(weights, (input_dim, output_dim))
            self.build()
            self.embeddings.assign(values)

    def build(self, input_shape: Shape | None = None) -> None:
        if self.built:
            return
        shape = self.input_dim, self.output_dim
        with naming_layout_errors(f"{self.name}/embeddings", shape):
            embeddings = self.add_weight(
                name="embeddings",
                shape=shape,
                initializer=self.embeddings_initializer,
                autocast=False,
            )
        # Made last, so that weights have one order on every backend.
        self._table = RowTable.of_layer(self, embeddings)
        self.built = True

    def __call__(
        self, inputs: Tensor, reverse: bool = False, **kwargs: object
    ) -> Tensor:
        # Checked before `call`, which runs after the variables are made.
        reverse = checks.boolean("reverse", reverse)
        tensor_checks.tensor("inputs", inputs)
        if tensor_checks.is_sparse(inputs, backend.is_dense(inputs)):
            raise ValueError(
                "`inputs` must be a dense tensor of ids. Received: a sparse or "
                f"ragged tensor of type {type(inputs).__name__}. Pad it, with "
                "`mask_zero=True` for a padding of zeros."
            )
        if reverse:
            self._check_hidden(inputs)
        self._in_reverse = reverse  # for the mask, which Keras asks for next
        return super().__call__(inputs, reverse=reverse, **kwargs)

    def _check_hidden(self, inputs: Tensor) -> None:
        tensor_checks.floating("inputs", inputs)
        shape = tuple(inputs.shape)
        if not shape or shape[-1] != self.output_dim:
            raise ValueError(
                "`inputs` must have a last axis of `output_dim`, "
                f"{self.output_dim}, with `reverse=True`. Received: "
                f"shape={shape}. Project them first, e.g. with "
                f"`keras.layers.Dense({self.output_dim})`."
            )

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        table = self.table
        if backend.is_exporting():
            dtypes = [self.compute_dtype, self.variable_dtype]
            backend.check_export(inputs.shape, dtypes)
        if reverse:
            kernel = ops.cast(table.read(), self.compute_dtype)
            x = ops.cast(inputs, self.compute_dtype)
            return ops.matmul(x, ops.transpose(kernel))
        ids = inputs
        if keras.backend.standardize_dtype(ids.dtype) not in ("int32", "int64"):
            ids = ops.cast(ids, "int32")
        ids = ops.where(ids < 0, ids + self.input_dim, ids)
        if backend.is_exporting():
            rows = look_up_plainly(table, ids)
            return ops.cast(rows, self.compute_dtype)
        flat = ops.reshape(ids, (-1,))
        flat, outside = backend.bounded_ids(flat, self.input_dim)
        rows = ops.cast(look_up(table, flat), self.compute_dtype)
        if outside is not None:
            nothing = ops.cast(float("nan"), rows.dtype)
            rows = ops.where(ops.expand_dims(outside, 1), nothing, rows)
        return ops.reshape(rows, (*ops.shape(inputs), self.output_dim))

    def compute_mask(
        self, inputs: Tensor, previous_mask: Tensor | None = None
    ) -> Tensor | None:
        if not self.mask_zero or self._in_reverse:
            return None
        return ops.not_equal(inputs, 0)

    def compute_output_shape(
        self, input_shape: Shape, reverse: bool = False
    ) -> Shape:
        if reverse:
            return (*input_shape[:-1], self.input_dim)
        return (*input_shape, self.output_dim)

    def compute_output_spec(
        self, inputs: Tensor, reverse: bool = False
    ) -> keras.KerasTensor:
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape, reverse),
            dtype=self.compute_dtype,
        )

    # A layer and an operation of Keras name the first argument differently.
    def rematerialized_call(  # type: ignore[override]
        self,
        layer_call: Callable[..., Tensor],
        *args: object,
        **kwargs: object,
    ) -> Callable[..., Tensor]:
        # Recomputing the forward pass would lose the rows of the gradient.
        return layer_call

    @property
    def table(self) -> RowTable:
        """The table of the embeddings with the state of their decay."""
        if self._table is None:
            raise ValueError(
                f"The layer {self.name!r} must be built before its embeddings "
                "are read. Received: a layer that is not. Call it on a batch "
                "first, or build it with `layer.build()`."
            )
        return self._table

    @property
    def embeddings(self) -> Variable:
        """The variable (N, Q), the rows as they were last written."""
        return self.table.values

    def settle(self) -> None:
        """Pays the weight decay that idle rows owe into these rows.

        Rows are read with the decay they owe everywhere, so that outputs stay
        as they are. The end of `fit` does this with every layer; do it by hand
        to hand `embeddings` to other code, outside of a step.
        """
        self.table.settle()

    def save_own_variables(self, store: Store) -> None:
        """Writes the rows without debt, as `keras.layers.Embedding` does."""
        if self.built:
            clock = ops.convert_to_numpy(self.table.clock)
            store["0"] = self.table.read() if np.any(clock) else self.embeddings

    def load_own_variables(self, store: Store) -> None:
        """Reads the rows that this layer or `keras.layers.Embedding` wrote."""
        variables = {"0": self.embeddings} if self.built else {}
        saving.check(store, variables, (), f"layer {self.name!r}")
        saving.assign(store, variables)
        if self.built:
            for state in (self.table.clock, self.table.stamps):
                state.assign(ops.zeros_like(state.value))

    def get_config(self) -> Config:
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": serialize(self.embeddings_initializer),
            "mask_zero": self.mask_zero,
        }


def _checked_weights(weights: Any, shape: Shape) -> Tensor:
    """Returns initial values of this shape, or raises."""
    # Keras takes a list of one array as well, as `set_weights` does.
    if isinstance(weights, list | tuple) and len(weights) == 1:
        weights = weights[0]
    found = np.shape(weights)
    if found != shape:
        raise ValueError(
            "`weights` must be an array of shape (input_dim, output_dim), "
            f"{shape}. Received: shape={found}. Leave it out for new values."
        )
    return weights
