"""Windows of tokens, against a loop."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.layers import TokenWindow


def windows(tokens, length):
    found = np.full((*tokens.shape, length), -1)
    for (text, place), _ in np.ndenumerate(tokens):
        for age in range(min(length, place + 1)):
            found[text, place, length - 1 - age] = tokens[text, place - age]
    return found


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_windows_equal_a_loop(length, dtype):
    tokens = np.random.default_rng(0).integers(0, 200, (3, 7)).astype(dtype)
    found = ops.convert_to_numpy(TokenWindow(length)(tokens))
    assert found.dtype == "int32"
    np.testing.assert_array_equal(found, windows(tokens, length))


@pytest.mark.parametrize("places", [None, 7])
def test_a_model_of_texts_of_any_length(places, tmp_path):
    tokens = keras.Input((places,), dtype="int32")
    window = TokenWindow(3)(tokens)
    assert window.shape == (None, places, 3)
    assert window.dtype == "int32"
    model = keras.Model(tokens, window)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for length in (7,) if places else (1, 7):
        texts = np.arange(2 * length).reshape(2, length)
        np.testing.assert_array_equal(
            loaded.predict(texts, verbose=0), windows(texts, 3)
        )


def test_a_mask_passes_through():
    window = TokenWindow(2)
    tokens = ops.convert_to_tensor(np.array([[1, 2, 0]]))
    mask = ops.convert_to_tensor([[True, True, False]])
    found = window.compute_mask(tokens, mask)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), mask)


@pytest.mark.parametrize("length", [0, -1, 2.5, "3", True, None])
def test_lengths_that_are_none_are_refused(length):
    with pytest.raises(ValueError, match="`length` must be an integer"):
        TokenWindow(length)


@pytest.mark.parametrize("tokens", [np.ones((2, 3)), [[1, 2]]])
def test_what_is_no_tokens_is_refused(tokens):
    with pytest.raises(ValueError, match="`inputs` must"):
        TokenWindow(2)(tokens)


def test_tokens_of_other_axes_are_refused():
    with pytest.raises(ValueError, match="ndim"):
        TokenWindow(2)(np.ones((2, 3, 4), "int32"))
