"""TensorBoard reads the files that the callbacks write."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_treegate.callbacks import GateEntropy, PathUtilization
from tests.callbacks.models import data, model_of, tree, visits_of

WITHOUT_TENSORFLOW = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("event_file", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
file = module.event_file(sys.argv[2])
file.scalar("number", 1.5, 3)
file.histogram("numbers", [1, 2, 2], 3)
file.flush()
assert "tensorflow" not in sys.modules, "TensorFlow was imported"
assert list(pathlib.Path(sys.argv[2]).iterdir())
"""


def read(folder):
    """Returns what TensorBoard's own reader finds in a folder."""
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(
        str(folder), size_guidance={"tensors": 0, "histograms": 0}
    )
    events.Reload()
    return events


def test_a_run_is_read_back_by_tensorboard(tmp_path):
    layer = tree("tree", depth=3)
    x, y = data()
    history = model_of(layer).fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[
            GateEntropy(log_dir=tmp_path, every_n_batches=4),
            PathUtilization(log_dir=tmp_path),
        ],
    )
    assert len(list(tmp_path.iterdir())) == 1  # both write to one file
    events = read(tmp_path)
    for key in ("gate_entropy", "tree/gate_entropy", "path_utilization"):
        scalars = events.Scalars(key)
        assert [scalar.step for scalar in scalars] == [0, 1]
        values = [scalar.value for scalar in scalars]
        assert values == pytest.approx(history.history[key], rel=1e-6)
    steps = [scalar.step for scalar in events.Scalars("batch_gate_entropy")]
    assert steps == [4, 10]  # of six in an epoch
    details = {"bit_balance", "tree/dead_leaves", "decay_debt"}
    assert details <= set(events.Tags()["scalars"])
    histogram = events.Histograms("tree/leaf_visits")[1].histogram_value
    visits = visits_of(layer, x)
    assert histogram.num == visits.size
    assert histogram.sum == visits.sum()
    assert (histogram.min, histogram.max) == (visits.min(), visits.max())
    assert sum(histogram.bucket) == visits.size


def test_tensorflow_is_not_needed(tmp_path):
    module = sys.modules[GateEntropy.__mro__[1].__module__]
    file = module.event_file.__globals__["__file__"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, file, tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (number,) = read(tmp_path).Scalars("number")
    assert (number.value, number.step) == (1.5, 3)


@pytest.mark.parametrize("callback", [GateEntropy, PathUtilization])
def test_a_missing_tensorboard_is_told_at_construction(callback, monkeypatch):
    name = "tensorboard.summary.writer.record_writer"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        callback(log_dir="logs")
    callback()


def test_a_second_fit_writes_to_the_same_folder(tmp_path):
    callback = GateEntropy(log_dir=tmp_path)
    model = model_of(tree("tree"))
    x, y = data()
    for epoch in range(2):
        model.fit(
            x,
            y,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=[callback],
        )
    steps = [scalar.step for scalar in read(tmp_path).Scalars("gate_entropy")]
    np.testing.assert_array_equal(steps, [0, 1])


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_was_deleted_is_begun_anew(whole, tmp_path):
    folder = tmp_path / "logs"

    class Delete(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                for file in folder.iterdir():
                    file.unlink()
                if whole:
                    folder.rmdir()

    x, y = data()
    model_of(tree("tree")).fit(
        x,
        y,
        epochs=3,
        verbose=0,
        callbacks=[
            Delete(),
            GateEntropy(log_dir=folder),
            PathUtilization(log_dir=folder),
        ],
    )
    assert len(list(folder.iterdir())) == 1
    for key in ("gate_entropy", "path_utilization"):
        steps = [scalar.step for scalar in read(folder).Scalars(key)]
        assert steps == [1, 2]


def test_a_file_deleted_after_a_fit_that_broke_off_is_begun_anew(tmp_path):
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("broken off")

    callback, (x, y) = GateEntropy(log_dir=tmp_path), data()
    with pytest.raises(RuntimeError, match="broken off"):
        model_of(tree("tree")).fit(
            x, y, verbose=0, callbacks=[callback, Break()]
        )
    for file in tmp_path.iterdir():
        file.unlink()
    model_of(tree("tree")).fit(x, y, verbose=0, callbacks=[callback])
    assert [scalar.step for scalar in read(tmp_path).Scalars("gate_entropy")]
