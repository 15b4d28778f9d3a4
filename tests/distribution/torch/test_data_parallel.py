"""Two processes train as one does on the joint batch, and keep rows."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch
from torch import distributed

from keras_treegate.distribution import data_parallel
from keras_treegate.layers import SparseEmbedding
from tests.distribution.page import code_under
from tests.distribution.torch import restarting, training
from tests.distribution.torch.training import CASES

PROCESSES = 2
each_case = pytest.mark.parametrize("name", CASES)


def environment():
    """Returns that of a process that knows others by a loopback address."""
    names = [name for _, name in socket.if_nameindex()]
    loopback = next(name for name in names if name.startswith("lo"))
    return os.environ | {
        "GLOO_SOCKET_IFNAME": loopback,
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Returns a function that reads what the processes ended with."""
    folder = tmp_path_factory.mktemp("processes")
    module = "tests.distribution.torch.training"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(rank)],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    errors = [process.communicate()[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0] * PROCESSES, "\n".join(errors)

    def read(name):
        return [
            dict(np.load(folder / f"{name} {rank}.npz"))
            for rank in range(PROCESSES)
        ]

    return read


@each_case
def test_all_processes_end_with_the_same_bits(ends, name):
    first, second = ends(name)
    for key in first.keys() - {"largest"}:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


@each_case
def test_two_processes_are_one_on_the_joint_batch(ends, name):
    expected = training.state_of(*training.train(CASES[name]))
    actual, _ = ends(name)
    assert actual.keys() - {"largest"} == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(
            actual[key], value, rtol=1e-5, atol=2e-6, err_msg=key
        )


def test_rows_sleep(ends):
    # The other tests are of rows that were idle for many steps, and of few.
    last_steps = [
        value for key, value in ends("adam")[0].items() if "last_step" in key
    ]
    assert len(last_steps) == len(training.LEVELS) + 1
    for steps in last_steps[-2:]:
        assert len(np.unique(steps)) > training.STEPS / 2
        assert steps.min() == 0


def test_what_is_sent_is_rows(ends):
    states = ends("adam")
    width = training.DEPTH * 3
    # Two levels are read by rows. Each example touches a row of each tree in
    # them.
    share = CASES["adam"].shares[0]
    rows = share * (2 * training.TREES * width + 3) * 4  # bytes
    dense = training.TREES * 2 ** training.LEVELS[1] * width * 4
    for state in states:
        gathered, reduced = state["largest"]
        assert 0 < gathered <= rows
        assert reduced == dense
    table = next(v for k, v in states[0].items() if k.endswith("nodes_6"))
    assert rows < table.nbytes


def test_the_baseline_moves_towards_the_mean_of_the_processes(ends):
    first, second = ends("reinforced")
    np.testing.assert_array_equal(first["baselines"], second["baselines"])
    assert (first["losses"] != second["losses"]).all()
    means = (first["losses"] + second["losses"]) / 2
    expected = np.cumsum(means) / np.arange(1, len(means) + 1)
    np.testing.assert_allclose(first["baselines"], expected, rtol=1e-6)


@pytest.fixture
def group():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_only_other_weights_are_left_to_pytorch(group):
    network = training.make_network("zero", 0)
    parallel = data_parallel(network)
    data = parallel._get_ddp_logging_data()
    others = [network.tree.bias, *network.dense.weights]
    size = sum(weight.value.numel() * 4 for weight in others)
    assert data["total_parameter_size_bytes"] == size


def test_unused_weights_are_allowed_where_pytorch_allows_them(group):
    network = training.make_network("zero", 0)
    parallel = data_parallel(network, find_unused_parameters=True)
    batch = training.batches(1, without=0, start=0)[0]
    for _ in range(2):
        training.add_gradients(parallel, batch, 1.0)
    assert network.embedding.embeddings.value.grad is None
    assert network.tree.nodes[-1].value.grad.merged() is not None


def test_a_backward_pass_that_fails_does_not_end_the_exchange(
    group, monkeypatch
):
    network = training.make_network("zero", 0)
    parallel = data_parallel(network)
    batch = training.batches(1, None)[0]
    outputs = parallel([*map(torch.as_tensor, batch[:3])], training=True)
    outputs.register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        outputs.sum().backward()
    network.zero_grad()
    sent = training.Sent(distributed.all_gather)
    monkeypatch.setattr(distributed, "all_gather", sent)
    training.add_gradients(parallel, batch, 1.0)
    assert sent.largest > 0


def fail(gradient):
    raise ZeroDivisionError


def test_plain_data_parallelism_is_dense_and_says_what_to_use(group):
    network = training.make_network("zero", 0)
    parallel = torch.nn.parallel.DistributedDataParallel(network)
    training.add_gradients(parallel, training.batches(1, None)[0], 1.0)
    with pytest.warns(UserWarning, match="distribution.data_parallel"):
        training.apply_gradients(network, CASES["adam"].optimizer())


def test_the_program_of_the_page_runs(monkeypatch):
    (program,) = code_under("PyTorch: DistributedDataParallel")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True)
    group = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    for name, value in (group | {"MASTER_PORT": store.port}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    exec(compile(program, "the page", "exec"), {"__name__": "__main__"})


def test_a_process_without_a_group_is_refused():
    with pytest.raises(ValueError, match=r"init_process_group.*torchrun"):
        data_parallel(training.make_network("zero", 0))


def test_a_model_of_tables_only_is_refused(group):
    model = keras.Sequential(
        [keras.Input((), dtype="int32"), SparseEmbedding(5, 2)]
    )
    with pytest.raises(ValueError, match=r"embeddings'\]. Add a bias"):
        data_parallel(model)


def test_join_is_refused(group):
    parallel = data_parallel(training.make_network("zero", 0))
    with pytest.raises(ValueError, match=r"`join`.*5 tables.*same number"):
        parallel.join()


def test_a_process_that_is_killed_and_started_again_loses_nothing(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(PROCESSES), "--max-restarts", "1"),
            *("-m", "tests.distribution.torch.restarting", str(tmp_path)),
        ],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for rank in range(PROCESSES):
        result = json.loads((tmp_path / f"result {rank}.json").read_text())
        assert result["restarts"] == 1
        assert 0 < result["first_step"] < restarting.DIES_AT
        assert result["largest_difference"] < 1e-6
