"""How much a step of a loop does in products that XLA compiles.

As CPUs want it: JAX takes these there alone, TensorFlow on every device.
"""

import math

# The input units that one step of the loop of a product multiplies.
UNITS = 8

# The numbers that one step adds to rows: of more, XLA makes an array first.
ADDED = 2**16

# Parts of a row that are added up in one go, and their width, about.
TERMS = 16
WIDTH = 32


def lanes(units: int) -> int:
    """Into how many lanes a row of so many numbers is added up; 0 for none.

    XLA adds up along the last axis one number after the other. So a sum over
    the output units is better taken in lanes: of parts of the row, that lie
    beside each other, and then over the lanes.
    """
    wide = WIDTH * math.ceil(units / (WIDTH * TERMS))
    found = math.gcd(units, wide)
    return found if found >= min(units, wide // 4) else 0
