# %% [markdown]
# # Trees on pixels
#
# At the end you have trained a network with a `TreeGatedDense` layer and the
# same network with a `Dense` layer, three times each, on handwritten digits.
# The paths here are chosen by pixels. In `tutorials/output/` there are
#
# - `learning_curves.png`: the accuracy of both networks while they learn,
# - `leaf_usage.png`: which leaves of its trees the layer uses,
# - `leaf_digits.png`: which digits go to which leaf of one tree,
# - `trees_on_pixels.keras`: the trained network.
#
# On two CPU cores this takes less than a minute. Nothing is downloaded.
#
#     python tutorials/08_trees_on_pixels.py

# %%
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
# PyTorch runs networks as small as these fastest on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from common import open_splits, parse_options, save
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from tfds_builders.sklearn_digits import SklearnDigits

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense

options = parse_options(
    "Train a Dense and a TreeGatedDense network on small images.",
    "digits",
    ["mnist", "fashion_mnist", "cifar10"],
)
output = options.output
seeds = [0] if options.smoke else [0, 1, 2]
epochs = 2 if options.smoke else 10
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# `SklearnDigits` is a TFDS builder, in `tutorials/tfds_builders/`. It writes
# the 1,797 digits of scikit-learn, 8 by 8 pixels each, to files that
# `as_data_source` reads as a sequence of NumPy examples. TensorFlow is not
# needed for that. The other datasets are downloaded, and TFDS needs TensorFlow
# to prepare those.


# %%
def to_arrays(examples):
    """Returns images (B, height, width, channels) and labels (B,)."""
    images, labels = zip(
        *((example["image"], example["label"]) for example in examples),
        strict=True,
    )
    return np.stack(images).astype("float32"), np.array(labels, dtype="int32")


splits = open_splits(options, SklearnDigits)
images, labels = to_arrays(splits["train"])
test_images, test_labels = to_arrays(splits["test"])

# %% [markdown]
# Nine tenths of the training images, rounded down to whole batches, are for
# training and the others for the validation curve. The test images are used
# once, at the end.
#
# So few centred digits are no task that asks for parameters: nearly any network
# learns all of them. So we take each digit at the nine places it has when it
# moves by at most one pixel (a row or column that leaves the image is lost).


# %%
def moved(images, labels):
    """Returns each image at nine places: (9 B, height, width, channels)."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [
        padded[:, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    return np.concatenate(places), np.tile(labels, len(places))


batch_size = 128
count = len(images) * 9 // 10 // batch_size * batch_size
scale = images.max()
train = images[:count] / scale, labels[:count]
validation = images[count:] / scale, labels[count:]
test = test_images / scale, test_labels
if options.dataset == "digits":
    train, validation, test = moved(*train), moved(*validation), moved(*test)

print(
    f"{len(train[0])} images to train, {len(validation[0])} to validate, "
    f"{len(test[0])} to test"
)

# %% [markdown]
# ## Two networks
#
# They differ in their first layer. Each pixel of the digits owns a binary tree
# of depth 4 (at most 64 trees: larger images give each tree a block of pixels).
# Four gate pixels, drawn at random for each tree, choose the path of an example
# through the tree, and the weights on this path are summed. Pixels are never
# negative, so a gate asks whether its pixel is brighter than its mean
# (`threshold="running_mean"`), not whether it is positive.


# %%
width = 16


def dense(seed):
    return keras.layers.Dense(width)


def tree_gated(seed):
    gate = SignGate(threshold="running_mean", seed=seed)
    return TreeGatedDense(width, depth=4, gate=gate)


def network(first_layer):
    model = keras.Sequential(
        [
            keras.Input(train[0].shape[1:]),
            keras.layers.Flatten(),
            first_layer,
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.02),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


# %% [markdown]
# ## Training
#
# Plain `compile` and `fit`. Optimizer, epochs, width and seeds are the same for
# both. The learning rate is one at which the Dense network does best, chosen by
# cross-validation on the training images.

# %%
models, histories, accuracies = {}, {}, {}
for name, first_layer in {"Dense": dense, "TreeGatedDense": tree_gated}.items():
    models[name], histories[name], accuracies[name] = [], [], []
    for seed in seeds:
        print(f"\n{name}, seed {seed}")
        keras.utils.set_random_seed(seed)
        model = network(first_layer(seed))
        history = model.fit(
            *train,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation,
        )
        _, accuracy = model.evaluate(*test, batch_size=512, verbose=0)
        models[name].append(model)
        histories[name].append(history.history)
        accuracies[name].append(accuracy)

# %% [markdown]
# ## The table
#
# A tree of depth 4 stores 31 rows of weights for each pixel, and an example
# uses five of them. The multiply-adds of the tree count the additions along the
# paths, too. *Folded* is what remains when the sums of all paths are stored for
# inference: as many as in the Dense network.


# %%
def parameters(layer):
    if isinstance(layer, TreeGatedDense):
        return layer.capacity
    return layer.count_params()


def multiply_adds(layer, folded):
    if isinstance(layer, TreeGatedDense):
        work = layer.multiply_adds
        return work.folded if folded else work.tree
    return layer.kernel.shape[0] * layer.kernel.shape[1]


def print_table():
    headings = ["parameters", "multiply-adds", "folded", "test accuracy"]
    headings += [f"seed {seed}" for seed in seeds]
    print("\n" + " " * 14 + "".join(f"  {text:>8}" for text in headings))
    for name, (model, *_) in models.items():
        products = [
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.Dense | TreeGatedDense)
        ]
        cells = [f"{sum(map(parameters, model.layers)):,}"]
        for folded in (False, True):
            total = sum(multiply_adds(layer, folded) for layer in products)
            cells.append(f"{total:,}")
        cells.append(f"{np.mean(accuracies[name]):.3f}")
        cells += [f"{accuracy:.3f}" for accuracy in accuracies[name]]
        print(
            f"{name:14}"
            + "".join(
                f"  {cell:>{max(8, len(heading))}}"
                for cell, heading in zip(cells, headings, strict=True)
            )
        )
    print()


print_table()

# %% [markdown]
# ## Learning curves
#
# The line is the mean of the seeds, the band goes from the worst to the best.

# %%
STYLES = {"Dense": ("#D55E00", "--"), "TreeGatedDense": ("#0072B2", "-")}


def learning_curves():
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"accuracy": "Training", "val_accuracy": "Validation"}
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        for name, (colour, line) in STYLES.items():
            runs = np.array([history[metric] for history in histories[name]])
            epoch = np.arange(1, runs.shape[1] + 1)
            axes.plot(epoch, runs.mean(0), line, color=colour, label=name)
            axes.fill_between(
                epoch, runs.min(0), runs.max(0), color=colour, alpha=0.2
            )
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    panels[1].legend(loc="lower right")
    return figure


save(learning_curves(), output / "learning_curves.png")

# %% [markdown]
# ## The leaves
#
# `leaf_codes` tells which of its 16 leaves each tree chooses for an example.
# The first picture shows how often each leaf is chosen, over the test images. A
# tree whose gates are pixels at the edge, nearly always dark, uses few leaves.
#
# The second picture takes the tree whose leaves tell most about the digit and
# shows where each digit goes. Nobody told the gates about digits: they are four
# pixels drawn at random.

# %%
tree_layer = next(
    layer
    for layer in models["TreeGatedDense"][0].layers
    if isinstance(layer, TreeGatedDense)
)
pixels = test[0].reshape(len(test[0]), -1)
codes = keras.ops.convert_to_numpy(tree_layer.leaf_codes(pixels))  # (B, G)
leaves = 2**tree_layer.depth


def leaf_counts(label=None):
    """Counts the test images that each tree sends to each leaf: (G, leaves)."""
    chosen = codes if label is None else codes[test[1] == label]
    return np.stack([np.bincount(tree, minlength=leaves) for tree in chosen.T])


def information(joint):
    """Computes the bits that leaves tell about labels, from their counts."""
    joint = joint / joint.sum()
    independent = joint.sum(0) * joint.sum(1, keepdims=True)
    seen = joint > 0
    return np.sum(joint[seen] * np.log2(joint[seen] / independent[seen]))


def heat_map(shares, ylabel, what, height):
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    small_shares_too = PowerNorm(0.5, vmin=0)
    picture = axes.imshow(
        shares, cmap="cividis", norm=small_shares_too, aspect="auto"
    )
    axes.set(xlabel="leaf", ylabel=ylabel, xticks=range(leaves))
    figure.colorbar(picture, label=what)
    return figure


usage = heat_map(
    leaf_counts() / len(codes), "tree", "share of the test images", height=7
)
usage.suptitle("How often each leaf is chosen")
save(usage, output / "leaf_usage.png")

by_label = np.stack([leaf_counts(label) for label in range(10)])
trees = range(codes.shape[1])
best = max(trees, key=lambda tree: information(by_label[:, tree]))
routes = by_label[:, best] / by_label[:, best].sum(1, keepdims=True)
digits = heat_map(routes, "label", "share of the label's images", height=4)
digits.axes[0].set_yticks(range(10))
digits.suptitle(f"Where tree {best} sends the images of each label")
save(digits, output / "leaf_digits.png")

# %% [markdown]
# ## Save and load
#
# The layer is registered with Keras, so that a `.keras` file holds all of the
# network. It loads on every backend, after `import keras_treegate`.

# %%
path = output / "trees_on_pixels.keras"
model = models["TreeGatedDense"][0]
model.save(path)
loaded = keras.models.load_model(path)
difference = np.abs(
    loaded.predict(test[0], batch_size=512, verbose=0)
    - model.predict(test[0], batch_size=512, verbose=0)
).max()
print("wrote", path)
print(f"loaded it: predictions differ by at most {difference:.1e}")
if difference > 1e-6:
    sys.exit("The loaded network does not predict what the saved one does.")

# %% [markdown]
# ## What to make of it
#
# Both networks have 16 hidden units. That is few for digits that move, and the
# Dense network runs out of parameters. The other network stores 31 times as
# many in its first layer and does better. Things to try:
#
# - `width = 64` for both. Now the Dense network has parameters enough, and it
#   does better: 1,024 different digits are too few for the trees, which learn
#   them by heart. Trees want more data than this.
# - `width = 32` for the Dense network only. It then does a little better than
#   the trees of width 16, for twice the multiply-adds of their folded form and
#   less than half of those of the trees as they are trained.
# - Another `depth`. Each level doubles the parameters and adds one row to the
#   work of an example.
