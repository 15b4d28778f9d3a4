"""Trains on four devices and on one, and prints how much the weights differ.

A program of its own, because devices are set before the first use:
`python -m tests.distribution.jax.equal_to_one_device adam data rows`.
"""

import json
import sys

import keras
import numpy as np

from keras_treegate.optimizers import (
    StepAwareAdagrad,
    StepAwareAdam,
    StepAwareSGD,
)
from tests.distribution.jax.engines import batches, build_model, tables_of, use

STEPS, BATCH, DEPTH = 200, 8, 6
LEVELS = 0, 5, 6  # as few as there are kinds, to compile fast
OPTIMIZERS = {
    "adam": lambda: StepAwareAdam(0.003, weight_decay=0.1),
    "sgd": lambda: StepAwareSGD(0.03, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda: StepAwareAdagrad(0.01, rowwise=True, weight_decay=0.1),
    "stock": lambda: keras.optimizers.Adam(0.003, weight_decay=0.1),
}


def arrays(variables):
    return [keras.ops.convert_to_numpy(v.value) for v in variables]


def trained(engine, optimizer):
    """Returns variables and outputs after training, and what a device held."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    use(engine)
    model = build_model(DEPTH, LEVELS)
    tables = tables_of(model)
    start = arrays(table.values for table in tables)
    model.compile(OPTIMIZERS[optimizer](), "mse")
    # Rows are compared as they were written, with the decay that they owe.
    model.optimizer.finalize_variable_values = lambda variables: None
    for x, y in batches(STEPS, BATCH):
        # `train_on_batch` cannot be distributed in Keras 3.12.
        model.fit(x, y, batch_size=BATCH, verbose=0)
    untouched = changed = 0
    for table, before in zip(tables, start, strict=True):
        after = keras.ops.convert_to_numpy(table.values.value)
        if optimizer in ("adam", "sgd"):
            idle = arrays([model.optimizer.last_steps(table.values)])[0] == 0
            untouched += int(idle.sum())
            changed += int(np.sum(after[idle] != before[idle]))
    sharded = [
        variable.path
        for variable in (*model.variables, *model.optimizer.variables)
        if not variable.value.sharding.is_fully_replicated
    ]
    x, _ = next(batches(1, 64))
    return {
        "weights": arrays(model.variables),
        "slots": arrays(model.optimizer.variables),
        "outputs": [keras.ops.convert_to_numpy(model.predict_on_batch(x))],
        "untouched": untouched,
        "changed": changed,
        "sharded": sharded,
    }


def largest_difference(found, expected):
    return max(
        float(np.max(np.abs(a.astype("float64") - b), initial=0))
        for a, b in zip(found, expected, strict=True)
    )


def main(optimizer, *engines):
    one = trained("one", optimizer)
    reports = {}
    for engine in engines:
        many = trained(engine, optimizer)
        report = {
            key: largest_difference(many[key], one[key])
            for key in ("weights", "slots", "outputs")
        }
        others = {key: many[key] for key in ("untouched", "changed", "sharded")}
        reports[engine] = report | others
    print(json.dumps(reports))


if __name__ == "__main__":
    main(*sys.argv[1:])
