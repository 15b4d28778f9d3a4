"""The machine that a benchmark runs on, and what it could do at best."""

import os
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

COPIED_BYTES = 256 * 2**20

# The processes that wanted a core in the minute before this one began.
LOAD_BEFORE = os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe() -> str:
    """Describes the processor, the cores it may use, and the memory."""
    name = platform.processor() or platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{name}, {cores} cores, {memory / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}"
    )


def peak_memory() -> int:
    """Returns the most bytes of memory that this process has held so far."""
    # On Linux, `ru_maxrss` starts at the peak of the process that started this.
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory() -> int | None:
    """Returns the bytes that can be had without swapping, where known."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def held_memory() -> int | None:
    """Returns the bytes that this process holds, where it is known."""
    for line in _lines("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def forget_peak() -> bool:
    """Lets `peak_memory` count from now; `False` where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
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


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
