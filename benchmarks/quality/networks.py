"""The networks that `quality` compares: they differ in one hidden layer."""

from typing import NamedTuple

from benchmarks.quality.tasks import OF_CONTEXT

METRIC = "sparse_categorical_accuracy"
OPTIMIZERS = ("StepAwareAdam", "Adam")

WIDTH = {"bytes": 256, "digits": 16, "transformer": 64} | dict.fromkeys(
    OF_CONTEXT, 128
)
DECAY = 0.1
DECAYS_OF_TEXT = (DECAY, 1.0)
DECAYS_OF_FLIGHTS = (1.0, 10.0)

# Steps of training: what is done in an hour on two cores, and in five minutes.
STEPS = {"bytes": 500, "digits": 660, "transformer": 1000} | dict.fromkeys(
    OF_CONTEXT, 3000
)
QUICK_STEPS = {"bytes": 300, "digits": 66, "transformer": 100} | dict.fromkeys(
    OF_CONTEXT, 300
)

# Learning rates that are tried for each network, times that of the task.
RATES = {
    "bytes": (1.0, 2.0, 4.0, 8.0),
    "digits": (1.0, 0.5, 2.0, 0.25, 4.0),
} | dict.fromkeys((*OF_CONTEXT, "transformer"), (1.0, 2.0, 4.0, 8.0))

# The widths of Dense networks that store as much as trees of depth 4.
EQUAL_PARAMETERS = {"bytes": 1152, "digits": 426}


class Family(NamedTuple):
    """The common properties of networks that are built alike.

    line: the line of the picture that one is on, as a format of its fields and
        of `trees` in words.
    styles: the colour and the marker of the line, by the number of trees.
    name: what one is called, likewise; by default its family, depth and trees.
    fill: of the marker.
    frozen: the levels of nodes that stay as they start.
    hashed: whether gates read hashes of the last tokens.
    n_grams: where embeddings of hashed n-grams go: "inputs" are concatenated
        to the inputs, "hidden" are added to the first hidden layer.
    n_gram_bits: log2 of the rows of each of their tables, in networks of the
        last tokens.
    """

    line: str
    styles: dict[int | None, int]
    name: str = "{family}, depth {depth}, {trees}"
    fill: str = "full"
    frozen: slice = slice(0)
    hashed: bool = False
    n_grams: str = ""
    n_gram_bits: int = 0


OF_TREES = {64: 0, 16: 2, 1: 3, None: 4}
FAMILIES = {
    "dense": Family("Dense", {0: 6}, "Dense {width}"),
    # Its outputs start smaller than those of a Dense layer by the number of
    # experts, and those of the scaled one about as large.
    "mixture": Family(
        *("mixture of experts, top 1", {0: 1}, "mixture of {experts}")
    ),
    "scaled mixture": Family(
        *("scaled mixture, top 1", {0: 5}, "scaled mixture of {experts}")
    ),
    "tree": Family("{trees}", OF_TREES),
    # Each leaf has a kernel of its own, which starts as those of the roots, and
    # shares nothing with others.
    "leaves": Family(
        *("leaves only, {trees}", OF_TREES),
        *("leaves only, depth {depth}, {trees}", "none", slice(-1)),
    ),
    "roots and leaves": Family(
        *("roots and leaves, {trees}", OF_TREES),
        fill="bottom",
        frozen=slice(1, -1),
    ),
    "hash": Family(
        *("{trees}, hash gates", {16: 0, 1: 3, 64: 2, 4: 1}), hashed=True
    ),
    # In both layers of a Transformer's feed-forward block.
    "hash in both": Family(
        *("{trees}, hash gates, in both layers", {16: 2}), hashed=True
    ),
    "hash layer": Family("hash layer", {1: 4}, frozen=slice(-1), hashed=True),
    "n-grams": Family(
        *("Dense and n-grams", {0: 5}),
        "Dense {width} and n-grams of {orders}",
        n_grams="inputs",
        n_gram_bits=16,
    ),
    # Rows as wide as the layer: as many numbers as "n-grams" have, then 4-fold.
    "added n-grams": Family(
        *("Dense and added n-grams", {0: 5}),
        "Dense {width} and added n-grams of {orders}",
        n_grams="hidden",
        n_gram_bits=13,
    ),
    "large added n-grams": Family(
        *("Dense and large added n-grams", {0: 1}),
        "Dense {width} and large added n-grams of {orders}",
        n_grams="hidden",
        n_gram_bits=15,
    ),
    "hash and n-grams": Family(
        *("{trees}, hash gates, and n-grams", {16: 3}),
        hashed=True,
        n_grams="inputs",
        n_gram_bits=16,
    ),
    # The gates are signs of the embeddings of the last two tokens.
    "last embeddings": Family(
        *("{trees}, signs of the last embeddings", {64: 2})
    ),
    # The gates are signs of sums over all tokens, of a number drawn for each.
    "random projections": Family(
        *("{trees}, signs of random projections", {16: 5})
    ),
}


class Network(NamedTuple):
    """One of those that are compared, and how it is trained.

    task, family: keys of `tasks` and of `FAMILIES`.
    trees: `None` for one tree for each input unit.
    rate: a factor to the learning rate of the task.
    levels: those that store nodes: "all", "ends" or e.g. "0,3,6".
    orders: how many tokens hashes read, e.g. "1,2".
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
        kind = self.fill_in(FAMILIES[self.family].name)
        if self.orders and "Dense" not in kind:
            kind += f", orders {self.orders}"
        if self.width != WIDTH[self.task] and "Dense" not in kind:
            kind += f", width {self.width}"
        if self.levels != "all":
            kind += f", levels {self.levels}"
        return kind + self.training

    @property
    def line(self) -> str:
        """The line that it is drawn on."""
        line = self.fill_in(FAMILIES[self.family].line)
        if self.orders:
            line += f", orders {self.orders}"
        if self.levels != "all":
            line += ", some levels"
        return line + self.training

    @property
    def training(self) -> str:
        """The end of a name: what is unusual in the training."""
        decay = f", decay {self.weight_decay:g}" if self.weight_decay else ""
        return decay + (", Adam" if self.optimizer == "Adam" else "")

    def fill_in(self, text: str) -> str:
        """Returns a text of the family with this network's own sizes."""
        trees = f"{self.trees or 'all'} tree" + "s" * (self.trees != 1)
        return text.format(**self._asdict() | {"trees": trees})

    @classmethod
    def of(cls, row: dict) -> "Network":
        """Returns the network of a row of the results."""
        return cls(**{field: row[field] for field in cls._fields})


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


def of_transformer(task: str) -> list[Network]:
    """Returns Transformers with trees, and what they rival."""
    width = WIDTH[task]
    leaves = hashed(task, 6, "2", "ends")
    return [
        Network(task, "dense", width),
        Network(task, "dense", 2 * width),
        leaves,
        Network(task, "added n-grams", width, orders="2,3"),
        leaves._replace(family="hash in both"),
        hashed(task, 8, "2", "ends"),
        hashed(task, 9, "1,2,3", "0,3,6,9"),
    ]


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
    layer = Network(task, "hash layer", width, 6, 1, orders="2")
    added = Network(task, "added n-grams", width, orders="2,3")
    few = [
        *(Network(task, "dense", times * width) for times in (2, 9)),
        layer,
        Network(task, "mixture", width, experts=16),
        tree(task, 6, 64)._replace(levels="ends"),
        # The next two have equally many numbers: tables and trees.
        added,
        hashed(task, 7, "2", "ends"),
    ]
    if task == "flights":
        return few + against_overfitting(task)
    if task == "little-prose":
        return few + decayed(task)
    if task != "context":
        return few
    leaves = hashed(task, 6, "2", "ends")
    deep = hashed(task, 9, "1,2,3", "0,3,6,9")
    recent = Network(task, "last embeddings", width, 6, 64, levels="ends")
    return [
        *few,
        recent,
        Network(task, "n-grams", width, orders="1,2,3"),
        Network(task, "large added n-grams", width, orders="2,3"),
        deep._replace(family="hash and n-grams"),
        hashed(task, 6, "1", "ends"),
        hashed(task, 6, "2", "all"),
        *(hashed(task, 6, "2", "ends", trees) for trees in (1, 4, 64)),
        *(hashed(task, depth, "2", "ends") for depth in (2, 4, 8, 10, 12, 14)),
        *(
            hashed(task, 6, "1,2,3", levels)
            for levels in ("0,2,4,6", "ends", "all")
        ),
        hashed(task, 12, "1,2,3", "0,4,8,12"),
        hashed(task, 14, "1,2,3", "0,5,10,14"),
        *(
            one._replace(width=2 * width)
            for one in (leaves, deep, layer, added)
        ),
    ]


def against_overfitting(task: str) -> list[Network]:
    """Returns smaller trees, and weight decay for trees and a Dense network."""
    leaves = hashed(task, 6, "2", "ends")
    dense = Network(task, "dense", WIDTH[task])
    projected = leaves._replace(family="random projections", orders="")
    return [
        *(hashed(task, depth, "1", "ends") for depth in (2, 4)),
        *(projected._replace(depth=depth) for depth in (4, 6)),
        *(
            one._replace(weight_decay=decay)
            for one in (dense, leaves, projected)
            for decay in DECAYS_OF_FLIGHTS
        ),
    ]


def decayed(task: str) -> list[Network]:
    """Returns shallow trees, and networks of each kind with weight decay."""
    shallow = [hashed(task, depth, "1", "ends") for depth in (2, 4)]
    compared = [
        Network(task, "dense", WIDTH[task]),
        Network(task, "dense", 4 * WIDTH[task]),
        Network(task, "added n-grams", WIDTH[task], orders="2,3"),
        *shallow,
        hashed(task, 6, "2", "ends"),
        hashed(task, 9, "1,2,3", "0,3,6,9"),
    ]
    return shallow + [
        one._replace(weight_decay=decay)
        for one in compared
        for decay in DECAYS_OF_TEXT
    ]


def quick(task: str) -> list[Network]:
    """Returns what shows the order of the families."""
    width = WIDTH[task]
    if task == "transformer":
        return of_transformer(task)[:4]
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
    if task == "transformer":
        return of_transformer(task)
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
    if task not in ("bytes", "digits"):
        return []
    return [tree(task, depth, 64) for depth in (10, 8, 6)]


def everything(task: str) -> list[Network]:
    """Returns all networks."""
    return shallow(task) + deep(task)


def tree(task: str, depth: int, trees: int | None) -> Network:
    """Returns a tree-gated network of the width of all of equal work."""
    return Network(task, "tree", WIDTH[task], depth=depth, trees=trees)
