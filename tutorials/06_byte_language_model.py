# %% [markdown]
# # A byte-level language model
#
# At the end a small Transformer has read Python source code, byte by byte, and
# writes some of its own. Its feed-forward blocks have trees, whose paths are
# chosen by the last two bytes. Next to it are the same Transformer with Dense
# layers, and one of twice the width. In `tutorials/output/` there are
#
# - `language_model.png`: bits per byte on held-out files, as both learn,
# - `byte_language_model.keras`: the trained network with trees.
#
# It takes a few minutes on a laptop. Nothing is downloaded: the text is the
# standard library of the Python that runs this.
#
#     python tutorials/06_byte_language_model.py

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
from writing import Cached, bytes_per_second, write

from keras_treegate import fold
from keras_treegate.gates import HashGate
from keras_treegate.layers import TokenWindow, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam

options = parse_options(
    "Train a byte-level language model.", "python_source", ["tiny_shakespeare"]
)
output = options.output
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# `PythonSource` is a TFDS builder, in `tutorials/tfds_builders/`. Its split
# `validation` is about a tenth of the files; the path of a file decides. The
# network sees windows of 64 bytes, and predicts each byte from those before it.

# %%
window, batch_size = 64, 32
steps = 5 if options.smoke else 800
reports = 1 if options.smoke else 5


def to_bytes(examples):
    """Returns all texts of a split, one after the other."""
    texts = [examples[index]["text"] for index in range(len(examples))]
    return np.frombuffer(b"\n".join(texts), dtype="uint8")


splits = open_splits(options, PythonSource)
train_text = to_bytes(splits["train"])
validation_text = to_bytes(splits["validation"])
print(f"{len(train_text):,} bytes to train, {len(validation_text):,} held out")


def windows(text, places):
    """Returns windows (B, T) at these places, and the byte after each byte."""
    cut = text[places[:, np.newaxis] + np.arange(window + 1)].astype("int32")
    return cut[:, :-1], cut[:, 1:]


draw = np.random.default_rng(0)
places = draw.integers(0, len(train_text) - window, steps * batch_size)
train = windows(train_text, places)
held_out = 64 if options.smoke else 256
places = np.linspace(0, len(validation_text) - window - 1, held_out)
validation = windows(validation_text, places.astype("int64"))

# %% [markdown]
# ## Three Transformers
#
# In a feed-forward block, a Dense layer widens, a normalization and a ReLU
# follow, and another layer goes back to the width of the network. That last
# layer has the trees: 16 of them, each with a root and 64 leaves
# (`levels="ends"`). A hash of the last two bytes chooses the leaf.
# `TokenWindow` is the one line that gives every place its last bytes.


# %%
blocks, depth = 2, 6


def feed_forward(kind, width, x, last_bytes):
    hidden = layers.Dense(2 * width)(layers.LayerNormalization()(x))
    hidden = layers.ReLU()(layers.LayerNormalization()(hidden))
    if kind == "Dense":
        return layers.Dense(width)(hidden)
    layer = TreeGatedDense(
        width,
        depth=depth,
        num_trees=16,
        levels="ends",
        gate=HashGate(orders=2, seed=0),
    )
    return layer(hidden, gate_inputs=last_bytes)


def transformer(kind, width, learning_rate):
    tokens = keras.Input((window,), dtype="int32")
    last_bytes = TokenWindow(2)(tokens)
    positions = ops.zeros_like(tokens) + ops.arange(window)
    x = layers.Embedding(256, width)(tokens)
    x = x + layers.Embedding(window, width)(positions)
    for _ in range(blocks):
        z = layers.LayerNormalization()(x)
        z = layers.MultiHeadAttention(4, width // 4)(z, z, use_causal_mask=True)
        x = x + z
        x = x + feed_forward(kind, width, x, last_bytes)
    logits = layers.Dense(256)(layers.LayerNormalization()(x))
    model = keras.Model(tokens, logits)
    model.compile(
        StepAwareAdam(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy"],
    )
    if keras.backend.backend() == "torch":
        model.jit_compile = False  # compiling would take longer than training
    return model


# Learning rates: of 2e-3, 4e-3 and 8e-3 each has the one that was best in 1,000
# steps on other windows, as in the documentation's page on quality.
NETWORKS = {
    "Dense 64": ("Dense", 64, 8e-3),
    "Dense 128": ("Dense", 128, 2e-3),
    "trees 64": ("trees", 64, 4e-3),
}

# %% [markdown]
# ## Training
#
# All see the same windows in the same order. After each part of them, the bits
# per byte on the held-out windows: 8 would be a guess.

# %%
models, curves = {}, {}
part = steps // reports * batch_size
for name, description in NETWORKS.items():
    keras.utils.set_random_seed(0)
    model = models[name] = transformer(*description)
    curves[name] = []
    start = time.perf_counter()
    for report in range(reports):
        now = slice(report * part, (report + 1) * part)
        model.fit(
            train[0][now],
            train[1][now],
            batch_size=batch_size,
            shuffle=False,
            verbose=0,
        )
        loss, accuracy = model.evaluate(*validation, batch_size=64, verbose=0)
        curves[name].append(loss / np.log(2))
    seconds = time.perf_counter() - start
    print(
        f"{name:10} {curves[name][-1]:.3f} bits per byte, "
        f"{accuracy:.1%} of the bytes foretold, {seconds:.0f} s"
    )

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
seen = np.arange(1, reports + 1) * part * window / 1e6
for (name, bits), style in zip(
    curves.items(), ("ko--", "C1s--", "C0^-"), strict=True
):
    axes.plot(seen, bits, style, label=name)
axes.set(xlabel="bytes read [millions]", ylabel="held-out bits per byte")
axes.grid(alpha=0.3)
axes.legend()
save(figure, output / "language_model.png")

# %% [markdown]
# ## What it costs
#
# What the feed-forward blocks store, and what they multiply for each byte.
# *Folded* is the work with the sums of all paths stored.


# %%
def kept_and_multiplied(name, model):
    """Counts numbers in the blocks' last layers, and multiply-adds a byte."""
    trees = [x for x in model.layers if isinstance(x, TreeGatedDense)]
    if trees:
        return (
            sum(layer.capacity for layer in trees),
            sum(layer.multiply_adds.folded for layer in trees),
        )
    width = NETWORKS[name][1]
    return blocks * (2 * width + 1) * width, blocks * 2 * width * width


for name, model in models.items():
    kept, multiplied = kept_and_multiplied(name, model)
    print(f"{name:10} stores {kept:9,}, multiplies {multiplied:7,} for a byte")

# %% [markdown]
# ## Writing
#
# A network writes one byte after the other: each is drawn from what it thinks
# likely, made a little more decided (`temperature=0.7`). So small a network,
# trained for so short a time, picks up letters that go together, a few words
# and the indents of source code. It writes no code that means anything. Which
# of the two wrote more words that exist?
#
# The trees are folded first: a byte then reads as many weights as in a Dense
# layer. `Cached`, in `writing.py` next to this file, keeps the keys and values
# of the bytes before: a byte costs the same however long the text is. What it
# computes is what the network computes for a whole window.


# %%
served = models | {"trees 64": fold(models["trees 64"])}
writers = {name: Cached(model) for name, model in served.items()}
count = 20 if options.smoke else 250
for start in ("    def __init__(self", "import "):
    for name in ("Dense 128", "trees 64"):
        print(f"--- {name}:")
        print(write(writers[name], start, count))

text = validation[0][:1]
whole = models["trees 64"].predict(text, verbose=0)[0, window // 2 - 1]
step = writers["trees 64"].read(text[0, : window // 2])
change = np.abs(whole - step).max()
print(f"one step and a whole window differ by at most {change:.0e}")
speeds = bytes_per_second(writers, count)
for name, speed in speeds.items():
    print(
        f"{name:10} writes {speed:6,.0f} bytes per second, "
        f"at {curves[name][-1]:.3f} bits per byte"
    )

# %% [markdown]
# ## Save
#
# The bytes of a network, and its metric after it was loaded again.

# %%
path = output / "byte_language_model.keras"
models["trees 64"].save(path)
loaded = keras.models.load_model(path)
bits = loaded.evaluate(*validation, batch_size=64, verbose=0)[0] / np.log(2)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
print(f"bits per byte: {bits:.4f} loaded, {curves['trees 64'][-1]:.4f} saved")

# %%
for name in ("Dense 64", "Dense 128"):
    gain = curves[name][-1] - curves["trees 64"][-1]
    print(
        f"The network with trees needs {abs(gain):.3f} bits per byte "
        f"{'less' if gain > 0 else 'more'} than {name}."
    )

# %% [markdown]
# One seed says little about a difference of a hundredth of a bit. In a
# checkout, `python -m benchmarks quality` compares networks with care, simpler
# ones than this.
