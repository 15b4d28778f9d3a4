"""Pictures show the numbers they were given, and refuse what they cannot."""

import io
import sys

import keras
import numpy as np
import pytest

from keras_treegate import plotting
from keras_treegate.callbacks import GateEntropy, PathUtilization
from keras_treegate.optimizers import StepAwareAdam
from tests.callbacks.models import data, model_of, tree

VISITS = np.array([[8, 0, 4, 4], [3, 3, 3, 3]])
HISTORY = {
    "loss": [3.0, 2.0, 1.0],
    "gate_entropy": [0.5, 0.6, 0.7],
    "one/gate_entropy": [0.4, 0.5, 0.6],
    "val_gate_entropy": [0.3, 0.4, 0.5],
    "path_utilization": [1.0, 0.9, 0.8],
}


@pytest.fixture(scope="module")
def trained():
    """Returns a layer, and the history of its training."""
    layer = tree("tree", depth=3)
    model = model_of(layer)
    model.compile(StepAwareAdam(0.01), "mse", metrics=["mae"])
    x, y = data()
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        verbose=0,
        callbacks=[GateEntropy(), PathUtilization()],
    )
    return layer, history


def labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def drawn(figure):
    """Returns the bytes of the picture, which must be one."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")
    return stream.getvalue()


def test_every_picture_of_a_trained_layer_and_its_history(trained):
    layer, history = trained
    figures = [
        plotting.utilization(layer),
        plotting.icicle(layer, tree=1),
        plotting.curves(history),
        plotting.row_ages(layer),
        plotting.capacity({"trees": history}, metric="mae"),
    ]
    for figure in figures:
        assert len(drawn(figure)) > 5_000
        assert all(all(labels(axes)) for axes in figure.axes[:1])
    assert "tree" in figures[0].axes[0].get_title()


def test_utilization_shows_visits_over_an_even_share():
    axes = plotting.utilization(VISITS).axes[0]
    (image,) = axes.get_images()
    shown = image.get_array()
    np.testing.assert_allclose(shown.filled(0), [[2, 0, 1, 1], [1, 1, 1, 1]])
    assert shown.mask.tolist() == [[False, True, False, False], [False] * 4]
    assert labels(axes) == ("leaf code (of 4)", "tree")
    assert "87.5% of 8 leaves visited" in axes.get_title()
    assert "gate entropy 0.88" in axes.get_title()


def test_the_colour_of_an_even_share_is_in_the_middle_of_the_scale():
    figure = plotting.utilization(VISITS * 1000)
    norm = figure.axes[0].get_images()[0].norm
    assert float(norm(1.0)) == pytest.approx(0.5)
    ticks = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert ticks == ["1/2", "1", "2"]


def test_leaves_of_a_deep_tree_are_drawn_in_groups():
    visits = np.random.default_rng(0).integers(0, 9, size=(2, 2048))
    axes = plotting.utilization(visits).axes[0]
    shown = axes.get_images()[0].get_array()
    assert shown.shape == (2, 512)
    relative = visits / visits.sum(axis=1, keepdims=True) * 2048
    expected = relative.reshape(2, 512, 4).mean(axis=2)
    np.testing.assert_allclose(shown.filled(0), expected)
    assert "4 drawn as one" in axes.get_xlabel()


def test_icicle_shows_the_share_of_each_node():
    axes = plotting.icicle(VISITS).axes[0]
    widths = [
        [path.get_extents().width for path in level.get_paths()]
        for level in axes.collections
    ]
    assert widths == [[100.0], [50.0, 50.0], [50.0, 25.0, 25.0]]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["100", "50", "50", "50", "25", "25"]
    assert "1 of 4 leaves without one" in axes.get_title()


def test_icicle_names_the_units_that_gate(trained):
    layer, _ = trained
    axes = plotting.icicle(layer, tree=1).axes[0]
    shown = [text.get_text() for text in axes.get_yticklabels()]
    units = layer.gate.units[1]
    assert shown[1:] == [f"{n} (unit {u})" for n, u in enumerate(units, 1)]


def test_curves_have_a_line_for_each_series():
    figure = plotting.curves(HISTORY)
    entropy, utilization = figure.axes
    series = {line.get_label(): line for line in entropy.get_lines()}
    assert set(series) == {"mean of layers", "one", "mean of layers, held out"}
    mean = series["mean of layers"]
    np.testing.assert_array_equal(mean.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(mean.get_ydata(), HISTORY["gate_entropy"])
    assert series["mean of layers, held out"].get_linestyle() == "--"
    assert labels(utilization) == (
        "epoch",
        "path utilization (share of leaves)",
    )


def test_many_layers_are_drawn_in_grey():
    history = {f"layer_{n}/gate_entropy": [0.1, 0.2] for n in range(50)}
    (panel,) = plotting.curves(history).axes
    assert len(panel.get_lines()) == 50
    assert {line.get_label() for line in panel.get_lines()} == {
        "each of 50 layers"
    }


def test_row_ages_show_the_share_that_is_older():
    axes = plotting.row_ages([[0], [0, 7], [0, 3, 9, 9]]).axes[0]
    lines = axes.get_lines()
    np.testing.assert_array_equal(lines[1].get_xdata(), [0, 7])
    np.testing.assert_array_equal(lines[1].get_ydata(), [50, 0])
    np.testing.assert_array_equal(lines[2].get_ydata(), [75, 50, 0])


def test_row_ages_of_a_layer_are_those_of_its_optimizer(trained):
    layer, _ = trained
    lines = plotting.row_ages(layer).axes[0].get_lines()
    assert len(lines) == 4
    # 22 steps: the roots were written in the last, no row before the first.
    np.testing.assert_array_equal(lines[0].get_xdata(), [0])
    assert max(lines[3].get_xdata()) <= 22
    assert max(lines[3].get_xdata()) > 0


def test_capacity_draws_the_best_value_over_the_parameters(trained):
    _, history = trained
    runs = {"Dense": (1e4, 0.9), "trees": [(1e5, 0.95), (1e3, 0.91)]}
    runs["trained"] = history
    lines = plotting.capacity(runs, metric="mae").axes[0].get_lines()
    np.testing.assert_array_equal(lines[1].get_xdata(), [1e3, 1e5])
    np.testing.assert_array_equal(lines[1].get_ydata(), [0.91, 0.95])
    # Two trees of 15 nodes (3, 3), and a bias; no clocks, stamps or visits.
    assert lines[2].get_xdata() == [2 * 15 * 3 * 3 + 3]
    assert lines[2].get_ydata() == [max(history.history["mae"])]
    loss = plotting.capacity({"a": history}, metric="loss").axes[0]
    assert loss.get_lines()[0].get_ydata() == [min(history.history["loss"])]


REFUSED = {
    "visits that are no power of two": (
        lambda: plotting.utilization([[1, 2, 3]]),
        r"`source` must be a TreeGatedDense layer, or an array.*\(1, 3\)",
    ),
    "no visits": (
        lambda: plotting.utilization([[0, 0]]),
        "`source` must have visits",
    ),
    "no such tree": (
        lambda: plotting.icicle(VISITS, tree=2),
        "`tree` must be below the number of trees, 2",
    ),
    "no tree": (
        lambda: plotting.icicle(VISITS, tree=-1),
        "`tree` must be an integer of at least 0",
    ),
    "a history without the keys": (
        lambda: plotting.curves({"loss": [1.0]}),
        r"must have the key 'gate_entropy'.*Received: the keys \['loss'\]",
    ),
    "no history": (
        lambda: plotting.curves([1.0]),
        "`source` must be what `fit` returns",
    ),
    "ages of nothing": (
        lambda: plotting.row_ages([[]]),
        "a list of arrays of ages, one for each level",
    ),
    "ages of a number": (
        lambda: plotting.row_ages(3),
        "Received: 3",
    ),
    "no runs": (
        lambda: plotting.capacity({}),
        "`histories` must be a dictionary",
    ),
    "a run without the metric": (
        lambda: plotting.capacity({"a": HISTORY}),
        r"metric='val_accuracy', and 'a' has \['gate_entropy'",
    ),
    "a run of unknown size": (
        lambda: plotting.capacity({"a": HISTORY}, metric="loss"),
        "must tell how many parameters",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused(case):
    function, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        function()


def test_ages_need_an_optimizer_that_keeps_them():
    layer = tree("tree")
    model_of(layer)
    with pytest.raises(ValueError, match="whose optimizer keeps the ages"):
        plotting.row_ages(layer)


def test_a_missing_matplotlib_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plotting.icicle(VISITS)


def test_keras_history_is_what_fit_returns(trained):
    assert isinstance(trained[1], keras.callbacks.History)
