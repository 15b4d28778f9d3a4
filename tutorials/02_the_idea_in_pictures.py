# %% [markdown]
# # The idea in pictures
#
# At the end you have seen what a `TreeGatedDense` layer does with points in the
# plane, where everything can be drawn:
#
# - `bits.png`: the lines whose sides are the bits,
# - `paths.png`: the regions of the nodes, level by level,
# - `leaves.png`: what a Dense layer learns, and what each leaf learns,
# - `path_sum.png`: how the weights of a leaf are summed along its path,
# - `context.png`: paths that are chosen by the last letters of a text,
# - `back_off.png`: how many examples share each node of such a path.
#
# It takes less than a minute, and nothing is downloaded.
#
#     python tutorials/02_the_idea_in_pictures.py

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from common import open_splits, parse_options, save
from matplotlib.figure import Figure
from tfds_builders import source_text
from tfds_builders.spirals import Spirals

from keras_treegate.gates import HashGate
from keras_treegate.layers import TreeGatedDense

options = parse_options(
    "Draw what a tree-gated layer does.", "spirals", ["penguins"]
)
output = options.output
keras.utils.set_random_seed(0)
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# Two spirals: points of two kinds that no straight line can tell apart. (With
# `--dataset penguins`, the first two measurements of penguins, and whether they
# are of the first species.)


# %%
def to_arrays(examples):
    """Returns points (B, 2), centred, and whether they are of kind 1 (B, 1)."""
    points = np.stack([example["features"][:2] for example in examples])
    kinds = [
        example.get("label", example.get("species")) for example in examples
    ]
    return points.astype("float32"), np.array(kinds)[:, np.newaxis] == 1


splits = open_splits(options, Spirals)
points, kinds = to_arrays(splits["train"])
center, scale = points.mean(0), np.abs(points - points.mean(0)).max()
points = (points - center) / scale
if "test" in splits:
    test_points, test_kinds = to_arrays(splits["test"])
    test_points = (test_points - center) / scale
else:
    test_points, test_kinds = points, kinds
print(f"{len(points)} points to train, {len(test_points)} to test")

# %% [markdown]
# ## Bits
#
# A bit is a yes or no about an example. Here the questions are five lines drawn
# at random: on which side is the point? In the layer's words, the *gate source*
# is `z = points @ directions + offsets`, and the bits are the signs of `z`. In
# a network, the gate source is a hidden layer, and its units are the lines. The
# layer draws the order in which its tree asks them.

# %%
depth = 5
draw = np.random.default_rng(3)
angles = np.pi * (np.arange(depth) + draw.uniform(size=depth)) / depth
angles = draw.permutation(angles)
directions = np.stack([np.cos(angles), np.sin(angles)])  # (2, D)
offsets = draw.uniform(-0.35, 0.35, depth)


def gate_source(points):
    return (points @ directions + offsets).astype("float32")


COLORS = np.array(["#D55E00", "#0072B2"])


def draw_points(axes, points, kinds, size=4):
    axes.scatter(*points.T, s=size, color=COLORS[kinds[:, 0].astype(int)])
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=[], yticks=[])


def draw_line(axes, number, **style):
    """Draws the line on which the gate source's unit of this number is zero."""
    foot = -offsets[number] * directions[:, number]
    along = np.array([-directions[1, number], directions[0, number]])
    start, end = foot - 3 * along, foot + 3 * along
    axes.plot(*zip(start, end, strict=True), "k", linewidth=1, **style)


figure = Figure(figsize=(6, 6.2), layout="constrained")
axes = figure.subplots()
draw_points(axes, points, kinds)
for number in range(depth):
    draw_line(axes, number)
    foot = -offsets[number] * directions[:, number]
    along = np.array([-directions[1, number], directions[0, number]])
    start = foot + 0.7 * along
    axes.annotate(
        f"unit {number}",
        xy=start,
        xytext=start + 0.22 * directions[:, number],
        arrowprops={"arrowstyle": "<-", "shrinkB": 0},
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        horizontalalignment="center",
        verticalalignment="center",
    )
axes.set_title("Each unit of the gate source asks for a bit: 1 or 0")
save(figure, output / "bits.png")

# %% [markdown]
# ## Paths
#
# The bits, one after the other, are a path from the root of a binary tree to a
# leaf: left for 0, right for 1. `leaf_codes` returns the number of the leaf.
# The nodes at depth `l` are the regions that the first `l` lines cut the plane
# into. Not every leaf is a region: five lines cut a plane into at most 16
# pieces, and 32 leaves would be possible.
#
# The layer multiplies `(x, y, 1)` with weights; the 1 makes room for an offset
# in each node. One tree here (`num_trees=1`), so that there is one picture.

# %%
layer = TreeGatedDense(
    1, depth=depth, num_trees=1, use_bias=False, name="tree_gated"
)


def with_one(points):
    ones = np.ones((len(points), 1))
    return np.concatenate([points, ones], axis=1).astype("float32")


inputs, gates = keras.Input((3,)), keras.Input((depth,))
model = keras.Model([inputs, gates], layer(inputs, gate_inputs=gates))

# The question that each bit asks, in the order in which the tree asks them.
order = layer.gate.units[0]
grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 200)] * 2), -1).reshape(-1, 2)


def leaf_codes(points):
    codes = layer.leaf_codes(with_one(points), gate_source(points))
    return keras.ops.convert_to_numpy(codes)[:, 0]


def picture(axes, values, **style):
    """Draws values of all points of the grid; returns the image."""
    return axes.imshow(
        np.reshape(values, (200, 200)),
        extent=(-1, 1, -1, 1),
        origin="lower",
        interpolation="nearest",
        **style,
    )


grid_codes = leaf_codes(grid)
figure = Figure(figsize=(14, 3.2), layout="constrained")
panels = figure.subplots(1, depth + 1)
shades = np.random.default_rng(0).permutation(2**depth)
for level, axes in enumerate(panels):
    nodes = grid_codes >> (depth - level)
    picture(axes, shades[nodes], cmap="tab20", alpha=0.6, vmin=0)
    for number in order[:level]:
        draw_line(axes, number)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
    axes.set_title(f"depth {level}: {len(np.unique(nodes))} nodes")
save(figure, output / "paths.png")
print(f"{len(np.unique(grid_codes))} of {2**depth} leaves are regions here")

# %% [markdown]
# ## What a leaf learns
#
# Trained with plain `compile` and `fit`. Next to it a Dense layer, which has
# one set of weights for the whole plane, and so one straight border.


# %%
def train(model, *inputs):
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0)],
    )
    model.fit(
        inputs if len(inputs) > 1 else inputs[0],
        kinds,
        batch_size=100,
        epochs=2 if options.smoke else 40,
        verbose=0,
    )


dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
train(dense, with_one(points))
train(model, with_one(points), gate_source(points))


def predict(model, points):
    inputs = [with_one(points), gate_source(points)]
    if model is dense:
        inputs = inputs[0]
    return model.predict(inputs, batch_size=4096, verbose=0)[:, 0]


accuracies = {}
for name, network in {"Dense": dense, "TreeGatedDense": model}.items():
    right = (predict(network, test_points) > 0) == test_kinds[:, 0]
    accuracies[name] = right.mean()
    print(f"{name:14} accuracy on the test points {right.mean():.3f}")

figure = Figure(figsize=(9, 4.8), layout="constrained")
for axes, (name, network) in zip(
    figure.subplots(1, 2),
    {"Dense": dense, "TreeGatedDense": model}.items(),
    strict=True,
):
    shares = 1 / (1 + np.exp(-predict(network, grid)))
    picture(axes, shares, cmap="RdBu", vmin=0, vmax=1, alpha=0.6)
    draw_points(axes, test_points, test_kinds)
    if network is model:
        for number in range(depth):
            draw_line(axes, number, alpha=0.5)
    axes.set_title(f"{name}: {accuracies[name]:.0%} of the test points right")
save(figure, output / "leaves.png")

# %% [markdown]
# In each region there is one straight border: within a leaf the layer is
# linear. The trees make the pieces, the weights of a leaf choose the border in
# its piece.
#
# ## The sum along a path
#
# The weights of a leaf are the sum of the rows of the nodes on its path. The
# root is shared by all points, its children by those on one side of the first
# line, and so on: a node learns what all points below it have in common.
# `effective_kernel` is the sum that a point uses.

# %%
codes = leaf_codes(points)
leaf = np.bincount(codes).argmax()
example = points[codes == leaf][:1]
rows = [
    keras.ops.convert_to_numpy(nodes)[leaf >> (depth - level), :, 0]
    for level, nodes in enumerate(layer.nodes)
]
print(f"leaf {leaf} = path {leaf:0{depth}b}, weights of x, y and 1:")
for level, row in enumerate(rows):
    below = np.mean(codes >> (depth - level) == leaf >> (depth - level))
    print(
        f"  depth {level}: "
        + " ".join(f"{weight:8.3f}" for weight in row)
        + f"   shared by {below:.0%} of the points"
    )
print("  sum:     " + " ".join(f"{weight:8.3f}" for weight in sum(rows)))
kernel = layer.effective_kernel(with_one(example), gate_source(example))
kernel = keras.ops.convert_to_numpy(kernel)[0, :, 0]
print("  kernel:  " + " ".join(f"{weight:8.3f}" for weight in kernel))
np.testing.assert_allclose(kernel, sum(rows), rtol=1e-5, atol=1e-6)

figure = Figure(figsize=(14, 3.4), layout="constrained")
panels = figure.subplots(1, depth + 1)
for level, axes in enumerate(panels):
    kernels = sum(
        keras.ops.convert_to_numpy(nodes)[grid_codes >> (depth - number), :, 0]
        for number, nodes in enumerate(layer.nodes[: level + 1])
    )
    logits = np.sum(with_one(grid) * kernels, axis=1)
    picture(axes, 1 / (1 + np.exp(-logits)), cmap="RdBu", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"nodes of depth 0 to {level}")
save(figure, output / "path_sum.png")

# %% [markdown]
# The last picture adds one level after the other. Each is a sketch that the
# next one corrects in smaller pieces: where a piece has few points, what it
# says comes from the levels above.
#
# Things to try: `depth = 3`, and another seed for the lines. And `num_trees`:
# with several trees each block of inputs asks questions of its own, so that the
# pieces of one tree lie across those of another.
#
# ## Paths that a context chooses
#
# Bits need not be signs of hidden units. In a text, the last letters are a good
# question to ask: they are there before the network has computed anything, and
# the answer never changes while the network learns. `HashGate` makes the bits
# from hashes of them. With `orders=(1, 2)` the first half of the bits is a hash
# of the last letter, and the other half one of the last two.
#
# Below, each square is a pair of letters, and its colour is its node. At depth
# 3 there are stripes: the letter before does not matter yet. At depth 6 each
# stripe is cut into pieces.

# %%
letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", "uint8").astype("int32")
pairs = np.stack(np.meshgrid(letters, letters, indexing="ij"), -1)
pairs = pairs.reshape(-1, 2)  # the letter before, the last letter


def context_codes(orders, depth, tokens):
    """Returns the leaf of each context in a layer of one tree."""
    layer = TreeGatedDense(
        1,
        depth=depth,
        num_trees=1,
        levels="ends",
        gate=HashGate(orders, seed=1),
        use_bias=False,
    )
    inputs = np.ones((len(tokens), 1), "float32")
    layer(inputs[:1], gate_inputs=tokens[:1])
    codes = layer.leaf_codes(inputs, gate_inputs=tokens)
    return keras.ops.convert_to_numpy(codes)[:, 0]


codes = context_codes((1, 2), 6, pairs)
shades = np.random.default_rng(1).permutation(2**6)
figure = Figure(figsize=(13, 3.6), layout="constrained")
for level, axes in zip((1, 3, 4, 6), figure.subplots(1, 4), strict=True):
    nodes = codes >> (6 - level)
    axes.imshow(shades[nodes].reshape(26, 26), cmap="tab20", vmin=0)
    axes.set_title(f"depth {level}: {len(np.unique(nodes))} nodes")
    axes.set(xlabel="last letter", xticks=(0, 25), xticklabels="az")
    axes.set(ylabel="letter before", yticks=(0, 25), yticklabels="az")
save(figure, output / "context.png")

# %% [markdown]
# ## Back-off
#
# What a deep node learns, it learns from few examples: those with just this
# context. Nodes above it see more of them. So a context that is rare is served
# by what the levels above know, and a frequent one also has weights of its own.
# n-gram models fall back from long contexts to short ones in the same way.
#
# Here are the last three bytes of each place in a few files of Python's
# standard library, and how many places share the nodes of three contexts. Four
# bits cannot tell 256 bytes apart, so other contexts are among them. Another
# tree has another hash, and puts others together.

# %%
files = source_text.read().files
text = b"".join(
    files[name] for name in ("argparse.py", "dataclasses.py", "inspect.py")
)
text = np.frombuffer(text, "uint8").astype("int32")
places = np.stack([text[:-2], text[1:-1], text[2:]], axis=1)
codes = context_codes((1, 2, 3), 12, places)

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
levels = (0, 4, 8, 12)
for context, style in zip(
    ("elf", "ion", "wiz"), ("o-", "s-", "^-"), strict=True
):
    tokens = np.array([list(context.encode())], "int32")
    leaf = context_codes((1, 2, 3), 12, tokens)[0]
    shared = [
        int(np.sum(codes >> (12 - level) == leaf >> (12 - level)))
        for level in levels
    ]
    axes.plot(levels, np.maximum(shared, 0.5), style, label=repr(context))
    print(f"{context!r}: its nodes are shared by {shared} places")
axes.set(
    xlabel="depth of the node",
    ylabel="places that share it",
    yscale="log",
    xticks=levels,
)
axes.set_xticklabels(["root", "last byte", "last two", "last three"])
axes.grid(alpha=0.3)
axes.legend()
save(figure, output / "back_off.png")

# %% [markdown]
# With weight decay that knows of time, a node that no example has visited for
# long goes back towards zero, and the levels above speak for it. The page on
# gates in `docs/` tells how to build such layers, and the
# [quickstart](01_quickstart.ipynb) trains one.
