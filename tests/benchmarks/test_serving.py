"""The benchmark of serving runs and tells; how long it takes is not asked."""

import json

import keras
import numpy as np
import pytest

from benchmarks import serving
from benchmarks.__main__ import main
from keras_treegate import layers

BACKEND = keras.backend.backend()
STACK = serving.Contest("layer", units=8, layers=2, depth=2, trees=4)
BYTES = serving.Contest("bytes", units=32, layers=1, depth=3, trees=16)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    arguments = f"serving --quick --backend {BACKEND} --units 8 --trees 4 "
    arguments += (
        f"--dtypes float32 int8 --rounds 2 --seconds 0.001 --output {folder}"
    )
    status = main(arguments.split())
    found = json.loads((folder / "serving.json").read_text())
    assert status == 0, found["failures"]
    assert found["left_out"] == []
    assert (folder / "serving.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "serving.txt").read_text()
    assert found["command"] in text
    return found


def test_a_row_for_each_runtime_and_table(found):
    cases = [
        (row["kind"], row["units"], row["runtime"], row["name"])
        for row in found["rows"]
    ]
    assert cases == [
        (kind, units, runtime, name)
        for kind, units in (("layer", 8), ("bytes", 32))
        for runtime in serving.RUNTIMES[BACKEND, kind]
        for name in ("dense", "float32", "int8")
    ]
    assert found["versions"][BACKEND]


def test_ratios_are_of_one_round_and_one_runtime(found):
    for row in found["rows"]:
        (base,) = [
            one
            for one in found["rows"]
            if one["name"] == "dense"
            and all(one[of] == row[of] for of in ("kind", "units", "runtime"))
        ]
        ratios = [
            mine / other
            for mine, other in zip(row["turns"], base["turns"], strict=True)
        ]
        assert row["over"]["min"] == pytest.approx(min(ratios))
        assert len(row["turns"]) == 2


@pytest.mark.parametrize("contest", [STACK, BYTES], ids=["layer", "bytes"])
def test_examples_take_other_paths(contest):
    # A tree that was not drawn would fold to one leaf and be fast for it.
    model = serving.build_network(contest, "float32")
    examples = serving.draw_examples(model)
    assert examples[0].shape[0] == 1
    folded = [x for x in model.layers if isinstance(x, layers.FoldedTreeDense)]
    assert len(folded) == contest.layers
    for layer in folded:
        assert layer.table.shape[0] == layer.num_trees * 2**contest.depth
    outputs = np.concatenate([model.predict_on_batch(x) for x in examples[:3]])
    assert np.ptp(outputs, axis=0).min() > 0


def test_networks_fit_a_cache_or_do_not():
    class Given:
        units, trees, quick, kinds = (4096, 64, 1024), 64, False, ("layer",)

    sizes = [(one.units, one.layers) for one in serving.contests(Given)]
    assert sizes == [(64, 4), (1024, 16), (4096, 2)]


def test_deeper_trees_rival_the_widest_network_for_bytes():
    class Given:
        units, trees, quick, kinds = (64,), 64, False, ("bytes",)

    found = serving.contests(Given)
    assert [(one.units, one.depth) for one in found] == [
        *((128, 6), (512, 6), (1152, 9))
    ]
    assert {one.kind for one in found} == {"bytes"}


def test_backends_that_are_not_there_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["serving", "--units", "8"])
    assert "`--trees` must be at most `--units`, 8" in capsys.readouterr().err
