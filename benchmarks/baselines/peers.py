"""Published layers for PyTorch that choose weights by example, to compare with.

Each is the layer of its authors' own package, called as the package says. Here
is only what differs between them: sizes, and what they return besides outputs.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

ENGINE = "torch"  # eager, as their authors run them
# The package on PyPI, and the module it installs.
PACKAGES = {
    "fastfeedforward": "fastfeedforward",
    "product-key-memory": "product_key_memory",
    "mixture-of-experts": "mixture_of_experts",
}


class Sizes(NamedTuple):
    """The sizes of a peer.

    inputs, hidden, units: the widths of a leaf, P -> hidden -> Q.
    leaves: how many leaves, where the peer has such.
    parameters: how many, where it has no leaves.
    """

    inputs: int
    hidden: int
    units: int
    leaves: int
    parameters: int


def _fast_feedforward(module: Any, sizes: Sizes) -> tuple:
    """Makes a layer of as many leaves, each of the same widths."""
    depth = (sizes.leaves - 1).bit_length()
    return module.FFF(*sizes[:3], depth), lambda layer, x: layer(x)


def _product_keys(module: Any, sizes: Sizes) -> tuple:
    """Makes a layer of as many parameters: values (n * n, Q), keys, queries.

    The heads and widths of keys are the package's defaults.
    """
    heads, key = 4, 128

    def distance(n: int) -> int:
        keys = 2 * heads * key * (n + sizes.inputs) + 2 * key
        return abs(n * n * sizes.units + keys - sizes.parameters)

    n = 1
    while distance(n + 1) <= distance(n):
        n += 1
    layer = module.PKM(
        sizes.inputs, heads=heads, num_keys=n, topk=min(32, n), dim_head=key
    )
    return layer, lambda layer, x: layer(x[None])[0]


def _experts(module: Any, sizes: Sizes) -> tuple:
    """Makes a layer of as many parameters: experts as wide as a leaf, top 1."""
    expert = sizes.hidden * (sizes.inputs + sizes.units) + sizes.inputs
    layer = module.MoE(
        sizes.inputs,
        # Its gate asks for two.
        num_experts=max(2, round(sizes.parameters / expert)),
        hidden_dim=sizes.hidden,
        second_policy_train="none",
        second_policy_eval="none",
    )
    return layer, lambda layer, x: layer(x[None])[0][0]


BUILDERS: dict[str, Callable] = {
    "fastfeedforward": _fast_feedforward,
    "product-key-memory": _product_keys,
    "mixture-of-experts": _experts,
}


def work(case: Any) -> tuple:
    """Returns the module of a `models.Case`, its parameters, and its work."""
    keras.utils.set_random_seed(0)
    widths = case.units, case.hidden, case.units
    module, call = build(case.model, *widths, 2**case.depth, case.parameters)
    function = {"forward": forward, "step": step}[case.work](module, call)
    return module, parameters(module), function


def build(name: str, *sizes: int) -> tuple:
    """Returns a peer, a key of `PACKAGES`, of `Sizes`; and how it is called.

    That is a function of the peer and inputs (B, P) to outputs (B, Q).
    """
    peer = Sizes(*sizes)
    if name != "fastfeedforward" and peer.inputs != peer.units:
        raise ValueError(
            f"{name} has as many outputs as inputs. Received: "
            f"inputs={peer.inputs}, units={peer.units}. Use equal ones."
        )
    try:
        module = importlib.import_module(PACKAGES[name])
    except ImportError as error:
        raise ImportError(
            f"The peer {name} is not installed ({error}). Install it with: "
            'pip install -e ".[peers]"'
        ) from error
    return BUILDERS[name](module, peer)


def parameters(module: Any) -> int:
    """Counts the numbers that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def forward(module: Any, call: Callable) -> Callable:
    """Returns a function of inputs that does inference."""
    import torch  # not where another backend runs

    module.eval()

    def run(x: Any) -> Any:
        with torch.no_grad():
            return call(module, x)

    return run


def step(module: Any, call: Callable, learning_rate: float = 0.01) -> Callable:
    """Returns a step of plain gradient descent on the mean squared error."""
    import torch

    module.train()
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, learning_rate)

    def run(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.mean(torch.square(call(module, x) - y))
        loss.backward()
        optimizer.step()
        return loss

    return run
