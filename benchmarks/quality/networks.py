"""The networks that `quality` compares: they differ in one hidden layer."""

from typing import NamedTuple

from benchmarks.quality.tasks import OF_CONTEXT

# The levels of nodes that stay as they start.
FROZEN = {
    "tree": slice(0),
    "leaves": slice(-1),
    "roots and leaves": slice(1, -1),
    "hash": slice(0),
    "hash layer": slice(-1),
}
METRIC = "sparse_categorical_accuracy"
OPTIMIZERS = ("StepAwareAdam", "Adam")

WIDTH = {"bytes": 256, "digits": 16} | dict.fromkeys(OF_CONTEXT, 128)
DECAY = 0.1

# Steps of training: what is done in an hour on two cores, and in five minutes.
STEPS = {"bytes": 500, "digits": 660} | dict.fromkeys(OF_CONTEXT, 3000)
QUICK_STEPS = {"bytes": 300, "digits": 66} | dict.fromkeys(OF_CONTEXT, 300)

# What each network's learning rate is searched among: times that of the task.
RATES = {
    "bytes": (1.0, 2.0, 4.0, 8.0),
    "digits": (1.0, 0.5, 2.0, 0.25, 4.0),
} | dict.fromkeys(OF_CONTEXT, (1.0, 2.0, 4.0, 8.0))

# As wide a Dense network as stores what trees of depth 4 do.
EQUAL_PARAMETERS = {"bytes": 1152, "digits": 426}


class Network(NamedTuple):
    """One of those that are compared, and how it is trained.

    `trees` is `None` for one tree for each input unit; `rate` is a factor to
    the learning rate of the task. Among the families, "leaves" are trees whose
    leaves alone are trained: each has a kernel of its own, which starts as
    those of the roots, and shares nothing with others. "roots and leaves" share
    the roots. The outputs of a "mixture" start smaller than those of a Dense
    layer by the number of experts, those of a "scaled mixture" about as large.
    The gates of a "hash" tree read the last tokens, of these `orders`; a "hash
    layer" is one such tree with nothing but leaves. Those of "last embeddings"
    are signs of the embeddings of the last two tokens. "n-grams" is a Dense
    network that is also given embeddings of hashes of the last tokens,
    concatenated to its inputs; "added n-grams" adds them to its first layer.
    """

    task: str
    family: str
    width: int
    depth: int = 0
    trees: int | None = 0
    experts: int = 0
    weight_decay: float = 0.0
    optimizer: str = "StepAwareAdam"
    rate: float = 1.0
    levels: str = "all"
    orders: str = ""

    @property
    def name(self) -> str:
        """The name that people read."""
        trees = f"{self.trees or 'all'} tree" + "s" * (self.trees != 1)
        kind = {
            "dense": f"Dense {self.width}",
            "mixture": f"mixture of {self.experts}",
            "scaled mixture": f"scaled mixture of {self.experts}",
            "leaves": f"leaves only, depth {self.depth}, {trees}",
            "n-grams": f"Dense {self.width} and n-grams of {self.orders}",
            "added n-grams": (
                f"Dense {self.width} and added n-grams of {self.orders}"
            ),
        }.get(self.family, f"{self.family}, depth {self.depth}, {trees}")
        if self.orders and "Dense" not in kind:
            kind += f", orders {self.orders}"
        if self.width != WIDTH[self.task] and "Dense" not in kind:
            kind += f", width {self.width}"
        if self.levels != "all":
            kind += f", levels {self.levels}"
        if self.weight_decay:
            kind += f", decay {self.weight_decay:g}"
        return kind + (", Adam" if self.optimizer == "Adam" else "")


def numbers(text: str) -> tuple[int, ...]:
    """Returns the numbers of a text such as "1,2,3"."""
    return tuple(map(int, text.split(",")))


def hashed(
    task: str, depth: int, orders: str, levels: str, trees: int = 16
) -> Network:
    """Returns a tree whose gates read the last tokens."""
    width = WIDTH[task]
    return Network(
        *(task, "hash", width, depth, trees), levels=levels, orders=orders
    )


def few_of_context(task: str) -> list[Network]:
    """Returns trees that read the context, and what they rival."""
    width = WIDTH[task]
    return [
        Network(task, "dense", width),
        Network(task, "dense", 4 * width),
        hashed(task, 6, "2", "ends"),
        hashed(task, 9, "1,2,3", "0,3,6,9"),
        Network(task, "n-grams", width, orders="2,3"),
    ]


def more_of_context(task: str) -> list[Network]:
    """Returns what shows which part of such a tree does what."""
    width = WIDTH[task]
    few = [
        *(Network(task, "dense", times * width) for times in (2, 9)),
        Network(task, "hash layer", width, 6, 1, orders="2"),
        Network(task, "mixture", width, experts=16),
        tree(task, 6, 64)._replace(levels="ends"),
    ]
    if task != "context":
        return few
    deep = hashed(task, 9, "1,2,3", "0,3,6,9")
    recent = Network(task, "last embeddings", width, 6, 64, levels="ends")
    return [
        *few,
        recent,
        Network(task, "n-grams", width, orders="1,2,3"),
        Network(task, "added n-grams", width, orders="2,3"),
        deep._replace(family="hash and n-grams"),
        hashed(task, 6, "1", "ends"),
        hashed(task, 6, "2", "all"),
        *(hashed(task, 6, "2", "ends", trees) for trees in (1, 4, 64)),
        *(hashed(task, depth, "2", "ends") for depth in (2, 4, 8, 10, 12)),
        hashed(task, 6, "1,2,3", "0,2,4,6"),
        hashed(task, 12, "1,2,3", "0,4,8,12"),
        hashed(task, 14, "1,2,3", "0,5,10,14"),
        *(
            one._replace(width=2 * width)
            for one in (hashed(task, 6, "2", "ends"), deep)
        ),
    ]


def quick(task: str) -> list[Network]:
    """Returns what shows the order of the families."""
    width = WIDTH[task]
    if task in OF_CONTEXT:
        return few_of_context(task)
    return [
        Network(task, "dense", width),
        *(tree(task, 4, trees) for trees in (64, 16, 1)),
        Network(task, "dense", EQUAL_PARAMETERS[task]),
        Network(task, "mixture", width, experts=31),
    ]


def shallow(task: str) -> list[Network]:
    """Returns all networks that are trained in about the time of these."""
    width = WIDTH[task]
    if task in OF_CONTEXT:
        return few_of_context(task) + more_of_context(task)
    return [
        *quick(task),
        Network(task, "leaves", width, depth=4, trees=16),
        Network(task, "roots and leaves", width, depth=4, trees=16),
        Network(task, "dense", width, weight_decay=DECAY),
        tree(task, 4, 64)._replace(weight_decay=DECAY),
        *(tree(task, 2, trees) for trees in (16, 64)),
        tree(task, 4, None),
        Network(task, "mixture", width, experts=16),
        Network(task, "scaled mixture", width, experts=16),
        *(Network(task, "dense", width * times) for times in (2, 4)),
    ]


def deep(task: str) -> list[Network]:
    """Returns what takes long for bytes, the longest first."""
    if task in OF_CONTEXT:
        return []
    return [tree(task, depth, 64) for depth in (10, 8, 6)]


def everything(task: str) -> list[Network]:
    """Returns all networks."""
    return shallow(task) + deep(task)


def tree(task: str, depth: int, trees: int | None) -> Network:
    """Returns a tree-gated network of the width of all of equal work."""
    return Network(task, "tree", WIDTH[task], depth=depth, trees=trees)
