"""Where the examples of a batch go."""

from typing import Any, NamedTuple


class Route(NamedTuple):
    """The paths of a batch, and what its credit assignment needs with them.

    codes: (..., G) int32, the leaf codes.
    carried: for `Reinforce` the claim for a loss, for `NoisyRectifier` the
        scales (..., G, D); `None` where there is nothing.
    """

    codes: Any
    carried: Any = None
