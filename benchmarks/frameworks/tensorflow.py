"""Work to time under TensorFlow: one `tf.function`, with XLA or without."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

COMPILERS = (None, "xla")

on_device = tf.constant


def wait(result: Any) -> None:
    for part in tf.nest.flatten(result):
        values = part.values if isinstance(part, tf.IndexedSlices) else part
        if values is not None:
            values.numpy()


def _function(function: Callable, compiler: str | None) -> Callable:
    return tf.function(function, jit_compile=compiler == "xla")


def _loss(model: Any, x: Any, y: Any) -> Any:
    return tf.reduce_mean(tf.square(model(x, training=True) - y))


def forward(model: Any, compiler: str | None) -> Callable:
    def call(x: Any) -> Any:
        return model(x, training=False)

    return _function(call, compiler)


def gradients(model: Any, compiler: str | None) -> Callable:
    weights = model.trainable_variables

    def call(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = _loss(model, x, y)
        return tape.gradient(loss, [x, *(w.value for w in weights)])

    return _function(call, compiler)


def step(model: Any, compiler: str | None) -> Callable:
    weights = model.trainable_variables
    model.optimizer.build(weights)

    def call(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = _loss(model, x, y)
        model.optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    return _function(call, compiler)


def compiled_memory(step: Any, x: Any, y: Any) -> None:
    return None


def accelerator() -> str:
    found = tf.config.list_physical_devices("GPU")
    if not found:
        return ""
    details = tf.config.experimental.get_device_details(found[0])
    return details.get("device_name", "GPU")


@tf.function
def copy(array: Any) -> Any:
    return array + 1


def feed(inputs: Any, targets: Any, batch: int) -> dict:
    # In full batches, whose size is known, as `fit` makes them of arrays.
    data = tf.data.Dataset.from_tensor_slices((inputs, targets))
    data = data.batch(batch, drop_remainder=True)
    # With it, the end of an epoch waits for a thread that sleeps.
    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": data.with_options(options)}
