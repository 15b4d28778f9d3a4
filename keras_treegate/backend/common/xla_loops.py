"""Sizes and rows of the steps of loops, in products that XLA compiles.

They are chosen for CPUs: JAX uses them on CPU alone, TensorFlow on every
device.
"""

import math
import operator
from collections.abc import Callable

from keras_treegate.types import Tensor

# The input units that one step of the loop of a product multiplies.
UNITS_PER_STEP = 8

# The numbers that one step adds to rows. Of more, XLA makes an array first.
ADDED_PER_STEP = 2**16

# The parts of a row that are added up at once, and their approximate width.
PARTS_OF_ROW = 16
PART_WIDTH = 32


def lanes(units: int) -> int:
    """Returns the lanes in which a row of so many numbers is summed, or 0.

    XLA adds up along the last axis one number after the other. So a sum over
    the output units is better taken in lanes: first over the parts of the row,
    whose numbers lie beside each other, and then over the lanes.
    """
    width = PART_WIDTH * math.ceil(units / (PART_WIDTH * PARTS_OF_ROW))
    count = math.gcd(units, width)
    return count if count >= min(units, width // 4) else 0


def rows_of_unit(
    unit: Tensor,
    positions: Tensor,
    width: int,
    take: Callable[[Tensor, Tensor], Tensor] = operator.getitem,
) -> Tensor:
    """Returns the rows (B,) of (G * U * W, Q) with the weights of a unit.

    Args:
        unit: the number of the input unit, counted over the trees (G * W).
        positions: (G, B), integers, counted over all trees.
        width: W.
        take: Takes one row of the positions. Defaults to an index in brackets.
    """
    if width == 1:  # two divisions less to compile, for each unit of a step
        return take(positions, unit)
    return take(positions, unit // width) * width + unit % width
