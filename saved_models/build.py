"""Makes a saved model anew and writes its card.

python saved_models/build.py digits

Runs the tutorial that trains it, or folds another saved model, keeps the
network and the data of its metric, and measures the metric on each backend, in
a process of its own.
"""

import argparse
import hashlib
import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np

import keras_treegate
from keras_treegate import saved_models
from keras_treegate.layers import FoldedTreeDense, TreeGatedDense

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE.parent / "tutorials"
METRIC = "metric.npz"
BACKENDS = ("jax", "torch", "tensorflow")


def digits(run):
    """Returns the first tree-gated network of the tutorial on pixels."""
    images, labels = run["test"]
    about = {
        "task": "Classify 8 x 8 images of digits, of values from 0 to 1.",
        "data": "scikit-learn's digits, two thirds, moved by at most a pixel.",
        "licence": "Apache-2.0; the digits are CC BY 4.0 (UCI).",
        "output": "shares",
    }
    model = run["models"]["TreeGatedDense"][0]
    return model, images[::3], labels[::3], about


def byte_language_model(run):
    """Returns the Transformer with trees of tutorial 6."""
    metadata = run["PythonSource"](data_dir=run["options"].data_dir).info
    about = {
        "task": "Predict each byte of Python source from those before it.",
        "data": (
            f"The standard library of Python {metadata.metadata['python']}, "
            "nine files in ten."
        ),
        "data_sha256": metadata.metadata["checksum"],
        "licence": "Apache-2.0; the text is under Python's own licence.",
        "output": "logits",
    }
    return run["models"]["trees 64"], *run["validation"], about


MODELS = {
    "digits": ("08_trees_on_pixels", digits),
    "byte_language_model": ("06_byte_language_model", byte_language_model),
}
FOLDED = {"byte_language_model_folded": "byte_language_model"}
# Arguments of Keras's own classes that its version 3.12 does not know.
NEWER_ARGUMENTS = {
    "input_axes",
    "output_axes",
    "quantization_config",
    "sliding_window",
    "use_gate",
}
# The card of a folded model has these from that of the model it was.
KEPT = ("task", "data", "data_sha256", "licence", "output", "seed")


def trained(name, folder):
    """Returns what a tutorial trains; puts its metric's data in the folder."""
    tutorial, pick = MODELS[name]
    sys.path.insert(0, str(TUTORIALS))
    with tempfile.TemporaryDirectory() as output:
        sys.argv[1:] = ["--output", output]
        run = runpy.run_path(str(TUTORIALS / f"{tutorial}.py"))
        model, x, y, about = pick(run)
    small = x.astype("uint8" if x.dtype.kind in "iu" else "float16")
    if not np.array_equal(small.astype(x.dtype), x):
        sys.exit("The data of the metric does not fit into fewer bytes.")
    np.savez_compressed(folder / METRIC, x=small, y=y.astype("uint8"))
    return model, about | {"tutorial": f"tutorials/{tutorial}.py", "seed": 0}


def folded(name, folder):
    """Folds another saved model; copies the data of that one's metric."""
    source = FOLDED[name]
    shutil.copyfile(HERE / source / METRIC, folder / METRIC)
    card = saved_models.read_card(source)
    model = keras_treegate.load_saved_model(source)
    made = keras_treegate.fold(model, dtype="int8")
    tables = [one for one in made.layers if isinstance(one, FoldedTreeDense)]
    x, _ = metric_data(folder)
    changes = made.predict(x, verbose=0) - model.predict(x, verbose=0)
    about = {entry: card[entry] for entry in KEPT if entry in card}
    about["folded_from"] = {"name": source, "sha256": card["sha256"]}
    about["table_dtype"] = tables[0].table.dtype
    about["folding_error"] = max(table.folding_error for table in tables)
    about["largest_change_of_an_output"] = float(f"{np.abs(changes).max():.1e}")
    return made, about | {"tutorial": "tutorials/07_upcycle_and_fold.py"}


def build(name):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    model, about = (folded if name in FOLDED else trained)(name, folder)
    path = folder / saved_models.MODEL
    model.save(path)
    # A `.keras` file holds the state of the optimizer, if there is one.
    keras.models.load_model(path, compile=False).save(path)
    let_older_keras_read(path)
    content = path.read_bytes()
    card = {
        "name": name,
        **about,
        "command": f"python saved_models/build.py {name}",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "keras_treegate": keras_treegate.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
            keras.backend.backend(): sys.modules[
                keras.backend.backend()
            ].__version__,
        },
        "parameters": sum(map(parameters, model.layers)),
        "multiply_adds": multiply_adds(model),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "metric_data": f"{METRIC}, held out from training",
        "metric": {},
    }
    write(folder, card)
    for backend in BACKENDS:
        command = [sys.executable, __file__, name, "--measure"]
        process = subprocess.run(
            command,
            env=os.environ | {"KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            check=True,
        )
        card["metric"][backend] = json.loads(process.stdout.splitlines()[-1])
    write(folder, card)


def let_older_keras_read(path):
    """Leaves out of a `.keras` file what Keras 3.12 refuses, unless it is set.

    These arguments came later, and leaving one out means its default.
    """
    with zipfile.ZipFile(path) as file:
        members = {info: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for info, content in members.items():
            if info.filename == "config.json":
                config = json.loads(content, object_hook=without_newer)
                content = json.dumps(config)
            file.writestr(info, content)


def without_newer(config):
    return {
        name: value
        for name, value in config.items()
        if name not in NEWER_ARGUMENTS or not (value is None or value is False)
    }


def write(folder, card):
    text = json.dumps(card, indent=2) + "\n"
    (folder / saved_models.CARD).write_text(text, encoding="utf-8")


def parameters(layer):
    if isinstance(layer, TreeGatedDense):
        return layer.capacity
    if isinstance(layer, FoldedTreeDense):
        weights = (layer.table, layer.scale, layer.bias)
        return sum(int(np.prod(w.shape)) for w in weights if w is not None)
    return layer.count_params()


def multiply_adds(model):
    """Counts multiply-adds of Dense and tree layers, for one image or byte.

    `tree` is the work with the sums along paths, `folded` with these stored.
    """
    work = {"tree": 0, "folded": 0}
    for layer in model.layers:
        if isinstance(layer, TreeGatedDense):
            work["tree"] += layer.multiply_adds.tree
            work["folded"] += layer.multiply_adds.folded
        elif isinstance(layer, keras.layers.Dense | FoldedTreeDense):
            product = layer.input_spec.axes[-1] * layer.units
            work["tree"] += product
            work["folded"] += product
    if any(isinstance(layer, FoldedTreeDense) for layer in model.layers):
        del work["tree"]  # there is none
    return work


def metric_data(folder):
    """Returns inputs and labels that a metric is measured on."""
    data = np.load(folder / METRIC)
    x = data["x"]
    x = x.astype("int32" if x.dtype.kind in "iu" else "float32")
    return x, data["y"].astype("int64")


def measure(name):
    """Measures bits per label and accuracy of a model on its metric's data."""
    model = keras_treegate.load_saved_model(name)
    card = saved_models.read_card(name)
    x, y = metric_data(saved_models.FOLDER / name)
    outputs = model.predict(x, batch_size=64, verbose=0).astype("float64")
    if card["output"] == "logits":
        outputs = np.exp(outputs - outputs.max(-1, keepdims=True))
    shares = outputs / outputs.sum(-1, keepdims=True)
    right = np.take_along_axis(shares, y[..., np.newaxis], axis=-1)
    return {
        "bits": round(float(-np.log2(right).mean()), 5),
        "accuracy": round(float((shares.argmax(-1) == y).mean()), 5),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*MODELS, *FOLDED])
    parser.add_argument("--measure", action="store_true", help="print only")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.name)))
    else:
        build(options.name)
