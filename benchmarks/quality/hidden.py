"""The hidden layer in which the networks of `quality` differ."""

from typing import Any

import keras

from benchmarks.baselines.mixture import TopOneMixture
from benchmarks.quality.networks import FAMILIES, Network, numbers
from keras_treegate import gates, layers


def layer(network: Network, seed: int, units: int) -> Any:
    """Builds the layer of a network, with so many units."""
    if FAMILIES[network.family].name.startswith("Dense"):
        return keras.layers.Dense(units)
    if network.experts:
        scale = network.experts if network.family == "scaled mixture" else 1.0
        return TopOneMixture(units, network.experts, scale=scale)
    if FAMILIES[network.family].hashed:
        gate = gates.HashGate(numbers(network.orders), seed=seed)
    else:
        fixed = (
            network.task == "digits" or network.family == "random projections"
        )
        threshold = "running_mean" if fixed else "zero"
        gate = gates.SignGate(threshold=threshold, seed=seed)
    named = network.levels in ("all", "ends")
    return layers.TreeGatedDense(
        units,
        depth=network.depth,
        num_trees=network.trees,
        levels=network.levels if named else numbers(network.levels),
        gate=gate,
    )
