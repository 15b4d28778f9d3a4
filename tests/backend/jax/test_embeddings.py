"""JAX makes no copy of its table in the step of a sparse embedding."""

import functools
import re

import jax
import keras
import numpy as np
import pytest

from keras_treegate.layers import SparseEmbedding
from keras_treegate.optimizers import StepAwareAdam

UNITS, BATCH, PLACES = 8, 4, 3
ROWS = 2**10 + 1, 2**15 + 1


def traced_step(rows, batch=BATCH):
    """Returns the train step of a model, and what it is called with."""
    layer = SparseEmbedding(rows, UNITS)
    model = keras.Sequential([keras.Input((PLACES,), dtype="int32"), layer])
    model.compile(StepAwareAdam(0.1, weight_decay=0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    ids = np.arange(batch * PLACES, dtype="int32").reshape(batch, PLACES)
    data = ids, np.ones((batch, PLACES, UNITS), "float32")
    return jax.jit(model.train_step, donate_argnums=0), (state, data)


@functools.cache
def compiled_step(rows, batch=BATCH):
    step, arguments = traced_step(rows, batch)
    return step.lower(*arguments).compile()


def test_temporary_memory_does_not_grow_with_the_table():
    small, large = (
        compiled_step(rows).memory_analysis().temp_size_in_bytes
        for rows in ROWS
    )
    assert abs(large - small) < 4 * BATCH * PLACES * UNITS * 4


@pytest.mark.parametrize("batch", [BATCH, 1])
def test_no_array_of_the_size_of_the_table_is_made_or_copied(batch):
    rows, found = ROWS[0], 0
    text = compiled_step(rows, batch).as_text()
    for shape in (f"f32[{rows},{UNITS}]", f"f32[{rows},2]", f"s32[{rows}]"):
        made = re.findall(rf"= {re.escape(shape)}\S* ([\w-]+)\(", text)
        found += len(made) > 0
        assert not {"copy", "broadcast", "add", "multiply", "sort"} & set(made)
    assert found == 3  # the table and its slots, the stamps, the last steps


def test_the_scan_of_the_text_sees_a_table_that_is_copied():
    rows = ROWS[0]
    table = np.zeros((rows, UNITS), "float32")
    text = jax.jit(lambda x: x.at[:1].add(1)).lower(table).compile().as_text()
    shape = re.escape(f"f32[{rows},{UNITS}]")
    made = re.findall(rf"= {shape}\S* ([\w-]+)\(", text)
    assert "copy" in made  # it was not donated


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_train_step_lowers(platform):
    step, arguments = traced_step(ROWS[0])
    lowered = step.trace(*arguments).lower(lowering_platforms=(platform,))
    assert "stablehlo.scatter" in lowered.as_text()
