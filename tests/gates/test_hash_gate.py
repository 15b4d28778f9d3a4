"""The hash gate: its bits, how even they are, and where they are kept."""

import pathlib
import re
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate import credit, gates
from keras_treegate.gates import HashGate
from keras_treegate.layers import TokenWindow, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests import oracle
from tests.random_layers import assert_close, normal

TOKENS = np.random.default_rng(0).integers(-(2**31), 2**31, (37, 4))


def built(orders, depth, num_trees=3, width=4, **kwargs):
    gate = HashGate(orders, **{"seed": 5, **kwargs})
    gate.setup(num_trees, depth)
    gate.build((None, width))
    return gate


def codes_of(gate, tokens):
    return ops.convert_to_numpy(gate(np.asarray(tokens)))


def multipliers(gate):
    return [ops.convert_to_numpy(v).astype(object) for v in gate.variables]


@pytest.mark.parametrize(
    ("orders", "depth", "hashes"),
    [
        (1, 1, [(1, 1)]),
        (2, 10, [(2, 10)]),
        (3, 23, [(3, 10), (3, 10), (3, 3)]),
        ((1, 2), 5, [(1, 3), (2, 2)]),
        ((1, 2, 3), 9, [(1, 3), (2, 3), (3, 3)]),
        ((1, 4), 23, [(1, 10), (1, 2), (4, 10), (4, 1)]),
    ],
)
def test_codes_equal_the_oracle(orders, depth, hashes):
    gate = built(orders, depth)
    numbers, bits = zip(*hashes, strict=True)
    expected = oracle.hash_codes(TOKENS, *multipliers(gate), numbers, bits)
    found = codes_of(gate, TOKENS.astype("int32"))
    assert found.dtype == "int32"
    np.testing.assert_array_equal(found, expected)
    cube = TOKENS[:36].reshape(2, 3, 6, 4).astype("int32")
    np.testing.assert_array_equal(
        codes_of(gate, cube), expected[:36].reshape(2, 3, 6, 3)
    )


def test_a_seed_means_the_same_bits_for_ever():
    gate = built((1, 2), 8, num_trees=2, width=2, seed=1)
    tokens = [[0, 1], [7, 1], [-1, 255], [2**31 - 1, 50000]]
    assert codes_of(gate, np.array(tokens, "int32")).tolist() == FROZEN


FROZEN = [[244, 99], [247, 109], [21, 236], [254, 18]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
def test_a_token_of_any_integer_dtype_is_the_same(dtype):
    gate = built(2, 6)
    tokens = np.arange(120).reshape(30, 4)
    np.testing.assert_array_equal(
        codes_of(gate, tokens.astype(dtype)),
        codes_of(gate, tokens.astype("int32")),
    )


def test_bits_of_an_order_read_no_older_token():
    gate = built((1, 3), 6)
    codes = codes_of(gate, [[1, 2, 3, 4], [9, 9, 9, 4], [9, 2, 3, 4]])
    np.testing.assert_array_equal(codes[0] >> 3, codes[1] >> 3)
    assert np.all(codes[0] != codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])  # the fourth is not read


def worst_share(codes, leaves):
    """Returns the largest share of a leaf, as a multiple of an even one."""
    return max(
        np.bincount(tree, minlength=leaves).max() * leaves / len(tree)
        for tree in codes.T
    )


@pytest.mark.parametrize(("orders", "depth"), [(2, 8), ((1, 2, 3), 9)])
def test_leaves_of_random_tokens_are_even(orders, depth):
    # There are 2^16 examples over at most 512 leaves.
    random = np.random.default_rng(1)
    tokens = random.integers(0, 50000, (2**16, 4)).astype("int32")
    codes = codes_of(built(orders, depth, num_trees=8), tokens)
    drawn = random.integers(0, 2**depth, codes.shape)
    for tree in codes.T:
        assert len(np.unique(tree)) == 2**depth
    assert worst_share(codes, 2**depth) < 1.2 * worst_share(drawn, 2**depth)


def test_neighbouring_tokens_are_spread_like_random_ones():
    # A vocabulary in order, as bytes are: every bit is balanced in it.
    tokens = np.arange(4096, dtype="int32")[:, None]
    codes = codes_of(built(1, 4, num_trees=32, width=1), tokens)
    expected = 4096 / 16
    for tree in codes.T:
        counts = np.bincount(tree, minlength=16)
        assert counts.min() > 0.6 * expected
        assert counts.max() < 1.4 * expected
    pairs = codes[:, :1] == codes[:, 1:]  # trees tell apart different pairs
    assert pairs.mean() == pytest.approx(1 / 16, abs=0.02)


def test_leaves_of_text_are_as_even_as_its_contexts_allow():
    # The text is this file, in pairs of bytes: few contexts are most of it.
    text = np.frombuffer(pathlib.Path(__file__).read_bytes(), "uint8")
    tokens = np.stack([text[:-1], text[1:]], axis=-1)
    codes = codes_of(built(2, 6, num_trees=16, width=2), tokens)
    _, counts = np.unique(tokens, axis=0, return_counts=True)
    largest = counts.max() / len(tokens)
    for tree in codes.T:
        shares = np.bincount(tree, minlength=64) / len(tree)
        assert shares.min() > 0
        # The largest context falls somewhere, on top of an even share.
        assert shares.max() < largest + 4 / 64
        entropy = -np.sum(shares * np.log2(shares)) / 6
        assert entropy > 0.85


def test_a_fresh_seed_is_kept(tmp_path):
    first, second = HashGate(), HashGate()
    assert first.seed != second.seed
    again = HashGate.from_config(first.get_config())
    assert again.seed == first.seed
    assert gates.get(keras.saving.serialize_keras_object(first)).seed == (
        first.seed
    )


def text_model(gate=None, **kwargs):
    """Returns a model of texts whose trees read the last two tokens."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, 6)(tokens)
    layer = TreeGatedDense(
        5,
        **{"depth": 4, "num_trees": 3, "levels": "ends", **kwargs},
        gate=HashGate((1, 2), seed=3) if gate is None else gate,
        name="tree",
    )
    y = layer(x, gate_inputs=TokenWindow(2)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(11)(y))
    return model, layer


TEXTS = np.random.default_rng(2).integers(0, 11, (8, 7))


def trained():
    model, layer = text_model()
    model.compile(
        StepAwareAdam(0.01, weight_decay=0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(TEXTS, TEXTS, epochs=2, batch_size=4, verbose=0)
    return model, layer


def test_a_model_trains_is_saved_folded_and_counts_its_visits(tmp_path):
    model, layer = trained()
    assert layer.leaf_visits.sum() == 2 * TEXTS.size * 3
    expected = model.predict(TEXTS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(TEXTS, verbose=0), expected)
    folded = keras_treegate.fold(model)
    assert_close(folded.predict(TEXTS, verbose=0), expected)
    small = keras_treegate.fold(model, dtype="int8")
    assert_close(small.predict(TEXTS, verbose=0), expected, 0.05)


def test_weights_bring_their_multipliers_along(tmp_path):
    model, _ = trained()
    other, layer = text_model(HashGate((1, 2), seed=99))
    before = ops.convert_to_numpy(layer.gate(TEXTS[:, :2]))
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    assert_close(
        other.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0)
    )
    assert np.any(ops.convert_to_numpy(layer.gate(TEXTS[:, :2])) != before)
    # And so do transforms, whatever the seed in the config says.
    deeper = keras_treegate.grow(other, depth=6)
    assert_close(
        deeper.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0)
    )


@pytest.mark.parametrize("depth", [5, 14, 25])
def test_grown_gates_keep_the_bits_there_are(depth):
    gate = built((1, 2), 4)
    deeper = gate.with_depth(depth, np.random.default_rng())
    deeper.setup(3, depth)
    deeper.build((None, 4))
    deeper.take_over(gate)
    tokens = TOKENS.astype("int32")
    old, new = codes_of(gate, tokens), codes_of(deeper, tokens)
    np.testing.assert_array_equal(new >> (depth - 4), old)
    assert deeper.bits == (2, depth - 2)
    shorter = deeper.with_depth(3, np.random.default_rng())
    assert (shorter.orders, shorter.bits) == ((1, 2), (2, 1))
    one = deeper.with_depth(2, np.random.default_rng())
    assert (one.orders, one.bits) == ((1,), (2,))


def test_a_pruned_model_keeps_its_outputs_where_it_was_visited():
    model, layer = trained()
    rows = [np.zeros((3, 16), int)]
    codes = np.array(
        layer.gate(ops.convert_to_numpy(TokenWindow(2)(TEXTS)))
    ).reshape(-1, 3)
    for tree in range(3):
        rows[0][tree] = np.bincount(codes[:, tree], minlength=16)
    pruned = keras_treegate.prune(model, visits={"tree": rows[0]})
    assert_close(
        pruned.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0)
    )


def test_a_pruned_model_may_lose_all_its_levels():
    model, _ = trained()
    visits = np.ones((3, 16), int)
    pruned = keras_treegate.prune(model, min_visits=2, visits={"tree": visits})
    new = pruned.get_layer("tree")
    assert (new.depth, new.levels) == (0, (0,))
    assert pruned.predict(TEXTS, verbose=0).shape == (8, 7, 11)


WRONG = [
    ("orders", 0),
    ("orders", (2, 1)),
    ("orders", (1, 1)),
    ("orders", ()),
    ("orders", "12"),
    ("orders", (1, 2.5)),
    ("orders", True),
    ("seed", -1),
    ("bits", (1, 2)),
    ("bits", 0),
]


@pytest.mark.parametrize(("argument", "value"), WRONG)
def test_arguments_that_are_none_are_refused(argument, value):
    message = rf"(?s)`{argument}` must .*Received: .*\. [A-Z].*"
    with pytest.raises(ValueError, match=message):
        HashGate(**{argument: value})


@pytest.mark.parametrize(
    ("orders", "depth", "bits", "message"),
    [
        (5, 5, None, "`gate_inputs` must have at least as many tokens"),
        ((1, 2, 3), 2, None, "`orders` must be at most as many as the bits"),
        ((1, 2), 0, None, "`orders` must be at most as many as the bits"),
        ((1, 2), 4, (3, 2), "`bits` must add up to `depth`, which is 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(orders, depth, bits, message):
    layer = TreeGatedDense(
        2, depth=depth, num_trees=2, gate=HashGate(orders, bits=bits)
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(normal(3, 6), gate_inputs=np.ones((3, 4), "int32"))
    assert not layer.variables


def test_a_layer_without_tokens_is_told_to_take_them():
    layer = TreeGatedDense(2, depth=2, gate=HashGate())
    with pytest.raises(ValueError, match="`gate_inputs` must be given"):
        layer(normal(3, 6))
    with pytest.raises(ValueError, match="`gate_inputs` must have an integer"):
        layer(normal(3, 6), gate_inputs=normal(3, 4))
    assert not layer.variables
    layer(normal(3, 6), gate_inputs=np.ones((3, 4), "int32"))
    with pytest.raises(ValueError, match="`gate_inputs` must be given"):
        layer(normal(3, 6))
    with pytest.raises(ValueError, match="`gate_inputs` must have an integer"):
        layer.leaf_codes(normal(3, 6), gate_inputs=normal(3, 4))


@pytest.mark.parametrize("name", ["reinforce", "noisy_rectifier"])
def test_credit_that_trains_gates_is_refused(name):
    with pytest.raises(ValueError, match="(?s)`credit` must be 'straight'"):
        TreeGatedDense(2, gate=HashGate(), credit=name)
    assert credit.get("straight").needs_activations is False


def test_leaves_without_a_context_are_no_collapse():
    # One text of one token: a single leaf in each tree is all there is.
    model, _ = text_model()
    model.compile("sgd", "mse")
    callbacks = [
        keras_treegate.callbacks.PathUtilization(),
        keras_treegate.callbacks.GateEntropy(probe=TEXTS),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*collapsed")
        history = model.fit(
            np.full((8, 7), 3),
            np.zeros((8, 7, 11)),
            verbose=0,
            callbacks=callbacks,
        )
    assert "tree/routing_churn" not in history.history
    assert history.history["tree/path_utilization"][0] < 0.5
