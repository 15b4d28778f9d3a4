"""A sparse embedding computes what `keras.layers.Embedding` computes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.layers import SparseEmbedding
from tests.layers.embeddings import ROWS, UNITS, table

BACKEND = keras.backend.backend()
SHAPES = [(), (3,), (2, 3), (2, 1, 5), (40, 2)]
# Those that the framework has arithmetic for.
DTYPES = {
    "jax": ["int8", "int16", "int32", "uint8", "uint16", "uint32"],
    "tensorflow": ["int8", "int16", "int32", "int64", "uint8", "uint32"],
    "torch": ["int8", "int16", "int32", "int64", "uint8"],
}[BACKEND]


def numpy(x):
    return ops.convert_to_numpy(x)


def ids_of(*shape, least=0):
    return np.random.default_rng(0).integers(least, ROWS, shape)


def sparse(**options):
    return SparseEmbedding(ROWS, UNITS, weights=table(), **options)


def keras_embedding(**options):
    return keras.layers.Embedding(ROWS, UNITS, weights=table(), **options)


@pytest.mark.parametrize("shape", SHAPES)
def test_ids_of_any_shape(shape):
    ids = ops.convert_to_tensor(ids_of(*shape), dtype="int32")
    np.testing.assert_array_equal(numpy(sparse()(ids)), table()[numpy(ids)])


@pytest.mark.parametrize("dtype", [*DTYPES, "float32", "bool"])
def test_ids_of_any_dtype(dtype):
    ids = ops.convert_to_tensor(ids_of(2, 3).astype(dtype))
    found = numpy(sparse()(ids))
    np.testing.assert_array_equal(found, numpy(keras_embedding()(ids)))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (2, 0)])
def test_batches_of_no_ids(shape):
    y = sparse()(ops.zeros(shape, dtype="int32"))
    assert tuple(y.shape) == (*shape, UNITS)


def test_a_step_with_no_ids_is_a_step():
    layer = sparse()
    model = keras.Sequential([keras.Input((2,), dtype="int32"), layer])
    model.compile("sgd", "mse", run_eagerly=BACKEND != "jax")
    none = np.zeros((0, 2), "int32"), np.zeros((0, 2, UNITS), "float32")
    model.train_on_batch(*none)
    found = layer.embeddings.numpy()
    # The mean over nothing has no value; no other row may have got it.
    np.testing.assert_array_equal(found[1:], table()[1:])


def test_negative_ids_count_from_the_end():
    ids = ops.convert_to_tensor(ids_of(5, 4, least=-ROWS), dtype="int32")
    found = numpy(sparse()(ids))
    assert np.any(numpy(ids) < 0)
    np.testing.assert_array_equal(found, numpy(keras_embedding()(ids)))


@pytest.mark.parametrize("outside", [ROWS, -ROWS - 1, 2**31 - 1])
def test_ids_of_no_row(outside):
    ids = np.array([[1, outside, 2]], dtype="int32")
    if BACKEND != "jax":
        error = f"`inputs` must be ids from 0 to {ROWS - 1}, or negative"
        with pytest.raises(Exception, match=error):
            sparse()(ids)
        return
    y = numpy(sparse()(ids))[0]
    assert np.all(np.isnan(y[1]))
    np.testing.assert_array_equal(y[[0, 2]], table()[[1, 2]])


@pytest.mark.parametrize("few", [False, True])
def test_ids_of_no_row_train_none(few):
    layer = sparse()
    model = keras.Sequential(
        [layer, keras.layers.Lambda(lambda y: ops.where(ops.isnan(y), 0.0, y))]
    )
    model.compile("sgd", "mse", jit_compile=BACKEND != "torch")
    ids = np.array([[1, ROWS + 5]] if few else [[1, ROWS + 5]] * ROWS)
    targets = np.ones((*ids.shape, UNITS))
    if BACKEND == "torch":
        with pytest.raises(IndexError, match="`inputs` must be ids"):
            model.train_on_batch(ids, targets)
    else:
        model.train_on_batch(ids, targets)
    changed = np.any(numpy(layer.embeddings) != table(), axis=1)
    np.testing.assert_array_equal(
        np.flatnonzero(changed), [] if BACKEND == "torch" else [1]
    )


# --- Masks, dtypes, models -------------------------------------------------


def test_the_mask_of_padding():
    ids = np.array([[3, 0, 4], [0, 0, 1]], dtype="int32")
    inputs = keras.Input((3,), dtype="int32")
    outputs = []
    for layer in sparse(mask_zero=True), keras_embedding(mask_zero=True):
        pooled = keras.layers.GlobalAveragePooling1D()(layer(inputs))
        outputs.append(keras.Model(inputs, pooled).predict(ids, verbose=0))
    np.testing.assert_allclose(*outputs, rtol=1e-6)
    np.testing.assert_allclose(outputs[0][1], table()[1], rtol=1e-6)


def test_there_is_no_mask_unless_it_is_asked_for():
    assert sparse().compute_mask(ops.zeros((2, 3), "int32")) is None
    assert not sparse().supports_masking


def test_no_mask_of_the_hidden_states_of_a_reverse():
    layer = sparse(mask_zero=True)
    ids = keras.Input((3,), dtype="int32")
    model = keras.Model(ids, layer(layer(ids), reverse=True))
    y = model.predict(np.array([[3, 0, 4]]), verbose=0)
    expected = table()[[[3, 0, 4]]] @ table().T
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(
    "policy", ["float16", "mixed_bfloat16", "mixed_float16", "bfloat16"]
)
def test_dtypes_are_those_of_keras(policy):
    ours, theirs = sparse(dtype=policy), keras_embedding(dtype=policy)
    ids = ops.convert_to_tensor(ids_of(2, 3), dtype="int32")
    found, expected = ours(ids), theirs(ids)
    assert found.dtype == expected.dtype
    assert ours.embeddings.dtype == theirs.embeddings.dtype
    found, expected = (ops.cast(y, "float32") for y in (found, expected))
    np.testing.assert_array_equal(numpy(found), numpy(expected))


@pytest.mark.parametrize("places", [None, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_symbolic_shapes(places, reverse):
    layer = sparse(dtype="mixed_bfloat16")
    inputs = keras.Input((places,), dtype="int32")
    y = layer(inputs)
    assert (y.shape, y.dtype) == ((None, places, UNITS), "bfloat16")
    y = layer(y, reverse=True)
    assert (y.shape, y.dtype) == ((None, places, ROWS), "bfloat16")
    assert layer.compute_output_shape((2, 3)) == (2, 3, UNITS)
    assert layer.compute_output_shape((2, UNITS), reverse=True) == (2, ROWS)


def test_reading_pays_what_a_row_owes():
    layer = sparse()
    layer.table.clock.assign(np.log([0.25, 1.0]))
    halved = np.zeros((ROWS, 2))
    halved[:, 0] = np.log(0.5)
    layer.table.stamps.assign(halved)
    for ids in (ids_of(2, 3), ids_of(40, 2)):  # fewer and more than the rows
        expected = table()[ids] / 2
        np.testing.assert_allclose(numpy(layer(ids)), expected, rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(2, UNITS)).astype("float32")
    logits = numpy(layer(x, reverse=True))
    np.testing.assert_allclose(logits, x @ (table().T / 2), rtol=1e-4)
    layer.settle()
    np.testing.assert_allclose(layer.embeddings.numpy(), table() / 2, rtol=1e-6)


def test_weights_are_those_of_keras_and_the_state_of_the_decay():
    layer = sparse()
    names = [variable.name for variable in layer.weights]
    assert names == ["embeddings", "clock", "stamps"]
    assert tuple(layer.embeddings.shape) == (ROWS, UNITS)
    again = SparseEmbedding(ROWS, UNITS)
    again.build()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again.embeddings.numpy(), table())


def test_the_config_makes_an_equal_layer():
    layer = SparseEmbedding(
        ROWS, UNITS, "zeros", mask_zero=True, name="a", dtype="mixed_float16"
    )
    again = SparseEmbedding.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


# --- What is refused, before anything is allocated -------------------------

REFUSED = {
    "`input_dim` must be an integer": {"input_dim": 0},
    "`input_dim` must be": {"input_dim": 2.5},
    "`output_dim` must be an integer": {"output_dim": "3"},
    "`mask_zero` must be": {"mask_zero": 1},
    "`embeddings_initializer` must be": {"embeddings_initializer": "none"},
    "`embeddings_regularizer` must be left out": {
        "embeddings_regularizer": "l2"
    },
    "`embeddings_constraint` must be left out": {
        "embeddings_constraint": "non_neg"
    },
    "`weights` must be an array of shape": {"weights": np.zeros((3, 2))},
    "must make a table of at most 64 GiB": {
        "input_dim": 2**31 - 1,
        "output_dim": 64,
    },
    "`dtype` must not be the policy of a quantized": {
        "dtype": "int8_from_float32"
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_arguments_that_are_refused(message):
    given = {"input_dim": 9, "output_dim": 4} | REFUSED[message]
    with pytest.raises(ValueError, match=f"(?s){message}.*Received") as found:
        SparseEmbedding(**given)
    if "left out" in message:
        assert "Use the `weight_decay` of a step-aware" in str(found.value)


def test_penalties_of_none_are_taken_as_those_of_keras():
    config = keras.layers.Embedding(ROWS, UNITS).get_config()
    kept = {"embeddings_regularizer", "embeddings_constraint", "name"}
    given = {name: config[name] for name in kept}
    SparseEmbedding(ROWS, UNITS, **given)


@pytest.mark.parametrize(
    ("inputs", "reverse", "message"),
    [
        ([[1, 2]], False, "must be one tensor"),
        (
            keras.KerasTensor((2, 3), "int32", sparse=True),
            False,
            "must be a dense tensor of id",
        ),
        (np.ones((2, UNITS + 1), "float32"), True, "a last axis of `output_d"),
        (np.ones((2, UNITS), "int32"), True, "must have a floating dtype"),
        (np.ones((2,), "int32"), 1, "`reverse` must be"),
    ],
)
def test_inputs_that_are_refused(inputs, reverse, message):
    layer = SparseEmbedding(ROWS, UNITS)
    with pytest.raises(ValueError, match=f"(?s){message}.*Received"):
        layer(inputs, reverse=reverse)
    assert not layer.built


def test_a_symbol_that_keras_takes_for_sparse_is_accepted():
    ids = keras.Input((3,), dtype="int32")
    model = keras.Model(ids, SparseEmbedding(ROWS, UNITS)(ids * 2))
    assert model(np.zeros((2, 3), "int32")).shape == (2, 3, UNITS)


def test_embeddings_of_a_layer_that_is_not_built():
    with pytest.raises(ValueError, match="must be built.*Received"):
        _ = SparseEmbedding(ROWS, UNITS).embeddings
