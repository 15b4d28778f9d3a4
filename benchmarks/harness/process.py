"""The one way to run something in another process.

Processes are spawned: each has a backend of its own, and memory whose peak is
its own. They may be given any function of a module whose arguments and result
can be pickled.
"""

import itertools
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}


class Process:
    """Another process, on a backend of its own, that calls functions for us.

    It starts with the first call, waits without using a core between calls,
    and ends with the `with` block. What a function leaves in its module is
    there for the next one.

    Args:
        backend: of Keras.
        environment: variables that are set unless they are already.
    """

    def __init__(
        self, backend: str, environment: dict[str, str] | None = None
    ) -> None:
        self._pool = _pool(1)
        own = QUIET | (environment or {}) | dict(os.environ)
        self._environment = own | {"KERAS_BACKEND": backend}

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable, *arguments: Any) -> Any:
        """Returns what a function returns in the other process.

        Raises:
            RuntimeError: If it fails, or the process ends.
        """
        try:
            # Set here, because an initializer would be too late for Keras,
            # which the main module imports, and for the C library.
            with _environment(self._environment):
                future = self._pool.submit(function, *arguments)
            return future.result()
        except Exception as error:
            message = " ".join(str(error).split())[:400]
            raise RuntimeError(f"{type(error).__name__}: {message}") from error


def measure_each(
    measurements: Iterable[tuple[str, str, Callable]],
    summary: Callable[[dict], str],
    environment: dict[str, str] | None = None,
) -> tuple[list[dict], list[str]]:
    """Makes each measurement in a new process.

    Args:
        measurements: the backend, what people call it, and a function without
            arguments that returns a row of results.
        summary: what to print of a row.
        environment: variables that are set unless they are already.

    Returns:
        The rows, each with its backend, and the failures.
    """
    rows, failures = [], []
    for backend, name, function in measurements:
        print(f"{backend} {name}: ", end="", flush=True)
        try:
            with Process(backend, environment) as process:
                row = {"backend": backend} | process.call(function)
        except RuntimeError as error:
            failures.append(f"failed: {backend} {name}: {error}")
            print("failed", flush=True)
            continue
        rows.append(row)
        print(summary(row), flush=True)
    return rows, failures


def map_on_shares(
    function: Callable, arguments: list[tuple], jobs: int
) -> Iterator[Any]:
    """Yields what a function returns for each of these arguments, in order.

    Args:
        function: what to call.
        arguments: a tuple for each call.
        jobs: how many processes, each on its share of the cores; with 1 all
            calls are made in this process.
    """
    if jobs == 1 or not arguments:
        yield from itertools.starmap(function, arguments)
        return
    with _pool(jobs) as pool:
        yield from pool.map(function, *zip(*arguments, strict=True))


def _pool(jobs: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(jobs):
        numbers.put(number)
    return ProcessPoolExecutor(
        jobs, context, initializer=_begin, initargs=(numbers, jobs)
    )


def _begin(numbers: Any, jobs: int) -> None:
    """Keeps this process to its share of the cores, where the system can."""
    # Libraries must not print between the lines of the table.
    os.dup2(2, 1)
    number = numbers.get()
    if jobs == 1:
        return
    if not hasattr(os, "sched_setaffinity"):
        warnings.warn(
            "This system cannot keep a process to some of its cores: `--jobs` "
            "get in each other's way, and times are longer. Use `--jobs 1`.",
            stacklevel=1,
        )
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number % len(cores) :: jobs])


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables for the processes that are started in the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
