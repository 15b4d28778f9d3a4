"""Runs the tests once per backend, each in processes of its own.

    python -m tests                  TensorFlow, JAX and PyTorch
    python -m tests jax torch        these two
    python -m tests jax -k gate -x   further arguments go to pytest
    python -m tests --device gpu     a part of them, on a GPU, in four minutes

Without further arguments each backend has several processes, which share the
files of tests. A single one would hold gigabytes in the end, mostly what was
traced, and looking through them would take minutes.

Under JAX and TensorFlow, XLA optimizes little, because compiling takes much of
the time here. `XLA_FLAGS=` before the command tests with all optimizations. The
processes of JAX share what they compile, until the run ends.

The last line of output is `N passed, N failed`, summed over the backends, with
`, N skipped` where there are skips. A test that errors counts as failed, and so
does a backend that is missing, ends without a result or runs no test. The exit
status is 0 if nothing failed.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests import device

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("tensorflow", "jax", "torch")

# Halves the time of the tests under JAX, and saves a quarter under TensorFlow.
FAST_COMPILATION = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)

# Processes of JAX share all that they compile, however fast it was. Programs
# do not hold the lines of Python that their operations come from.
FAST_JAX = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
}

# The processes of a backend, if the whole suite is run.
PARTS = 4


@dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Counts(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


@dataclass
class Run:
    """The tests of one process.

    name: that of the backend, and of the part of its tests.
    arguments: those of pytest.
    """

    backend: str
    name: str
    arguments: list[str]


@dataclass
class Result:
    name: str
    counts: Counts
    output: bytes = b""
    problem: str = ""


def main(arguments):
    if "--device" in arguments:
        return device.main(arguments)
    backends, pytest_arguments = split_arguments(arguments)
    runnable = [name for name in backends if importlib.util.find_spec(name)]
    results = [
        Result(name, Counts(failed=1), problem=how_to_install(name))
        for name in backends
        if name not in runnable
    ]
    with tempfile.TemporaryDirectory(prefix="tests-") as scratch:
        runs = runs_of(runnable, pytest_arguments)
        for result in run_all(runs, Path(scratch)):
            report(result)
            results.append(result)
    for result in results:
        if result.problem:
            print(f"{result.name}: {result.problem}")
    total = sum((result.counts for result in results), Counts())
    print(total, flush=True)
    return 1 if total.failed else 0


def split_arguments(arguments):
    """Returns the backends named first, or all of them, and the rest."""
    names = []
    for argument in arguments:
        if argument not in BACKENDS:
            break
        names.append(argument)
    rest = arguments[len(names) :]
    return tuple(dict.fromkeys(names)) or BACKENDS, rest


def how_to_install(backend):
    return (
        f"not tested, because `{backend}` is not installed. Install all three "
        'backends with: pip install -e ".[test]"'
    )


def runs_of(backends, pytest_arguments):
    """Returns the runs of some backends, those that take longest first."""
    if pytest_arguments:
        return [Run(name, name, pytest_arguments) for name in backends]
    return [
        Run(
            name,
            f"{name} {part + 1} of {PARTS}",
            list(map(str, files_for(name)[part::PARTS])),
        )
        for name in backends
        for part in range(PARTS)
    ]


def files_for(backend):
    """Returns the files of tests, without those in folders of others."""
    others = set(BACKENDS) - {backend}
    return [
        file
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if others.isdisjoint(file.relative_to(ROOT).parts)
    ]


def run_all(runs, scratch):
    """Yields each run's result, in the order in which they end."""
    cores = os.cpu_count() or 1
    workers = max(1, min(len(runs), cores))
    # Runs side by side are printed when they end, each in one piece.
    buffered = workers > 1
    with ThreadPoolExecutor(workers) as pool:
        futures = [
            pool.submit(
                run_one,
                run,
                scratch,
                threads=max(1, cores // workers),
                buffered=buffered,
            )
            for run in runs
        ]
        for done in as_completed(futures):
            yield done.result()


def run_one(run, scratch, threads, buffered):
    print(f"{run.name}: running", flush=True)
    folder = run.name.replace(" ", "-")
    home = scratch / folder
    home.mkdir()
    report_file = scratch / f"{folder}.xml"
    command = [
        *(sys.executable, "-m", "pytest"),
        *("-o", f"cache_dir=.pytest_cache/{folder}"),
        *run.arguments,
        f"--junitxml={report_file}",
    ]
    process = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(run.backend, home, threads),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if buffered else None,
        stderr=subprocess.STDOUT if buffered else None,
    )
    counts = read_counts(report_file)
    problem = find_problem(counts, process.returncode)
    if problem and not counts.failed:
        counts.failed = 1
    return Result(run.name, counts, process.stdout or b"", problem)


def environment(backend, home, threads):
    """Returns the environment of one backend's process.

    `KERAS_HOME` keeps out the user's own `keras.json`, in which the float type
    or the image format may differ from Keras's defaults.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "MPLBACKEND": "Agg"}
    limits = dict.fromkeys(
        (
            "OMP_NUM_THREADS",
            "TF_NUM_INTEROP_THREADS",
            "TF_NUM_INTRAOP_THREADS",
        ),
        str(threads),
    )
    if backend != "torch":
        limits["XLA_FLAGS"] = " ".join(FAST_COMPILATION)
    if backend == "jax":
        limits["JAX_COMPILATION_CACHE_DIR"] = str(home.parent / "compiled")
        limits |= FAST_JAX
    fixed = {"KERAS_BACKEND": backend, "KERAS_HOME": str(home)}
    return quiet | limits | dict(os.environ) | fixed


def read_counts(report_file):
    """Counts the cases of a JUnit file; a missing or cut-off file counts 0."""
    try:
        cases = list(ElementTree.parse(report_file).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return Counts()
    counts = Counts()
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failed += 1
        elif case.find("skipped") is not None:
            counts.skipped += 1
        else:
            counts.passed += 1
    return counts


def find_problem(counts, exit_status):
    if not counts.passed and not counts.failed:
        return f"no test ran (pytest ended with status {exit_status})"
    if exit_status and not counts.failed:
        return f"pytest ended with status {exit_status}"
    return ""


def report(result):
    if result.output:
        title = f" {result.name} "
        print(f"{title:=^80}", flush=True)
        sys.stdout.buffer.write(result.output.rstrip(b"\n") + b"\n")
        sys.stdout.buffer.flush()
    print(f"{result.name}: {result.counts}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
