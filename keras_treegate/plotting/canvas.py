"""Figures and colours that all pictures share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # matplotlib may not be installed
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, with a marker
# each for those who see no colour.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# From dark to light for everyone; what has no value is left white.
COLOR_MAP = "viridis"
NOTHING = "#FFFFFF"


def figure(width: float, height: float) -> "Figure":
    """Makes an empty figure, its size in inches; it needs no screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "`keras_treegate.plotting` needs matplotlib, which is not "
            "installed. Install it with: pip install matplotlib"
        ) from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def style(number: int) -> dict[str, str]:
    """Returns the colour and marker of one of several lines."""
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def tidy(axes: "Axes", **settings: object) -> None:
    """Sets labels and the like, and leaves out what is not needed."""
    axes.set(**settings)
    axes.spines[["top", "right"]].set_visible(False)
