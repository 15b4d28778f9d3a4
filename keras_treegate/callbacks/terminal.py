"""Lines for people who have a terminal and no display."""

import sys

import numpy as np

from keras_treegate.core import routing_metrics as measures

# From no visit to at least twice what each leaf would have if all were even.
SHADES = " .:-=+*#%@"
COLUMNS = 32


def write(lines: list[str]) -> None:
    """Writes lines to standard output."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def load(visits: np.ndarray) -> str:
    """Draws the load of leaves as a strip, from the most to the least visited.

    The load is a mean over the trees, each of which is sorted for itself. The
    strip has at most `COLUMNS` characters.
    """
    ordered = -np.sort(-measures.shares(visits), axis=-1)
    relative = ordered.mean(axis=0) * visits.shape[-1]
    relative = np.nan_to_num(relative)  # not known: blank
    parts = np.array_split(relative, min(COLUMNS, len(relative)))
    most = len(SHADES) - 1
    levels = [int(np.ceil(min(part.mean() / 2, 1.0) * most)) for part in parts]
    return "".join(SHADES[level] for level in levels)


def trees(values: np.ndarray) -> str:
    """Formats the range of values over the trees."""
    return f"(trees {values.min():.3f} to {values.max():.3f})"
