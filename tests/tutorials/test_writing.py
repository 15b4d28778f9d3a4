"""A byte at a time is what the whole window computes."""

import keras
import numpy as np
import pytest

import keras_treegate
from tests.tutorials.running import TUTORIALS


@pytest.fixture(scope="module")
def writing():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TUTORIALS))
        import writing

        yield writing


@pytest.fixture(scope="module")
def model():
    return keras_treegate.load_saved_model("byte_language_model_folded")


TEXT = np.frombuffer(
    b"import os\n\n\ndef main(arguments):\n    return", "uint8"
)


def test_a_saved_model_step_by_step(writing, model):
    tokens = np.zeros((1, model.input_shape[1]), "int32")
    tokens[0, : len(TEXT)] = TEXT
    whole = model.predict(tokens, verbose=0)[0]
    assert np.ptp(whole, axis=0).min() > 0.1
    network = writing.Cached(model)
    network.read(TEXT[:5])
    for place in range(5, len(TEXT)):
        np.testing.assert_allclose(
            network.next(int(TEXT[place])), whole[place], atol=1e-4
        )
    # A window that is full begins anew with its second half.
    network.read(TEXT[:32])
    text = list(TEXT[:32])
    for byte in [*TEXT, *TEXT]:
        logits = network.next(int(byte))
        text.append(int(byte))
    assert 32 < len(network.text) <= 64
    tokens[0, : len(network.text)] = text[-len(network.text) :]
    whole = model.predict(tokens, verbose=0)[0, len(network.text) - 1]
    np.testing.assert_allclose(logits, whole, atol=1e-4)


def test_a_text_is_drawn_and_goes_on_past_the_window(writing, model):
    network = writing.Cached(model)
    first = writing.write(network, "import ", 70, seed=1)
    again = writing.write(network, "import ", 70, seed=1)
    other = writing.write(network, "import ", 70, seed=2)
    assert first == again != other
    assert first.startswith("import ")
    speeds = writing.bytes_per_second({"trees": network}, 3, rounds=1)
    assert speeds["trees"] > 0


def test_a_window_of_the_last_bytes(writing):
    tokens = keras.Input((4,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(256, 8)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(256)(x))
    network = writing.Window(model, with_torch_compile=False)

    def expected(text):
        return model.predict_on_batch(np.array([list(text)], "int32"))[0]

    found = network.read(b"ab")
    np.testing.assert_allclose(found, expected(b"\n\nab"), atol=1e-5)
    found = [network.next(byte) for byte in b"cde"][-1]
    np.testing.assert_allclose(found, expected(b"bcde"), atol=1e-5)
    assert len(writing.write(network, "ab", 5).encode()) >= 7
