"""Sizes of the steps of loops, in products that XLA compiles.

They are chosen for CPUs: JAX uses them on CPU alone, TensorFlow on every
device.
"""

import math

# The input units that one step of the loop of a product multiplies.
UNITS = 8

# The numbers that one step adds to rows. Of more, XLA makes an array first.
ADDED = 2**16

# The parts of a row that are added up at once, and their approximate width.
TERMS = 16
WIDTH = 32


def lanes(units: int) -> int:
    """Returns the lanes in which a row of so many numbers is summed, or 0.

    XLA adds up along the last axis one number after the other. So a sum over
    the output units is better taken in lanes: first over the parts of the row,
    whose numbers lie beside each other, and then over the lanes.
    """
    wide = WIDTH * math.ceil(units / (WIDTH * TERMS))
    found = math.gcd(units, wide)
    return found if found >= min(units, wide // 4) else 0
