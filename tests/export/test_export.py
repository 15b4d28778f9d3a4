"""Files for other runtimes: the same numbers as in Keras.

An export takes seconds. So one file holds every form of a layer side by side,
and each test looks at the outputs of one of them.
"""

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.gates import HashGate, SignGate
from keras_treegate.layers import TokenWindow, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from keras_treegate.trees import exported
from tests.export import runtimes

INPUTS, UNITS, TOKENS, VOCABULARY = 18, 8, 2, 50
EXAMPLES = 64

each_format = pytest.mark.parametrize("file_format", runtimes.FORMATS)


def random():
    return np.random.default_rng(0)


def examples():
    """Draws inputs, some next to 0, and tokens, some of no vocabulary."""
    x = random().normal(size=(EXAMPLES, INPUTS)).astype("float32")
    x[5], x[6, ::2], x[7] = 0, -1e-39, 1e-39
    tokens = random().integers(0, VOCABULARY, (EXAMPLES, TOKENS))
    tokens[3:6] = [[-1, -1], [2**31 - 1, -(2**31)], [2**24 + 1, -300]]
    return [x, tokens.astype("int32")]


def tree_model(gate, **options):
    """Makes a model of one tree layer, whose nodes are drawn and owe decay."""
    x = keras.Input((INPUTS,))
    tokens = keras.Input((TOKENS,), dtype="int32")
    read = {"gate_inputs": tokens} if gate.reads_integers else {}
    options = {"depth": 3, "num_trees": 4} | options
    layer = TreeGatedDense(
        UNITS,
        gate=gate,
        node_initializer="glorot_uniform",
        bias_initializer="glorot_uniform",
        **options,
    )
    model = keras.Model([x, tokens], layer(x, **read))
    for level in layer.tree_levels:
        level.clock.assign([-1.0, 1e-9])
        level.stamps.assign(random().uniform(-1, 0, level.stamps.shape))
    return model, layer


def sign_gate(**options):
    return SignGate(seed=0, **options)


def hash_gate():
    return HashGate(orders=(1, 2), seed=0)


def running_mean():
    model, layer = tree_model(sign_gate(threshold="running_mean"))
    layer.gate.set_means(random().normal(size=INPUTS), 1)
    return model


def pruned():
    """Makes a folded model, some of whose leaves are equal and stored once."""
    model, layer = tree_model(sign_gate())
    nodes = layer.nodes[-1].numpy()
    nodes[nodes.shape[0] // 2 :: 2] = 0
    nodes[1::2] = nodes[::2] = nodes[:1] * 0
    layer.nodes[-1].assign(nodes)
    folded = keras_treegate.fold(model)
    (layer,) = [x for x in folded.layers if hasattr(x, "slots")]
    assert layer.slots is not None
    return folded


def forms():
    """Returns models by name, each of both inputs and with names of its own.

    PyTorch finds the weights of a model by their names.
    """
    found = {}
    for name, gate in {"sign": sign_gate, "hash": hash_gate}.items():
        found[f"{name}, tree"], *others = (
            tree_model(gate())[0] for _ in range(3)
        )
        found[f"{name}, folded"] = keras_treegate.fold(others[0])
        found[f"{name}, int8"] = keras_treegate.fold(others[1], dtype="int8")
    found["running mean, tree"] = running_mean()
    found["pruned"] = pruned()
    scaled = tree_model(sign_gate(), credit="noisy_rectifier")
    found["noisy rectifier"] = scaled[0]
    found["reinforce"] = tree_model(sign_gate(), credit="reinforce")[0]
    found["ends"] = tree_model(sign_gate(), levels="ends", num_trees=None)[0]
    found["depth 0"] = tree_model(sign_gate(), depth=0)[0]
    for form, dtype in {"folded": "float32", "int8": "int8"}.items():
        root = tree_model(sign_gate(), depth=0)[0]
        found[f"depth 0, {form}"] = keras_treegate.fold(root, dtype=dtype)
    return found


NAMES = (
    *(
        f"{gate}, {form}"
        for gate in ("sign", "hash")
        for form in ("tree", "folded", "int8")
    ),
    "running mean, tree",
    "pruned",
    "noisy rectifier",
    "reinforce",
    "ends",
    "depth 0",
    "depth 0, folded",
    "depth 0, int8",
)


def side_by_side(models):
    """Returns a model that computes what all do, side by side."""
    inputs = [
        keras.Input((INPUTS,), name="x"),
        keras.Input((TOKENS,), dtype="int32", name="tokens"),
    ]
    outputs = []
    for number, model in enumerate(models):
        model.name = f"form_{number}"
        outputs.append(model(inputs))
    return keras.Model(inputs, keras.layers.Concatenate()(outputs))


@pytest.fixture(scope="module")
def all_forms():
    """Returns the model of all forms, and what Keras says they compute."""
    models = forms()
    assert tuple(models) == NAMES
    model = side_by_side(models.values())
    return model, computed(model, examples())


@pytest.fixture(scope="module")
def outputs(all_forms, tmp_path_factory):
    """Returns a function of a format: what its file computes, by batch size."""
    made = {}

    def of_format(file_format):
        if file_format not in made:
            folder = tmp_path_factory.mktemp(file_format)
            made[file_format] = exported_outputs(
                all_forms[0], examples(), file_format, folder
            )
        return made[file_format]

    return of_format


def exported_outputs(model, arrays, file_format, folder):
    path = runtimes.export(model, file_format, folder)
    return {
        size: runtimes.run(path, file_format, [x[:size] for x in arrays])
        for size in runtimes.batch_sizes(model, file_format)
    }


def computed(model, arrays):
    outputs = model(arrays[0] if len(arrays) == 1 else arrays)
    return keras.ops.convert_to_numpy(outputs)


def assert_equal(expected, found):
    for size, values in found.items():
        np.testing.assert_allclose(values, expected[:size], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@each_format
def test_a_file_computes_what_keras_computes(
    all_forms, outputs, file_format, name
):
    expected, found = all_forms[1], outputs(file_format)
    first = NAMES.index(name) * UNITS
    columns = slice(first, first + UNITS)
    assert np.ptp(expected[:, columns], axis=0).min() > 0.1
    assert_equal(
        expected[:, columns],
        {size: values[:, columns] for size, values in found.items()},
    )


@pytest.mark.parametrize("gate", [sign_gate, hash_gate])
def test_a_tree_that_was_trained(gate, tmp_path):
    # ONNX is the one format that all backends export to.
    model, layer = tree_model(gate())
    x = examples()
    y = random().normal(size=(EXAMPLES, UNITS))
    model.compile(StepAwareAdam(0.01, weight_decay=0.1), "mse")
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    layer.tree_levels[-1].clock.assign([-1.0, 1e-9])  # some decay is owed
    expected = computed(model, x)
    assert np.ptp(expected, axis=0).min() > 0.1
    found = exported_outputs(model, x, "onnx", tmp_path)
    assert_equal(expected, found)


@each_format
def test_a_layer_of_a_language_model(file_format, tmp_path, monkeypatch):
    # It has inputs of three axes, a window of tokens, a product in parts.
    monkeypatch.setattr(exported, "CHUNK", 2 * 4 * UNITS)
    tokens = keras.Input((6,), dtype="int32")
    x = keras.Input((6, 16))
    layer = TreeGatedDense(
        UNITS,
        depth=4,
        num_trees=4,
        levels="ends",
        node_initializer="glorot_uniform",
        gate=HashGate(orders=(1, 2), seed=0),
        activation="relu",
    )
    y = layer(x, gate_inputs=TokenWindow(2)(tokens))
    model = keras_treegate.fold(keras.Model([x, tokens], y), dtype="int8")
    given = [
        random().normal(size=(EXAMPLES, 6, 16)).astype("float32"),
        random().integers(0, VOCABULARY, (EXAMPLES, 6)).astype("int32"),
    ]
    expected = computed(model, given)
    found = exported_outputs(model, given, file_format, tmp_path)
    assert_equal(expected, found)


@each_format
def test_an_int8_table_is_int8_in_the_file(file_format, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((64,)),
            TreeGatedDense(
                64,
                depth=4,
                num_trees=16,
                node_initializer="glorot_uniform",
            ),
        ]
    )
    sizes = {}
    for dtype in ("float32", "int8"):
        folder = tmp_path / dtype
        folder.mkdir()
        folded = keras_treegate.fold(model, dtype=dtype)
        folded(np.zeros((1, 64), "float32"))
        path = runtimes.export(folded, file_format, folder)
        sizes[dtype] = runtimes.size_of(path)
    table = 64 * 64 * 2**4
    assert sizes["float32"] > 4 * table
    assert sizes["float32"] - sizes["int8"] > 2.5 * table
