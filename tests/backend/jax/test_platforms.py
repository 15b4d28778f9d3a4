"""JAX lowers steps for accelerators, which need not be there for that.

That a step lowers says that every operation exists there, not that it is fast.
But no operation of it may make an array as large as a table of rows, unless it
writes into one: it would be a copy, or work, that grows with the table.
"""

import math
import re

import jax
import keras
import numpy as np
import pytest
from jax.extend.mlir.ir import ShapedType

import keras_treegate
from keras_treegate.gates import HashGate, SignGate
from keras_treegate.layers import SparseEmbedding, TreeGatedDense
from keras_treegate.optimizers import (
    StepAwareAdagrad,
    StepAwareAdam,
    StepAwareSGD,
)

each_platform = pytest.mark.parametrize("platform", ["cuda", "tpu"])

BATCH, INPUTS, UNITS = 8, 8, 4
IDS = 4000

# Operations that may have a result of the size of a table: a scatter and a loop
# write into what they are given, and a reshape moves nothing. Where a table is
# folded or decayed as a whole, there is none.
IN_PLACE = {
    "stablehlo.scatter",
    "stablehlo.while",
    "stablehlo.reshape",
    "func.call",
}


def tree_model(**options):
    # Eight examples touch fewer rows than the levels below the third have.
    layer = TreeGatedDense(UNITS, depth=8, num_trees=2, **options)
    return keras.Sequential([keras.Input((INPUTS,)), layer])


def hashed_model(**options):
    inputs = keras.Input((INPUTS,))
    tokens = keras.Input((3,), dtype="int32")
    gate = HashGate(orders=(1, 2), seed=0)
    layer = TreeGatedDense(UNITS, depth=8, num_trees=2, gate=gate, **options)
    return keras.Model([inputs, tokens], layer(inputs, gate_inputs=tokens))


def embedding_model():
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            SparseEmbedding(IDS, UNITS),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


MODELS = {
    "plain": tree_model,
    "running mean": lambda: tree_model(gate=SignGate(threshold="running_mean")),
    "noisy rectifier": lambda: tree_model(credit="noisy_rectifier"),
    "mixed precision": lambda: tree_model(dtype="mixed_bfloat16"),
    "roots and leaves": lambda: tree_model(levels="ends"),
    "chosen levels": lambda: tree_model(levels=(0, 4, 8)),
    "hash gate": hashed_model,
    "hash gate, chosen levels": lambda: hashed_model(levels=(0, 5, 8)),
    "embedding": embedding_model,
}
# Any other is trained by Adam.
OPTIMIZERS = {
    "SGD": lambda: StepAwareSGD(0.1, momentum=0.9, weight_decay=0.1),
    "Adagrad": lambda: StepAwareAdagrad(0.1, weight_decay=0.1),
}
STEPS = [
    *((name, "Adam") for name in MODELS),
    *((name, rule) for name in ("plain", "embedding") for rule in OPTIMIZERS),
]


def values(variables):
    return [variable.value for variable in variables]


def data_for(model):
    """Returns ones for each input of a model."""
    arrays = [
        np.ones((BATCH, *tensor.shape[1:]), tensor.dtype)
        for tensor in model.inputs
    ]
    return arrays[0] if len(arrays) == 1 else arrays


def lowered(function, platform, *arguments):
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=(platform,))


def operations(block):
    """Yields every operation of a block, and of those inside of them."""
    for operation in block.operations:
        yield operation
        for region in operation.regions:
            for inner in region:
                yield from operations(inner)


def operations_as_large(lowered, size):
    """Returns names of operations whose results have so many numbers."""
    module = lowered.compiler_ir("stablehlo")
    return [
        operation.operation.name
        for operation in operations(module.body)
        for result in operation.results
        if math.prod(ShapedType(result.type).shape) >= size
    ]


def largest_table(model):
    return max(math.prod(weight.shape) for weight in model.weights)


@each_platform
@pytest.mark.parametrize(("name", "rule"), STEPS)
def test_a_train_step_writes_only_rows(name, rule, platform):
    model = MODELS[name]()
    if rule == "Adam":
        model.compile(StepAwareAdam(0.1, weight_decay=0.1), "mse")
    else:
        model.compile(OPTIMIZERS[rule](), "mse")
    model.optimizer.build(model.trainable_variables)
    state = tuple(
        map(
            values,
            (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            ),
        )
    )
    data = data_for(model), np.ones((BATCH, UNITS), "float32")
    step = lowered(model.train_step, platform, state, data)
    large = operations_as_large(step, largest_table(model))
    assert set(large) <= IN_PLACE
    # The rows, and each slot that has as many numbers.
    slots = [kind for kind in model.optimizer.slot_kinds() if not kind.per_row]
    assert large.count("stablehlo.scatter") == 1 + len(slots)


FORMS = {
    "trees": lambda model: model,
    "folded": keras_treegate.fold,
    "int8": lambda model: keras_treegate.fold(model, dtype="int8"),
}
INFERENCES = [
    *(
        (name, form)
        for name in ("plain", "chosen levels", "hash gate")
        for form in FORMS
    ),
    ("embedding", "trees"),
]


@each_platform
@pytest.mark.parametrize(("name", "form"), INFERENCES)
def test_inference_copies_no_table(name, form, platform):
    model = MODELS[name]()
    for layer in model.layers:
        # Leaves that differ: equal ones would be folded into one.
        for nodes in getattr(layer, "nodes", []):
            nodes.assign(keras.random.normal(nodes.shape, seed=0))
    model = FORMS[form](model)

    def predict(trainable, non_trainable, x):
        return model.stateless_call(trainable, non_trainable, x)[0]

    inference = lowered(
        predict,
        platform,
        values(model.trainable_variables),
        values(model.non_trainable_variables),
        data_for(model),
    )
    large = operations_as_large(inference, largest_table(model))
    assert set(large) <= IN_PLACE
    text = inference.as_text()
    assert re.search(r"stablehlo\.(gather|dynamic_slice)", text)


def test_a_copy_of_a_table_would_be_found():
    copying = lowered(lambda table: 2 * table, "cuda", np.ones((9, 4)))
    assert "stablehlo.multiply" in operations_as_large(copying, 36)


@each_platform
def test_an_operation_of_one_platform_does_not_lower(platform):
    def on_cpu_only(x):
        return jax.lax.platform_dependent(x, cpu=jax.numpy.sin)

    with pytest.raises(NotImplementedError, match=platform):
        lowered(on_cpu_only, platform, np.ones(3, "float32"))
