"""A model as a function that the framework compiles: what a server calls.

`predict` is made for whole datasets and does much besides computing. What is
compiled is compiled for the shape of the inputs: call the function once with
each batch size before it counts.
"""

import keras
import numpy as np


def compiled(model, with_torch_compile=True):
    """Returns a function of inputs (B, P), NumPy to NumPy, for inference.

    Make it when the model is trained: under JAX it keeps the weights of now.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return with_jax(model)
    if backend == "tensorflow":
        return with_tensorflow(model)
    return with_torch(model, with_torch_compile)


def with_jax(model):
    import jax

    @jax.jit
    def call(trainable, other, x):
        return model.stateless_call(trainable, other, x, training=False)[0]

    # Arguments, for constants would be compiled in; and copies, for `fit` and
    # `predict` give the arrays of the variables away.
    weights = [
        [jax.numpy.copy(variable.value) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]
    return lambda x: np.asarray(call(*weights, x))


def with_tensorflow(model):
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False), jit_compile=True)
    return lambda x: call(tf.constant(x)).numpy()


def with_torch(model, with_torch_compile):
    import torch

    def call(x):
        return model(x, training=False)

    if with_torch_compile:
        # Without a C++ compiler on this machine: a warning, and not compiled.
        torch._dynamo.config.suppress_errors = True
        # Checks the inputs before each call, and not all attributes of all
        # layers, which takes longer than a small network. So each model needs
        # code of its own, by which PyTorch finds what it has compiled.
        call.__code__ = call.__code__.replace()
        guards = torch.compiler.keep_tensor_guards_unsafe
        options = {"guard_filter_fn": guards}
        call = torch.compile(call, dynamic=False, options=options)

    def run(x):
        # The compiled code writes Keras's list of open name scopes, which a
        # server's new thread has only once it has opened a scope.
        with torch.no_grad(), keras.name_scope("served"):
            return keras.ops.convert_to_numpy(
                call(keras.ops.convert_to_tensor(x))
            )

    return run
