"""Turns, ratios and targets, with stand-ins for the processes."""

import argparse

import pytest

from benchmarks import inference, peers, training
from benchmarks.baselines.peers import PACKAGES
from benchmarks.harness import rounds, tables, targets
from benchmarks.harness.models import Case
from benchmarks.harness.rounds import Entry, hold


class FakeProcess:
    """Answers as another process does, and notes what it is asked."""

    def __init__(self, ms, asked, fails=()):
        self.ms, self.asked, self.fails = ms, asked, fails

    def call(self, function, *arguments):
        question = function.__name__
        name = arguments[0] if arguments else None
        if question == "build":
            name = name.name
        self.asked.append((question, name))
        if (question, name) in self.fails:
            raise RuntimeError("no room")
        if question == "turn":
            return next(self.ms[name])
        moved = 1000.0 if name == "a" else None
        sizes = {"parameters": 7, "touched_bytes": 500.0, "moved_bytes": moved}
        return {"build": sizes, "about": {}, "copy": 1e6, "clear": None}[
            question
        ]


def entry(process, name):
    case = Case(name, batch=4, units=8, depth=2, trees=2)
    return Entry(process, "jax", case)


def test_each_round_begins_with_another_one():
    asked = []
    ms = {name: iter([1.0] * 3) for name in "abc"}
    process = FakeProcess(ms, asked)
    hold([entry(process, name) for name in "abc"], rounds=3, seconds=1.0)
    turns = [name for question, name in asked if question == "turn"]
    assert turns == [*"abc", *"bca", *"cab"]
    assert [question for question, _ in asked].count("copy") == 3
    assert asked[-1] == ("clear", None)


def test_the_ratio_is_told_round_by_round():
    ms = {"a": iter([1.0, 10.0, 100.0]), "b": iter([2.0, 30.0, 400.0])}
    process = FakeProcess(ms, [])
    rows, failures = hold([entry(process, n) for n in "ab"], 3, 1.0)
    assert failures == []
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[1]["ms"]["median"] == 30.0
    assert tables.ratio(rows[1], rows[0])["median"] == 3.0
    assert tables.ratio(rows[1], rows[0])["quartiles"] == [2.5, 3.5]
    rounds.with_ratios(rows, "a")
    assert [row["over"]["median"] for row in rows] == [1.0, 3.0]
    rounds.with_ratios(rows, "c")
    assert rows[0]["over"] is None


def test_the_slow_have_two_turns():
    ms = {"a": iter([1.0] * 5), "b": iter([1e6] * 5)}
    process = FakeProcess(ms, [])
    rows, _ = hold([entry(process, n) for n in "ab"], 5, 1.0)
    assert [len(row["turns"]) for row in rows] == [5, 2]


def test_who_fails_does_not_stop_the_others():
    ms = {"b": iter([1.0, 1.0]), "c": iter([1.0])}
    fails = (("build", "a"), ("turn", "b"))
    process = FakeProcess(ms, [], fails)
    rows, failures = hold([entry(process, n) for n in "abc"], 1, 1.0)
    assert [row["name"] for row in rows] == ["c"]
    assert failures == [
        f"jax {name}, step, batch 4, 8 units, depth 2: no room" for name in "ab"
    ]


def test_the_limit_is_what_is_moved_over_what_a_copy_moves():
    ms = {"a": iter([1.0, 2.0]), "b": iter([1.0, 2.0])}
    process = FakeProcess(ms, [])
    mine, stock = hold([entry(process, n) for n in "ab"], 2, 1.0)[0]
    # 1000 bytes in one and in two milliseconds, where a copy has 1e6 a second.
    assert mine["limit"]["median"] == pytest.approx((1.0 + 0.5) / 2)
    assert stock["limit"] is None


def judged(target, reached):
    spread = {"median": reached, "quartiles": [reached, reached]}
    return targets.judge(target, "abacus", spread)


def test_a_factor_of_one_or_more_is_reached():
    most = targets.TARGETS["inference"][1]._replace(at_most=4.0)
    assert judged(most, 2.0)["factor"] == 2.0
    assert judged(most, 2.0)["met"]
    assert judged(most, 8.0)["factor"] == 0.5
    assert not judged(most, 8.0)["met"]
    least = targets.TARGETS["peers"][0]._replace(at_least=20.0)
    assert judged(least, 40.0)["factor"] == 2.0
    assert judged(least, 40.0)["met"]
    assert not judged(least, 10.0)["met"]
    told = "\n".join(targets.lines([judged(most, 8.0), judged(least, 40.0)]))
    assert "open abacus: folded over Dense, work forward, batch 1024" in told
    assert "8 (8-8), asked for at most 4, factor 0.50" in told
    assert "met  abacus: fastfeedforward over tree" in told
    assert targets.lines([]) == []


def given(**options):
    sizes = {"batch": [4], "units": 16, "depth": [3], "trees": 8}
    return argparse.Namespace(**sizes | {"targets": False} | options)


def rows_of(contest):
    turns = {"turns": [1.0], "limit": {"median": 0.5, "quartiles": [0.5, 0.5]}}
    return [case._asdict() | turns for case in contest.cases]


def test_the_sizes_of_the_targets_are_what_the_targets_ask_for():
    options = given(
        targets=True, trees=64, models=inference.MODELS, work=["step"]
    )
    for contest in inference.contests(options):
        found = targets.reached("inference", rows_of(contest), "x")
        assert len(found) == 1
    gradients, step = training.contests(options)
    found = targets.reached("training", rows_of(gradients), "x")
    assert [one["over"] for one in found] == ["dense", "tree"]
    (found,) = targets.reached("training", rows_of(step), "x")
    assert found["reached"]["median"] == 0.5
    options = given(
        targets=True,
        batch=256,
        units=64,
        hidden=32,
        work=["step", "forward"],
        peers=[*peers.OURS, *PACKAGES],
    )
    for contest in peers.contests(options):
        assert len(targets.reached("peers", rows_of(contest), "x")) == 1


def test_other_sizes_are_no_targets():
    options = given(batch=[2], units=512, depth=8, models=inference.MODELS)
    (contest,) = inference.contests(options)
    assert targets.reached("inference", rows_of(contest), "x") == []


@pytest.mark.parametrize(
    ("benchmark", "work", "left"),
    [
        (inference, "forward", 1),
        (training, "gradients", 1),
        (training, "step", 2),
    ],
)
def test_naive_is_left_out_where_memory_is_short(
    monkeypatch, benchmark, work, left
):
    sizes = {"batch": [1024], "units": 256, "trees": 64}
    depth = 4 if benchmark is inference else [4]
    options = given(**sizes, depth=depth, work=[work], models=inference.MODELS)
    memory = "benchmarks.harness.machine.available_memory"
    monkeypatch.setattr(memory, lambda: 2**40)
    (everyone,) = benchmark.contests(options)
    assert everyone.left_out == []
    monkeypatch.setattr(memory, lambda: 2**20)
    (some,) = benchmark.contests(options)
    assert len(some.left_out) == left == len(everyone.cases) - len(some.cases)
    assert "naive" in some.left_out[0]
    assert "GiB of 0.0" in some.left_out[0]


def test_equal_parameters_are_those_of_the_tree():
    names = ["tree", "large-dense"]
    options = given(batch=4, hidden=8, work=["step"], peers=names)
    ((tree, dense), _, _) = next(peers.contests(options))
    assert tree.parameters == 15 * (16 * 8 + 8 * 16)
    assert dense.parameters == tree.parameters
