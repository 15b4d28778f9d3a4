"""Published layers for PyTorch that choose weights by example, to compare with.

Each is the layer of its authors' own package, called as the package says. Here
is only what differs between them: sizes, and what they return besides outputs.
"""

import importlib
from collections.abc import Callable
from typing import Any

import keras

ENGINE = "torch"  # eager, as their authors run them
# The package on PyPI, and the module it installs.
PACKAGES = {
    "fastfeedforward": "fastfeedforward",
    "product-key-memory": "product_key_memory",
    "mixture-of-experts": "mixture_of_experts",
}


def _fast_feedforward(
    module: Any, inputs: int, hidden: int, units: int, leaves: int, size: int
) -> tuple:
    """As many leaves, each of the same widths."""
    depth = (leaves - 1).bit_length()
    return module.FFF(inputs, hidden, units, depth), lambda f, x: f(x)


def _product_keys(
    module: Any, inputs: int, hidden: int, units: int, leaves: int, size: int
) -> tuple:
    """As many parameters, in values (n * n, Q), keys and queries.

    The heads and widths of keys are the package's defaults.
    """
    _same_width("product-key-memory", inputs, units)
    heads, key = 4, 128

    def parameters(n: int) -> int:
        return n * n * units + 2 * heads * key * (n + inputs) + 2 * key

    keys = 1
    while abs(parameters(keys + 1) - size) <= abs(parameters(keys) - size):
        keys += 1
    layer = module.PKM(
        inputs, heads=heads, num_keys=keys, topk=min(32, keys), dim_head=key
    )
    return layer, lambda layer, x: layer(x[None])[0]


def _experts(
    module: Any, inputs: int, hidden: int, units: int, leaves: int, size: int
) -> tuple:
    """As many parameters, in experts of the widths of a leaf; top 1."""
    _same_width("mixture-of-experts", inputs, units)
    expert = inputs * hidden + hidden * units + inputs
    layer = module.MoE(
        inputs,
        num_experts=max(2, round(size / expert)),  # its gate asks for two
        hidden_dim=hidden,
        second_policy_train="none",
        second_policy_eval="none",
    )
    return layer, lambda layer, x: layer(x[None])[0][0]


BUILDERS: dict[str, Callable] = {
    "fastfeedforward": _fast_feedforward,
    "product-key-memory": _product_keys,
    "mixture-of-experts": _experts,
}


def _same_width(name: str, inputs: int, units: int) -> None:
    if inputs != units:
        raise ValueError(
            f"{name} has as many outputs as inputs. Received: inputs={inputs}, "
            f"units={units}. Use equal ones."
        )


def work(case: Any) -> tuple:
    """Returns the module of a `models.Case`, its parameters, and its work."""
    keras.utils.set_random_seed(0)
    module, call = build(
        case.model,
        inputs=case.units,
        hidden=case.hidden,
        units=case.units,
        leaves=2**case.depth,
        size=case.parameters,
    )
    function = {"forward": forward, "step": step}[case.work](module, call)
    return module, parameters(module), function


def build(
    name: str, inputs: int, hidden: int, units: int, leaves: int, size: int
) -> tuple:
    """Returns a peer and a function that calls it.

    Args:
        name: a key of `PACKAGES`.
        inputs: the width P of a leaf, P -> hidden -> Q.
        hidden: its width in the middle.
        units: its width Q.
        leaves: how many leaves, where the peer has such.
        size: how many parameters, where it has no leaves.

    Returns:
        The module, and a function of it and inputs (B, P) to outputs (B, Q).
    """
    try:
        module = importlib.import_module(PACKAGES[name])
    except ImportError as error:
        raise ImportError(
            f"The peer {name} is not installed ({error}). Install it with: "
            'pip install "keras_treegate[peers]"'
        ) from error
    return BUILDERS[name](module, inputs, hidden, units, leaves, size)


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
