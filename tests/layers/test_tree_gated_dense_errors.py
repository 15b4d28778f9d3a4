"""Bad input is refused early, and the message says what to do.

Every message names the argument in backticks, says what is accepted and what
was received, and ends with what to do.
"""

import contextlib
import re

import keras
import numpy as np
import pytest

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense

LIMIT = "KERAS_TREEGATE_MAX_LAYER_GIB"


@contextlib.contextmanager
def refused(argument, accepted, received, advice):
    """Expects a ValueError whose message has these four parts in order."""
    match = rf"(?s)`{argument}`.*{accepted}.*Received: .*{received}.*{advice}"
    with pytest.raises(ValueError, match=match):
        yield


def ones(*shape):
    return np.ones(shape, "float32")


WHOLE_NUMBERS = [
    ("units", 0, "at least 1"),
    ("units", -3, "at least 1"),
    ("units", 2.5, "at least 1"),
    ("units", 4.0, "at least 1"),
    ("units", "8", "at least 1"),
    ("units", None, "at least 1"),
    ("units", True, "at least 1"),
    ("depth", -1, "at least 0"),
    ("depth", 1.5, "at least 0"),
    ("depth", None, "at least 0"),
    ("num_trees", 0, "at least 1"),
    ("num_trees", -2, "at least 1"),
    ("num_trees", 2.0, "at least 1"),
    ("seed", -1, "at least 0"),
    ("seed", 0.5, "at least 0"),
]


@pytest.mark.parametrize(("argument", "value", "accepted"), WHOLE_NUMBERS)
def test_no_whole_number(argument, value, accepted):
    shown = re.escape(repr(value))
    with refused(argument, accepted, shown, f"`{argument}="):
        TreeGatedDense(**{"units": 4, argument: value})


def test_numpy_integers_are_whole_numbers():
    layer = TreeGatedDense(np.int64(3), depth=np.int32(2), num_trees=np.int8(2))
    assert tuple(layer(ones(1, 4)).shape) == (1, 3)
    config = layer.get_config()
    for argument, value in {"units": 3, "depth": 2, "num_trees": 2}.items():
        assert config[argument] == value
        assert type(config[argument]) is int


def test_an_unknown_name_for_num_trees():
    with refused("num_trees", '"auto", `None`', "many", "Leave it out"):
        TreeGatedDense(4, num_trees="many")


@contextlib.contextmanager
def too_large(accepted, received, advice):
    """Expects the message of layers that are refused for their size."""
    match = rf"(?s)^`.*{accepted}.*Received: .*{received}.*{advice}"
    with pytest.raises(ValueError, match=match):
        yield


# A size that is too large for any input is refused at construction.
@pytest.mark.parametrize("depth", [32, 64, 10_000, 10**9])
def test_more_than_two_to_the_31_rows_in_a_tree(depth):
    with too_large(r"2\*\*31 rows", f"depth={depth}", "Lower `depth`"):
        TreeGatedDense(4, depth=depth)


def test_more_than_two_to_the_31_rows_in_all_trees():
    with too_large(r"2\*\*31 rows", "depth=30.*512", "Lower `depth`"):
        TreeGatedDense(4, depth=30, num_trees=512)


def test_more_memory_than_a_layer_may_take():
    with too_large("64 GiB", f"units={2**30}.*255.0 GiB", "Lower .*`units`"):
        TreeGatedDense(2**30, depth=7)


def test_more_rows_than_a_level_may_have_for_these_inputs():
    layer = TreeGatedDense(1, depth=28, num_trees=None)
    with too_large(r"2\*\*31 rows", "depth=28.*30", "Lower `depth`"):
        layer.build((None, 30))
    assert layer.variables == []


def test_more_memory_than_a_layer_may_take_for_these_inputs():
    layer = TreeGatedDense(2**20, depth=10, num_trees=16)
    # 2047 nodes of 64 x 2^20 numbers of 4 bytes
    with too_large("64 GiB", "depth=10.*511.8 GiB", "Lower `depth`"):
        layer.build((None, 64))
    assert layer.variables == []


def test_padding_counts_as_memory(monkeypatch):
    monkeypatch.setenv(LIMIT, str(6 * 4 / 2**30))
    TreeGatedDense(1, depth=0, num_trees=2).build((None, 6))
    layer = TreeGatedDense(1, depth=0, num_trees=4)
    with too_large("GiB", r"units=1.*of width 2.*\(32 bytes\)", LIMIT):
        layer.build((None, 6))


def test_the_environment_moves_the_bound_of_memory(monkeypatch):
    monkeypatch.setenv(LIMIT, "0.5")
    with too_large("0.5 GiB", "units=65536.*1.0 GiB", LIMIT):
        TreeGatedDense(2**16, depth=0).build((None, 2**12))
    monkeypatch.setenv(LIMIT, "1024")
    TreeGatedDense(2**30, depth=7)


@pytest.mark.parametrize("text", ["much", "-1", "0", "nan", ""])
def test_a_bound_of_memory_that_is_no_positive_number(monkeypatch, text):
    monkeypatch.setenv(LIMIT, text)
    with refused(LIMIT, "positive number of GiB", text, "Unset it"):
        TreeGatedDense(4)


def test_more_trees_than_inputs():
    with refused("num_trees", "at most .* 5", "6", "Lower it"):
        TreeGatedDense(4, num_trees=6)(ones(2, 5))


def test_more_gate_bits_than_gate_source_units():
    with refused("depth", "at most .* 3", "depth=4", "Lower `depth`"):
        TreeGatedDense(4, depth=4)(ones(2, 3))
    with refused("depth", "at most .* 3", "depth=4", "Lower `depth`"):
        TreeGatedDense(4, depth=4)(ones(2, 9), gate_inputs=ones(2, 3))


@pytest.mark.parametrize(
    "units", [[[0, 1]], [[0], [1], [2]], [[0, 1, 2], [0, 1, 2]]]
)
def test_gate_units_of_another_shape(units):
    gate = SignGate(units=units)
    shape = re.escape(str(np.shape(units)))
    with refused("units", r"shape .*\(2, 2\)", shape, "Change `units`"):
        TreeGatedDense(4, depth=2, num_trees=2, gate=gate)(ones(2, 5))


def test_gate_units_beyond_the_gate_source():
    gate = SignGate(units=[[0, 5]])
    with refused("units", "5 units", "5", "0 to 4"):
        TreeGatedDense(4, 2, num_trees=1, gate=gate)(ones(2, 5))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integer_inputs(dtype):
    layer = TreeGatedDense(4, depth=2)
    with refused("inputs", "floating", dtype, "keras.ops.cast"):
        layer(np.ones((2, 5), dtype))
    assert layer.variables == []
    with refused("inputs", "floating", dtype, "keras.ops.cast"):
        TreeGatedDense(4, depth=2)(keras.Input((5,), dtype=dtype))
    with refused("gate_inputs", "floating", dtype, "keras.ops.cast"):
        layer(ones(2, 5), gate_inputs=np.ones((2, 5), dtype))
    layer.build((None, 5))
    with refused("inputs", "floating", dtype, "keras.ops.cast"):
        layer.leaf_codes(np.ones((2, 5), dtype))
    with refused("gate_inputs", "floating", dtype, "keras.ops.cast"):
        layer.effective_kernel(ones(2, 5), np.ones((2, 5), dtype))


def test_inputs_of_rank_one():
    with refused("inputs", "rank of at least 2", r"\(5,\)", "batch axis"):
        TreeGatedDense(4, depth=2)(ones(5))
    layer = TreeGatedDense(4, depth=2)
    layer.build((None, 5))
    with pytest.raises(ValueError, match=r"min_ndim=2, found ndim=1"):
        layer(ones(5))


def test_an_unknown_last_dimension():
    with refused("inputs", "must be known", "None", "Define it"):
        TreeGatedDense(4, depth=2)(keras.Input((3, None)))
    layer = TreeGatedDense(4, depth=2)
    with refused("gate_inputs", "must be known", "None", "Define it"):
        layer(keras.Input((3, 5)), gate_inputs=keras.Input((3, None)))


def test_a_changed_input_width():
    layer = TreeGatedDense(4, depth=2)
    layer.build((None, 5))
    for method in (layer, layer.leaf_codes, layer.effective_kernel):
        with pytest.raises(ValueError, match=r"(?s)5.*6"):
            method(ones(2, 6))


def test_a_changed_gate_width():
    layer = TreeGatedDense(4, depth=2)
    layer.build((None, 5), (None, 7))
    with pytest.raises(ValueError, match=r"(?s)7.*8"):
        layer(ones(2, 5), gate_inputs=ones(2, 8))
    with pytest.raises(ValueError, match=r"(?s)7.*5"):
        layer(ones(2, 5))


@pytest.mark.parametrize("shape", [(3, 5), (2, 1, 5), (1, 5)])
def test_gate_inputs_of_other_leading_axes(shape):
    layer = TreeGatedDense(4, depth=2)
    received = re.escape(str(shape))
    with refused("gate_inputs", "leading axes", received, "TokenWindow"):
        layer(ones(2, 5), gate_inputs=ones(*shape))
    layer.build((None, 5))
    with refused("gate_inputs", "leading axes", received, "TokenWindow"):
        layer(ones(2, 5), gate_inputs=ones(*shape))


def test_something_else_than_a_gate():
    with refused("gate", "SignGate", "relu", "write"):
        TreeGatedDense(4, gate="relu")


def test_an_unknown_credit():
    with refused("credit", "'straight'", "crooked", "Leave it out"):
        TreeGatedDense(4, credit="crooked")


class Trained(SignGate):
    def build(self, input_shape):
        super().build(input_shape)
        self.add_weight(name="slope", shape=())


def test_a_gate_with_trainable_variables():
    layer = TreeGatedDense(3, depth=2, gate=Trained())
    with pytest.raises(
        ValueError, match=r"must not be trainable.*\['slope'\].*'Trained'"
    ):
        layer.build((None, 4))


def test_one_gate_for_two_layers():
    gate = SignGate(units=[[0, 1]])
    TreeGatedDense(4, 2, num_trees=1, gate=gate).build((None, 5))
    layer = TreeGatedDense(4, 2, num_trees=1, gate=gate)
    with pytest.raises(ValueError, match=r"(?s)another layer.*from_config"):
        layer.build((None, 5))


NEEDS_A_BUILT_LAYER = {
    "capacity": lambda layer: layer.capacity,
    "multiply_adds": lambda layer: layer.multiply_adds,
    "leaf_table": lambda layer: layer.leaf_table(),
    "leaf_codes": lambda layer: layer.leaf_codes(ones(2, 5)),
    "effective_kernel": lambda layer: layer.effective_kernel(ones(2, 5)),
}


@pytest.mark.parametrize("name", NEEDS_A_BUILT_LAYER)
def test_what_needs_a_built_layer(name):
    layer = TreeGatedDense(4, name="mine")
    with pytest.raises(ValueError, match=r"(?s)'mine' is not built.*build"):
        NEEDS_A_BUILT_LAYER[name](layer)
