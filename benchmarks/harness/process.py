"""Work in several processes at a time, each on its share of the cores."""

import itertools
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def results(
    function: Callable, arguments: list[tuple], jobs: int
) -> Iterator[Any]:
    """What a function returns for each of these arguments, in their order.

    Args:
        function: one of a module; all it is given and returns can be pickled.
        arguments: a tuple for each call.
        jobs: how many processes; with 1 all calls are made in this one.
    """
    if jobs == 1 or not arguments:
        yield from itertools.starmap(function, arguments)
        return
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(jobs):
        numbers.put(number)
    with ProcessPoolExecutor(
        jobs, context, initializer=_take_cores, initargs=(numbers, jobs)
    ) as pool:
        yield from pool.map(function, *zip(*arguments, strict=True))


def _take_cores(numbers: Any, jobs: int) -> None:
    """Keeps this process to its share of the cores, where the system can."""
    number = numbers.get()
    if not hasattr(os, "sched_setaffinity"):
        warnings.warn(
            "This system cannot keep a process to some of its cores: `--jobs` "
            "get in each other's way, and times are longer. Use `--jobs 1`.",
            stacklevel=1,
        )
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number % len(cores) :: jobs])
