"""Which networks `quality` compares, most telling first."""

from benchmarks.quality.networks import Case

WIDTH = {"bytes": 256, "digits": 16}
DECAY = 0.1

# Steps of training: what is done in an hour on two cores, and in five minutes.
STEPS = {"bytes": 500, "digits": 660}
QUICK_STEPS = {"bytes": 300, "digits": 66}

# What each network's learning rate is searched among: times that of the task.
RATES = {"bytes": (1.0, 2.0, 4.0, 8.0), "digits": (1.0, 0.5, 2.0, 0.25, 4.0)}

# As wide a Dense network as stores what trees of depth 4 do.
EQUAL_PARAMETERS = {"bytes": 1152, "digits": 426}


def quick(task: str) -> list[Case]:
    """What shows the order of the families."""
    width = WIDTH[task]
    return [
        Case(task, "dense", width),
        *(tree(task, 4, trees) for trees in (64, 16, 1)),
        Case(task, "dense", EQUAL_PARAMETERS[task]),
        Case(task, "mixture", width, experts=31),
    ]


def shallow(task: str) -> list[Case]:
    """All networks that are trained in about the time of these."""
    width = WIDTH[task]
    return [
        *quick(task),
        Case(task, "leaves", width, depth=4, trees=16),
        Case(task, "roots and leaves", width, depth=4, trees=16),
        Case(task, "dense", width, weight_decay=DECAY),
        tree(task, 4, 64)._replace(weight_decay=DECAY),
        *(tree(task, 2, trees) for trees in (16, 64)),
        tree(task, 4, None),
        Case(task, "mixture", width, experts=16),
        Case(task, "scaled mixture", width, experts=16),
        *(Case(task, "dense", width * times) for times in (2, 4)),
    ]


def deep(task: str) -> list[Case]:
    """What takes long for bytes, the longest first."""
    return [tree(task, depth, 64) for depth in (10, 8, 6)]


def everything(task: str) -> list[Case]:
    """All networks."""
    return shallow(task) + deep(task)


def tree(task: str, depth: int, trees: int | None) -> Case:
    """A tree-gated network of the width that all have who do equal work."""
    return Case(task, "tree", WIDTH[task], depth=depth, trees=trees)
