"""Models that cannot be exported are refused before there is a file."""

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.trees import exported
from tests.export import runtimes

# Errors of formats that no layer at all is exported to.
NO_FORMAT = {
    "tensorflow": {"torch": "requires PyTorch backend"},
    "jax": {
        "litert": "requires TensorFlow or PyTorch backend",
        "torch": "requires PyTorch backend",
        "openvino": "whose files OpenVINO reads",
    },
    "torch": {"tf_saved_model": "dynamic_shapes|torch_xla"},
}[runtimes.BACKEND]

# The dtypes of tables that a format has no place for.
NO_DTYPE = {
    "tensorflow": [
        ("litert", "bfloat16"),
        ("litert", "float16"),
        ("openvino", "bfloat16"),
    ],
    "jax": [],
    "torch": [("litert", "bfloat16"), ("litert", "float16")],
}[runtimes.BACKEND]


def folded(dtype=None):
    layer = TreeGatedDense(4, depth=2, node_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input((8,)), layer])
    found = keras_treegate.fold(model, dtype=dtype)
    found(np.zeros((1, 8), "float32"))
    return found


def test_every_format_is_exported_or_refused():
    formats = {*runtimes.FORMATS, *NO_FORMAT}
    assert formats == set(runtimes.ENDINGS)


@pytest.mark.parametrize("file_format", NO_FORMAT)
def test_a_format_that_a_backend_has_not(file_format, tmp_path):
    with pytest.raises(Exception, match=NO_FORMAT[file_format]):
        runtimes.export(folded(), file_format, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_dtype_is_exported_or_refused(tmp_path):
    refused = {dtype for _, dtype in NO_DTYPE}
    for dtype in ("bfloat16", "float16"):
        model = folded(dtype)
        for file_format in runtimes.FORMATS:
            if (file_format, dtype) in NO_DTYPE:
                check_refused(model, file_format, dtype, tmp_path)
                continue
            folder = tmp_path / f"{dtype}_{file_format}"
            folder.mkdir()
            check_equal(model, file_format, folder)
    assert refused <= {"bfloat16", "float16"}


def check_refused(model, file_format, dtype, folder):
    message = f"must not compute with {dtype}.*format='{file_format}'"
    with pytest.raises(Exception, match=message):  # of Keras, with ours inside
        runtimes.export(model, file_format, folder)
    assert not (folder / f"model{runtimes.ENDINGS[file_format]}").exists()


def check_equal(model, file_format, folder):
    size = runtimes.batch_sizes(model, file_format)[-1]
    x = np.random.default_rng(0).normal(size=(size, 8)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x))
    path = runtimes.export(model, file_format, folder)
    found = runtimes.run(path, file_format, [x])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_more_leaves_than_float32_counts():
    codes = np.zeros((1, 2), "int32")
    exported.rows_of(codes, 2, 1, exported.MAX_ROWS // 2)
    with pytest.raises(ValueError, match="at most 16,777,216 leaves"):
        exported.rows_of(codes, 2, 2, exported.MAX_ROWS // 2)


def test_unknown_sizes_of_three_axes(tmp_path):
    # Only the exporter of JAX to ONNX needs to know them.
    layer = TreeGatedDense(4, depth=2, node_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input((3, 8)), layer])
    model(np.zeros((1, 3, 8), "float32"))
    path = tmp_path / "model.onnx"
    if runtimes.BACKEND != "jax":
        model.export(path, format="onnx", verbose=False)
        assert path.exists()
        return
    with pytest.raises(ValueError, match="two axes or known sizes"):
        model.export(path, format="onnx", verbose=False)
    assert not path.exists()
