"""Upcycling and folding change no output, and the model is what is served."""

import re

import numpy as np
import pytest

from tests.tutorials.running import TUTORIALS, smoke_run

NAME = "07_upcycle_and_fold"
INTEGER, NUMBER = r"[\d,]+", r"[-+.e\d]+"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return smoke_run(NAME, tmp_path_factory)


def numbers(pattern, text):
    """Returns the groups of the one place where the text has the pattern."""
    (found,) = re.findall(pattern, text, re.M)
    found = (found,) if isinstance(found, str) else found
    return [float(one.replace(",", "")) for one in found]


def test_upcycling_growing_and_careful_pruning_change_no_output(run):
    text, _ = run
    low, high = numbers(rf"lie between ({NUMBER}) and ({NUMBER})$", text)
    assert low < 0 < high
    (upcycled,) = numbers(rf"^upcycled: .* at most ({NUMBER})$", text)
    before, after = numbers(rf"^param.*: ({INTEGER}) became ({INTEGER})$", text)
    more, grown = numbers(
        rf"^grown from .*: ({INTEGER}) parameters, .* at most ({NUMBER})$", text
    )
    freed, rows, pruned = numbers(
        rf"^pruned below 1 visits: ({INTEGER}) of ({INTEGER}) rows .* "
        rf"at most ({NUMBER}), ",
        text,
    )
    assert max(upcycled, grown, pruned) < 1e-4
    assert before == 64 * 16 + 16
    assert after == 64 * 7 * 16 + 16
    assert more == 64 * 31 * 16 + 16
    assert 0 < freed < rows == 64 * 7


def test_all_are_trained_on_and_compared(run):
    text, folder = run
    trained, dense, upcycled = (
        numbers(rf"^{name} +({NUMBER})  {NUMBER}$", text)[0]
        for name in ("Dense, trained", "Dense, trained on", "upcycled, .* on")
    )
    gains = numbers(
        rf"the Dense network by ({NUMBER}) .* one by ({NUMBER})\.$", text
    )
    shares = np.array([dense, upcycled]) - trained
    assert gains == pytest.approx(100 * shares, abs=0.16)
    picture = (folder / "upcycled.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_smaller_tables_cost_what_is_told(run):
    text, _ = run
    rows = {}
    for name in ("float32", "bfloat16", "int8"):
        rows[name] = numbers(
            rf"^folded, {name} +({INTEGER}) +({INTEGER}) +({NUMBER}) +"
            rf"({NUMBER}) +({NUMBER})$",
            text,
        )
    (trees,) = numbers(rf"^trees +{INTEGER} +({INTEGER}) +{NUMBER}$", text)
    sizes = [row[1] for row in rows.values()]
    assert trees > sizes[0] > sizes[1] > sizes[2]
    errors = [row[2] for row in rows.values()]
    assert errors[0] == 0 < errors[1] < errors[2] < 0.02
    changes = [row[3] for row in rows.values()]
    assert changes[0] < 1e-5 < changes[1] < 0.1
    assert 1e-5 < changes[2] < 0.2


def test_latency_is_told_with_its_spread(run):
    text, folder = run
    times = re.findall(
        rf"^  (\w+) +({NUMBER})  \(({NUMBER}) to ({NUMBER})\) +{NUMBER} times",
        text,
        re.M,
    )
    assert [name for name, *_ in times] == ["Dense", "trees", "folded"] * 2
    for _, middle, low, high in times:
        assert 0 < float(low) <= float(middle) <= float(high)
    assert (TUTORIALS / "compiled.py").read_text() in text
    picture = (folder / "latency.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_what_is_saved_and_served_is_the_model(run):
    text, folder = run
    trees, served = (
        numbers(rf"^{name} +({NUMBER}) kB on disk$", text)[0]
        for name in ("trees", "folded")
    )
    file = folder / "served.keras"
    assert served == pytest.approx(file.stat().st_size / 1e3, abs=0.06)
    assert served < trees
    (loaded,) = numbers(rf"^loaded: .* at most ({NUMBER})$", text)
    assert loaded < 1e-5
    same, asked = numbers(rf"^({INTEGER}) of ({INTEGER}) answers are", text)
    assert same == asked == 20
