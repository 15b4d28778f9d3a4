"""`PathUtilization` alone has collapse, dead leaves and decay debt."""

import warnings

import numpy as np
import pytest

from keras_treegate.callbacks import PathUtilization
from keras_treegate.callbacks.path_utilization import load_strip
from keras_treegate.optimizers import StepAwareSGD
from tests.callbacks.models import WIDTH, data, model_of, tree, visits_of


def positive(examples=64):
    random = np.random.default_rng(0)
    return random.exponential(size=(examples, WIDTH)).astype("float32")


def fit_positive(threshold, epochs=1, depth=2):
    model = model_of(tree("tree", depth=depth, threshold=threshold))
    callback = PathUtilization()
    history = model.fit(
        positive(),
        np.zeros((64, 3)),
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=[callback],
    )
    return history.history["path_utilization"]


@pytest.mark.parametrize("depth", [1, 4])
def test_a_collapsed_model_is_reported_once_in_its_first_epoch(depth):
    with pytest.warns(UserWarning, match="its routing has collapsed") as caught:
        used = fit_positive("zero", epochs=2, depth=depth)
    assert used == [1 / 2**depth] * 2
    (message,) = [
        str(warning.message)
        for warning in caught
        if "collapsed" in str(warning.message)
    ]
    assert "'tree'" in message
    for help_ in ("running_mean", "fewer bits", "normalization"):
        assert help_ in message


def test_the_same_model_with_a_running_mean_is_not():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert fit_positive("running_mean")[0] > 0.9
    assert not [w for w in caught if "collapsed" in str(w.message)]


def test_few_examples_in_a_deep_tree_are_no_collapse():
    x, y = data(examples=12)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model_of(tree("tree", depth=6)).fit(
            x, y, verbose=0, callbacks=[PathUtilization()]
        )
    assert history.history["path_utilization"][0] < 0.2
    assert not [w for w in caught if "collapsed" in str(w.message)]


def test_dead_leaves_are_those_never_visited():
    layer = tree("tree", depth=3)
    model = model_of(layer)
    (x, y), callback = data(), PathUtilization(details=True, warn_below=None)
    dead = []
    for part in (x[:3], x[3:9]):
        history = model.fit(
            part, y[: len(part)], verbose=0, callbacks=[callback]
        )
        dead += history.history["dead_leaves"]
    expected = [np.mean(visits_of(layer, x[:n]) == 0) for n in (3, 9)]
    assert dead == pytest.approx(expected)
    assert dead[0] > dead[1] > 0


def test_decay_debt_is_what_idle_rows_owe():
    layer = tree("tree", depth=2)
    model = model_of(layer)
    model.compile(StepAwareSGD(0.5, weight_decay=0.2), "mse")
    x, y = data()
    one = np.repeat(x[:1], 8, axis=0)  # one path in each tree
    history = model.fit(
        one,
        y[:8],
        batch_size=2,
        verbose=0,
        callbacks=[PathUtilization(details=True, warn_below=None)],
    )
    # In each tree of 7 rows, 4 off the path owe all four steps of 10%.
    expected = 4 / 7 * (1 - 0.9**4)
    assert history.history["decay_debt"] == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("warn_below", [-0.1, 1.5, "low"])
def test_a_threshold_that_is_no_share_is_refused(warn_below):
    with pytest.raises(ValueError, match="`warn_below` must be `None` or a"):
        PathUtilization(warn_below=warn_below)


STRIPS = {
    "even": ([[2, 2, 2, 2]], "++++"),
    "collapsed": ([[0, 9, 0, 0]], "@   "),
    "sorted in each tree": ([[0, 9, 0, 0], [3, 0, 0, 0]], "@   "),
    "half": ([[4, 0, 4, 0]], "@@  "),
}


@pytest.mark.parametrize("case", STRIPS)
def test_the_strip_of_loads(case):
    visits, expected = STRIPS[case]
    assert load_strip(np.array(visits)) == expected


def test_many_leaves_take_a_line_of_their_own_at_most():
    assert len(load_strip(np.ones((2, 4096), dtype=int))) == 32
