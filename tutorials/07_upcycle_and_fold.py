# %% [markdown]
# # Upcycle a trained model, and fold it for serving
#
# At the end you have taken a Dense network that works, made its first layer a
# tree-gated one without changing what it computes, trained it on beside the
# Dense one, folded it and served it to a client. In `tutorials/output/` there
# are
#
# - `upcycled.png`: the accuracy of both, before and after they were trained on,
# - `latency.png`: how long a call takes, of the Dense network, of the trees and
#   of the folded ones,
# - `served.keras`: the network as it is served.
#
# It takes about two minutes. Nothing is downloaded.
#
#     python tutorials/07_upcycle_and_fold.py

# %%
import json
import os
import time
from http.client import HTTPConnection

os.environ.setdefault("KERAS_BACKEND", "jax")
# Networks as small as these are fastest on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from common import HERE, open_splits, parse_options, save
from compiled import compiled
from keras import layers
from matplotlib.figure import Figure
from server import serving
from tfds_builders.sklearn_digits import SklearnDigits

import keras_treegate
from keras_treegate.optimizers import StepAwareAdam

options = parse_options(
    "Upcycle a trained network, fold it and serve it.",
    "digits",
    ["mnist", "fashion_mnist"],
)
output = options.output
seeds = range(1 if options.smoke else 3)
epochs = 1 if options.smoke else 8
depth = 2 if options.smoke else 4
most = 128 if options.smoke else 1152  # images of a split
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# Digits at the nine places they have when they move by at most one pixel, as in
# the tutorial on pixels, so that there is something to learn. (Larger images
# are cut down to 8 by 8 pixels.)


# %%
def to_arrays(examples):
    """Returns images as rows (B, 64) from 0 to 1, and labels (B,)."""
    count = min(most, len(examples))
    images = np.stack([examples[i]["image"][..., 0] for i in range(count)])
    labels = np.array([examples[i]["label"] for i in range(count)])
    step = images.shape[1] // 8
    images = images[:, : 8 * step : step, : 8 * step : step] / images.max()
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    places = [
        padded[:, row : row + 8, column : column + 8].reshape(count, 64)
        for row in range(3)
        for column in range(3)
    ]
    return np.concatenate(places).astype("float32"), np.tile(labels, 9)


splits = open_splits(options, SklearnDigits)
train, test = to_arrays(splits["train"]), to_arrays(splits["test"])
print(f"{len(train[0])} images to train, {len(test[0])} to test")

# %% [markdown]
# ## A Dense network that works
#
# It is small, as one would make it that has to be fast: 16 hidden units.


# %%
def new_network():
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(16, name="hidden"),
            layers.LayerNormalization(),
            layers.ReLU(),
            layers.Dense(10, name="logits"),
        ]
    )


def fit(model):
    """Trains a model for some epochs, always with the same optimizer."""
    steps = epochs * len(train[0]) // 128
    model.compile(
        StepAwareAdam(
            keras.optimizers.schedules.CosineDecay(0.01, steps),
            weight_decay=0.1,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    if keras.backend.backend() == "torch":
        model.jit_compile = False  # compiling would take longer than training
    model.fit(*train, batch_size=128, epochs=epochs, verbose=0)


def outputs(model):
    return model.predict(test[0], batch_size=len(test[0]), verbose=0)


def accuracy(model):
    return float(np.mean(outputs(model).argmax(1) == test[1]))


networks = []
for seed in seeds:
    keras.utils.set_random_seed(seed)
    networks.append(new_network())
    fit(networks[-1])
trained = [accuracy(model) for model in networks]
print("test accuracy:", " ".join(f"{share:.3f}" for share in trained))

# %% [markdown]
# ## Upcycle
#
# The chosen Dense layer becomes a `TreeGatedDense`: the old kernel at the roots
# of its trees, zeros below. So the new network computes what the old one does.
# `calibrate` is a sample of inputs: their means are where the gates begin to
# tell brighter pixels from darker ones.

# %%
upcycled = [
    keras_treegate.upcycle(
        model, depth, layers="hidden", calibrate=train[0][:1024], seed=seed
    )
    for seed, model in zip(seeds, networks, strict=True)
]


def difference(model, other):
    return np.abs(outputs(model) - outputs(other)).max()


changes = [
    difference(model, other)
    for model, other in zip(networks, upcycled, strict=True)
]
logits = outputs(networks[0])
print(f"logits lie between {logits.min():.1f} and {logits.max():.1f}")
print(f"upcycled: they differ by at most {max(changes):.1e}")
before = networks[0].get_layer("hidden").count_params()
after = upcycled[0].get_layer("hidden").capacity
print(f"parameters of the layer: {before:,} became {after:,}")
if max(changes) > 1e-4:
    raise SystemExit("The upcycled network does not compute what it did.")

# %% [markdown]
# ## Train on, both
#
# The Dense network and the upcycled one are trained on, from the same weights,
# on the same data, for as many steps, with a fresh optimizer of the same kind.
# The fair question is not whether the trees gain by more training, but whether
# they gain more than the Dense network does.

# %%
for name, models in (("Dense", networks), ("upcycled", upcycled)):
    start = time.perf_counter()
    for seed, model in zip(seeds, models, strict=True):
        keras.utils.set_random_seed(seed)  # the same order of the data
        fit(model)
    seconds = (time.perf_counter() - start) / len(seeds)
    print(f"training on, {name:8} {seconds:5.1f} s a seed")

shares = {
    "Dense, trained": trained,
    "Dense, trained on": [accuracy(model) for model in networks],
    "upcycled, trained on": [accuracy(model) for model in upcycled],
}
print(f"\n{'test accuracy':20}   mean  by seed")
for name, of_seeds in shares.items():
    by_seed = " ".join(f"{share:.3f}" for share in of_seeds)
    print(f"{name:20}  {np.mean(of_seeds):.3f}  {by_seed}")
gains = {
    name: 100 * (np.mean(of_seeds) - np.mean(trained))
    for name, of_seeds in shares.items()
}
print(
    f"\nTraining on changed the Dense network by "
    f"{gains['Dense, trained on']:+.1f} percentage points, the upcycled one "
    f"by {gains['upcycled, trained on']:+.1f}."
)

figure = Figure(figsize=(7, 2.5), layout="constrained")
axes = figure.subplots()
for place, of_seeds in enumerate(shares.values()):
    axes.plot(of_seeds, [place] * len(of_seeds), "o", color="C0", alpha=0.6)
    axes.plot(np.mean(of_seeds), place, "k|", markersize=20)
axes.set(xlabel="test accuracy", ylim=(-0.5, 2.5), yticks=range(3))
axes.set_yticklabels(shares)
axes.invert_yaxis()
axes.set_title("A dot for each seed, a line at the mean")
axes.grid(axis="x", alpha=0.3)
save(figure, output / "upcycled.png")

# %% [markdown]
# The other way to spend memory is a wider Dense layer, which does more work for
# each image; the end of the tutorial on pixels compares the two.
#
# ## Grow and prune
#
# Trees can be made deeper in the same way, with new levels of zeros. The grown
# network is compiled as the old one was, with the state of its optimizer, so
# that `fit` goes on. `prune` is the other way: training counted the visits of
# each leaf, and nodes with fewer than `min_visits` are merged into those above
# them.

# %%
dense, tree = networks[0], upcycled[0]
hidden = tree.get_layer("hidden")
deeper = keras_treegate.grow(tree, depth + 2, calibrate=train[0][:1024], seed=0)
print(
    f"grown from depth {depth} to {depth + 2}: "
    f"{deeper.get_layer('hidden').capacity:,} parameters, "
    f"logits differ by at most {difference(tree, deeper):.1e}"
)

visits = int(hidden.leaf_visits[0].sum())
print(f"training visited each tree {visits:,} times")
for min_visits in (1, visits // 10):
    pruned, report = keras_treegate.prune(
        tree, min_visits, data=test[0], return_report=True
    )
    print(
        f"pruned below {min_visits:,} visits: {report.rows_freed:,} of "
        f"{report.rows:,} rows freed, logits differ by at most "
        f"{report.largest_change:.1e}, test accuracy {accuracy(pruned):.3f}"
    )

# %% [markdown]
# ## Fold
#
# For serving, the sums of all paths are stored: one table, no tree. An example
# then does the work of the Dense layer. The table can be of a smaller dtype;
# the error that this costs is kept in `folding_error`, as a share of the size
# of the weights. The table below counts all that the first layer has in memory,
# its gates and counts of visits included.

# %%
BYTES = {"int8": 1, "bfloat16": 2, "float32": 4, "int32": 4}


def stored(model):
    """Returns the numbers and bytes in the variables of the first layer."""
    variables = model.get_layer("hidden").variables
    sizes = [int(np.prod(variable.shape)) for variable in variables]
    pairs = zip(sizes, variables, strict=True)
    return sum(sizes), sum(size * BYTES[v.dtype] for size, v in pairs)


folded = {
    f"folded, {dtype}": keras_treegate.fold(tree, dtype=dtype)
    for dtype in ("float32", "bfloat16", "int8")
}
folded["pruned, folded"] = keras_treegate.fold(pruned)
print(f"{'first layer':17}   numbers   bytes   error  of a logit  accuracy")
for name, model in ({"Dense": dense, "trees": tree} | folded).items():
    error = getattr(model.get_layer("hidden"), "folding_error", None)
    cells = ["", ""]
    if error is not None:
        cells = [f"{error:.4f}", f"{difference(tree, model):.1e}"]
    numbers, size = stored(model)
    print(
        f"{name:17}  {numbers:8,} {size:7,}  {cells[0]:>6}  {cells[1]:>10}"
        f"  {accuracy(model):8.3f}"
    )

# %% [markdown]
# ## Latency
#
# `predict` does much besides computing, so a server calls a function that the
# framework has compiled. This is how to make one on each backend:

# %%
print((HERE / "compiled.py").read_text())

# %% [markdown]
# All take turns, so that what else the machine does hits all alike. A turn is
# as many calls as fit into some milliseconds; shown are the median of the turns
# and the middle half of them.

# %%
rounds, turn = (3, 1e-3) if options.smoke else (25, 10e-3)
served = folded["folded, float32"]
contestants = {"Dense": dense, "trees": tree, "folded": served}
calls = {
    # Compiling takes PyTorch seconds for each function and batch size.
    name: compiled(model, with_torch_compile=not options.smoke)
    for name, model in contestants.items()
}


def seconds_of(call, x, count):
    start = time.perf_counter()
    for _ in range(count):
        call(x)
    return (time.perf_counter() - start) / count


latency = {}  # microseconds (rounds,), by batch and name
for batch in (1, 512):
    x = test[0][:batch]
    counts = {}
    for name, call in calls.items():
        expected = outputs(contestants[name])[:batch]
        if np.abs(call(x) - expected).max() > 1e-3:
            raise SystemExit(f"Compiled, {name} computes something else.")
        once = min(seconds_of(call, x, 1) for _ in range(3))
        counts[name] = max(1, int(turn / once))
    turns = [
        [seconds_of(call, x, counts[name]) for name, call in calls.items()]
        for _ in range(rounds)
    ]
    latency[batch] = dict(zip(calls, np.transpose(turns) * 1e6, strict=True))
    print(f"batch {batch}, microseconds for a call:")
    base = latency[batch]["Dense"]
    for name, times in latency[batch].items():
        low, middle, high = np.percentile(times, (25, 50, 75))
        print(
            f"  {name:6}  {middle:7.0f}  ({low:.0f} to {high:.0f})  "
            f"{np.median(times / base):5.2f} times Dense"
        )
for name in calls:
    one, many = (np.median(latency[batch][name]) for batch in latency)
    print(f"{name:6}: 512 images take {many / one:5.1f} times as long as one")

figure = Figure(figsize=(8, 3), layout="constrained")
panels = figure.subplots(1, 2)
for axes, (batch, of_batch) in zip(panels, latency.items(), strict=True):
    low, middle, high = np.percentile(list(of_batch.values()), (25, 50, 75), 1)
    places = np.arange(len(of_batch))
    axes.barh(places, middle, xerr=[middle - low, high - middle], capsize=3)
    axes.set(title=f"batch {batch}", xlabel="microseconds for a call")
    axes.set_yticks(places, list(of_batch) if batch == 1 else [])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
save(figure, output / "latency.png")

# %% [markdown]
# What these are depends on the machine, the backend and the sizes. In a
# checkout, `python -m benchmarks inference` measures larger layers, with more
# care.
#
# ## Save, load and serve
#
# The file of the folded network holds no tree and no optimizer, and loads on
# every backend after `import keras_treegate`.

# %%
paths = {"trees": output / "trees.keras", "folded": output / "served.keras"}
tree.save(paths["trees"])
served.save(paths["folded"])
for name, path in paths.items():
    print(f"{name:6} {path.stat().st_size / 1e3:7.1f} kB on disk")
loaded = keras.models.load_model(paths["folded"])
print(f"loaded: logits differ by at most {difference(served, loaded):.1e}")

# %% [markdown]
# `server.py`, beside this script, is a web server of a few lines: an image
# comes in as 64 numbers, and its digit goes back. The loaded network is
# compiled once, before the first client calls.

# %%
network = compiled(loaded)
network(test[0][:1])
requests = 20 if options.smoke else 200
chosen = np.random.default_rng(0).integers(0, len(test[0]), requests)
answers, taken = [], []
with serving(network) as address:
    client = HTTPConnection(*address)
    for image in test[0][chosen]:
        start = time.perf_counter()
        client.request("POST", "/", json.dumps(image.tolist()))
        answers.append(json.loads(client.getresponse().read())["label"])
        taken.append((time.perf_counter() - start) * 1e3)
    client.close()

same = np.sum(outputs(tree)[chosen].argmax(1) == answers)
right = np.sum(test[1][chosen] == answers)
print(f"{same} of {requests} answers are those of the trees, {right} are right")
print(f"a request took {np.median(taken):.2f} ms (median)")
