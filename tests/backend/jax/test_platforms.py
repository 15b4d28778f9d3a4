"""What JAX lowers for accelerators, which need not be there for that.

That a step lowers says that every operation exists there, not that it is fast.
"""

import re

import jax
import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam

each_platform = pytest.mark.parametrize("platform", ["cuda", "tpu"])

OPTIONS = {
    "plain": {},
    "running mean": {"gate": SignGate(threshold="running_mean")},
    "noisy rectifier": {"credit": "noisy_rectifier"},
    "mixed precision": {"dtype": "mixed_bfloat16"},
}


def model_with(**options):
    # Eight examples touch fewer rows than the levels below the third have.
    layer = TreeGatedDense(4, depth=6, num_trees=2, **options)
    return keras.Sequential([keras.Input((8,)), layer])


def values(variables):
    return [variable.value for variable in variables]


def lowered(function, platform, *arguments):
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@each_platform
@pytest.mark.parametrize("name", OPTIONS)
def test_a_train_step_lowers(name, platform):
    options = OPTIONS[name]
    if "gate" in options:  # a gate belongs to one layer
        options = {"gate": SignGate.from_config(options["gate"].get_config())}
    model = model_with(**options)
    model.compile(StepAwareAdam(0.1, weight_decay=0.1), "mse")
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
    data = np.ones((8, 8), "float32"), np.ones((8, 4), "float32")
    text = lowered(model.train_step, platform, state, data)
    assert "stablehlo.scatter" in text


@each_platform
@pytest.mark.parametrize("form", ["trees", "folded"])
def test_inference_lowers(form, platform):
    # Leaves that differ: equal ones would be folded into one.
    model = model_with(node_initializer="random_normal")
    if form == "folded":
        model = keras_treegate.fold(model)

    def predict(trainable, non_trainable, x):
        return model.stateless_call(trainable, non_trainable, x)[0]

    text = lowered(
        predict,
        platform,
        values(model.trainable_variables),
        values(model.non_trainable_variables),
        np.ones((8, 8), "float32"),
    )
    assert re.search(r"stablehlo\.(gather|dynamic_slice)", text)


@each_platform
def test_an_operation_of_one_platform_does_not_lower(platform):
    def on_cpu_only(x):
        return jax.lax.platform_dependent(x, cpu=jax.numpy.sin)

    with pytest.raises(NotImplementedError, match=platform):
        lowered(on_cpu_only, platform, np.ones(3, "float32"))
