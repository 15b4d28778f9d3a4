"""Tests on a device: a part of the suite that ends within minutes.

python -m tests --device gpu                    every backend that is installed
python -m tests jax --device gpu --minutes 2    one of them

It needs Keras, a framework, pytest and hypothesis, and a checkout. Backends
run one after the other, each on its share of the time, and so do areas of the
tests; those that are not reached are told as "not run". Float32 matrix
products are computed in full precision, because the oracle is compared to
1e-5. A table is printed, and written as JSON with `--output`. The exit status
is 0 if every backend had the device, and no test failed or was not run.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("jax", "torch", "tensorflow")
DEVICES = ("cpu", "gpu", "tpu")

# The areas that are tested, in this order. Time that an area does not need of
# its share is left to those after it.
AREAS = {
    "exactness": ["tests/backend/test_contract.py"],
    "layers": [
        "tests/layers/test_tree_gated_dense_gradients.py",
        "tests/layers/test_stored_levels.py",
        "tests/layers/test_folded_tree_dense.py",
        "tests/layers/test_sparse_embedding.py",
    ],
    "gates": ["tests/gates"],
    "optimizers": [
        "tests/optimizers/test_untouched_rows.py",
        "tests/optimizers/test_step_aware_rules.py",
    ],
    "transforms": [
        "tests/transforms/test_fold.py",
        "tests/transforms/test_grow.py",
    ],
    "files": ["tests/layers/test_tree_gated_dense_saving.py"],
    "tutorial": ["tests/tutorials/test_01_quickstart.py"],
}

# Read by `pytest_runtest_setup`: the areas that are tested, and the time at
# which the last of them ends.
GIVEN_AREAS, END = "TESTS_AREAS", "TESTS_END"
OUT_OF_TIME = "out of time"

# Tells the frameworks which device to take.
ENVIRONMENT = {
    "cpu": {
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "KERAS_TORCH_DEVICE": "cpu",
    },
    "gpu": {},
    "tpu": {"JAX_PLATFORMS": "tpu"},
}
# Tells them to round no float32 product, unless the user says otherwise.
PRECISE = {
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "NVIDIA_TF32_OVERRIDE": "0",
}

# Prints the kind of the device that Keras computes on, and its name.
FIND_DEVICE = """
import keras
import numpy as np

array = keras.ops.convert_to_tensor(np.zeros(1, "float32"))
backend = keras.backend.backend()
if backend == "jax":
    device, = array.devices()
    print(device.platform, device.device_kind)
elif backend == "torch":
    import torch

    name = torch.cuda.get_device_name() if array.is_cuda else "cpu"
    print("gpu" if array.is_cuda else array.device.type, name)
else:
    import tensorflow as tf

    kind = tf.DeviceSpec.from_string(array.device).device_type.lower()
    found = tf.config.list_physical_devices(kind.upper())[0]
    details = tf.config.experimental.get_device_details(found)
    print(kind, details.get("device_name", kind))
"""


def pytest_runtest_setup(item):
    """Skips what would begin too late; this file is a plugin of pytest."""
    areas, now = os.environ[GIVEN_AREAS].split(), time.time()
    area = next(
        area for area in areas if item.nodeid.startswith(tuple(AREAS[area]))
    )
    if area not in _deadlines:  # its first test
        left = len(areas) - areas.index(area)
        _deadlines[area] = now + (float(os.environ[END]) - now) / left
    if now > _deadlines[area]:
        pytest.skip(OUT_OF_TIME)


_deadlines = {}


def main(arguments):
    given = parse(arguments)
    end = time.time() + 60 * given.minutes
    backends = given.backends or [
        name for name in BACKENDS if importlib.util.find_spec(name)
    ]
    rows, problems = [], []
    for number, backend in enumerate(backends):
        share = (end - time.time()) / (len(backends) - number)
        found, problem = run(backend, given, time.time() + share)
        rows += found
        problems += [f"{backend}: {problem}"] if problem else []
    print("\n".join([*table(rows), *problems]), flush=True)
    if given.output is not None:
        results = {"rows": rows, "problems": problems}
        given.output.write_text(json.dumps(results, indent=2) + "\n")
    incomplete = any(row["failed"] or row["not run"] for row in rows)
    return 1 if problems or incomplete or not rows else 0


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=DEVICES, required=True)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--areas", nargs="+", choices=AREAS, default=[*AREAS])
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument(
        "backends", nargs="*", metavar="BACKEND", help=", ".join(BACKENDS)
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.backends) - set(BACKENDS):
        parser.error(
            f"a backend must be one of {', '.join(BACKENDS)}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    return given


def run(backend, given, end):
    """Tests a backend.

    Returns:
        A row for each area, and what went wrong beside tests, or "".
    """
    print(f"{backend}: running", flush=True)
    environment = (
        {"TF_CPP_MIN_LOG_LEVEL": "2", "MPLBACKEND": "Agg"}
        | PRECISE
        | dict(os.environ)
        | ENVIRONMENT[given.device]
        | {"KERAS_BACKEND": backend}
        | {GIVEN_AREAS: " ".join(given.areas), END: str(end)}
    )
    kind, _, name = find_device(environment).partition(" ")
    if kind != given.device:
        return [], (
            f"must compute on a {given.device}. Received: "
            f"{kind or 'no device'}. Install its build of {backend} for that, "
            "and see whether the driver finds the device"
        )
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        files = [file for area in given.areas for file in AREAS[area]]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "tests.device"),
                *("-p", "no:cacheprovider", f"--junitxml={report}", *files),
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        cases = read(report)
    rows = []
    for area in given.areas:
        places = tuple(
            file.removesuffix(".py").replace("/", ".") for file in AREAS[area]
        )
        of_area = [case for case in cases if case["place"].startswith(places)]
        row = {"backend": backend, "device": name, "area": area}
        for outcome in ("passed", "failed", "skipped", "not run"):
            row[outcome] = sum(case["outcome"] == outcome for case in of_area)
        row["seconds"] = sum(case["seconds"] for case in of_area)
        rows.append(row)
    crashed = done.returncode not in (0, 1) or not cases
    return rows, f"pytest ended with {done.returncode}" if crashed else ""


def find_device(environment):
    """Returns the kind and the name of the device, or "" if that fails."""
    done = subprocess.run(
        [sys.executable, "-c", FIND_DEVICE],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return lines[-1] if lines else ""


def read(report):
    """Returns the place, outcome and seconds of each case of a JUnit file."""
    if not report.exists():
        return []
    cases = []
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = "passed"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        elif (skipped := case.find("skipped")) is not None:
            late = OUT_OF_TIME in skipped.get("message", "")
            outcome = "not run" if late else "skipped"
        cases.append(
            {
                "place": case.get("classname"),
                "outcome": outcome,
                "seconds": float(case.get("time")),
            }
        )
    return cases


def table(rows):
    """Returns the lines of a table."""
    heads = ["backend", "area", "passed", "failed", "skipped", "not run"]
    lines = [[*heads, "seconds", "device"]]
    for row in rows:
        cells = [str(row[head]) for head in heads]
        lines.append([*cells, f"{row['seconds']:.0f}", row["device"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
