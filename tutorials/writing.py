"""Writes text one byte at a time, at a cost that does not grow with the text.

`write` asks a network for the next byte. There are two kinds of network:

- `Window`: a network of the last bytes, which are few and always as many;
- `Cached`: a Transformer. It keeps the keys and values of the bytes before, so
  that a step computes one place and not the whole window. When its window is
  full, it reads the second half of it again from the start, which doubles the
  mean cost of a byte.
"""

import time

import keras
import numpy as np
from compiled import compiled
from keras import layers, ops

from keras_treegate.layers import FoldedTreeDense, TreeGatedDense

BEFORE_START = -1  # what `TokenWindow` gives before the first byte


class Window:
    """A network of inputs (1, context) and logits (1, 256)."""

    def __init__(self, model, **options):
        self.call = compiled(model, **options)
        self.context = model.input_shape[1]
        self.text = []

    def read(self, text):
        """Starts with a text; returns the logits of the byte after it."""
        self.text = [ord("\n")] * self.context + list(text)
        return self.next()

    def next(self, *new):
        """Goes on by these bytes; returns the logits of the one after them."""
        self.text = [*self.text, *new][-self.context :]
        return self.call(np.array([self.text], "int32"))[0]


class Cached:
    """A Transformer of windows (B, T) and logits (B, T, 256), with a cache."""

    def __init__(self, model):
        step = OneStep(model)
        self.cache_shape = step.cache_shape
        self.call = compiled_step(step)
        self.window = self.cache_shape[3]
        self.text = []

    def read(self, text):
        """Starts with a text; returns the logits of the byte after it."""
        self.text = []
        self.cache = ops.zeros(self.cache_shape)
        for byte in list(text)[-self.window // 2 :]:
            logits = self.next(byte)
        return logits

    def next(self, byte):
        """Goes on by a byte; returns the logits of the one after it."""
        if len(self.text) == self.window:
            self.read(self.text[self.window // 2 :])
        before = self.text[-1] if self.text else BEFORE_START
        last = np.array([[[before, byte]]], "int32")
        place = np.array([[len(self.text)]], "int32")
        logits, self.cache = self.call([last, place, self.cache])
        self.text = [*self.text, byte]
        return ops.convert_to_numpy(logits)[0, 0]


class OneStep(keras.Model):
    """One place of a Transformer, whose layers it has.

    They are those of the network of tutorial 6, folded or not, and are called
    in the same order.

    Its inputs are the last two bytes (1, 1, 2), the place (1, 1) and the keys
    and values of the places before (1, blocks, 2, T, heads, width); its outputs
    the logits (1, 1, 256) and the keys and values with its own.
    """

    def __init__(self, model):
        super().__init__()

        def of_type(*kinds):
            return [layer for layer in model.layers if isinstance(layer, kinds)]

        self.attentions = of_type(layers.MultiHeadAttention)
        self.norms = of_type(layers.LayerNormalization)
        self.products = of_type(layers.Dense, TreeGatedDense, FoldedTreeDense)
        window = model.input_shape[1]
        embeddings = of_type(layers.Embedding)
        embeddings.sort(key=lambda layer: layer.input_dim == window)
        self.embed_bytes, self.embed_places = embeddings
        first = self.attentions[0]
        blocks, heads = len(self.attentions), first.num_heads
        self.cache_shape = (1, blocks, 2, window, heads, first.key_dim)
        self.built = True

    def call(self, inputs):
        last, place, cache = inputs
        norms, products = iter(self.norms), iter(self.products)
        x = self.embed_bytes(last[:, :, 1]) + self.embed_places(place)
        new_cache = []
        for block, attention in enumerate(self.attentions):
            z = next(norms)(x)  # (1, 1, width)
            read, kept = attend(attention, z, place, cache[:, block])
            new_cache.append(kept)
            x = x + read
            hidden = next(products)(next(norms)(x))
            hidden = ops.relu(next(norms)(hidden))
            x = x + narrow(next(products), hidden, last)
        logits = next(products)(next(norms)(x))
        return logits, ops.stack(new_cache, axis=1)


def compiled_step(model):
    """Compiles a function of arrays with the framework, as `compiled` does.

    It takes and gives lists, and leaves what it gives where it was computed: a
    cache does not go back and forth.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        call = jax.jit(
            lambda first, second, x: model.stateless_call(first, second, x)[0]
        )
        # Copies, for `fit` and `predict` give the arrays of variables away.
        weights = [
            [jax.numpy.copy(variable.value) for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
            )
        ]
        return lambda x: call(*weights, x)
    if backend == "tensorflow":
        import tensorflow as tf

        call = tf.function(model, jit_compile=True)
        return lambda x: call([tf.convert_to_tensor(array) for array in x])
    import torch

    def run(x):
        with torch.no_grad():
            return model([ops.convert_to_tensor(array) for array in x])

    return run


def narrow(layer, hidden, last):
    """Calls the second layer of a feed-forward block."""
    if isinstance(layer, layers.Dense):
        return layer(hidden)
    return layer(hidden, gate_inputs=last)


def attend(attention, z, place, cache):
    """Attends from one place (1, 1, width) to itself and those before.

    Returns what was read, and the keys and values (1, 2, T, heads, width).
    """
    window = cache.shape[2]
    query = attention.query_dense(z)  # (1, 1, heads, width)
    new = ops.stack([attention.key_dense(z), attention.value_dense(z)], axis=1)
    places = ops.arange(window, dtype="int32")  # (T,)
    here = ops.reshape(places, (1, 1, window, 1, 1)) == ops.reshape(
        place, (1, 1, 1, 1, 1)
    )
    cache = ops.where(here, new, cache)
    scores = ops.einsum("bqhd,bthd->bhqt", query, cache[:, 0])
    scores = scores / attention.key_dim**0.5
    scores = ops.where(places <= ops.reshape(place, (1, 1, 1, 1)), scores, -1e9)
    read = ops.einsum("bhqt,bthd->bqhd", ops.softmax(scores), cache[:, 1])
    return attention.output_dense(read), cache


def write(network, start, count, temperature=0.7, seed=0):
    """Returns a text that a network goes on with, `count` bytes more.

    Each byte is drawn from what the network thinks likely; a `temperature`
    below 1 makes it more decided.
    """
    draw = np.random.default_rng(seed)
    text = list(start.encode())
    logits = network.read(text)
    for number in range(count):
        logits = np.asarray(logits, "float64") / temperature
        shares = np.exp(logits - logits.max())
        text.append(int(draw.choice(256, p=shares / shares.sum())))
        if number + 1 < count:
            logits = network.next(text[-1])
    return bytes(text).decode("utf-8", errors="replace")


def bytes_per_second(networks, count, rounds=5):
    """Returns the median speeds of some networks, which take turns."""
    seconds = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            begin = time.perf_counter()
            write(network, "import ", count)
            seconds[name].append(time.perf_counter() - begin)
    return {name: count / np.median(taken) for name, taken in seconds.items()}
