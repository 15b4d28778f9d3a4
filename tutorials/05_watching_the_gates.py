# %% [markdown]
# # Watching the gates
#
# The disease of networks that route is collapse: all examples go the same way,
# most of the weights are never trained, and the loss says nothing about it. At
# the end you have made a network collapse, were told of it in its first epoch,
# found the cause and cured it in two ways. In `tutorials/output/` there are
#
# - `collapsed.png`, `collapsed_tree.png`: the leaves that are visited, and one
#   tree, of the collapsed network,
# - `cured.png`, `cured_tree.png`: the same of a cured one,
# - `gates.png`: entropy and utilization over the epochs, also on data that the
#   network was not trained on,
# - `tensorboard/`: the same numbers for TensorBoard.
#
# On two CPU cores it takes about a minute. Nothing is downloaded.
#
#     python tutorials/05_watching_the_gates.py

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
# PyTorch runs networks as small as these fastest on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import textwrap
import warnings

import keras
import numpy as np
from common import open_splits, parse_options, save
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)
from tfds_builders.sklearn_digits import SklearnDigits

from keras_treegate import plotting
from keras_treegate.callbacks import GateEntropy, PathUtilization
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense

options = parse_options(
    "Watch the gates of a network while it trains.",
    "digits",
    ["mnist", "fashion_mnist"],
)
output = options.output
seeds = [0] if options.smoke else [0, 1, 2]
epochs = 2 if options.smoke else 6
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# Digits of 8 by 8 pixels, each at the nine places it has when it moves by at
# most one pixel. They are seen as a scanner sees them: the darkest pixel is not
# 0 but 0.1. That looks harmless, and is what makes the network collapse.
#
# Later we want to know how the network takes images from another scanner, a
# brighter one, whose darkest pixel is 0.3. For that we keep the validation
# images as `brighter`, and the test images in both forms.


# %%
def to_arrays(examples, most):
    """Returns images (B, 8, 8) from 0 to 1, and labels (B,)."""
    count = min(most, len(examples))
    images = np.stack([examples[i]["image"][..., 0] for i in range(count)])
    labels = np.array([examples[i]["label"] for i in range(count)])
    step = images.shape[1] // 8
    images = images[:, : 8 * step : step, : 8 * step : step]
    return images.astype("float32") / images.max(), labels


def moved(images, labels):
    """Returns each image at nine places: (9 B, 8, 8)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    places = [
        padded[:, row : row + 8, column : column + 8]
        for row in range(3)
        for column in range(3)
    ]
    return np.concatenate(places), np.tile(labels, len(places))


def scanned(images, darkest):
    """Scans images with a scanner that knows no black, (B, 64)."""
    images = images.reshape(len(images), -1)
    return (darkest + (1 - darkest) * images).astype("float32")


splits = open_splits(options, SklearnDigits)
images, labels = to_arrays(splits["train"], most=1198)
count = 256 if options.smoke else 1024
train_images, train_labels = moved(images[:count], labels[:count])
validation_images, _ = moved(images[1024:], labels[1024:])
# Whole batches of 256, so that a compiler needs to see one size only.
few = 256 if options.smoke else 1536
spread = np.linspace(0, len(validation_images) - 1, few).astype("int64")
validation_images = validation_images[spread]
count = 64 if options.smoke else 599
test_images, test_labels = moved(*to_arrays(splits["test"], most=count))

x = scanned(train_images, darkest=0.1)
validation = scanned(validation_images, darkest=0.1)
brighter = scanned(validation_images, darkest=0.3)
test = scanned(test_images, darkest=0.1)
brighter_test = scanned(test_images, darkest=0.3)
print(
    f"{len(x)} images to train, {len(validation)} to validate, "
    f"{len(test)} to test"
)

# %% [markdown]
# ## Networks
#
# A narrow first layer, of 8 units, sees the pixels. It is a Dense layer or a
# tree-gated one with 16 trees of depth 4. The gates are pixels drawn at random,
# each of which asks one question about an image. The networks differ in the
# question:
#
# - *zero*: is the pixel above 0? It always is: this is the mistake.
# - *running mean*: is it above its own mean over the images seen so far?
# - *normalised*: an image is normalised to mean 0 before it comes to the layer
#   (and so to its gates). Is the pixel above 0 now?

# %%
width, depth, trees = 8, 4, 16


def tree(seed, threshold="zero"):
    gate = SignGate(threshold=threshold, seed=seed)
    return TreeGatedDense(
        width, depth=depth, num_trees=trees, gate=gate, name="tree"
    )


first_layers = {
    "Dense": lambda seed: [keras.layers.Dense(width)],
    "zero": lambda seed: [tree(seed)],
    "running mean": lambda seed: [tree(seed, "running_mean")],
    "normalised": lambda seed: [keras.layers.LayerNormalization(), tree(seed)],
}


def network(name, seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *first_layers[name](seed),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def fit(model, epochs, callbacks):
    """Returns what `fit` returns, and what the callbacks warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(
            x,
            train_labels,
            batch_size=128,
            epochs=epochs,
            verbose=0,
            callbacks=callbacks,
        )
    messages = [str(warning.message) for warning in caught]
    return history, [m for m in messages if "collapsed" in m]


# %% [markdown]
# ## One epoch is enough
#
# Two callbacks read the visits of the leaves, which the layer counts while it
# trains. `GateEntropy` tells how *evenly* the leaves of a tree are visited (1:
# all alike, 0: a single one), `PathUtilization` how many are visited *at all*.
# With `verbose=1` they print a line for each layer. Python writes their warning
# on standard error; here it is caught, to show it.

# %%
collapsed = network("zero", seed=0)
history, messages = fit(
    collapsed,
    epochs=1,
    callbacks=[GateEntropy(verbose=1), PathUtilization(verbose=1)],
)
accuracy = history.history["accuracy"][0]
print(f"\naccuracy on the training images: {accuracy:.1%}")
for message in messages:
    print("\n" + textwrap.fill(message, 78, break_long_words=False))
if len(messages) != 1:
    raise SystemExit("The collapse was not reported, or more than once.")

# %% [markdown]
# The accuracy alone says little: it is the first epoch, and some networks learn
# slowly. The warning says what is wrong, and names this layer.
#
# ## What is wrong
#
# First look at what the gates read, and where the images go.

# %%
layer = collapsed.get_layer("tree")
codes = keras.ops.convert_to_numpy(layer.leaf_codes(validation))  # (B, G)
print(f"gate values from {x.min():.2f} to {x.max():.2f}; the threshold is 0")
print(f"leaves that {len(codes)} validation images go to: {np.unique(codes)}")
print(f"in binary: {[f'{code:04b}' for code in np.unique(codes)]}")

# %% [markdown]
# Each bit of each image is 1, so that they all take the same path. The heat map
# has a row for each tree and a column for each leaf; what is white was never
# visited. Below it is the first tree, from its root at the top: at each level
# the visits split into those with bit 0 and those with bit 1.

# %%
save(plotting.utilization(layer), output / "collapsed.png")
save(plotting.icicle(layer, tree=0), output / "collapsed_tree.png")


# %% [markdown]
# So of each tree only the rows on that path are ever trained.


# %%
def rows_in_use(layer):
    """Returns the share of the rows of weights that lie on a visited path."""
    used = stored = 0
    for level in range(layer.depth + 1):
        visits = layer.leaf_visits.reshape(layer.num_trees, 2**level, -1)
        used += np.count_nonzero(visits.sum(-1))
        stored += layer.num_trees * 2**level
    return used / stored


print(f"The layer stores {layer.capacity:,} parameters.")
print(f"{rows_in_use(layer):.1%} of its rows lie on a path that was taken.")

# %% [markdown]
# ## The cure
#
# Now all networks train to the end. `details=True` asks for more numbers:
#
# - `dead_leaves`: the share of leaves that no training image has ever visited,
# - `bit_balance`: 1 for bits that are 0 and 1 equally often, 0 for constant
#   bits,
# - `routing_churn`: the share of the paths of the `probe` images that changed
#   since the last epoch.
#
# A second pair of callbacks has `data=`: it does not count in training but
# sends these images through the network at the end of each epoch, and puts
# `val_` before its keys. It gets the images of the brighter scanner, without
# labels.

# %%
log_root = output / "tensorboard"
shutil.rmtree(log_root, ignore_errors=True)  # of an earlier run


def watchers(name, seed):
    if name == "Dense":
        return []  # a network without gates would be an error
    log_dir = log_root / name.replace(" ", "_") if seed == 0 else None
    return [
        GateEntropy(details=True, probe=validation, log_dir=log_dir),
        PathUtilization(details=True, log_dir=log_dir),
        GateEntropy(data=brighter, log_dir=log_dir),
        PathUtilization(data=brighter, log_dir=log_dir, warn_below=None),
    ]


def accuracy_of(model, images):
    batch_size = len(images) // 9  # no smaller batch in the end
    _, accuracy = model.evaluate(
        images, test_labels, batch_size=batch_size, verbose=0
    )
    return accuracy


models, histories, warned, accuracies = {}, {}, {}, {}
for name in first_layers:
    for seed in seeds:
        model = network(name, seed)
        history, messages = fit(model, epochs, watchers(name, seed))
        accuracies.setdefault(name, []).append(
            [accuracy_of(model, images) for images in (test, brighter_test)]
        )
        if seed == 0:
            models[name], histories[name] = model, history.history
            warned[name] = messages
    print(name, "is trained")


# %% [markdown]
# The diagnosis of the networks with the first seed, in their last epoch:

# %%
KEYS = [
    "gate_entropy",
    "path_utilization",
    "dead_leaves",
    "bit_balance",
    "routing_churn",
]
gated = [name for name in first_layers if name != "Dense"]
print(" " * 18 + "".join(f"{name:>14}" for name in gated))
for key in KEYS:
    row = [histories[name][key][-1] for name in gated]
    print(f"{key:18}" + "".join(f"{value:14.3f}" for value in row))
row = [rows_in_use(models[name].get_layer("tree")) for name in gated]
print(f"{'rows in use':18}" + "".join(f"{value:14.1%}" for value in row))
row = ["yes" if warned[name] else "no" for name in gated]
print(f"{'warned':18}" + "".join(f"{value:>14}" for value in row))
print("\nrouting churn, epoch by epoch")
for name in gated:
    values = "  ".join(f"{v:.3f}" for v in histories[name]["routing_churn"])
    print(f"{name:14}{values}")

# %% [markdown]
# Read the keys together. Churn that is low in the end is welcome, for a path
# that keeps changing has no time to learn; but constant bits do not change
# either. The running means start at 0, and settle with the first batches. The
# normalization goes on to move the gates, because it learns a scale and an
# offset for each pixel.
#
# Here is what is visited with the running mean, and the tree that was drawn
# above.

# %%
cured = models["running mean"].get_layer("tree")
save(plotting.utilization(cured), output / "cured.png")
save(plotting.icicle(cured, tree=0), output / "cured_tree.png")

# %% [markdown]
# Where a row has white cells, no image combines the bits of that leaf. These
# are the pixels that the tree with the most of them reads, and how often each
# is brighter than its mean. A pixel that is seldom bright leaves few images for
# half of the leaves below it.

# %%
worst = np.argmax(np.sum(cured.leaf_visits == 0, axis=1))
visits = cured.leaf_visits[worst]
print(f"tree {worst}: {np.sum(visits == 0)} of {len(visits)} leaves are dead")
for place, pixel in enumerate(cured.gate.units[worst]):
    bit = (np.arange(len(visits)) >> (depth - 1 - place)) & 1
    share = np.sum(visits * bit) / np.sum(visits)
    print(f"  row {pixel // 8}, column {pixel % 8}: {share:6.1%} of the images")

# %% [markdown]
# ## What it does to the accuracy
#
# Test images that no network has seen, by the scanner of the training images
# (*test*) and by the brighter one.

# %%
means = {name: np.mean(values, axis=0) for name, values in accuracies.items()}
print(f"{'':14}{'test':>8}{'brighter':>10}   test, each seed")
for name, (on_test, on_brighter) in means.items():
    each = "  ".join(f"{values[0]:.3f}" for values in accuracies[name])
    print(f"{name:14}{on_test:8.3f}{on_brighter:10.3f}   {each}")
print(
    f"\nAgainst Dense: collapsed {means['zero'][0] - means['Dense'][0]:+.3f}, "
    f"running mean {means['running mean'][0] - means['Dense'][0]:+.3f}, "
    f"normalised {means['normalised'][0] - means['Dense'][0]:+.3f}"
)

# %% [markdown]
# A collapsed layer has the sum of the rows on one path as its only kernel: it
# can compute what a Dense layer computes and nothing else, with more memory and
# more work. So its training looks like that of a Dense network, and the loss
# gives no hint.

# %%
print(f"{'':14}accuracy on the training images, epoch by epoch")
for name in first_layers:
    values = "  ".join(f"{v:.3f}" for v in histories[name]["accuracy"])
    print(f"{name:14}{values}")

# %% [markdown]
# ## Held-out data
#
# What is counted in training cannot tell how the gates take other images. The
# pair of callbacks with `data=` can. Solid lines are the training images,
# dashed ones those of the brighter scanner. (Of the collapsed network both lie
# at the bottom.)

# %%
lines = {
    f"{prefix}{name}/{key}": histories[name][f"{prefix}{key}"]
    for name in gated
    for key in ("gate_entropy", "path_utilization")
    for prefix in ("", "val_")
}
save(plotting.curves(lines), output / "gates.png")
print(f"{'gate entropy':14}{'training':>10}{'brighter':>10}")
for name in gated:
    trained, other = (
        histories[name][key][-1] for key in ("gate_entropy", "val_gate_entropy")
    )
    print(f"{name:14}{trained:10.3f}{other:10.3f}")

# %% [markdown]
# A mean that was kept in training is the mean of the scanner of the training
# images. Under another one, pixels are above it that were not, and the routing
# falls back towards collapse. A normalization of each image does not care how
# bright the image is.
#
# The accuracy on the brighter images is not a matter of the gates alone: the
# Dense network has none and suffers, too. But the accuracy needs labels, and
# the entropy does not: it can be watched where a network is in use.
#
# ## TensorBoard
#
# With `log_dir=` the callbacks write what they measure, all keys and histograms
# of the leaves, into a folder that TensorBoard reads. Only the package
# `tensorboard` is needed for that, not TensorFlow. To look at it:
#
#     tensorboard --logdir tutorials/output/tensorboard
#
# Here TensorBoard's own reader reads it back.

# %%
for name in gated:
    run = log_root / name.replace(" ", "_")
    events = EventAccumulator(str(run))
    events.Reload()
    written = [event.value for event in events.Scalars("gate_entropy")]
    difference = np.abs(np.subtract(written, histories[name]["gate_entropy"]))
    tags = events.Tags()
    visits = events.Histograms("tree/leaf_visits")[-1].histogram_value
    print(
        f"{run.name}: {len(tags['scalars'])} scalars and "
        f"{len(tags['histograms'])} histograms over {len(written)} epochs\n"
        f"  gate_entropy differs from the history by {difference.max():.0e}\n"
        f"  visits of a leaf in the last epoch: "
        f"{visits.min:.0f} to {visits.max:.0f}"
    )
    if difference.max() > 1e-6:
        raise SystemExit("TensorBoard reads other numbers than `fit` gave.")

# %% [markdown]
# ## In your own network
#
#     model.fit(..., callbacks=[GateEntropy(), PathUtilization()])
#
# is all it takes to be warned. The keys are in `logs` and so in the history, in
# the progress bar and, for callbacks that come after these two in the list, for
# `CSVLogger`, `ModelCheckpoint` and `EarlyStopping`. When you are warned:
#
# - Are the gate values never negative (pixels, what comes out of a sigmoid or a
#   softmax)? Then `threshold="running_mean"`, or a normalization before the
#   layer.
# - Are some bits constant? `plotting.icicle` shows which, and the units they
#   read. `SignGate(units=...)` takes units that you choose.
# - Are there more leaves than examples reach? Then fewer bits: a lower `depth`.
