"""Reads from the compiled step how many bytes devices send and copy.

A program of its own, because devices are set before the first use:
`python -m tests.distribution.jax.cost_of_a_step 8 all data rows`.
"""

import json
import math
import re
import sys

import jax
import keras

from keras_treegate.optimizers import StepAwareAdam
from tests.distribution.jax.engines import batches, build_model, tables_of, use

BATCH = 8
SENDING = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "reduce-scatter",
)
# Operations that name an array, or may write into one that is there. What a
# fusion or a loop computes stands in the text with its own operations.
IN_PLACE = {
    "parameter",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "call",
    "conditional",
    "fusion",
    "scatter",
    "dynamic-update-slice",
}
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "f64": 8}
OPERATION = re.compile(r"= (\(.*?\)|\S+) ([a-z][a-z-]*)\(")
ARRAY = re.compile(r"([a-z]+\d+|pred)\[([\d,]*)\]")


def sizes(text):
    """Yields (operation, bytes) of each array that a compiled step makes."""
    for shapes, operation in OPERATION.findall(text):
        for dtype, axes in ARRAY.findall(shapes):
            numbers = math.prod(int(size) for size in axes.split(",") if size)
            yield operation, numbers * BYTES.get(dtype, 4)


def most_bytes(found, is_counted):
    return max((size for name, size in found if is_counted(name)), default=0)


def compiled_step(depth, levels):
    """Returns the text of a step as `fit` compiles it, and its model."""
    model = build_model(depth, levels, vocabulary=8 * 2**depth)
    model.compile(StepAwareAdam(0.01, weight_decay=0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([v.value for v in group] for group in groups)
    shardings = [[v.value.sharding for v in group] for group in groups]
    distribution = keras.distribution.distribution()
    data = jax.tree.map(
        lambda array: jax.device_put(
            array, distribution.get_data_layout(array.shape).backend_layout
        ),
        next(batches(1, BATCH, 8 * 2**depth)),
    )

    def step(state, data):
        logs, state = model.train_step(state, data)
        state = [list(group) for group in state]
        keep = jax.lax.with_sharding_constraint
        return logs, jax.tree.map(keep, state, shardings)

    jitted = jax.jit(step, donate_argnums=0)
    return jitted.lower(state, data).compile().as_text(), model


def shard_bytes(variable):
    array = variable.value
    return math.prod(array.sharding.shard_shape(array.shape)) * 4


def cost_of(engine, depth, levels):
    use(engine)
    text, model = compiled_step(int(depth), levels)
    found = list(sizes(text))
    tables = tables_of(model)
    deep = [t for t in tables if t.values.shape[0] >= 2 ** int(depth)]
    state = [
        variable
        for table in deep
        for variable in (
            table.stamps,
            model.optimizer.last_steps(table.values),
        )
    ]
    sent = [size for name, size in found if name.startswith(SENDING)]
    return {
        "sent": max(sent, default=0),
        "all_sent": sum(sent),
        "made": most_bytes(found, lambda name: name not in IN_PLACE),
        "tables": min(shard_bytes(table.values) for table in deep),
        "state": min(map(shard_bytes, state)),
        # One row of each of the two trees, or places, for each example.
        "touched": max(
            2 * BATCH * math.prod(table.values.shape[1:]) * 4 for table in deep
        ),
        "split": all(
            shard_bytes(t.values) < math.prod(t.values.shape) * 4 for t in deep
        ),
    }


def main(depth, levels, *engines):
    costs = {engine: cost_of(engine, depth, levels) for engine in engines}
    print(json.dumps(costs))


if __name__ == "__main__":
    main(*sys.argv[1:])
