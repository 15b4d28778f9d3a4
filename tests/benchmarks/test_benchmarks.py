"""Each benchmark, run once in tiny sizes; how long it takes is not asked."""

import json
import re
from contextlib import nullcontext

import keras
import pytest

from benchmarks import memory
from benchmarks.__main__ import main

BACKEND = keras.backend.backend()
TURNS = "--rounds 2 --seconds 0.001"
RUNS = {
    "inference": "--models dense tree naive --batch 1 3 --units 4 --depth 2 "
    f"--trees 2 {TURNS}",
    "training": f"--batch 3 --units 4 --depth 2 --trees 2 {TURNS}",
    "peers": "--peers tree dense --work step --batch 3 --units 4 --hidden 4 "
    f"--depth 2 --trees 2 {TURNS}",
    # One of two sizes does not fit into 3 MB.
    "accelerator": "--batch 3 --units 8 512 --depth 2 --trees 2 --memory 0.003 "
    f"--work step forward --minutes 5 {TURNS}",
    # Large enough to ask for pages of memory.
    "memory": "--batch 256 --units 16 --depth 1 2 --trees 2 "
    "--optimizers StepAwareSGD",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, in_this_process):
    """Returns what a benchmark found, and the folder that it wrote to."""
    done = {}

    def run(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name) / "new"
            arguments = [name, "--backend", BACKEND, *RUNS[name].split()]
            # One contest is held as it is in use, in another process.
            context = nullcontext if name == "inference" else in_this_process
            with context():
                status = main([*arguments, "--output", str(folder)])
            found = json.loads((folder / f"{name}.json").read_text())
            assert status == 0, found["failures"]
            done[name] = found, folder
        return done[name]

    return run


@pytest.mark.parametrize("name", RUNS)
def test_the_run_is_told_and_written(results, name):
    found, folder = results(name)
    assert f"benchmarks {name} --backend" in found["command"]
    assert found["versions"][BACKEND]
    assert found["machine"]
    assert found["failures"] == []
    text = (folder / f"{name}.txt").read_text()
    assert found["machine"] in text
    assert found["command"] in text
    picture = folder / f"{name}.png"
    # A step so small may take no page that can be measured, in all rounds.
    measured = name != "memory" or any(
        row["step"] and row["step"]["median"] > 0 for row in found["rows"]
    )
    assert picture.exists() == measured
    if measured:
        assert picture.read_bytes().startswith(b"\x89PNG")
    (columns,) = {len(row) for row in found["rows"]}
    assert columns > 10


def test_inference_has_a_row_for_each_model_and_batch(results):
    found, _ = results("inference")
    rows = [(row["batch"], row["name"]) for row in found["rows"]]
    models = ("dense", "tree", "naive")
    assert rows == [(batch, name) for batch in (1, 3) for name in models]
    for row in found["rows"]:
        assert row["work"] == "forward"
        assert len(row["turns"]) == 2
        assert row["touched_bytes"] is None or row["name"] == "tree"


def test_an_accelerator_gets_what_its_memory_holds(results):
    found, folder = results("accelerator")
    rows = [(row["work"], row["name"]) for row in found["rows"]]
    assert rows == [
        *(("step", "dense"), ("step", "large-dense")),
        *(("step", "StepAwareAdam"), ("step", "Adam")),
        *(("forward", "dense"), ("forward", "large-dense")),
        *(("forward", "naive"), ("forward", "tree")),
        *(("forward", "folded"), ("forward", "int8")),
    ]
    assert {row["units"] for row in found["rows"]} == {8}
    for row in found["rows"]:
        assert row["device_name"] == ""  # on CPU
        of_rows = row["name"] in ("StepAwareAdam", "tree")
        assert (row["limit"] is not None) == of_rows
    assert len(found["left_out"]) == len(rows)
    text = (folder / "accelerator.txt").read_text()
    assert "left out: Adam, step, batch 3, 512 units" in text


def test_what_there_is_no_time_for_is_told(tmp_path, in_this_process):
    arguments = ["accelerator", *RUNS["accelerator"].split()]
    arguments += ["--minutes", "1e-9", "--backend", BACKEND]
    with in_this_process():
        assert main([*arguments, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "accelerator.json").read_text())
    assert found["rows"] == []
    assert f"{BACKEND}: no time for 4 of 4 sizes" in found["left_out"]


def test_training_has_gradients_and_steps_of_every_optimizer(results):
    rows = results("training")[0]["rows"]
    names = {work: [] for work in ("gradients", "step")}
    for row in rows:
        names[row["work"]].append(row["name"])
    assert names["gradients"] == ["dense", "naive", "tree"]
    assert {"dense Adam", "naive SGD", "tree StepAwareSGD", "tree Adam"} < set(
        names["step"]
    )
    for row in rows:
        step_aware = "StepAware" in row["name"]
        assert (row["limit"] is not None) == step_aware
        assert row["over"]["median"] > 0


def test_ratios_are_of_one_round(results):
    for name in ("inference", "training", "peers"):
        for row in results(name)[0]["rows"]:
            base = results(name)[0]["rows"][0]
            if row["work"] != base["work"] or row["batch"] != base["batch"]:
                continue
            ratios = [
                mine / other
                for mine, other in zip(row["turns"], base["turns"], strict=True)
            ]
            assert row["over"]["min"] == pytest.approx(min(ratios))


def test_memory_tells_of_each_depth(results):
    found, _ = results("memory")
    first, second = found["rows"]
    assert (first["depth"], second["depth"]) == (1, 2)
    assert (
        second["parameter_bytes"] > first["parameter_bytes"] > 3 * 16 * 16 * 4
    )
    assert first["first_bytes"] >= 0
    assert (first["compiled"] is not None) == (BACKEND == "jax")


def test_growth_of_memory_is_from_the_least_depth_to_the_most():
    row = {"backend": "b", "optimizer": "o", "parameter_bytes": 10}
    rows = [
        row | {"depth": depth, "step": {"median": median}}
        for depth, median in ((1, 5), (2, 6), (3, 15))
    ]
    rows[2]["parameter_bytes"] = 40
    (found,) = memory.growth(rows)
    assert found["depths"] == [1, 3]
    assert (found["parameters"], found["step"]) == (4.0, 3.0)
    assert memory.growth(rows[:1]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("inference --depth 9 --units 8 --trees 2", "`--depth` must be at mo"),
        (
            "training --trees 99 --units 8",
            "`--trees` must be at most",
        ),
        ("peers --hidden 4 --trees 8", "`--trees` must be at most `--hidden`"),
        ("memory --depth 99", "`--depth` must be at most `--units`, 64"),
        ("inference --seconds 0", "a number above 0. Received: '0'"),
        ("inference --rounds none", "at least 1. Received: 'none'"),
        ("training --backend numpy", "invalid choice: 'numpy'"),
        ("peers --peers pkm", "choose from .*product-key-memory"),
    ],
)
def test_arguments_that_cannot_be_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, " ".join(error.split())), error
