# %% [markdown]
# # Hashed n-grams
#
# At the end, a network that predicts the bytes of Python source code has a
# memory: tables of what came after the last two, three and four bytes. Beside
# it are the same network without them, with trees, and with both, and what each
# of them costs. In `tutorials/output/` there is
#
# - `hashed_n_grams.png`: bits per byte on held-out files, over the parameters.
#
# It takes one or two minutes. Nothing is downloaded: the text is the standard
# library of the Python that runs this.
#
#     python tutorials/10_hashed_n_grams.py

# %%
import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from common import open_splits, parse_options, save
from keras import layers, ops
from matplotlib.figure import Figure
from tfds_builders.python_source import PythonSource

from keras_treegate.gates import HashGate
from keras_treegate.layers import SparseEmbedding, TokenWindow, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam

options = parse_options(
    "Remember what follows n-grams.", "python_source", ["tiny_shakespeare"]
)
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# Windows of 64 bytes, at each place of which the next byte is to be predicted.

# %%
places, batch_size = 64, 32
steps = 4 if options.smoke else 400
bits = 12 if options.smoke else 16  # of a hash: a table has 2^16 rows
splits = open_splits(options, PythonSource)


def windows(split, count):
    """Draws windows (count, T) at random, and the byte after each byte."""
    texts = [split[index]["text"] for index in range(len(split))]
    text = np.frombuffer(b"\n".join(texts), dtype="uint8")
    start = np.random.default_rng(0).integers(0, len(text) - places, count)
    cut = text[start[:, np.newaxis] + np.arange(places)].astype("int32")
    return cut[:, :-1], cut[:, 1:]


train = windows(splits["train"], steps * batch_size)
test = windows(splits["validation"], 32 if options.smoke else 512)

# %% [markdown]
# ## The memory
#
# There are billions of sequences of four bytes, and most are never seen. So a
# hash gives each n-gram one row of a table, which several n-grams share. Two
# hashes, each with a table of its own, tell apart most of those that meet in
# one of them. fastText ([arXiv 1607.01759](https://arxiv.org/abs/1607.01759))
# classifies texts with such tables, and Engram
# ([arXiv 2601.07372](https://arxiv.org/abs/2601.07372)) gives them to a
# Transformer.
#
# `TokenWindow` gives each place its last tokens, `HashGate` is a hash with the
# same bits on every backend, and `SparseEmbedding` is the tables, in one.


# %%
@keras.saving.register_keras_serializable(package="tutorial")
class NGrams(layers.Layer):
    """Rows (B, T, units) of the last tokens of each place (B, T)."""

    def __init__(self, length, hashes=2, bits=16, units=32, **kwargs):
        super().__init__(**kwargs)
        self.config = {"length": length, "hashes": hashes}
        self.config |= {"bits": bits, "units": units}
        self.window = TokenWindow(length)
        self.hash = HashGate(orders=length, seed=0)
        self.hash.setup(hashes, bits)
        self.first = np.arange(hashes, dtype="int32") * 2**bits
        self.rows = SparseEmbedding(hashes * 2**bits, units)

    def build(self, input_shape):
        self.hash.build((*input_shape, self.config["length"]))
        self.rows.build()

    def call(self, tokens):
        codes = self.hash(self.window(tokens))  # (B, T, hashes)
        return ops.mean(self.rows(ops.add(codes, self.first)), axis=-2)

    def get_config(self):
        return super().get_config() | self.config


# %% [markdown]
# ## Alone and with trees
#
# The network reads the last eight bytes, each as 16 numbers. What the tables
# remember of its last two, three and four bytes is added to its hidden layer.
# A `TreeGatedDense` remembers, too: not what follows the last bytes, but what
# to make of the hidden layer after them. `HashGate` chooses its paths.


# %%
def network(lengths=(), trees=False, width=64):
    tokens = keras.Input((places - 1,), dtype="int32")
    x = layers.Embedding(257, 16)(TokenWindow(8)(tokens) + 1)
    x = layers.Dense(width)(layers.Reshape((places - 1, 8 * 16))(x))
    for length in lengths:
        x = x + NGrams(length, bits=bits, units=width)(tokens)
    x = layers.ReLU()(layers.LayerNormalization()(x))
    if trees:
        gate = HashGate(orders=2, seed=0)
        tree = TreeGatedDense(width, 6, 16, levels="ends", gate=gate)
        x = tree(x, gate_inputs=TokenWindow(2)(tokens))
    else:
        x = layers.Dense(width)(x)
    x = layers.ReLU()(layers.LayerNormalization()(x))
    model = keras.Model(tokens, layers.Dense(256)(x))
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    model.compile(
        StepAwareAdam(schedule, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


NETWORKS = {
    "neither": {},
    "trees": {"trees": True},
    "tables": {"lengths": (2, 3, 4)},
    "tables and trees": {"lengths": (2, 3, 4), "trees": True},
}
if options.smoke:
    NETWORKS = dict([NETWORKS.popitem()])
found = {}
print(f"{'':18}{'parameters':>12}{'read':>8}{'bits':>7}{'ms a step':>11}")
for name, description in NETWORKS.items():
    keras.utils.set_random_seed(0)
    model = network(**description)
    half = len(train[0]) // 2
    model.fit(train[0][:half], train[1][:half], batch_size, verbose=0)
    start = time.perf_counter()
    model.fit(train[0][half:], train[1][half:], batch_size, verbose=0)
    ms = (time.perf_counter() - start) / (steps - steps // 2) * 1e3
    loss = model.evaluate(*test, batch_size=batch_size, verbose=0) / np.log(2)
    tables = [x for x in model.layers if isinstance(x, NGrams)]
    trees = [x for x in model.layers if isinstance(x, TreeGatedDense)]
    sparse = sum(int(np.prod(x.rows.embeddings.shape)) for x in tables)
    sparse += sum(x.capacity for x in trees)
    # Two rows of each table; a root and a leaf of each tree, of each block.
    read = sum(2 * x.config["units"] for x in tables)
    read += sum(2 * x.multiply_adds.folded for x in trees)
    dense = sum(
        int(np.prod(variable.shape))
        for layer in model.layers
        if layer not in tables + trees
        for variable in layer.trainable_variables
    )
    found[name] = sparse + dense, loss
    print(f"{name:18}{sparse + dense:12,}{read:8,}{loss:7.3f}{ms:11.1f}")

# %% [markdown]
# *Read* is what a place reads of the tables and trees; each network reads
# nearly all of its other parameters. More bits of a hash make a table larger,
# and the step no longer: `SparseEmbedding` reads and writes the rows of the
# batch. The first half of the steps, which compiles, is left out of the time.

# %%
figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
for name, point in found.items():
    axes.semilogx(*point, "C0^" if "trees" in name else "C1s")
    axes.annotate(f"  {name}", point)
axes.set(xlabel="parameters", ylabel="held-out bits per byte")
axes.margins(x=0.4)
axes.grid(alpha=0.3)
save(figure, options.output / "hashed_n_grams.png")

# %% [markdown]
# The tables are worth more than the trees, which have a hundredth of their
# parameters, and both together are best. A tree reads more: its rows are parts
# of a kernel, which is multiplied with the hidden layer, while a row of a table
# is only added to it.
