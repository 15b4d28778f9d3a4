"""Bytes of a training step of a layer, by depth: a model, and no measurement.

Tests hold the model against the variables of a layer and, on virtual devices,
against the steps that XLA compiles.
"""

import argparse
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.harness import options, tables
from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.tables import number

FLOAT = 4  # bytes
# For each row: the pair of floats of its stamp, and the last step of its slots.
ROW_STATE = 2 * FLOAT + FLOAT
LEAF_VISITS = 8  # for each leaf
MOST = {"depth": 31, "trees": 2**20}

LEGEND = """\
stored  the nodes, the slots of the optimizer, the state of decay, the visits
touched the rows of all levels that a batch reaches at most
moved   touched * (3 + 2 * slots): read by the layer, then read and written by
        the optimizer, with the slots
data parallel, model parallel
        what the collective operations of a step make on a device; the latter
        with the rows split of all levels that have one for each device
owners  what a device would get if rows were sent only to the device that needs
        them, and gradients only to the one that keeps the row
"""


class Layer(NamedTuple):
    """A layer of trees.

    inputs, units, trees: P, Q, G.
    levels: the depths that store nodes.
    """

    inputs: int
    units: int
    trees: int
    levels: tuple[int, ...]

    @property
    def kernel_bytes(self) -> int:
        """One row of each tree, as much as the kernel of a Dense layer."""
        return FLOAT * self.inputs * self.units

    @property
    def rows(self) -> int:
        """The rows of all levels and trees."""
        return self.trees * sum(2**level for level in self.levels)

    @property
    def parameters(self) -> int:
        """The numbers in the nodes."""
        return self.rows * self.inputs * self.units // self.trees


def stored_bytes(layer: Layer, slots: int = 2) -> int:
    """Counts the bytes of all variables of nodes.

    Args:
        layer: the layer.
        slots: how many the optimizer keeps for each number.
    """
    numbers = FLOAT * layer.parameters * (1 + slots)
    leaves = layer.trees * 2 ** layer.levels[-1]
    clocks = 2 * FLOAT * len(layer.levels)
    return numbers + ROW_STATE * layer.rows + LEAF_VISITS * leaves + clocks


def touched_bytes(layer: Layer, batch: int) -> int:
    """Counts the bytes of the rows that a batch reaches at most."""
    reached = sum(min(2**level, batch) for level in layer.levels)
    return reached * layer.kernel_bytes


def moved_bytes(layer: Layer, batch: int, slots: int = 2) -> int:
    """Counts what a step reads and writes; see `targets.moves_of_a_row`."""
    return touched_bytes(layer, batch) * (3 + 2 * slots)


def sent_bytes(
    layer: Layer,
    batch: int,
    batch_devices: int,
    split_levels: int = 0,
    slots: int = 2,
) -> int:
    """Counts what collective operations make in a step under JAX.

    Where several devices share the batch, its inputs, the gradients of its
    outputs and its leaf codes are gathered, for each device to make the
    gradients of rows of, and about three ids for each tree and each level that
    is read by rows. Rows of a level that is split are summed over its
    devices whenever they are read: by the layer and by the optimizer, which
    reads each slot twice.

    Args:
        layer: the layer.
        batch: examples on all devices together.
        batch_devices: how many share the batch.
        split_levels: levels whose rows are split over devices.
        slots: how many the optimizer keeps for each number.
    """
    rows = split_levels * (2 + 2 * slots) * batch * layer.kernel_bytes
    if batch_devices == 1:
        return rows
    by_rows = sum(2**level > batch for level in layer.levels)
    ids = (2 + 3 * by_rows) * layer.trees
    numbers = layer.inputs + layer.units + ids
    return rows + FLOAT * numbers * batch


def owners_bytes(layer: Layer, batch: int, devices: int) -> int:
    """Counts what a device gets: its rows, and gradients of those it keeps."""
    everywhere = 2 * touched_bytes(layer, batch) * (devices - 1) // devices
    return everywhere // devices


def row_of(layer: Layer, batch: int, devices: int, slots: int = 2) -> dict:
    """Returns the row of a layer, in bytes."""
    split = sum(2**level >= devices for level in layer.levels)
    return {
        "depth": layer.levels[-1],
        "levels": list(layer.levels),
        "parameters": layer.parameters,
        "stored": stored_bytes(layer, slots),
        "stored_a_device": stored_bytes(layer, slots) // devices,
        "touched": touched_bytes(layer, batch),
        "moved": moved_bytes(layer, batch, slots),
        "data_parallel": sent_bytes(layer, batch, devices, slots=slots),
        "model_parallel": sent_bytes(layer, batch, 1, split, slots),
        "owners": owners_bytes(layer, batch, devices),
    }


@dataclass(frozen=True, kw_only=True)
class ScaleBenchmark(Benchmark):
    """Prints the model for the depths that are asked for."""

    def check(self, given: argparse.Namespace) -> None:
        """Refuses trees that no layer can have."""
        if given.units % given.trees:
            raise ValueError(
                "`--units` must be a multiple of `--trees`. Received: "
                f"--units {given.units} --trees {given.trees}."
            )
        if max(given.depths) > MOST["depth"]:
            raise ValueError(
                f"`--depths` must be at most {MOST['depth']}. Received: "
                f"--depths {max(given.depths)}."
            )

    def run(self, given: argparse.Namespace, command: str) -> int:
        """Prints and writes the table; returns the exit status."""
        rows = []
        for depth in given.depths:
            levels = (0, depth) if given.levels == "ends" else range(depth + 1)
            layer = Layer(given.units, given.units, given.trees, tuple(levels))
            rows.append(row_of(layer, given.batch, given.devices))
        found = tables.about(command, []) | {"rows": rows}
        lines = [*tables.table(COLUMNS, rows), "", LEGEND]
        return tables.publish(self.name, found, lines, None, given.output)


def _in(unit: float, key: str) -> object:
    return lambda row: number(row[key], ",.2f", unit)


COLUMNS: tables.Columns = {
    "depth": "depth",
    "parameters": lambda row: f"{row['parameters']:,}",
    "stored GB": _in(1e9, "stored"),
    "a device": _in(1e9, "stored_a_device"),
    "touched GB": _in(1e9, "touched"),
    "moved GB": _in(1e9, "moved"),
    "data parallel": _in(1e9, "data_parallel"),
    "model parallel": _in(1e9, "model_parallel"),
    "owners": _in(1e9, "owners"),
}

BENCHMARK = ScaleBenchmark(
    name="scale",
    help="bytes that a step stores, moves and sends, by depth: a model",
    options=options.sizes(
        {**options.HELPS, "devices": "devices that share tables and batch"},
        depths=[9, 13, 16, 19],
        batch=4096,
        units=1024,
        trees=64,
        devices=64,
    )
    | options.option(
        "levels",
        "which levels store nodes",
        choices=("all", "ends"),
        default="ends",
    ),
)
