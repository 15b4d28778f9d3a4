"""The tutorial on collapse shows it, its cure, and what was written of it."""

import re

import pytest

from tests.tutorials.running import smoke_run

NAME = "05_watching_the_gates"
NETWORKS = ("zero", "running mean", "normalised")
PICTURES = ("collapsed", "collapsed_tree", "cured", "cured_tree", "gates")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return smoke_run(NAME, tmp_path_factory)


def row(text, name):
    """Returns a row of the table of the diagnosis, by network."""
    (found,) = re.findall(rf"^{name}  +(.+)$", text, re.M)
    return dict(zip(NETWORKS, found.split(), strict=True))


def test_the_collapse_is_reported_in_the_first_epoch(run):
    text, _ = run
    before, warning, _ = text.partition("The tree layer 'tree' uses 6.2%")
    assert warning, text
    assert re.search(r"^epoch 1 +tree +gate_entropy 0\.000", before, re.M)
    assert re.search(r"^epoch 1 +tree +path_utilization 0\.062", before, re.M)
    assert "epoch 2" not in before


def test_the_diagnosis_finds_one_path_and_the_rows_on_it(run):
    text, _ = run
    assert "gate values from 0.10 to 1.00; the threshold is 0" in text
    assert "validation images go to: [15]" in text
    # A path has 5 of the 31 rows of a tree.
    assert f"{5 / 31:.1%} of its rows lie on a path that was taken" in text


def test_both_cures_route_and_the_collapsed_network_does_not(run):
    text, _ = run
    entropy = row(text, "gate_entropy")
    assert float(entropy["zero"]) == 0
    utilization = row(text, "path_utilization")
    assert float(utilization["zero"]) == pytest.approx(1 / 16, abs=1e-3)
    assert row(text, "warned") == {
        "zero": "yes",
        "running mean": "no",
        "normalised": "no",
    }
    for cured in NETWORKS[1:]:
        assert float(entropy[cured]) > 0.5
        assert float(utilization[cured]) > 0.7
        assert float(row(text, "bit_balance")[cured]) > 0.4
        assert float(row(text, "dead_leaves")[cured]) < 0.3


def test_another_scanner_disturbs_running_means_and_no_normalised_gates(run):
    text, _ = run
    _, _, table = text.partition("gate entropy    training  brighter\n")
    lost = {}
    for name in NETWORKS:
        (numbers,) = re.findall(rf"^{name} +(\S+) +(\S+)$", table, re.M)
        lost[name] = float(numbers[0]) - float(numbers[1])
    assert lost["zero"] == 0
    assert lost["running mean"] > 0.1
    assert abs(lost["normalised"]) < 0.1
    (accuracies,) = re.findall(r"^normalised +(\S+) +(\S+)  ", text, re.M)
    assert float(accuracies[0]) == pytest.approx(float(accuracies[1]), abs=0.02)


def test_tensorboard_reads_what_the_history_holds(run):
    text, output = run
    for folder in ("zero", "running_mean", "normalised"):
        assert len(list((output / "tensorboard" / folder).iterdir())) == 1
        assert re.search(
            rf"^{folder}: \d+ scalars and 4 histograms over 2 epochs$",
            text,
            re.M,
        )
    differences = re.findall(r"differs from the history by (\S+)", text)
    assert len(differences) == 3
    assert max(map(float, differences)) < 1e-6


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_written(run, name):
    _, output = run
    assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
