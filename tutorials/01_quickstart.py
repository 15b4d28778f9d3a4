# %% [markdown]
# # Better than a layer four times as wide
#
# At the end you have trained three networks that predict the next byte of
# source text: one with a Dense layer of 128 units, one with 512 units, and one
# of 128 units whose second layer is a `TreeGatedDense`. In `tutorials/output/`
# there are
#
# - `quickstart_curves.png`: bits per byte on unseen files, as they learn,
# - `quickstart_leaves.png`: how often each leaf of the trees was used,
# - `quickstart.keras`: the network with trees.
#
# On two CPU cores it takes about a minute and a half. Nothing is downloaded:
# the text is the standard library of the Python that runs this.
#
#     python tutorials/01_quickstart.py
#
# The environment variable `KERAS_BACKEND` chooses the backend: `jax` (when it
# is not set), `torch` or `tensorflow`. `--dataset digits` runs
# `08_trees_on_pixels.py` in place of this.

# %%
import os
import runpy
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from common import HERE, open_splits, parse_options, save
from keras import layers
from matplotlib.figure import Figure
from tfds_builders.python_source import PythonSource

from keras_treegate import plotting
from keras_treegate.gates import HashGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam

images = ["digits", "mnist", "fashion_mnist", "cifar10"]
options = parse_options(
    "Train networks on source text.", "python_source", images
)
if options.dataset in images:
    runpy.run_path(str(HERE / "08_trees_on_pixels.py"), run_name="__main__")
    sys.exit()
output = options.output
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# `PythonSource` is a TFDS builder, in `tutorials/tfds_builders/`. Its split
# `validation` is about a tenth of the files, which no network trains on. Half
# of it is for the curves, and the other half is used once, at the end.
#
# An example is 16 bytes, and its label is the byte that follows them.

# %%
context, batch_size = 16, 512
steps = 10 if options.smoke else 1200
reports = 2 if options.smoke else 8


def to_bytes(examples):
    """Returns all texts of a split, one after the other."""
    texts = [examples[index]["text"] for index in range(len(examples))]
    return np.frombuffer(b"\n".join(texts), dtype="uint8")


def examples_at(text, places):
    """Returns the bytes before each place (B, 16), and that at it (B,)."""
    before = text[places[:, np.newaxis] + np.arange(-context, 0)]
    return before.astype("int32"), text[places].astype("int32")


def spread(text, count):
    """Returns examples at even distances."""
    places = np.linspace(context, len(text) - 1, count)
    return examples_at(text, places.astype("int64"))


splits = open_splits(options, PythonSource)
train_text = to_bytes(splits["train"])
unseen = to_bytes(splits["validation"])
half = len(unseen) // 2
count = 1024 if options.smoke else 16384
validation, test = spread(unseen[:half], count), spread(unseen[half:], count)
print(f"{len(train_text):,} bytes to train, {len(unseen):,} unseen")

# %% [markdown]
# ## Three networks
#
# They differ in the second hidden layer, and the wide one in its width.
#
# The tree-gated layer has 16 trees. Each takes eight of the layer's 128 inputs.
# A hash of the last two bytes chooses one of 64 leaves in each tree
# (`HashGate(orders=2)`), and the weights that an example uses are those of the
# root and of this leaf (`levels="ends"`), summed. So the layer has other
# weights for nearly every pair of bytes, but multiplies no more of them than a
# Dense layer.
#
# Each network has the learning rate that was best for it among a few, by other
# files than those of the last table.


# %%
def dense(width):
    return lambda hidden, tokens: layers.Dense(width)(hidden)


def trees(hidden, tokens):
    layer = TreeGatedDense(
        128,
        depth=6,
        num_trees=16,
        levels="ends",
        gate=HashGate(orders=2, seed=0),
        name="trees",
    )
    return layer(hidden, gate_inputs=tokens)


def network(width, second_layer, learning_rate):
    tokens = keras.Input((context,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(256, 32)(tokens))
    x = layers.Dense(width)(x)
    x = layers.ReLU()(layers.LayerNormalization()(x))
    x = layers.ReLU()(second_layer(x, tokens))
    model = keras.Model(tokens, layers.Dense(256)(x))
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        StepAwareAdam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    if keras.backend.backend() == "torch":
        model.jit_compile = False  # compiling would take longer than training
    return model


NETWORKS = {
    "Dense 128": (128, dense(128), 8e-3),
    "Dense 512": (512, dense(512), 4e-3),
    "trees 128": (128, trees, 4e-3),
}

# %% [markdown]
# ## Training
#
# Plain `compile` and `fit`. All networks see the same examples in the same
# order. 8 bits per byte would be a guess.

# %%
models, curves, seconds = {}, {}, {}
part = steps // reports * batch_size
for name, (width, second_layer, rate) in NETWORKS.items():
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    model = models[name] = network(width, second_layer, rate)
    curves[name], seconds[name] = [], 0.0
    for _ in range(reports):
        places = draw.integers(context, len(train_text), part)
        x, y = examples_at(train_text, places)
        start = time.perf_counter()
        model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        seconds[name] += time.perf_counter() - start
        loss = model.evaluate(*validation, batch_size=512, verbose=0)
        curves[name].append(loss / np.log(2))
    print(f"{name}: {curves[name][-1]:.3f} bits, {seconds[name]:.0f} s")

# %% [markdown]
# ## The table
#
# Multiply-adds are those of one byte. For the trees they are counted with the
# sums of all paths stored, as `keras_treegate.fold` does for serving.


# %%
def multiply_adds(model):
    total = 0
    for layer in model.layers:
        if isinstance(layer, TreeGatedDense):
            total += layer.multiply_adds.folded
        elif isinstance(layer, layers.Dense):
            total += layer.kernel.shape[0] * layer.kernel.shape[1]
    return total


def parameters(model):
    return sum(
        layer.capacity
        if isinstance(layer, TreeGatedDense)
        else layer.count_params()
        for layer in model.layers
    )


bits = {
    name: model.evaluate(*test, batch_size=512, verbose=0) / np.log(2)
    for name, model in models.items()
}
print(
    f"\n{'':10}{'parameters':>12}{'multiply-adds':>15}{'seconds':>9}"
    f"{'bits per byte':>15}"
)
for name, model in models.items():
    print(
        f"{name:10}{parameters(model):12,}{multiply_adds(model):15,}"
        f"{seconds[name]:9.0f}{bits[name]:15.3f}"
    )
print()

# %% [markdown]
# ## Learning curves

# %%
figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
seen = np.arange(1, reports + 1) * part / 1e3
for (name, points), style in zip(
    curves.items(), ("ko--", "C1s--", "C0^-"), strict=True
):
    axes.plot(seen, points, style, label=name)
axes.set(xlabel="examples [thousands]", ylabel="bits per byte, unseen files")
axes.grid(alpha=0.3)
axes.legend()
save(figure, output / "quickstart_curves.png")

# %% [markdown]
# ## The leaves
#
# The layer counts which leaves the training used. With 64 leaves, even use
# would be 1. Pairs of bytes are not equally frequent, and so are the leaves: a
# leaf that holds two spaces is used most.

# %%
tree_layer = models["trees 128"].get_layer("trees")
figure = plotting.utilization(tree_layer)
save(figure, output / "quickstart_leaves.png")

# %% [markdown]
# ## Save and load
#
# The layer is registered with Keras, so that a `.keras` file holds all of the
# network. It loads on every backend, after `import keras_treegate`.

# %%
path = output / "quickstart.keras"
models["trees 128"].save(path)
loaded = keras.models.load_model(path)
loaded_bits = loaded.evaluate(*test, batch_size=512, verbose=0) / np.log(2)
print("wrote", path)
print(f"loaded it: {loaded_bits:.4f} bits, saved {bits['trees 128']:.4f}")
if abs(loaded_bits - bits["trees 128"]) > 1e-5:
    sys.exit("The loaded network does not predict what the saved one does.")

# %% [markdown]
# ## What next
#
# - What the bits, the paths and the levels are:
#   [the idea in pictures](02_the_idea_in_pictures.ipynb).
# - Which gate, which levels, how deep: the page on gates in `docs/`.
# - The same comparison with care, on other texts, widths and seeds:
#   `docs/quality.md`.
