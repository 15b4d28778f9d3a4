"""The numbers that both callbacks write to `logs`, and who finds them."""

import csv

import keras
import numpy as np
import pytest

from keras_treegate.callbacks import GateEntropy, PathUtilization
from keras_treegate.layers import TreeGatedDense
from tests.callbacks.models import (
    BATCH,
    EXAMPLES,
    data,
    entropy_of,
    model_of,
    nested_model,
    tree,
    visits_of,
)

BOTH = {"gate_entropy": GateEntropy, "path_utilization": PathUtilization}
both = pytest.mark.parametrize("key", BOTH)
STEPS = [1] if keras.backend.backend() == "torch" else [1, 3]


class KeepLogs(keras.callbacks.Callback):
    """Keeps what callbacks after ours find in `logs`."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


def fit(model, *callbacks, epochs=1, examples=EXAMPLES):
    x, y = data(examples=examples)
    return model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks],
    )


@pytest.mark.parametrize("steps", STEPS)
def test_they_equal_a_numpy_count_of_the_same_batches(steps):
    layer = tree("tree", depth=4)
    model = model_of(layer, steps_per_execution=steps)
    history = fit(model, GateEntropy(), PathUtilization(), epochs=2).history
    visits = visits_of(layer, data()[0])  # no gate moves: it reads the inputs
    entropy, used = entropy_of(visits), np.mean(visits > 0)
    assert 0 < used < 1
    for name in ("", "tree/"):
        assert history[f"{name}gate_entropy"] == pytest.approx([entropy] * 2)
        assert history[f"{name}path_utilization"] == pytest.approx([used] * 2)


def test_held_out_data_are_measured_in_place_of_training():
    layer = tree("tree", depth=4, count_visits=False)
    x, y = data(seed=1, examples=21)
    callbacks = [
        GateEntropy(data=(x, y), batch_size=8),
        PathUtilization(data=x, warn_below=None),
    ]
    history = fit(model_of(layer), *callbacks).history
    visits = visits_of(layer, x)
    assert history["val_gate_entropy"] == pytest.approx([entropy_of(visits)])
    expected = [np.mean(visits > 0)]
    assert history["val_tree/path_utilization"] == pytest.approx(expected)
    assert "gate_entropy" not in history


def test_layers_of_one_name_in_nested_models_are_told_apart():
    history = fit(nested_model(), GateEntropy(), PathUtilization()).history
    keys = [key for key in history if key.endswith("same/gate_entropy")]
    assert len(keys) == 2
    mean = np.mean([history[key][0] for key in keys])
    assert history["gate_entropy"] == pytest.approx([mean])


def test_other_callbacks_find_the_keys(tmp_path):
    layer = tree("tree")
    file = tmp_path / "log.csv"
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5",
        "gate_entropy",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    fit(
        model_of(layer),
        GateEntropy(details=True),
        PathUtilization(details=True),
        keras.callbacks.CSVLogger(file),
        checkpoint,
        keras.callbacks.EarlyStopping("path_utilization", mode="max"),
        keras.callbacks.ReduceLROnPlateau(monitor="gate_entropy", mode="max"),
        epochs=4,
        examples=16,
    )
    rows = list(csv.DictReader(file.open()))
    assert len(rows) == 2  # stopped: the utilization stays as it is
    keys = {*BOTH, "bit_balance", "dead_leaves", "decay_debt"}
    assert keys | {f"tree/{key}" for key in keys} <= set(rows[0])
    assert float(rows[0]["gate_entropy"]) == pytest.approx(checkpoint.best)


def test_every_n_batches_the_epoch_so_far_is_in_the_logs():
    layer = tree("tree", depth=3)
    kept = KeepLogs()
    x, y = data()
    model_of(layer).fit(
        x,
        y,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[
            GateEntropy(every_n_batches=2),
            PathUtilization(every_n_batches=4),
            kept,
        ],
    )
    assert len(kept.batches) == 6
    for key, oracle, every in (
        ("gate_entropy", entropy_of, 2),
        ("path_utilization", lambda visits: np.mean(visits > 0), 4),
    ):
        for batch, logs in enumerate(kept.batches):
            assert (key in logs) == (batch >= every)
            if batch >= every:
                seen = visits_of(layer, x[: batch // every * every * BATCH])
                assert logs[key] == pytest.approx(oracle(seen))
        assert kept.epochs[0][key] == pytest.approx(oracle(visits_of(layer, x)))


def test_visits_of_earlier_training_and_a_reset_do_not_disturb():
    layer = tree("tree", depth=4)
    model = model_of(layer)
    first = fit(model, GateEntropy()).history["gate_entropy"]

    class Reset(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].reset_visits()

    second = fit(model, GateEntropy(), Reset()).history["gate_entropy"]
    assert second == pytest.approx(first)
    assert layer.leaf_visits.sum() == 2 * EXAMPLES


def test_a_model_that_fit_builds_is_measured_in_its_first_epoch():
    layer = tree("tree", depth=4)
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    probe = data(seed=2)[0]
    history = fit(model, GateEntropy(probe=probe), PathUtilization()).history
    expected = entropy_of(visits_of(layer, data()[0]))
    assert history["gate_entropy"] == pytest.approx([expected])
    assert history["routing_churn"] == [0.0]


@both
def test_a_model_without_a_tree_is_an_error(key):
    message = r"must be given to the `fit` of a model with a TreeGatedDense"
    for layers in ([keras.layers.Dense(3)], [TreeGatedDense(3, depth=0)]):
        with pytest.raises(ValueError, match=message):
            fit(model_of(*layers), BOTH[key]())


@both
def test_layers_that_do_not_count_need_data(key):
    model = model_of(tree("tree", count_visits=False))
    with pytest.raises(ValueError, match=r"Received: data=None.*Pass `data=`"):
        fit(model, BOTH[key]())


def test_a_frozen_layer_is_left_out_with_a_warning():
    frozen, layer = tree("frozen"), tree("other")
    frozen.trainable = False
    model = model_of(frozen, layer)
    with pytest.warns(UserWarning, match="'frozen' routed no example"):
        history = fit(model, GateEntropy(), PathUtilization()).history
    for key in BOTH:
        assert f"frozen/{key}" not in history
        assert history[key] == history[f"other/{key}"]


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_batches": 0}, "`every_n_batches` must be an integer"),
        ({"batch_size": 0.5}, "`batch_size` must be an integer"),
        ({"data": iter([1])}, "`data` must be an array.*more than once"),
        ({"data": 7}, "Received: data=7"),
    ],
)
def test_arguments_that_cannot_be_are_refused(key, arguments, message):
    with pytest.raises(ValueError, match=message):
        BOTH[key](**arguments)


def test_a_line_is_printed_for_each_layer_and_epoch(capsys):
    model = model_of(tree("first"), tree("second"))
    fit(model, GateEntropy(verbose=1), PathUtilization(), epochs=2)
    lines = capsys.readouterr().out.splitlines()
    starts = [" ".join(line.split()[:4]) for line in lines]
    assert starts == [
        f"epoch {epoch} {name} gate_entropy"
        for epoch in (1, 2)
        for name in ("first", "second")
    ]
    assert all(line.count("(trees ") == 1 for line in lines)


class PutBack(keras.callbacks.Callback):
    """Puts back, when an epoch ends, the weights of the end of another."""

    def __init__(self, saved, restored):
        super().__init__()
        self.saved, self.restored = saved, restored

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.saved:
            self.weights = self.model.get_weights()
        if epoch in self.restored:
            self.model.set_weights(self.weights)


@pytest.mark.parametrize("verbose", [0, 1])
def test_an_epoch_whose_visits_were_put_back_is_not_measured(
    verbose, tmp_path, capsys
):
    layer = tree("tree", depth=4)
    model = model_of(layer)
    arguments = {"verbose": verbose, "log_dir": tmp_path, "details": True}
    with pytest.warns(UserWarning, match="cannot be measured") as caught:
        history = fit(
            model,
            PutBack(0, (2, 4)),
            GateEntropy(probe=data()[0], **arguments),
            PathUtilization(**arguments),
            epochs=6,
        ).history
    told = [w for w in caught if "went down" in str(w.message)]
    assert len(told) == 2  # once for each callback
    lost = [False, False, True, False, True, False]
    for key in ("gate_entropy", "path_utilization", "tree/bit_balance"):
        np.testing.assert_array_equal(np.isnan(history[key]), lost)
        assert len(set(np.array(history[key])[~np.array(lost)])) == 1
    for key in ("routing_churn", "dead_leaves", "decay_debt"):
        assert np.isfinite(history[key]).all()
    assert ("nan" in capsys.readouterr().out) == bool(verbose)


def test_visits_put_back_to_the_start_of_the_epoch_are_told_of():
    with pytest.warns(UserWarning, match="put back to those that the epoch"):
        fit(model_of(tree("tree")), PutBack(0, (1,)), GateEntropy(), epochs=2)


@both
def test_batches_after_visits_were_put_back_are_not_measured(key):
    class Rewind(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3:
                self.model.layers[0].visits.low.assign(np.zeros(2 * 4, "int32"))

    layer, kept = tree("tree"), KeepLogs()
    model = model_of(layer)
    fit(model)
    callback = BOTH[key](every_n_batches=4)
    with pytest.warns(UserWarning, match="cannot be measured"):
        fit(model, Rewind(), callback, kept)
    assert all(key not in logs for logs in kept.batches)
    assert np.isnan(kept.epochs[0][key])


def test_another_model_is_warned_about_anew():
    callback = GateEntropy()
    for _ in range(2):
        frozen = tree("frozen")
        frozen.trainable = False
        with pytest.warns(UserWarning, match="'frozen' routed no example"):
            fit(model_of(frozen, tree("other")), callback)


def test_nothing_of_a_fit_that_broke_off_is_left(capsys):
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("broken off")

    callback = GateEntropy(verbose=1)
    with pytest.raises(RuntimeError, match="broken off"):
        fit(model_of(tree("first")), callback, Break())
    fit(model_of(tree("second")), callback)
    out = capsys.readouterr().out
    assert "second" in out
    assert "first" not in out
