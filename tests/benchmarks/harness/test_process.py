"""Other processes give what this one does, on backends of their own."""

import functools
import os

import pytest

from benchmarks.harness import process

with_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"),
    reason="this system cannot keep a process to some of its cores",
)


def process_and_cores(number):
    return number, os.getpid(), sorted(os.sched_getaffinity(0))


@with_cores
def test_one_job_is_this_process():
    calls = process.map_on_shares(process_and_cores, [(1,), (2,)], jobs=1)
    assert list(calls) == [process_and_cores(n) for n in (1, 2)]


@with_cores
def test_jobs_share_the_cores_and_results_are_in_order():
    calls = process.map_on_shares(
        process_and_cores, [(n,) for n in range(6)], jobs=2
    )
    numbers, processes, cores = zip(*calls, strict=True)
    assert numbers == tuple(range(6))
    assert os.getpid() not in processes
    all_cores = sorted(os.sched_getaffinity(0))
    shares = [all_cores[::2], all_cores[1::2] or all_cores[:1]]
    assert all(own in shares for own in cores)


def test_what_fails_in_a_job_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(process.map_on_shares(divmod, [(1, 0)], jobs=2))


def test_nothing_to_do_starts_no_process():
    assert list(process.map_on_shares(divmod, [], jobs=2)) == []


def remember(value, values=[]):  # noqa: B006
    values.append(value)
    return values, os.getpid()


def test_a_process_has_its_backend_and_keeps_what_it_is_told(monkeypatch):
    monkeypatch.setenv("SET_BEFORE", "1")
    monkeypatch.setenv("KERAS_BACKEND", "own")
    before = dict(os.environ)
    own = {"SET_BEFORE": "2", "SET_HERE": "3"}
    with process.Process("other", own) as other:
        names = ("KERAS_BACKEND", "SET_BEFORE", "SET_HERE")
        found = [other.call(os.getenv, name) for name in names]
        assert found == ["other", "1", "3"]
        first, number = other.call(remember, 1)
        assert number != os.getpid()
        assert other.call(remember, 2) == ([*first, 2], number)
    assert dict(os.environ) == before


def test_what_fails_in_a_process_is_told():
    with process.Process("other") as other:
        with pytest.raises(RuntimeError, match="ZeroDivisionError: integer"):
            other.call(divmod, 1, 0)
        assert other.call(divmod, 7, 4) == (1, 3)
        with pytest.raises(RuntimeError, match="BrokenProcessPool: A process"):
            other.call(os._exit, 1)


def test_each_measurement_has_a_process_of_its_own(capsys):
    rows, failures = process.measure_each(
        [
            ("b", "fails", functools.partial(divmod, 1, 0)),
            ("b", "works", functools.partial(dict, process=1)),
        ],
        lambda row: f"{row['process']} ms",
    )
    assert rows == [{"backend": "b", "process": 1}]
    assert failures == [
        "failed: b fails: ZeroDivisionError: integer division or modulo by zero"
    ]
    printed = capsys.readouterr().out
    assert printed == "b fails: failed\nb works: 1 ms\n"
