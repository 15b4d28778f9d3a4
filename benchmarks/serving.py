"""The time of one example through whole networks, by backend and runtime."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import machine, options, plots, rounds, tables
from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.options import ENGINES
from benchmarks.harness.process import Process
from benchmarks.quality import building
from benchmarks.quality.networks import Network, hashed
from benchmarks.quality.tasks import Task
from keras_treegate import fold, layers

# Runtimes of the networks of a framework, by their kind. PyTorch does not
# export Keras's LayerNormalization, which the byte networks have.
RUNTIMES = {
    ("jax", "layer"): ("keras",),
    ("jax", "bytes"): ("keras",),
    ("torch", "layer"): ("keras", "onnxruntime"),
    ("torch", "bytes"): ("keras",),
    ("tensorflow", "layer"): ("keras", "litert"),
    ("tensorflow", "bytes"): ("keras", "litert", "onnxruntime"),
}
DTYPES = ("float32", "bfloat16", "int8")
BASE = "dense"

# Few layers stay in a cache. As many as hold 64 MiB do not, in that of a core.
FEW_LAYERS = 4
OUTSIDE_BYTES = 64 * 2**20
MOST_LAYERS = 16
EXAMPLES = 16  # that take turns, each with paths of its own

KINDS = ("layer", "bytes")
# Widths of Dense networks for bytes, and the depth of the trees beside them.
BYTES = {128: 6, 512: 6, 1152: 9}
QUICK_BYTES = {32: 3}

AXES = plots.Axes(
    *("units", "over", "units of a layer", "time over that of Dense")
)

LEGEND = """\
us      microseconds for one example: median over the turns, and quartiles.
        Contestants take turns in rounds
over    its time over that of the Dense network of its contest, in the same
        round and the same runtime
MiB     what the Dense network of the contest reads for one example
layer   networks of folded layers, of as many Dense layers of the same width
bytes   the byte network of `quality`: trees of width 128 with gates on the
        context, and a Dense network as wide as it says
"""


class Contest(NamedTuple):
    """Networks that take turns.

    kind: "layer" for a stack of equal layers, or "bytes".
    units: their width; for bytes that of the Dense network.
    """

    kind: str
    units: int
    layers: int
    depth: int
    trees: int

    @property
    def bytes_read(self) -> int:
        """The bytes of kernels that the Dense network reads for an example."""
        numbers = self.layers * self.units**2
        if self.kind == "bytes":  # from 16 embeddings, and to 256 logits
            numbers += (16 * building.EMBEDDING + 256) * self.units
        return 4 * numbers


_calls: dict[tuple[str, str], tuple[Callable, float]] = {}


def contests(given: argparse.Namespace) -> list[Contest]:
    """Returns the contests, of as many layers as fit the question."""
    found = []
    for units in sorted(set(given.units)) if "layer" in given.kinds else []:
        number, depth = FEW_LAYERS, 4
        if 4 * units**2 * MOST_LAYERS >= OUTSIDE_BYTES:  # outside of a cache
            number = max(2, OUTSIDE_BYTES // (4 * units**2))
            depth = 2
        if given.quick:
            number, depth = 2, 2
        found.append(Contest("layer", units, number, depth, given.trees))
    if "bytes" in given.kinds:
        for wide, depth in (QUICK_BYTES if given.quick else BYTES).items():
            found.append(Contest("bytes", wide, 1, depth, 16))
    return found


def build_network(contest: Contest, name: str) -> keras.Model:
    """Builds Dense layers, or trees whose nodes are drawn, folded."""
    if contest.kind == "bytes":
        model = _byte_network(contest, name)
    else:
        x = inputs = keras.Input((contest.units,))
        for number in range(contest.layers):
            layer = keras.layers.Dense(contest.units)
            if name != BASE:
                layer = layers.TreeGatedDense(
                    contest.units,
                    depth=contest.depth,
                    num_trees=contest.trees,
                    levels="ends",
                    node_initializer="glorot_uniform",
                    seed=number,
                )
            x = layer(x)
        model = keras.Model(inputs, x)
    return model if name == BASE else fold(model, dtype=name)


def _byte_network(contest: Contest, name: str) -> keras.Model:
    tokens, labels = np.zeros((1, 16), "int32"), np.zeros(1, "int32")
    task = Task(
        name="context",
        train=(tokens, labels),
        validation=(tokens, labels),
        classes=256,
        batch=1,
        learning_rate=1e-3,
        about={},
        vocabulary=256,
    )
    network = Network("context", "dense", contest.units)
    if name != BASE:
        levels = ",".join(str(contest.depth * n // 3) for n in range(4))
        network = hashed("context", contest.depth, "1,2,3", levels)
    model = building.build_model(network, task, seed=0)
    draw = np.random.default_rng(0)
    for layer in model.layers:  # as training does, which no one times here
        for nodes in getattr(layer, "nodes", []):
            drawn = draw.normal(size=nodes.shape) / np.sqrt(contest.units)
            nodes.assign(drawn.astype("float32"))
    return model


def draw_examples(model: keras.Model) -> list[np.ndarray]:
    """Draws examples, each a batch of one."""
    draw = np.random.default_rng(0)
    (tensor,) = model.inputs
    shape = (EXAMPLES, 1, *tensor.shape[1:])
    if tensor.dtype == "int32":
        return list(draw.integers(0, 256, shape).astype("int32"))
    return list(draw.standard_normal(shape, "float32"))


def build(
    contest: Contest, name: str, runtime: str, compiler: str | None
) -> float:
    """Makes a network ready for one example; returns seconds of a call."""
    model = build_network(contest, name)
    examples = draw_examples(model)
    make = {"keras": _keras, "onnxruntime": _onnxruntime, "litert": _litert}
    function = make[runtime](model, examples, compiler)
    turn = 0

    def call() -> None:
        nonlocal turn
        turn = (turn + 1) % EXAMPLES
        function(turn)

    for _ in range(3):  # the first one compiles
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
    _calls[name, runtime] = call, seconds
    return seconds


def _keras(model: Any, examples: list, compiler: str | None) -> Callable:
    call = frameworks.forward(model, compiler)
    arrays = [frameworks.on_device(x) for x in examples]
    return lambda turn: frameworks.wait(call(arrays[turn]))


def _onnxruntime(model: Any, examples: list, compiler: str | None) -> Callable:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = _cores()
    settings.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = _export(model, examples, "onnx", Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(path, settings)
    (given,) = session.get_inputs()
    return lambda turn: session.run(None, {given.name: examples[turn]})


def _litert(model: Any, examples: list, compiler: str | None) -> Callable:
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        path = _export(model, examples, "litert", Path(folder) / "model.tflite")
        interpreter = Interpreter(
            model_content=Path(path).read_bytes(), num_threads=_cores()
        )
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def call(turn: int) -> Any:
        interpreter.set_tensor(given, examples[turn])
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return call


def _export(model: Any, examples: list, form: str, path: Path) -> str:
    model(examples[0])  # exporters want a model that was called
    model.export(str(path), format=form, verbose=False)
    return str(path)


def _cores() -> int:
    """Counts the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_turn(name: str, runtime: str, seconds: float) -> float:
    """Returns the microseconds of a call, of as many as fit into `seconds`."""
    call, expected = _calls[name, runtime]
    call()  # drops what others left in the caches
    calls = rounds.calls_of_turn(seconds, expected)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6


def clear() -> None:
    """Forgets all networks."""
    _calls.clear()
    keras.backend.clear_session()


def hold(
    contest: Contest, engine: str, process: Any, given: argparse.Namespace
) -> tuple[list[dict], list[str]]:
    """Lets every network have a turn in every round, in every runtime.

    Returns:
        A row for each, and a line for each that could not be made.
    """
    framework, compiler = ENGINES[engine]
    rows: list[dict] = []
    left_out = []
    told = process.call(frameworks.about)
    for runtime in RUNTIMES[framework, contest.kind]:
        for name in (BASE, *dict.fromkeys(given.dtypes)):
            row: dict = contest._asdict() | told | {"engine": engine}
            row |= {"runtime": runtime, "name": name, "turns": []}
            row["bytes_read"] = contest.bytes_read
            try:
                process.call(build, contest, name, runtime, compiler)
            except RuntimeError as error:
                left_out.append(f"left out: {_title(row)}: {error}")
                continue
            rows.append(row)
    for number in range(given.rounds):
        for row in rounds.in_turn(rows, number):
            one = row["name"], row["runtime"]
            row["turns"].append(process.call(take_turn, *one, given.seconds))
    process.call(clear)
    for row in rows:
        row["us"] = tables.spread(row["turns"])
        base = tables.find(rows, name=BASE, runtime=row["runtime"])
        row["over"] = tables.ratio(row, base[0]) if base else None
    return rows, left_out


def _title(row: dict) -> str:
    text = "{engine} {runtime}, {kind} of {layers} x {units}, {name}"
    return text.format(**row)


COLUMNS: tables.Columns = {
    "backend": "engine",
    "runtime": "runtime",
    "network": "name",
    "of": "kind",
    "units": "units",
    "layers": "layers",
    "MiB": lambda row: f"{row['bytes_read'] / 2**20:.3g}",
    "us": lambda row: tables.spread_text(row["us"], ".4g"),
    "over": lambda row: tables.spread_text(row["over"]),
}


@dataclass(frozen=True, kw_only=True)
class ServingBenchmark(Benchmark):
    """Lets the networks of each contest take turns, in every runtime."""

    def check(self, given: argparse.Namespace) -> None:
        options.check_backends(given.backend)
        if "layer" in given.kinds and given.trees > (least := min(given.units)):
            raise ValueError(
                f"`--trees` must be at most `--units`, {least}. Received: "
                f"{given.trees}. Lower it, or raise `--units`."
            )

    def run(self, given: argparse.Namespace, command: str) -> int:
        found: dict = {"rows": [], "left_out": [], "failures": []}
        for engine in dict.fromkeys(given.backend):
            with Process(ENGINES[engine][0]) as process:
                for contest in contests(given):
                    print(engine, contest, flush=True)
                    try:
                        rows, left_out = hold(contest, engine, process, given)
                    except RuntimeError as error:
                        failure = f"{engine}, {contest}: {error}"
                        found["failures"].append(failure)
                        break
                    found["rows"] += rows
                    found["left_out"] += left_out
        rows = found["rows"]
        found |= tables.about(command, rows)
        table = tables.table(COLUMNS, rows)
        lines = [*table, "", LEGEND, *found["left_out"]]
        drawn = tables.find(rows, kind="layer") or rows
        panels = plots.panels(drawn, AXES, apart=("engine", "runtime"))
        figure = plots.draw(machine.describe(), panels)
        return tables.publish(self.name, found, lines, figure, given.output)


BENCHMARK = ServingBenchmark(
    name="serving",
    help="time of one example through a network: Dense, folded, and in files",
    options=options.engines("jax", "torch", "tensorflow")
    | options.sizes(units=[64, 256, 1024, 4096], trees=64, rounds=9)
    | options.choices("kinds", KINDS, "which networks, see below the table")
    | options.choices(
        *("dtypes", DTYPES, "which tables; Dense is always there")
    )
    | options.option(
        *("seconds", "length of a turn, about"),
        type=options.positive_float,
        default=0.1,
    )
    | options.option(
        *("quick", "two shallow layers and a small byte network, as a check"),
        action="store_true",
    ),
)
