"""Gradients of a layer on whichever backend runs, as NumPy arrays."""

import keras
import numpy as np
from keras import ops


def of_layer(layer, dy, *inputs, **kwargs):
    """Returns the gradients of `sum(layer(*inputs) * dy)`.

    Args:
        layer: A built layer or model.
        dy: Array of the output's shape.
        *inputs: Arrays, the layer's positional arguments.
        **kwargs: Other call arguments, such as `training`.

    Returns:
        Two lists of arrays: the gradients of the inputs, and those of
        `layer.trainable_variables`. What the loss does not depend on has a
        gradient of zeros.
    """

    def loss_of(y):
        return ops.sum(y * ops.convert_to_tensor(dy, dtype=y.dtype))

    grads = BACKENDS[keras.backend.backend()](layer, loss_of, inputs, kwargs)
    likes = [*inputs, *layer.trainable_variables]
    grads = [
        np.zeros(like.shape) if grad is None else ops.convert_to_numpy(grad)
        for grad, like in zip(grads, likes, strict=True)
    ]
    return grads[: len(inputs)], grads[len(inputs) :]


def of(variables, layer, values):
    """Returns the entries of `values` that belong to `variables`.

    Args:
        variables: List of trainable variables of the layer.
        layer: The layer.
        values: List in the order of `layer.trainable_variables`.
    """
    found = dict(
        zip([v.path for v in layer.trainable_variables], values, strict=True)
    )
    return [found[variable.path] for variable in variables]


def with_tensorflow(layer, loss_of, inputs, kwargs):
    import tensorflow as tf

    inputs = [tf.convert_to_tensor(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = loss_of(layer(*inputs, **kwargs))
    sources = inputs + [v.value for v in layer.trainable_variables]
    grads = tape.gradient(loss, sources)
    return [None if g is None else tf.convert_to_tensor(g) for g in grads]


def with_torch(layer, loss_of, inputs, kwargs):
    import torch

    inputs = [ops.convert_to_tensor(x).requires_grad_() for x in inputs]
    loss = loss_of(layer(*inputs, **kwargs))
    sources = inputs + [v.value for v in layer.trainable_variables]
    grads = torch.autograd.grad(loss, sources, allow_unused=True)
    return [None if g is None else g.to_dense() for g in grads]


def with_jax(layer, loss_of, inputs, kwargs):
    import jax

    def loss(inputs, trainable):
        y, _ = layer.stateless_call(
            trainable,
            [v.value for v in layer.non_trainable_variables],
            *inputs,
            **kwargs,
        )
        return loss_of(y)

    inputs = [ops.convert_to_tensor(x) for x in inputs]
    trainable = [v.value for v in layer.trainable_variables]
    grad = jax.jit(jax.grad(loss, argnums=(0, 1)))
    dinputs, dtrainable = grad(inputs, trainable)
    return [*dinputs, *dtrainable]


BACKENDS = {
    "tensorflow": with_tensorflow,
    "torch": with_torch,
    "jax": with_jax,
}
