# %% [markdown]
# # Step-aware decay
#
# Weight decay multiplies every weight by a number slightly below 1, in every
# step. An optimizer that touches only the rows a batch needs must not read all
# others to do so. At the end you have seen
#
# - what goes wrong when rows are decayed only in the steps that touch them
#   (`decay.png`),
# - that the step-aware optimizer gives what dense decay gives,
# - what a step costs with either (`cost.png`).
#
# It takes about two minutes. Nothing is downloaded.
#
#     python tutorials/04_step_aware_decay.py

# %%
import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from common import open_splits, parse_options, save
from keras import ops
from matplotlib.figure import Figure
from tfds_builders.sklearn_digits import SklearnDigits

from keras_treegate import gates
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD

options = parse_options(
    "Weight decay of rows that are not touched.",
    "digits",
    ["mnist", "fashion_mnist"],
)
output = options.output
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# Digits, and one of them is rare: after the first steps, zeros come no more.
# What the network stored about them lies idle, and should decay.


# %%
def to_arrays(examples, most=1000):
    """Returns images as rows (B, 64) from 0 to 1, and labels (B,)."""
    count = min(most, len(examples))
    images = np.stack([examples[i]["image"][..., 0] for i in range(count)])
    labels = np.array([examples[i]["label"] for i in range(count)])
    step = images.shape[1] // 8
    images = images[:, : 8 * step : step, : 8 * step : step]
    return (images.reshape(count, 64) / images.max()).astype("float32"), labels


x, y = to_arrays(open_splits(options, SklearnDigits)["train"])
zeros, others = x[y == 0], x[y != 0]
labels = np.eye(10, dtype="float32")
steps = 20 if options.smoke else 300
first = steps // 6
batch_size = 8
draw = np.random.default_rng(0)


def batches():
    """Yields zeros and others in the first steps, then others only."""
    order = np.random.default_rng(1)
    for step in range(steps):
        pool = x if step < first else others
        targets = labels[y] if step < first else labels[y[y != 0]]
        chosen = order.integers(0, len(pool), batch_size)
        yield pool[chosen], targets[chosen]


# %% [markdown]
# ## Three ways to decay
#
# - *dense*: Keras's own SGD with weight decay, which reads and writes every row
#   in every step. This is what decay means.
# - *step-aware*: `StepAwareSGD`. A row owes `(1 - rate * decay)` for every step
#   since it was last written. It is read with what it owes, and pays it when it
#   is written.
# - *forgetful*: as `StepAwareSGD`, but the debt of idle rows is waived after
#   every step. This is what an optimizer does that decays only what it touches.
#
# The layer is deep enough that a batch of 8 touches few of its rows. All start
# from the same weights and see the same batches.

# %%
depth, rate, decay = 6, 0.05, 0.2
gate = gates.SignGate(
    units=[draw.permutation(64)[:depth] for _ in range(8)],
    threshold="running_mean",
)


def new_model(optimizer):
    keras.utils.set_random_seed(0)
    layer = TreeGatedDense(
        10,
        depth=depth,
        num_trees=8,
        gate=gates.SignGate.from_config(gate.get_config()),
        node_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=1),
    )
    model = keras.Sequential([keras.Input((64,)), layer])
    model.compile(optimizer, "mse")
    return model, layer


def waive(layer):
    """Forgets what idle rows owe."""
    for level in layer.tree_levels:
        paid = ops.zeros_like(level.stamps.value) + level.clock.value
        level.stamps.assign(paid)


def leaf_rows(layer):
    """Returns the deepest rows as the layer reads them (G * 2^D, W, Q)."""
    level = layer.tree_levels[-1]
    return ops.convert_to_numpy(level.read()).copy()


def train(optimizer, forgetful=False):
    """Returns the model and, after each step, the size of each leaf row."""
    model, layer = new_model(optimizer)
    sizes = []
    for images, targets in batches():
        model.train_on_batch(images, targets)
        if forgetful:
            waive(layer)
        sizes.append(np.linalg.norm(leaf_rows(layer), axis=(1, 2)))
    return model, layer, np.array(sizes)


runs = {
    "dense": train(keras.optimizers.SGD(rate, weight_decay=decay)),
    "step-aware": train(StepAwareSGD(rate, weight_decay=decay)),
    "forgetful": train(StepAwareSGD(rate, weight_decay=decay), forgetful=True),
}

# %% [markdown]
# ## What goes wrong without
#
# We look at the rows that were never touched. Dense decay shrinks them by the
# same factor in every step. Forgetful decay leaves them at their full size for
# ever, as loud as on the first day when an example comes to them at last.

# %%
_, forgetful_layer, forgetful_sizes = runs["forgetful"]
idle = np.isclose(forgetful_sizes, forgetful_sizes[0]).all(axis=0)
print(f"{idle.sum()} of {len(idle)} leaf rows were never touched")
expected = (1 - rate * decay) ** (steps - 1)
print(f"in {steps - 1} steps, dense decay leaves {expected:.4f} of a row")
for name, (_, _, sizes) in runs.items():
    left = (sizes[-1] / sizes[0])[idle].mean()
    print(f"  {name:11} left {left:.4f} of an idle row")

zero_loss = {}
for name, (model, _, _) in runs.items():
    model.compile("sgd", "mse")  # only to evaluate
    loss = model.evaluate(
        zeros, np.repeat(labels[:1], len(zeros), 0), verbose=0
    )
    zero_loss[name] = loss
    print(f"  {name:11} squared error on zeros: {loss:.5f}")

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
for (name, (_, _, sizes)), style in zip(
    runs.items(), ("k-", "C1--", "C0:"), strict=True
):
    axes.plot(sizes[:, idle].mean(axis=1), style, label=name, linewidth=2)
axes.set(xlabel="step", ylabel="mean norm of idle leaf rows", ylim=(0, None))
axes.set_title("Rows that no batch touches")
axes.grid(alpha=0.3)
axes.legend()
save(figure, output / "decay.png")

# %% [markdown]
# ## Step-aware is dense decay
#
# Not nearly: every weight of the layer is the same up to the rounding of
# float32, those of touched rows, too. That holds with any learning rate
# schedule, for the debt is the product of what each step would have taken.


# %%
def difference(name):
    pairs = zip(
        runs["dense"][1].tree_levels, runs[name][1].tree_levels, strict=True
    )
    return max(
        np.abs(
            ops.convert_to_numpy(dense.read())
            - ops.convert_to_numpy(other.read())
        ).max()
        for dense, other in pairs
    )


for name in ("step-aware", "forgetful"):
    print(f"{name:11} differs from dense by at most {difference(name):.1e}")
if not difference("step-aware") < 1e-4:
    raise SystemExit("Step-aware decay is not dense decay.")

# %% [markdown]
# With Adam there is one difference to dense training that stays, and it is not
# in the decay: dense Adam goes on moving a row for some steps after its last
# gradient, by its momentum. `StepAwareAdam` lets the moments fade and does not
# replay that drift.
#
# ## What a step costs
#
# Each level doubles the rows. A dense optimizer reads and writes them all; the
# step-aware one only those that the batch needs.

# %%
depths = (4, 6) if options.smoke else (6, 8, 10, 12)
costs = {"AdamW (dense)": [], "StepAwareAdam": []}
stored = []
inputs = draw.normal(size=(64, 32)).astype("float32")
for depth in depths:
    for name, optimizer in (
        ("AdamW (dense)", keras.optimizers.AdamW(weight_decay=0.1)),
        ("StepAwareAdam", StepAwareAdam(weight_decay=0.1)),
    ):
        layer = TreeGatedDense(32, depth=depth, num_trees=32, seed=0)
        model = keras.Sequential([keras.Input((32,), batch_size=64), layer])
        model.compile(optimizer, "mse")
        x = np.tile(inputs, (10, 1))
        model.fit(x, x, batch_size=64, verbose=0)
        start = time.perf_counter()
        model.fit(x, x, batch_size=64, verbose=0)
        costs[name].append((time.perf_counter() - start) * 100)
    stored.append(layer.capacity * 4 / 1e6)
    row = "  ".join(f"{name} {ms[-1]:7.1f} ms" for name, ms in costs.items())
    print(f"depth {depth:2}, {stored[-1]:6.1f} MB of weights: {row} a step")

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
for (name, ms), style in zip(costs.items(), ("ko-", "C1s--"), strict=True):
    axes.plot(stored, ms, style, label=name)
axes.set(
    xlabel="weights of the layer [MB]",
    ylabel="time of a step [ms]",
    xscale="log",
    yscale="log",
)
axes.grid(alpha=0.3)
axes.legend()
save(figure, output / "cost.png")

# %%
growth = {name: ms[-1] / ms[0] for name, ms in costs.items()}
print(
    f"From depth {depths[0]} to {depths[-1]} the weights grew "
    f"{stored[-1] / stored[0]:.0f} times, the time of a dense step "
    f"{growth['AdamW (dense)']:.1f} times and that of a step-aware one "
    f"{growth['StepAwareAdam']:.1f} times."
)

# %% [markdown]
# The curve depends on the machine, the backend and the batch: where a batch
# touches most rows, as in shallow trees, there is nothing to save. In a
# checkout, `python -m benchmarks step-time` measures it with care.
