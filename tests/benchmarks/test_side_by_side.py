"""Work side by side gives what it gives one after the other."""

import os

import pytest

from benchmarks.harness import process as side_by_side

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"),
    reason="this system cannot keep a process to some of its cores",
)


def process_and_cores(number):
    return number, os.getpid(), sorted(os.sched_getaffinity(0))


def test_one_job_is_this_process():
    calls = side_by_side.results(process_and_cores, [(1,), (2,)], jobs=1)
    assert list(calls) == [process_and_cores(n) for n in (1, 2)]


def test_jobs_share_the_cores_and_results_are_in_order():
    calls = side_by_side.results(
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
        list(side_by_side.results(divmod, [(1, 0)], jobs=2))


def test_nothing_to_do_starts_no_process():
    assert list(side_by_side.results(divmod, [], jobs=2)) == []
