"""The Transformer that `quality` compares: two blocks, trees in their MLPs."""

from typing import Any

from keras import layers, ops

from benchmarks.baselines.n_grams import HashedNGrams
from benchmarks.quality import hidden
from benchmarks.quality.networks import FAMILIES, Network, numbers
from benchmarks.quality.tasks import Task
from keras_treegate.layers import TokenWindow

BLOCKS = 2
HEADS = 4
WIDEN = 2  # times the width, between the two layers of a feed-forward block

# The bits of the tables of n-grams: together about as many numbers as the
# nodes of trees of depth 6 in both layers of each block.
NGRAM_BITS = 14


def logits(network: Network, task: Task, seed: int, tokens: Any) -> Any:
    """Returns the logits (B, T, classes) of tokens (B, T)."""
    width, window = network.width, tokens.shape[1]
    positions = ops.arange(window, dtype="int32")
    positions = ops.zeros_like(tokens, dtype="int32") + positions
    x = layers.Embedding(task.vocabulary, width)(tokens)
    x = x + layers.Embedding(window, width)(positions)
    last = None
    if network.orders:
        last = TokenWindow(max(numbers(network.orders)))(tokens)
    if network.family == "added n-grams":
        for order in numbers(network.orders):
            x = x + HashedNGrams(order, NGRAM_BITS, width, seed)(last)
    for _ in range(BLOCKS):
        z = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(HEADS, width // HEADS)
        x = x + attention(z, z, use_causal_mask=True)
        x = x + feed_forward(network, seed, x, last)
    return layers.Dense(task.classes)(layers.LayerNormalization()(x))


def feed_forward(network: Network, seed: int, x: Any, last: Any) -> Any:
    """Returns what a feed-forward block adds; its second layer is compared.

    In the family "hash in both" the first one has trees too.
    """
    family, width = FAMILIES[network.family], network.width

    def layer(units: int, has_trees: bool, z: Any) -> Any:
        if has_trees and family.hashed:
            return hidden.layer(network, seed, units)(z, gate_inputs=last)
        return layers.Dense(units)(z)

    z = layers.LayerNormalization()(x)
    z = layer(WIDEN * width, network.family == "hash in both", z)
    z = layers.ReLU()(layers.LayerNormalization()(z))
    return layer(width, True, z)
