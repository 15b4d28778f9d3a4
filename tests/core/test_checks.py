"""Every argument of the package refuses what is of no use, and says so."""

import pathlib
import re
import types

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate import callbacks, credit, layers, losses, plotting
from keras_treegate.core import checks, sizes, tensor_checks
from keras_treegate.gates import SignGate
from keras_treegate.layers import FoldedTreeDense, TreeGatedDense

HUGE = [2**31, 2**40, 2**64, 2**70, 10**5000]


def model():
    tree = TreeGatedDense(2, depth=1, num_trees=1, name="tree", seed=0)
    dense = keras.layers.Dense(4, name="dense")
    return keras.Sequential([keras.Input((4,)), dense, tree])


def built():
    layer = TreeGatedDense(2, depth=1)
    layer.build((None, 4))
    return layer


# Every integer that a user can pass: an argument, and who is given it.
INTEGERS = {
    "tree units": ("units", TreeGatedDense),
    "tree depth": ("depth", lambda depth: TreeGatedDense(2, depth)),
    "tree num_trees": (
        "num_trees",
        lambda num_trees: TreeGatedDense(2, 1, num_trees),
    ),
    "tree seed": ("seed", lambda seed: TreeGatedDense(2, seed=seed)),
    "folded units": ("units", FoldedTreeDense),
    "folded depth": ("depth", lambda depth: FoldedTreeDense(2, depth)),
    "stored_leaves": (
        "stored_leaves",
        lambda stored_leaves: FoldedTreeDense(
            2, 2, stored_leaves=stored_leaves
        ),
    ),
    "explain": ("batch_size", lambda size: built().explain(size)),
    "gate seed": ("seed", lambda seed: SignGate(seed=seed)),
    "reinforce seed": ("seed", lambda seed: credit.Reinforce(seed=seed)),
    "noise seed": ("seed", lambda seed: credit.NoisyRectifier(seed=seed)),
    "batch_size": (
        "batch_size",
        lambda size: callbacks.GateEntropy(batch_size=size),
    ),
    "every_n_batches": (
        "every_n_batches",
        lambda every: callbacks.PathUtilization(every_n_batches=every),
    ),
    "verbose": ("verbose", lambda v: callbacks.GateEntropy(verbose=v)),
    "upcycle depth": (
        "depth",
        lambda depth: keras_treegate.upcycle(model(), depth),
    ),
    "upcycle num_trees": (
        "num_trees",
        lambda num_trees: keras_treegate.upcycle(model(), 1, num_trees),
    ),
    "upcycle seed": (
        "seed",
        lambda seed: keras_treegate.upcycle(model(), 1, seed=seed),
    ),
    "grow depth": ("depth", lambda depth: keras_treegate.grow(model(), depth)),
    "grow seed": (
        "seed",
        lambda seed: keras_treegate.grow(model(), 2, seed=seed),
    ),
    "icicle": ("tree", lambda tree: plotting.icicle([[1, 2]], tree=tree)),
}


@pytest.mark.parametrize("case", INTEGERS)
def test_integers_of_any_size_are_refused(case):
    argument, use = INTEGERS[case]
    for value in HUGE:
        shown = str(value) if value < 2**100 else "an integer of"
        message = rf"(?s)`{argument}`.* must .*Received: .*{shown}"
        with pytest.raises(ValueError, match=message):
            use(value)


@pytest.mark.parametrize("value", [2.5, "4", True, [4], np.ones(3), b"4", None])
@pytest.mark.parametrize("case", INTEGERS)
def test_no_integers_are_refused(case, value):
    argument, use = INTEGERS[case]
    nothing = argument in ("seed", "every_n_batches", "num_trees", "verbose")
    if (value is None and (nothing or case == "stored_leaves")) or (
        value is True and case == "verbose"
    ):
        value = object()  # what stands for the default, or for a level
    with pytest.raises(
        ValueError, match=rf"(?s)`{argument}` must .*Received: {argument}="
    ):
        use(value)


def test_visits_beyond_64_bits_are_refused():
    for value in (2**62 + 1, 2**64, 2**70):
        with pytest.raises(ValueError, match="(?s)`min_visits`.*Received: "):
            keras_treegate.prune(model(), min_visits=value)
    for visits in ([[2**63, 1]], [[2**70, 1]]):
        with pytest.raises(ValueError, match="(?s)`visits` must .*Received: "):
            keras_treegate.prune(model(), visits={"tree": visits})


# Whatever else has a type: argument, a wrong value, and who is given it.
WRONG = [
    ("activation", "no such thing", lambda v: TreeGatedDense(2, activation=v)),
    ("activation", 5, lambda v: FoldedTreeDense(2, activation=v)),
    ("use_bias", "no", lambda v: TreeGatedDense(2, use_bias=v)),
    ("use_bias", None, lambda v: FoldedTreeDense(2, use_bias=v)),
    ("count_visits", 1, lambda v: TreeGatedDense(2, count_visits=v)),
    ("gate", np.ones(3), lambda v: TreeGatedDense(2, gate=v)),
    ("gate", {"a": 1}, lambda v: TreeGatedDense(2, gate=v)),
    ("credit", np.ones(3), lambda v: TreeGatedDense(2, credit=v)),
    ("credit", {"a": 1}, lambda v: TreeGatedDense(2, credit=v)),
    ("credit", None, lambda v: TreeGatedDense(2, credit=v)),
    *[
        (name, value, lambda v, name=name: TreeGatedDense(2, **{name: v}))
        for name in ("kernel_initializer", "node_initializer")
        for value in ("no such thing", 5, None)
    ],
    *[
        (name, value, lambda v, name=name: TreeGatedDense(2, **{name: v}))
        for name in ("bias_initializer", "bias_regularizer", "bias_constraint")
        for value in ("no such thing", 5)
    ],
    ("row_levels", "some", lambda v: setattr(built(), "row_levels", v)),
    ("row_levels", np.ones(2), lambda v: setattr(built(), "row_levels", v)),
    ("table_dtype", np.ones(2), lambda v: FoldedTreeDense(2, table_dtype=v)),
    ("table_dtype", ["int8"], lambda v: FoldedTreeDense(2, table_dtype=v)),
    ("dtype", 8, lambda v: keras_treegate.fold(model(), dtype=v)),
    ("baseline", np.ones(2), lambda v: credit.Reinforce(baseline=v)),
    ("temperature", 10**400, lambda v: credit.Reinforce(temperature=v)),
    ("temperature", "warm", lambda v: credit.Reinforce(temperature=v)),
    ("entropy_bonus", None, lambda v: credit.Reinforce(entropy_bonus=v)),
    ("momentum", [0.5], lambda v: credit.Reinforce(momentum=v)),
    ("stddev", True, lambda v: credit.NoisyRectifier(stddev=v)),
    ("positions", np.ones(2), lambda v: losses.ReinforceLoss("mse", v)),
    ("loss", 5, losses.ReinforceLoss),
    ("details", "yes", lambda v: callbacks.GateEntropy(details=v)),
    ("log_dir", 5, lambda v: callbacks.GateEntropy(log_dir=v)),
    ("log_dir", "", lambda v: callbacks.GateEntropy(log_dir=v)),
    ("data", 5, lambda v: callbacks.GateEntropy(data=v)),
    ("probe", 5, lambda v: callbacks.GateEntropy(probe=v)),
    *[
        ("warn_below", v, lambda v: callbacks.PathUtilization(warn_below=v))
        for v in (2, -1, "low", True, float("nan"))
    ],
    ("visits", [[1, 2]], lambda v: keras_treegate.prune(model(), visits=v)),
    (
        "gate_threshold",
        "median",
        lambda v: keras_treegate.upcycle(model(), 1, gate_threshold=v),
    ),
    ("layers", 5, lambda v: keras_treegate.grow(model(), 2, layers=v)),
    (
        "return_report",
        1,
        lambda v: keras_treegate.prune(model(), return_report=v),
    ),
    ("metric", 5, lambda v: plotting.capacity({"a": (1, 2)}, metric=v)),
]


@pytest.mark.parametrize(("argument", "value", "use"), WRONG)
def test_values_of_the_wrong_type_are_refused(argument, value, use):
    named = argument not in ("layers", "data", "probe", "loss", "dtype")
    shown = re.escape(f"{argument}={value!r}" if named else repr(value))
    message = rf"(?s)`{argument}` must .*Received: .*{shown}.*\. [A-Z].*"
    with pytest.raises(ValueError, match=message):
        use(value)


WRONG_SOURCES = [
    "visits",
    [[1, 2], [3]],
    [[1, -2]],
    [[1.0, float("nan")]],
    [["a", "b"]],
    None,
    5,
]


@pytest.mark.parametrize("source", WRONG_SOURCES)
@pytest.mark.parametrize("picture", [plotting.icicle, plotting.utilization])
def test_sources_that_are_no_visits_are_refused(picture, source):
    with pytest.raises(ValueError, match="(?s)`source` must .*Received: "):
        picture(source)


@pytest.mark.parametrize(
    "history", [{"gate_entropy": 3}, {1: [2.0]}, "history", None, {}]
)
def test_sources_that_are_no_history_are_refused(history):
    with pytest.raises(ValueError, match="(?s)`source` must .*Received: "):
        plotting.curves(history)


@pytest.mark.parametrize("pair", [("many", 0.5), (0, 0.5), (10, "good")])
def test_points_that_are_no_numbers_are_refused(pair):
    with pytest.raises(
        ValueError, match=r"(?s)`histories\['run'\]` must .*Rec"
    ):
        plotting.capacity({"run": pair})


@pytest.mark.parametrize("shape", [(4, 3), (None, 3), "of unknown rank"])
def test_leaf_codes_of_unknown_sizes_are_accepted(shape):
    if isinstance(shape, str):
        shape = types.SimpleNamespace(rank=None)
    codes = types.SimpleNamespace(shape=shape, dtype="int32")
    tensor_checks.codes_per_tree(codes, (None, 3), "a gate")
    tensor_checks.codes_per_tree(codes, (4, 3), "a gate")


def test_what_is_accepted_becomes_pythons_own():
    layer = TreeGatedDense(np.int64(3), use_bias=np.bool_(True), seed=2**31 - 1)
    assert layer.use_bias is True
    assert type(layer.units) is int
    assert checks.path("log_dir", pathlib.Path("logs")) == "logs"
    assert SignGate(momentum=np.float32(0.5)).momentum == 0.5


@pytest.mark.parametrize("gib", ["inf", "1e400"])
def test_a_bound_without_end_is_refused(monkeypatch, gib):
    monkeypatch.setenv(sizes.MAX_LAYER_GIB_VARIABLE, gib)
    with pytest.raises(ValueError, match=f"(?s)positive number.*{gib}"):
        layers.TreeGatedDense(4)
