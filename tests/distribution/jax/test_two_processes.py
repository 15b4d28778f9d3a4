"""Two processes, as on two machines, train as one does on the joint batch."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.distribution.jax import two_processes
from tests.distribution.jax.two_processes import EPOCHS, PROCESSES

KILLED_IN = 2  # an epoch


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def start(folder, *killed_in):
    """Starts the processes; the second is killed in an epoch, if one is given.

    Returns them.
    """
    port = free_port()
    environment = os.environ | {
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        # No two programs of a process send at the same time.
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
    }
    arguments = [str(folder), port]
    module = "tests.distribution.jax.two_processes"
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", module, *arguments, str(rank)),
                *(killed_in if rank else ()),
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]


def ends(folder, processes):
    """Returns what processes ended with."""
    errors = [process.communicate()[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0] * PROCESSES, "\n".join(errors)
    found = [np.load(folder / f"{rank}.npz") for rank in range(PROCESSES)]
    return [dict(arrays) for arrays in found]


def assert_close(found, expected, tolerance):
    for key, value in expected.items():
        difference = np.abs(found[key].astype("float64") - value)
        assert difference.max(initial=0) < tolerance, key


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return ends(folder, start(folder))


def test_both_processes_end_with_the_same_bits(undisturbed):
    first, second = undisturbed
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value, err_msg=key)


def test_two_processes_are_one_on_the_joint_batch(undisturbed):
    # In 200 steps with decay most rows sleep.
    expected = two_processes.train(two_processes.Share())
    actual, _ = undisturbed
    assert actual.keys() - {"epochs"} == expected.keys()
    assert_close(actual, expected, 5e-6)


def test_a_process_that_is_killed_and_started_again_loses_nothing(
    undisturbed, tmp_path
):
    survivor, victim = start(tmp_path, str(KILLED_IN))
    victim.communicate()
    assert victim.returncode < 0
    survivor.kill()  # it waits for the other
    survivor.communicate()
    for found, expected in zip(
        ends(tmp_path, start(tmp_path)), undisturbed, strict=True
    ):
        assert found.pop("epochs").tolist() == list(range(KILLED_IN, EPOCHS))
        # A file has the rows with the decay that they owe, which rounds.
        assert_close(expected, found, 1e-6)
