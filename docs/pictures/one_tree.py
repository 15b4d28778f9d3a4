"""Draws `one-tree.png`: from a block of inputs to its kernel, for one example.

python docs/pictures/one_tree.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#C8C8C8"
BITS = (1, 0, 1)
DEPTH = len(BITS)
WIDTH, UNITS = 3, 6  # of the tree's input block, and of the layer
TREE_LEFT, TREE_RIGHT, TREE_TOP, LEVEL_HEIGHT = 33, 67, 31, 8.4
COLORS = {"cmap": "PuOr", "vmin": -1.6, "vmax": 1.6}


def draw():
    """Returns the figure."""
    figure = Figure(figsize=(10, 4.1), dpi=160, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(0, 41), aspect="equal")
    axes.axis("off")
    draw_inputs(axes)
    draw_bits(axes)
    draw_tree(axes)
    draw_sum(axes)
    return figure


def heading(axes, x, text):
    axes.text(
        x, 37.6, text, ha="center", va="center", fontsize=11, weight="bold"
    )


def draw_inputs(axes):
    heading(axes, 5.5, "inputs")
    for unit in range(9):
        own = 3 <= unit < 3 + WIDTH
        axes.add_patch(
            Rectangle(
                (4, 32 - unit * 3),
                3,
                2.6,
                facecolor=BLUE if own else GREY,
                edgecolor="white",
            )
        )
    axes.text(
        5.5,
        4.2,
        "a block of\ninput units\nowns a tree",
        ha="center",
        va="center",
        fontsize=8.5,
        color=BLUE,
    )


def draw_bits(axes):
    heading(axes, 20, "sign bits")
    for number, (unit, value, bit) in enumerate(
        zip(("z₄", "z₁", "z₇"), (0.7, -0.2, 1.3), BITS, strict=True)
    ):
        y = TREE_TOP - (number + 0.5) * LEVEL_HEIGHT
        axes.text(13.5, y, f"{unit} = {value:+.1f}", va="center", fontsize=9.5)
        box = FancyBboxPatch(
            (22.2, y - 1.4),
            2.8,
            2.8,
            boxstyle="round,pad=0.1",
            facecolor=ORANGE,
            edgecolor="none",
        )
        axes.add_patch(box)
        axes.text(
            23.6,
            y - 0.1,
            bit,
            ha="center",
            va="center",
            fontsize=11,
            color="white",
            weight="bold",
        )
    axes.text(
        19.5,
        4.2,
        "the signs of a few units\nof the network, one a level",
        ha="center",
        va="center",
        fontsize=8.5,
        color=ORANGE,
    )


def place_of(level, node):
    """Returns where the node with this number in its level is drawn."""
    step = (TREE_RIGHT - TREE_LEFT) / 2**level
    return TREE_LEFT + (node + 0.5) * step, TREE_TOP - level * LEVEL_HEIGHT


def path():
    """Returns the node of each level on the path."""
    nodes = [0]
    for bit in BITS:
        nodes.append(2 * nodes[-1] + bit)
    return nodes


def draw_tree(axes):
    heading(axes, (TREE_LEFT + TREE_RIGHT) / 2, "path")
    on_path = path()
    for level in range(DEPTH):
        for node in range(2**level):
            for bit in (0, 1):
                ends = (
                    place_of(level, node),
                    place_of(level + 1, 2 * node + bit),
                )
                chosen = (
                    node == on_path[level]
                    and 2 * node + bit == on_path[level + 1]
                )
                axes.plot(
                    *zip(*ends, strict=True),
                    color=ORANGE if chosen else GREY,
                    linewidth=3 if chosen else 1.3,
                    zorder=1,
                )
                if chosen:
                    x, y = np.mean(ends, axis=0)
                    axes.text(
                        x + (1.5 if bit else -1.5),
                        y + 0.9,
                        bit,
                        ha="center",
                        fontsize=10,
                        color=ORANGE,
                        weight="bold",
                    )
    for level in range(DEPTH + 1):
        for node in range(2**level):
            chosen = node == on_path[level]
            axes.plot(
                *place_of(level, node),
                "o",
                markersize=13 if chosen else 8,
                markerfacecolor=BLUE if chosen else "white",
                markeredgecolor=BLUE if chosen else "#909090",
            )
    axes.text(
        (TREE_LEFT + TREE_RIGHT) / 2,
        2.4,
        "each example takes one path:\n15 nodes are stored, 4 are used",
        ha="center",
        va="center",
        fontsize=8.5,
        color="#404040",
    )


def draw_sum(axes):
    heading(axes, 85, "sum of the path's rows")
    rng = np.random.default_rng(4)
    nodes = rng.normal(size=(DEPTH + 1, WIDTH, UNITS)) * 0.55
    for level, rows in enumerate(nodes):
        x, y = place_of(level, path()[level])
        bottom = y - 2.1
        draw_rows(axes, rows, 71, bottom)
        axes.plot(
            [x + 1.4, 70.4], [y, y], ":", color=BLUE, linewidth=1.2, zorder=0
        )
        if level:
            axes.text(
                75.2, bottom + 6.2, "+", ha="center", va="center", fontsize=13
            )
    draw_rows(axes, nodes.sum(0), 86, 16.3)
    axes.text(82.6, 18.4, "=", ha="center", va="center", fontsize=16)
    axes.text(
        90.3,
        22.4,
        "kernel of this block",
        ha="center",
        va="center",
        fontsize=8.5,
        color=BLUE,
    )
    axes.text(
        90.3,
        12.6,
        "for this example:\noutput += block @ kernel",
        ha="center",
        va="center",
        fontsize=8.5,
        color="#404040",
    )


def draw_rows(axes, rows, left, bottom):
    axes.imshow(
        rows,
        extent=(left, left + 8.4, bottom, bottom + 4.2),
        aspect="auto",
        interpolation="nearest",
        **COLORS,
    )
    axes.add_patch(
        Rectangle(
            (left, bottom), 8.4, 4.2, facecolor="none", edgecolor="#707070"
        )
    )
    axes.set(xlim=(0, 100), ylim=(0, 41), aspect="equal")


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_name("one-tree.png"))
