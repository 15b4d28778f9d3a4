"""Training loops of one's own, as each framework's users write them.

Each is called with a model that is compiled, and batches of inputs and
targets; the loss is the mean squared error.
"""

import keras
from keras import ops


def loss_of(model, x, y):
    return ops.mean(ops.square(model(x, training=True) - y))


def gradient_tape(wrap):
    """Returns a loop of steps with a tape, each step wrapped by `wrap`."""

    def train(model, batches):
        import tensorflow as tf

        optimizer = model.optimizer
        variables = model.trainable_variables
        optimizer.build(variables)

        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(model, x, y)
            optimizer.apply(tape.gradient(loss, variables), variables)

        step = wrap(step)
        for x, y in batches:
            step(tf.constant(x), tf.constant(y))

    return train


def in_a_function(step):
    import tensorflow as tf

    return tf.function(step)


def compiled_by_xla(step):
    import tensorflow as tf

    return tf.function(step, jit_compile=True)


def as_it_is(step):
    return step


def backward(no_grad):
    """Returns a loop of `backward()` and updates, maybe without gradients."""

    def train(model, batches):
        import torch

        variables = model.trainable_variables
        for x, y in batches:
            model.zero_grad()
            loss_of(model, torch.as_tensor(x), torch.as_tensor(y)).backward()
            gradients = [variable.value.grad for variable in variables]
            with torch.set_grad_enabled(not no_grad):
                model.optimizer.apply(gradients, variables)

    return train


def stateless(compile_step):
    """Returns a loop of `stateless_call` and `stateless_apply`."""

    def train(model, batches):
        import jax

        model.optimizer.build(model.trainable_variables)

        def loss(trainable, other, x, y):
            outputs, other = model.stateless_call(
                trainable, other, x, training=True
            )
            return ops.mean(ops.square(outputs - y)), other

        gradients = jax.value_and_grad(loss, has_aux=True)
        step = compile_step(gradients, model.optimizer.stateless_apply)
        state = tuple(
            [variable.value for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
            )
        )
        for x, y in batches:
            state = step(state, x, y)
        for variables, values in zip(
            (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
            ),
            state,
            strict=True,
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    return train


def one_jit(gradients, apply):
    """Compiles the whole step in one jit, whose state is donated."""
    import jax

    return jax.jit(no_jit(gradients, apply), donate_argnums=0)


def no_jit(gradients, apply):
    def step(state, x, y):
        trainable, other, optimizer = state
        (_, other), grads = gradients(trainable, other, x, y)
        trainable, optimizer = apply(optimizer, grads, trainable)
        return trainable, other, optimizer

    return step


def two_jits(gradients, apply):
    """Compiles gradients and update, each in a function of its own."""
    import jax

    return no_jit(jax.jit(gradients), jax.jit(apply))


LOOPS = {
    "tensorflow": {
        "GradientTape": gradient_tape(as_it_is),
        "GradientTape in a tf.function": gradient_tape(in_a_function),
        "GradientTape with XLA": gradient_tape(compiled_by_xla),
    },
    "torch": {
        "backward": backward(no_grad=True),
        "backward, update without no_grad": backward(no_grad=False),
    },
    "jax": {
        "stateless": stateless(no_jit),
        "stateless, one jit": stateless(one_jit),
    },
}[keras.backend.backend()]
