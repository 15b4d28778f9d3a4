"""Peers are called as their packages say; stand-ins show what is asked."""

import importlib
import sys
import types

import pytest
import torch

from benchmarks.baselines import peers as torch_peers


class Layer(torch.nn.Module):
    """Keeps its arguments, and has one parameter."""

    def __init__(self, *sizes, **options):
        super().__init__()
        self.sizes, self.options = sizes, options
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        self.modes = (*getattr(self, "modes", ()), self.training)
        return x + self.weight


class Experts(Layer):
    def forward(self, x):
        return super().forward(x), torch.zeros(())


@pytest.fixture
def stand_ins(monkeypatch):
    for name, layers in {
        "fastfeedforward": {"FFF": Layer},
        "product_key_memory": {"PKM": Layer},
        "mixture_of_experts": {"MoE": Experts},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(layers)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("stand_ins")
def test_fast_feedforward_has_the_leaves_and_their_widths():
    layer, _ = torch_peers.build("fastfeedforward", 8, 4, 6, 1024, 0)
    assert layer.sizes == (8, 4, 6, 10)


@pytest.mark.usefixtures("stand_ins")
def test_product_keys_have_about_as_many_parameters():
    for size in (100_000, 1_000_000, 10_000_000):
        layer, _ = torch_peers.build("product-key-memory", 64, 4, 64, 0, size)
        n, heads, key = (
            layer.options[name] for name in ("num_keys", "heads", "dim_head")
        )
        has = n * n * 64 + heads * n * 2 * key + 64 * heads * 2 * key + 2 * key
        assert abs(has / size - 1) < 0.05
        assert layer.options["topk"] == min(32, n)


@pytest.mark.usefixtures("stand_ins")
def test_experts_have_about_as_many_parameters_and_no_second_choice():
    layer, _ = torch_peers.build("mixture-of-experts", 64, 32, 64, 0, 10**6)
    experts = layer.options["num_experts"]
    assert abs(experts * (64 * 32 + 32 * 64 + 64) / 10**6 - 1) < 0.01
    assert layer.options["second_policy_train"] == "none"
    assert layer.options["second_policy_eval"] == "none"


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", torch_peers.PACKAGES)
def test_outputs_are_those_of_the_examples(name):
    layer, call = torch_peers.build(name, 8, 4, 8, 4, 1000)
    x = torch.arange(16.0).reshape(2, 8)
    assert torch.equal(torch_peers.forward(layer, call)(x), x)
    step = torch_peers.step(layer, call)
    first, second = step(x, x + 1), step(x, x + 1)
    assert first == 1.0
    assert second < first
    assert layer.modes == (False, True, True)


def test_a_package_that_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastfeedforward", None)
    with pytest.raises(ImportError, match=r"\.\[peers\]"):
        torch_peers.build("fastfeedforward", 8, 4, 8, 4, 1000)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", ["product-key-memory", "mixture-of-experts"])
def test_peers_of_one_width_refuse_two(name):
    with pytest.raises(ValueError, match="Received: inputs=8, units=6"):
        torch_peers.build(name, 8, 4, 6, 4, 1000)


@pytest.mark.parametrize("name", torch_peers.PACKAGES)
def test_a_package_that_is_there_is_trained(name):
    try:
        importlib.import_module(torch_peers.PACKAGES[name])
    except ImportError:
        pytest.skip(f"{name} is not installed")
    layer, call = torch_peers.build(name, 16, 8, 16, 8, 150_000)
    if name != "fastfeedforward":
        assert abs(torch_peers.parameters(layer) / 150_000 - 1) < 0.1
    x = torch.randn(5, 16)
    assert torch_peers.forward(layer, call)(x).shape == (5, 16)
    step = torch_peers.step(layer, call, 0.1)
    losses = [float(step(x, torch.zeros(5, 16))) for _ in range(20)]
    assert losses[-1] < losses[0]
