"""The study of upcycling and growing runs, and tells all."""

import io
import json
import re
import sys
import types

import numpy as np
import pytest

from benchmarks import __main__, transforms
from benchmarks.quality import tasks
from keras_treegate.layers import TreeGatedDense
from tutorials.tfds_builders import source_text


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Returns what a run wrote and printed, and each fit's depth and steps."""
    text = np.random.default_rng(0).integers(0, 256, 4000).astype("uint8")
    source = types.SimpleNamespace(
        texts=(text, text[::-1]), python="3", checksum="0"
    )
    fitted, fit, digits = [], transforms.fit, tasks.digits

    def noted_fit(model, *rest):
        fit(model, *rest)
        trees = (x for x in model.layers if isinstance(x, TreeGatedDense))
        depth = next((layer.depth for layer in trees), None)
        fitted.append((depth, int(model.optimizer.iterations)))

    def few_digits(*arguments):
        task = digits(*arguments)
        return task._replace(validation=[x[:64] for x in task.validation])

    folder = tmp_path_factory.mktemp("transforms")
    options = ["--seeds=1", "--digits-steps=1", "--steps=5", "--units=8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "VALIDATION_BYTES", 64)
        patch.setattr(tasks, "digits", few_digits)
        patch.setattr(source_text, "read", lambda folder=None: source)
        patch.setattr(transforms, "SCHEDULES", ((1,), (0, 2)))
        patch.setattr(transforms, "fit", noted_fit)
        patch.setattr(sys, "stdout", io.StringIO())
        arguments = ["transforms", *options, f"--output={folder}"]
        assert __main__.main(arguments) == 0
        printed = sys.stdout.getvalue()
    found = json.loads((folder / "transforms.json").read_text())
    return found, printed, fitted


def test_both_studies_run_and_are_written(study):
    found, printed, _ = study
    (digits,) = found["digits"]
    assert all(
        0 <= digits[name] <= 1 for name in ("before", "dense", "upcycled")
    )
    assert [row["depths"] for row in found["bytes"]] == [[1], [0, 2]]
    assert all(row["bits_per_byte"] > 7 for row in found["bytes"])
    assert re.search(r"^mean +0\.", printed, re.M)
    assert re.search(r"^0, 2 +4 +\d", printed, re.M)


def test_a_tree_that_grows_has_its_last_depth_and_all_steps(study):
    found, _, fitted = study
    assert [row["steps"] for row in found["bytes"]] == [5, 4]
    assert fitted[-3:] == [(1, 5), (0, 2), (2, 4)]


def test_the_tree_and_dense_are_trained_for_as_many_steps(study):
    # Dense, its tree, whose optimizer is new, and Dense with its own optimizer.
    _, _, fitted = study
    assert fitted[:3] == [(None, 1), (4, 1), (None, 2)]


def test_a_number_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["transforms", "--steps", "0"])
    message = capsys.readouterr().err
    assert "must be integers of at least 1. Received: '0'" in message
