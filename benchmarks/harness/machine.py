"""The machine that a benchmark runs on, and what it could do at best."""

import os
import platform
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

COPIED_BYTES = 256 * 2**20

# The processes that wanted a core in the minute before this one began.
LOAD_BEFORE = os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe() -> str:
    """Describes the processor, the cores it may use, and the memory."""
    name = _line("/proc/cpuinfo", "model name").partition(":")[2].strip()
    name = name or platform.processor() or platform.machine()
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{name}, {cores} cores, {memory / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}"
    )


_peaks: list[int] = []  # what was told since the last `forget_peak`


def peak_memory() -> int:
    """Returns the most bytes of memory that this process has held so far.

    Linux counts pages by thread, in batches, and its own peak may go down by
    a few of them. What this returns never does.
    """
    _peaks[:] = [max([*_peaks, _peak()])]
    return _peaks[0]


def _peak() -> int:
    # On Linux, `ru_maxrss` starts at the peak of the process that started this.
    if (held := _bytes_of("/proc/self/status", "VmHWM:")) is not None:
        return held
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory() -> int | None:
    """Returns the bytes that can be had without swapping, where known."""
    return _bytes_of("/proc/meminfo", "MemAvailable:")


def held_memory() -> int | None:
    """Returns the bytes that this process holds, where it is known."""
    return _bytes_of("/proc/self/status", "VmRSS:")


def forget_peak() -> bool:
    """Lets `peak_memory` count from now; `False` where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    _peaks.clear()
    return True


def copy_bandwidth(copied_bytes: int = COPIED_BYTES, repeats: int = 5) -> float:
    """Returns bytes per second of a plain copy: those read, and written."""
    source = np.ones(copied_bytes, dtype="uint8")
    target = np.zeros_like(source)
    seconds = []
    for _ in range(repeats + 1):  # the first one gets the pages
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return 2 * copied_bytes / statistics.median(seconds[1:])


def _line(path: str, start: str) -> str:
    """Returns the rest of the first line of a file with this start, if any."""
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(start):
                return line.removeprefix(start)
    return ""


def _bytes_of(path: str, start: str) -> int | None:
    """Returns a size that a line of a file has in KiB."""
    words = _line(path, start).split()
    return int(words[0]) * 1024 if words else None
