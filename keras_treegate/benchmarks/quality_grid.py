"""Which networks `quality` compares, most telling first."""

from keras_treegate.benchmarks.quality import Case

WIDTH = {"bytes": 256, "digits": 16}
STEPS = {"bytes": 3000, "digits": 660}
DECAY = 0.1

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


def full(task: str) -> list[Case]:
    """All networks; those of depth 6 and more take most of the time."""
    width = WIDTH[task]
    mixtures = [Case(task, "mixture", width, experts=16)]
    leaves = [Case(task, "leaves", width, depth=4, trees=t) for t in (16, 64)]
    decayed = [
        Case(task, "dense", width, weight_decay=DECAY),
        tree(task, 4, 64)._replace(weight_decay=DECAY),
    ]
    wider = [Case(task, "dense", width * times) for times in (2, 4)]
    shallow = [tree(task, 2, trees) for trees in (1, 16, 64, None)]
    deep = [
        tree(task, depth, trees)
        for depth in (6, 8, 10)
        for trees in (64, 16, 1, None)
    ]
    return [
        *quick(task),
        *leaves[:1],
        *decayed,
        tree(task, 2, 16),
        tree(task, 4, None),
        *mixtures,
        *wider,
        *(case for case in shallow if case.trees != 16),
        deep[0],
        *leaves[1:],
        *deep[1:],
    ]


def tree(task: str, depth: int, trees: int | None) -> Case:
    """A tree-gated network of the width that all have who do equal work."""
    return Case(task, "tree", WIDTH[task], depth=depth, trees=trees)
