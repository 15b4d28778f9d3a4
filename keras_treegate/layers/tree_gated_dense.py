"""A dense layer whose kernel is a sum along paths of binary trees."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_treegate import gates, types
from keras_treegate.core import checks, masks, sizes
from keras_treegate.core.saving import register
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.credit import Credit, Route, scores
from keras_treegate.credit import get as get_credit
from keras_treegate.layers.routed_dense import RoutedDense
from keras_treegate.trees import find
from keras_treegate.trees.explain import (
    MultiplyAdds,
    explanation,
    multiply_adds,
)
from keras_treegate.trees.forest import Forest
from keras_treegate.trees.level import TreeLevel
from keras_treegate.trees.visits import LeafVisits
from keras_treegate.types import Config, Shape, Tensor, Variable

ROW_LEVELS = ("auto", "all", "none")


@register
class TreeGatedDense(RoutedDense):
    """A dense layer whose capacity grows as `2^depth` and its work as `depth`.

    Use it in place of a `keras.layers.Dense` where more parameters would help
    and more arithmetic is not wanted. The P inputs are split in order into G
    blocks of W = ceil(P / G), each with a binary tree of weights. A gate that
    reads S numbers chooses a path through each tree, for each example, and the
    weights used are the sum along that path:

        bits      b(g, 1..D), from the gate of tree g
        path      n(g, l), the node reached after l bits; n(g, 0) is the root
        kernel    K[g] = sum over the levels l of T[g, n(g, l)]      (W, Q)
        output    y = activation(sum over g of x[g] @ K[g] + b)

    All nodes below the roots start at zero: a fresh layer is the Dense layer of
    its roots. Gates are read before inputs are cast to the compute dtype, so
    that paths are the same under every dtype policy.

    Reference: K. Cho and Y. Bengio, "Exponentially Increasing the
    Capacity-to-Computation Ratio for Conditional Computation in Deep Learning",
    arXiv 1406.7362. Trees shared by a block of inputs are ours.

    Args:
        units: Positive integer, the output units `Q`.
        depth: Integer of at least 0, the bits of a path `D`; 0 makes a Dense
            layer. At most `S` with a `SignGate`. Defaults to `4`.
        num_trees: `"auto"` for `min(64, P)`, `None` for one tree for each input
            unit (the paper), or a positive integer of at most `P`. Defaults to
            `"auto"`.
        levels: The depths that store nodes: `"all"`, from 0 to `D` (the paper),
            `"ends"`, 0 and `D`, or an ascending sequence of depths that begins
            with 0 and ends with `D`. One that is left out has no variables and
            costs nothing; its bits still choose the path. Defaults to `"all"`.
        gate: A `keras_treegate.gates.Gate`, such as a `SignGate` or a
            `HashGate`, or `None` for `SignGate(seed=seed)`. Defaults to `None`.
        credit: How the gates learn, a `keras_treegate.credit.Credit` or the
            name of one. Defaults to `"straight"`.
        activation: Activation function. Defaults to `None`.
        use_bias: Boolean. Defaults to `True`.
        kernel_initializer: Initializer of the roots, drawn as one Dense kernel
            of shape (P, Q). Defaults to `"glorot_uniform"`.
        node_initializer: Initializer of each deeper level, called with its
            shape. Defaults to `"zeros"`.
        bias_initializer: Initializer of the bias. Defaults to `"zeros"`.
        bias_regularizer: Regularizer of the bias. Defaults to `None`.
        bias_constraint: Constraint of the bias. Defaults to `None`.
        seed: Integer or `None`, for drawing the gate units. Defaults to `None`.
        count_visits: Boolean, whether `leaf_visits` are counted in training;
            `False` in a cell of a `keras.layers.RNN` under JAX that is not
            unrolled. Defaults to `True`.
        **kwargs: Keyword arguments of `keras.layers.Layer`. Dense's
            `kernel_regularizer` and `kernel_constraint`, which would read all
            rows in each step, are refused: use the optimizer's `weight_decay`.

    Call arguments:
        inputs: (..., P), of a floating dtype and a rank of at least 2.
        gate_inputs: (..., S), the tensor that gates are read from, with the
            leading axes of `inputs`, of a floating dtype, or integers for a
            `HashGate`. `None` for `inputs` itself. Defaults to `None`.
        training: Boolean. Defaults to `None`, for that of the model around it.
        mask: Booleans of the first axes of `inputs`, e.g. (batch, steps), false
            for padding. That is routed and multiplied like the rest, but enters
            neither `leaf_visits` nor the moving mean of a gate. Keras fills it
            in, or `inputs_mask` and `gate_inputs_mask`, which are for that
            alone; not in a cell of `keras.layers.RNN`. Defaults to `None`.

    Output shape:
        (..., Q), of the compute dtype.

    Attributes:
        nodes: List of the variables of the levels that are stored; one of depth
            l has the shape (G * 2^l, W, Q), tree by tree.
        bias: The bias variable (Q,), or `None`.
        gate: The gate.
        row_levels: Which levels are read, and given gradients, row by row:
            `"auto"` those with more rows in a tree than the batch has examples,
            `"all"` or `"none"`. Results do not depend on it. Set it, to study
            what it costs, before the model is compiled.

    Raises:
        ValueError: At construction for arguments other than these, a credit
            that the gate cannot serve, and a deepest level of more than 2^31
            rows or trees of more than 64 GiB (the environment variable
            `KERAS_TREEGATE_MAX_LAYER_GIB` sets another bound); when built, for
            those, more trees than inputs, inputs of rank 1, of unknown width or
            of an integer dtype, and gates that do not fit.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(32, depth=4)
    >>> y = layer(np.ones((2, 8), dtype="float32"))
    >>> tuple(y.shape), layer.num_trees, layer.capacity
    ((2, 32), 8, 7968)
    """

    _optional_variables = LeafVisits.NAMES
    visits: LeafVisits  # once built

    def __init__(
        self,
        units: int,
        depth: int = 4,
        num_trees: int | str | None = "auto",
        levels: types.Levels = "all",
        gate: gates.Gate | Config | None = None,
        credit: str | Credit | Config = "straight",
        activation: types.Activation = None,
        use_bias: bool = True,
        kernel_initializer: types.Initializer = "glorot_uniform",
        node_initializer: types.Initializer = "zeros",
        bias_initializer: types.Initializer = "zeros",
        bias_regularizer: types.Regularizer = None,
        bias_constraint: types.Constraint = None,
        seed: int | None = None,
        count_visits: bool = True,
        **kwargs: Any,
    ) -> None:
        seed = checks.optional_seed(seed)
        checks.unpenalized("kernel", "trees", kwargs)
        gate, credit = gates.get(gate, seed=seed), get_credit(credit, seed)
        count_visits = checks.boolean("count_visits", count_visits)
        super().__init__(
            units=units,
            depth=depth,
            num_trees=num_trees,
            levels=levels,
            gate=gate,
            activation=activation,
            use_bias=use_bias,
            **kwargs,
        )
        credit.check_gate(self.gate)
        self.credit = credit
        self.kernel_initializer = checks.initializer(
            "kernel_initializer", kernel_initializer
        )
        self.node_initializer = checks.initializer(
            "node_initializer", node_initializer
        )
        self.bias_initializer = checks.keras_object(
            "bias_initializer", keras.initializers.get, bias_initializer
        )
        self.bias_regularizer = checks.keras_object(
            "bias_regularizer", keras.regularizers.get, bias_regularizer
        )
        self.bias_constraint = checks.keras_object(
            "bias_constraint", keras.constraints.get, bias_constraint
        )
        self.seed, self.count_visits = seed, count_visits
        self._row_levels = "auto"
        self._forest: Forest | None = None  # once built

    def build(
        self, inputs_shape: Shape, gate_inputs_shape: Shape | None = None
    ) -> None:
        if self.built:  # A transform builds it, and then the model around it.
            return
        shapes = inputs_shape, gate_inputs_shape
        trees = self._build_trees(*shapes, self._check_size)
        nodes = Forest.add_nodes(
            self, trees, self.kernel_initializer, self.node_initializer
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                autocast=False,
            )
        # Made last, so that weights have one order on every backend: where the
        # state of decay is trainable, it also comes after all that trains.
        self._forest = Forest.of_layer(self, trees, nodes)
        self._forest.row_levels = self._row_levels
        find.mark(self)
        self.visits = LeafVisits.of_layer(self, trees, self.count_visits)
        if isinstance(self.credit, keras.layers.Layer):
            self.credit.refusal = self.refusal

    @property
    def _built_forest(self) -> Forest:
        if self._forest is None:
            raise self._not_built()
        return self._forest

    def _check_size(self, trees: TreeShape) -> None:
        sizes.check_tree_shape(trees, checks.itemsize(self.variable_dtype))

    def call(
        self,
        inputs: Tensor,
        gate_inputs: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        gate_inputs_mask: Tensor | None = None,
    ) -> Tensor:
        training = bool(training) and self.trainable
        # Keras fills in `mask` of one tensor, else those named after theirs.
        mask = inputs_mask if mask is None else mask
        kept = masks.combined(
            inputs, mask=mask, gate_inputs_mask=gate_inputs_mask
        )
        route = self._route(inputs, gate_inputs, training, kept)
        self.visits.record(route.codes, training, kept)
        x = self._flat(inputs)
        products = self._built_forest.multiply(x, route.codes, route.scales)
        products = scores.watch(products, self.nodes[0], route.claim)
        return self._outputs(products, inputs)

    def _route(
        self,
        inputs: Tensor,
        gate_inputs: Tensor | None,
        training: bool,
        kept: Tensor | None = None,
    ) -> Route:
        """Returns the route; what is not `kept` enters no moving mean."""
        source = self._gate_source(inputs, gate_inputs)
        route = self.credit.route(self.gate, source, training, kept)
        return self.credit.checked_route(route, self.gate, source)

    def leaf_codes(
        self, inputs: Tensor, gate_inputs: Tensor | None = None
    ) -> Tensor:
        """Returns the leaf each tree routes each example to, as at inference.

        Args:
            inputs: (..., P), as for `call`.
            gate_inputs: (..., S), as for `call`. Defaults to `None`.

        Returns:
            (..., G), int32, the codes `sum over l of b(g, l) * 2^(D - l)`.
        """
        inputs, gate_inputs = self._checked_tensors(inputs, gate_inputs)
        return self._route(inputs, gate_inputs, training=False).codes

    def effective_kernel(
        self, inputs: Tensor, gate_inputs: Tensor | None = None
    ) -> Tensor:
        """Returns the kernel that each example uses; for study and tests.

        Args:
            inputs: (..., P), as for `call`.
            gate_inputs: (..., S), as for `call`. Defaults to `None`.

        Returns:
            (..., P, Q), of the variable dtype.
        """
        inputs, gate_inputs = self._checked_tensors(inputs, gate_inputs)
        route = self._route(inputs, gate_inputs, training=False)
        kernels = self._built_forest.kernels(route.codes, route.scales)
        return ops.reshape(kernels, (*inputs.shape, self.units))

    def leaf_table(self) -> Tensor:
        """Returns the sum of every path from root to leaf.

        Returns:
            (G, 2^D, W, Q), of the variable dtype. Entry `[g, c]` multiplies the
            g-th block of an example whose leaf code in tree g is c.
        """
        self.credit.check_foldable()
        return self._built_forest.leaf_table()

    @property
    def row_levels(self) -> str:
        """The choice of the levels that are read row by row, see above."""
        return self._row_levels

    @row_levels.setter
    def row_levels(self, row_levels: str) -> None:
        checks.choice("row_levels", row_levels, ROW_LEVELS)
        self._row_levels = row_levels
        if self._forest is not None:
            self._forest.row_levels = row_levels

    @property
    def levels(self) -> tuple[int, ...]:
        """The depths that store nodes, ascending, from 0 to `depth`."""
        return self._levels

    @property
    def tree_levels(self) -> list[TreeLevel]:
        """The `TreeLevel` of each of `levels`; none before it is built."""
        return [] if self._forest is None else self._forest.levels

    @property
    def nodes(self) -> list[Variable]:
        """The variables (G * 2^l, W, Q) of the depths l in `levels`."""
        return [level.nodes for level in self.tree_levels]

    def settle(self) -> None:
        """Pays the weight decay that idle rows owe into these rows.

        Outputs stay as they are: rows are read with the decay that they owe.
        The end of `fit` does it; do it before other code reads `nodes`.
        """
        self._built_forest.settle()

    def explain(
        self, batch_size: int, print_fn: Callable[[str], object] = print
    ) -> None:
        """Prints how a batch of a size is computed, why, and what it costs.

        Args:
            batch_size: Positive integer; all leading axes of inputs as one.
            print_fn: A function, called with the text. Defaults to `print`.
        """
        forest, dtype = self._built_forest, self.variable_dtype
        batch_size = checks.integer("batch_size", batch_size, 1)
        print_fn(explanation(forest, batch_size, dtype))

    @property
    def capacity(self) -> int:
        """The parameters in nodes and bias; `count_params` counts all state."""
        return self._built_trees.stored + (self.units if self.use_bias else 0)

    @property
    def multiply_adds(self) -> MultiplyAdds:
        """The arithmetic per example, with the tree and with it folded."""
        return multiply_adds(self._built_trees, self.credit.foldable)

    @property
    def leaf_visits(self) -> np.ndarray:
        """The visits of each leaf in training since a reset, (G, 2^D) int64.

        An example, or a time step of one, that a trainable layer routes in
        training is one visit of each tree; what a mask leaves out is none.
        Under TensorFlow and PyTorch, `keras.layers.RNN` calls its cell once
        more in each step, before the first time step, which is counted too.
        """
        self._check_built()
        return self.visits.counts()

    def reset_visits(self) -> None:
        """Sets `leaf_visits` to zero, outside of a step."""
        self._check_built()
        self.visits.reset()

    def _own_variables(self) -> dict[str, Variable]:
        """Returns the variables by name; Keras would number them in files."""
        variables = [] if self.bias is None else [self.bias]
        if self._forest is not None:
            variables += self._forest.variables + self.visits.variables
        return {variable.name: variable for variable in variables}

    def _parts(self) -> dict[str, dict[str, Variable]]:
        credit = self.credit.stored_variables
        return super()._parts() | ({"credit": credit} if credit else {})

    def get_config(self) -> Config:
        config = super().get_config()
        serialize = keras.saving.serialize_keras_object
        levels = self._given_levels
        config.update(
            levels=levels if isinstance(levels, str) else list(self._levels),
            credit=serialize(self.credit),
            kernel_initializer=serialize(self.kernel_initializer),
            node_initializer=serialize(self.node_initializer),
            bias_initializer=serialize(self.bias_initializer),
            bias_regularizer=serialize(self.bias_regularizer),
            bias_constraint=serialize(self.bias_constraint),
            seed=self.seed,
            count_visits=self.count_visits,
        )
        return config
