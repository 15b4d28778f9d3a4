# %% [markdown]
# # Serve anywhere
#
# At the end, networks with trees run where there is no Keras: in onnxruntime,
# and under TensorFlow in LiteRT as well. They are trained, folded, made small
# (int8), and written to a file. In `tutorials/output/` there are
#
# - `serve_anywhere.png`: accuracy over the microseconds of one example,
# - `served_*.onnx` and `served_*.tflite`: the files.
#
# It takes a minute. Nothing is downloaded: the digits come with scikit-learn.
#
#     pip install ".[tensorflow,export,tutorials]"
#     python tutorials/09_serve_anywhere.py

# %%
import json
import logging
import os
import subprocess
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Networks as small as these are fastest on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from common import HERE, open_splits, parse_options, save
from compiled import compiled
from keras import layers
from matplotlib.figure import Figure
from tfds_builders.sklearn_digits import SklearnDigits

import keras_treegate
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam

options = parse_options(
    "Run trees without Keras.", "digits", ["mnist", "fashion_mnist"]
)
output = options.output
logging.getLogger("tensorflow").setLevel("ERROR")  # tells of temporary folders
epochs = 1 if options.smoke else 12
most = 128 if options.smoke else 1152  # images of a split
print(f"Keras {keras.__version__} on {keras.backend.backend()}")

# %% [markdown]
# ## Data
#
# Digits at the nine places they have when they move by at most one pixel.
# (Larger images are cut down to 8 by 8 pixels.)


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
# ## Train
#
# Dense networks of three widths, and one with trees that is as wide as the
# smallest. Pixels are never negative, so that its gates compare them with their
# means.


# %%
def network(hidden):
    steps = epochs * len(train[0]) // 128
    model = keras.Sequential(
        [
            keras.Input((64,)),
            hidden,
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(10),
        ]
    )
    model.compile(
        StepAwareAdam(
            keras.optimizers.schedules.CosineDecay(0.01, steps),
            weight_decay=0.1,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    model.fit(*train, batch_size=128, epochs=epochs, verbose=0)
    return model


keras.utils.set_random_seed(0)
models = {
    f"Dense {width}": network(layers.Dense(width)) for width in (16, 64, 256)
}
gate = SignGate(threshold="running_mean", seed=0)
trees = network(TreeGatedDense(16, depth=5, num_trees=16, gate=gate))

# %% [markdown]
# ## Fold, quantize, export
#
# `fold` stores the sums of all paths: one example then reads as many numbers as
# in a Dense layer of 16 units. `dtype="int8"` stores them in a quarter of the
# bytes. An exporter wants a model that was called once.

# %%
models["trees 16"] = keras_treegate.fold(trees)
models["trees 16, int8"] = keras_treegate.fold(trees, dtype="int8")
endings = {"onnx": ".onnx"}
if keras.backend.backend() == "tensorflow":
    endings["litert"] = ".tflite"
files = {}
for name, model in models.items():
    model(test[0][:1])
    outputs = model.predict(test[0], verbose=0)
    word = name.replace(", ", "_").replace(" ", "_")
    data = output / f"served_{word}.npz"
    served = slice(0, 20 if options.smoke else 500)
    np.savez(
        data, x=test[0][served], y=test[1][served], expected=outputs[served]
    )
    for form, ending in endings.items():
        path = output / f"served_{word}{ending}"
        model.export(str(path), format=form, verbose=False)
        files[name, form] = path, data
        print(f"{path.name}: {path.stat().st_size:,} bytes")

# %% [markdown]
# ## Run without Keras
#
# This script imports NumPy and a runtime, and nothing else:

# %%
print((HERE / "serve_file.py").read_text())

# %% [markdown]
# It runs in a process of its own, in which Keras and the frameworks cannot be
# imported, as if they were not installed. Beside it, the same examples by
# Keras itself, in a function that the framework has compiled.

# %%
hidden = ("keras", "keras_treegate", "jax", "tensorflow", "torch")
without_keras = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({hidden}))  # `None`: cannot be imported
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without_keras(path, data):
    command = [sys.executable, "-c", without_keras]
    run = subprocess.run(
        [*command, str(HERE / "serve_file.py"), str(path), str(data)],
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    told, result = run.stdout.splitlines()[-2:]
    return told, json.loads(result)


def run_in_keras(model, data):
    call = compiled(model, with_torch_compile=False)
    examples = [x[np.newaxis] for x in data["x"]]
    outputs = np.concatenate([call(x) for x in examples])
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        for x in examples:
            call(x)
        seconds.append((time.perf_counter() - start) / len(examples))
    return {
        "difference": float(np.abs(outputs - data["expected"]).max()),
        "accuracy": float((outputs.argmax(-1) == data["y"]).mean()),
        "microseconds": float(np.median(seconds)) * 1e6,
    }


results = {}
for (name, form), (path, data) in files.items():
    told, results[name, form] = run_without_keras(path, data)
print(told)
for name, model in models.items():
    data = np.load(files[name, "onnx"][1])
    results[name, "keras"] = run_in_keras(model, data)

# %% [markdown]
# ## Numbers and speed
#
# The difference is the largest from what Keras computed for all images at once.

# %%
print(f"{'':16}{'runtime':9}{'difference':>11}{'accuracy':>10}{'us':>8}")
for (name, form), found in results.items():
    print(
        f"{name:16}{form:9}{found['difference']:11.0e}"
        f"{found['accuracy']:10.1%}{found['microseconds']:8.1f}"
    )

# %%
forms = [*endings, "keras"]
figure = Figure(figsize=(4 * len(forms), 4), layout="constrained")
for axes, form in zip(
    figure.subplots(1, len(forms), sharey=True), forms, strict=True
):
    for name in models:
        found = results[name, form]
        style = "C0^" if "trees" in name else "C1s"
        point = found["microseconds"], found["accuracy"]
        axes.plot(*point, style)
        axes.annotate(f" {name}", point)
    axes.set(title=form, xlabel="microseconds of an example")
    axes.margins(x=0.4)
    axes.grid(alpha=0.3)
figure.axes[0].set_ylabel("accuracy")
save(figure, output / "serve_anywhere.png")

# %% [markdown]
# The trees are better than the Dense network of their width; a wider Dense
# network is better still, and faster. A network this small is all overhead:
# what a runtime does for an operation takes longer than the operation, and a
# folded layer has more of them. Trees pay where a wider Dense layer would cost
# more memory traffic than that: see `docs/serving.md`.
