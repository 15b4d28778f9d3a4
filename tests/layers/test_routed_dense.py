"""Tree layers and folded ones refuse the same inputs and calls."""

import re

import keras
import numpy as np
import pytest
import scipy.sparse

import keras_treegate
from keras_treegate.credit import Reinforce
from keras_treegate.layers import FoldedTreeDense, TreeGatedDense

LAYERS = {"tree": TreeGatedDense, "folded": FoldedTreeDense}
each_layer = pytest.mark.parametrize("kind", LAYERS)
X = np.eye(4, dtype="float32")


def sparse_tensors():
    """Returns the sparse tensors of the framework, by name."""
    backend = keras.backend.backend()
    symbolic = keras.KerasTensor((None, 4), sparse=True)
    found = {"scipy": scipy.sparse.csr_matrix(X), "symbolic": symbolic}
    if backend == "tensorflow":
        import tensorflow as tf

        found["SparseTensor"] = tf.sparse.from_dense(X)
        found["RaggedTensor"] = tf.RaggedTensor.from_tensor(X)
    elif backend == "jax":
        from jax.experimental import sparse

        found["BCOO"] = sparse.BCOO.fromdense(X)
        found["BCSR"] = sparse.BCSR.fromdense(X)
    else:
        import torch

        found["coo"] = torch.tensor(X).to_sparse()
        found["csr"] = torch.tensor(X).to_sparse_csr()
    return found


@each_layer
@pytest.mark.parametrize("name", sparse_tensors())
def test_sparse_inputs_are_refused(kind, name):
    layer, given = LAYERS[kind](2, depth=1), sparse_tensors()[name]
    message = (
        "(?s)`inputs` must be a dense tensor.*Received: a sparse.*"
        f"{type(given).__name__}.*convert_to_tensor"
    )
    with pytest.raises(ValueError, match=message):
        layer(given)
    assert layer.variables == []
    with pytest.raises(ValueError, match=message.replace("`inp", "`gate_inp")):
        layer(X, gate_inputs=given)
    assert layer.variables == []


@each_layer
def test_a_symbol_that_keras_takes_for_sparse_is_accepted(kind):
    x = keras.Input((4,))
    scaled = x * 2
    assert scaled.sparse  # since Keras takes the number for sparse
    model = keras.Model(
        x, LAYERS[kind](2, depth=1)(scaled, gate_inputs=2 * x), name="scaled"
    )
    assert model(X).shape == (4, 2)


@each_layer
def test_sparse_symbols_of_inputs_are_refused(kind):
    # Under PyTorch, Keras refuses such an input itself.
    with pytest.raises(ValueError, match="must be a dense tensor|not support"):
        LAYERS[kind](2, depth=1)(keras.Input((4,), sparse=True))


def test_a_folded_layer_takes_the_masks_that_keras_names_after_inputs():
    x = keras.Input((5, 4))
    mask = keras.ops.any(x != 0, axis=-1)
    layer = TreeGatedDense(2, depth=1, name="tree")
    model = keras.Model(x, layer(x, inputs_mask=mask))
    folded = keras_treegate.fold(model)
    inputs = np.eye(5, 4, dtype="float32")[None]
    np.testing.assert_allclose(
        folded.predict(inputs, verbose=0),
        model.predict(inputs, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )


def test_sparse_inputs_of_methods_are_refused():
    layer = TreeGatedDense(2, depth=1)
    layer.build(X.shape)
    for name, given in sparse_tensors().items():
        if name != "symbolic":
            for method in (layer.leaf_codes, layer.effective_kernel):
                with pytest.raises(ValueError, match="must be a dense tensor"):
                    method(given)


@each_layer
@pytest.mark.parametrize("given", [None, "x", [X, X], {"x": X}, 3.0])
def test_inputs_that_are_no_tensor_are_refused(kind, given):
    message = (
        r"(?s)`inputs` must be one tensor.*Received: .*"
        f"{type(given).__name__}.*gate_inputs"
    )
    with pytest.raises(ValueError, match=message):
        LAYERS[kind](2, depth=1)(given)


@each_layer
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (8, r"shape of `inputs` must be a tuple.*Received: shape=8"),
        ((None, 0), r"`inputs.shape\[-1\]` must be an integer of at least 1"),
        ([(None, 4), (None, 4)], r"`inputs.shape\[-1\]` must be an integer"),
        ((None, "8"), r"`inputs.shape\[-1\]` must be an integer.*'8'"),
        ((None, 2**40), r"`inputs.shape\[-1\]` must be .* at most 2147483647"),
    ],
)
def test_shapes_that_are_none_are_refused(kind, shape, message):
    layer = LAYERS[kind](2, depth=1)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        layer.build(shape)
    assert layer.variables == []


@pytest.mark.parametrize("name", ["kernel_regularizer", "kernel_constraint"])
def test_penalties_of_a_dense_kernel_name_the_weight_decay(name):
    value = {
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "kernel_constraint": "max_norm",
    }[name]
    message = rf"(?s)`{name}` must be left out.*Received: {name}=.*weight_decay"
    with pytest.raises(ValueError, match=message):
        TreeGatedDense(2, **{name: value})
    TreeGatedDense(2, **{name: None})


FOLD = re.escape('keras_treegate.fold(model, dtype="int8")')


def model_of(layer):
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="dense"), layer]
    )


@each_layer
@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantizing_a_layer_is_refused(kind, mode):
    layer = LAYERS[kind](2, depth=1, name="mine")
    model_of(layer)
    with pytest.raises(
        NotImplementedError,
        match=f"(?s)'mine'.*Received: mode='{mode}'.*{FOLD}",
    ):
        layer.quantize(mode)


@pytest.mark.parametrize("where", ["in a model", "in a wrapper", "deeper"])
@pytest.mark.parametrize("kind", [*LAYERS, "reinforce"])
def test_quantizing_a_model_does_the_others_and_warns(kind, where):
    layer = LAYERS.get(kind, TreeGatedDense)(2, depth=1, name="mine")
    if kind == "reinforce":
        layer = TreeGatedDense(2, depth=1, credit=Reinforce(), name="mine")
    if where == "in a wrapper":
        layer = keras.Sequential(
            [
                keras.layers.Reshape((1, 4)),
                keras.layers.TimeDistributed(layer),
            ]
        )
    elif where == "deeper":
        layer = keras.Sequential([keras.Input((4,)), layer])
    model = model_of(layer)
    before = model.predict(X, verbose=0)
    with pytest.warns(UserWarning, match=f"(?s)mine.*int8.*{FOLD}") as told:
        model.quantize("int8")
    assert len([w for w in told if "of the trees" in str(w.message)]) == 1
    assert model.get_layer("dense").quantization_mode == "int8"
    after = model.predict(X, verbose=0)
    np.testing.assert_allclose(after, before, atol=0.05)


@each_layer
def test_the_policy_of_a_quantized_layer_is_refused(kind):
    with pytest.raises(
        ValueError, match=f"(?s)`dtype` must not.*int8_from_float32.*{FOLD}"
    ):
        LAYERS[kind](2, dtype="int8_from_float32")


def test_what_the_messages_name_works():
    model = model_of(TreeGatedDense(2, depth=1))
    folded = keras_treegate.fold(model, dtype="int8")
    y, z = model.predict(X, verbose=0), folded.predict(X, verbose=0)
    np.testing.assert_allclose(y, z, atol=0.05)
