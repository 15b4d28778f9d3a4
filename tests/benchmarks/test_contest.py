"""Turns, ratios and targets, with stand-ins for the processes."""

import pytest

from benchmarks import inference, peers, training
from benchmarks.harness import contest_report, targets
from benchmarks.harness.models import Contestant
from benchmarks.harness.rounds import Entry, hold, ratio


class FakeHost:
    """Answers as a worker does, and notes what it is asked."""

    engine = "abacus"

    def __init__(self, ms, asked, fails=()):
        self.ms, self.asked, self.fails = ms, asked, fails

    def ask(self, question, **arguments):
        name = arguments.get("name")
        if question == "build":
            name = arguments["contestant"].name
        self.asked.append((question, name))
        if (question, name) in self.fails:
            raise RuntimeError("no room")
        return {
            "build": {"parameters": 7, "touched_bytes": 500.0},
            "turn": {"ms": next(self.ms.get(name, iter([]))), "calls": 1}
            if question == "turn"
            else None,
            "copy": {"copied": 1e6},
            "clear": {},
        }[question]


def entry(host, name, work="step", optimizer="StepAwareSGD"):
    contestant = Contestant(
        *(name, "tree", work, 4, 8, 8, 2, 2), optimizer=optimizer
    )
    return Entry(host, contestant)


def test_each_round_begins_with_another_one():
    asked = []
    ms = {name: iter([1.0] * 3) for name in "abc"}
    host = FakeHost(ms, asked)
    hold([entry(host, name) for name in "abc"], rounds=3, seconds=1.0)
    turns = [name for question, name in asked if question == "turn"]
    assert turns == [*"abc", *"bca", *"cab"]
    assert [question for question, _ in asked].count("copy") == 3
    assert asked[-1] == ("clear", None)


def test_the_ratio_is_told_round_by_round():
    ms = {"a": iter([1.0, 10.0, 100.0]), "b": iter([2.0, 30.0, 400.0])}
    host = FakeHost(ms, [])
    rows, failures = hold([entry(host, n) for n in "ab"], 3, 1.0)
    assert failures == []
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[1]["ms"]["median"] == 30.0
    assert ratio(rows[1], rows[0])["median"] == 3.0
    assert ratio(rows[1], rows[0])["quartiles"] == [2.5, 3.5]
    with_ratios = contest_report.with_ratios(rows, "a")
    assert [row["over"]["median"] for row in with_ratios] == [1.0, 3.0]
    assert contest_report.with_ratios(rows, "c")[0]["over"] is None


def test_the_slow_have_two_turns():
    ms = {"a": iter([1.0] * 5), "b": iter([1e6] * 5)}
    host = FakeHost(ms, [])
    rows, _ = hold([entry(host, n) for n in "ab"], 5, 1.0)
    assert [len(row["turns"]) for row in rows] == [5, 2]


def test_who_fails_does_not_stop_the_others():
    ms = {"b": iter([1.0, 1.0]), "c": iter([1.0])}
    fails = (("build", "a"), ("turn", "b"))
    host = FakeHost(ms, [], fails)
    rows, failures = hold([entry(host, n) for n in "abc"], 1, 1.0)
    assert [row["name"] for row in rows] == ["c"]
    assert failures == [
        f"abacus {name}, step, batch 4, depth 2: no room" for name in "ab"
    ]


def test_the_limit_is_the_time_of_a_copy_over_that_of_the_step():
    ms = {"a": iter([1.0, 2.0]), "b": iter([1.0, 2.0])}
    host = FakeHost(ms, [])
    entries = [entry(host, "a"), entry(host, "b", optimizer="Adam")]
    mine, stock = hold(entries, 2, 1.0)[0]
    # 500 bytes at 1e6 bytes a second take half a millisecond.
    assert mine["limit"]["median"] == pytest.approx((0.5 + 0.25) / 2)
    assert stock["limit"] is None


def judged(target, reached):
    spread = {"median": reached, "quartiles": [reached, reached]}
    return targets._judged(target, "abacus", spread)


def test_a_factor_of_one_or_more_is_reached():
    most = targets.INFERENCE[1]._replace(bound=4.0)
    assert judged(most, 2.0)["factor"] == 2.0
    assert judged(most, 2.0)["met"]
    assert judged(most, 8.0)["factor"] == 0.5
    assert not judged(most, 8.0)["met"]
    least = targets.PEERS[0]._replace(bound=20.0)
    assert judged(least, 40.0)["factor"] == 2.0
    assert judged(least, 40.0)["met"]
    assert not judged(least, 10.0)["met"]
    told = "\n".join(targets.lines([judged(most, 8.0), judged(least, 40.0)]))
    assert "open abacus: folded over Dense: batch 1024" in told
    assert "8 (8-8), asked for at most 4, factor 0.50" in told
    assert "met  abacus: fastfeedforward over the layer" in told
    assert targets.lines([]) == []


def rows_of(contestants):
    turns = {"turns": [1.0], "limit": {"median": 0.5, "quartiles": [0.5, 0.5]}}
    return [one._asdict() | turns for one in contestants]


def test_the_settings_of_the_targets_are_what_the_targets_ask_for():
    for setting in inference.TARGETS:
        entered, _ = inference.contestants(setting, inference.MODELS, 64)
        found = targets.of_times(targets.INFERENCE, rows_of(entered), "x")
        assert len(found) == 1
    gradients, step = (
        rows_of(training.contestants(setting, 64)[0])
        for setting in training.TARGETS
    )
    assert len(targets.of_times(targets.TRAINING, gradients, "x")) == 2
    assert len(targets.of_limit(step, "x")) == 1
    assert targets.of_limit(gradients, "x") == []
    for work in peers.BASES:
        setting = peers.Setting(work, 256, 64, 32, 10)
        names = [*peers.OURS, *peers.PEERS]
        entered = peers.contestants(setting, names, 32)
        found = targets.of_times(targets.PEERS, rows_of(entered), "x")
        assert len(found) == 1


def test_other_sizes_are_no_targets():
    entered, _ = inference.contestants(
        inference.Setting(2, 512, 8), inference.MODELS, 64
    )
    assert targets.of_times(targets.INFERENCE, rows_of(entered), "x") == []


@pytest.mark.parametrize(
    ("benchmark", "setting", "left"),
    [
        (inference, inference.Setting(1024, 256, 4), 1),
        (training, training.Setting("gradients", 1024, 256, 4), 1),
        (training, training.Setting("step", 1024, 256, 4), 2),
    ],
)
def test_naive_is_left_out_where_memory_is_short(
    monkeypatch, benchmark, setting, left
):
    def contestants():
        if benchmark is inference:
            return inference.contestants(setting, inference.MODELS, 64)
        return training.contestants(setting, 64)

    memory = "benchmarks.harness.machine.available_memory"
    monkeypatch.setattr(memory, lambda: 2**40)
    everyone, told = contestants()
    assert told == []
    monkeypatch.setattr(memory, lambda: 2**20)
    some, told = contestants()
    assert len(told) == left == len(everyone) - len(some)
    assert "naive" in told[0]
    assert "GiB of 0.0" in told[0]


def test_equal_parameters_are_those_of_the_tree():
    setting = peers.Setting("step", 4, 16, 8, 3)
    (tree,) = peers.contestants(setting, ["tree"], 8)
    assert tree.parameters == 15 * (16 * 8 + 8 * 16)
    (dense,) = peers.contestants(setting, ["large-dense"], 8)
    assert dense.parameters == tree.parameters
