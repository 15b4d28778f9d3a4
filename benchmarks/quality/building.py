"""Builds the networks that `quality` compares, and counts what they cost."""

import math
from typing import Any

import keras

from benchmarks.baselines.mixture import TopOneMixture
from benchmarks.baselines.n_grams import HashedNGrams
from benchmarks.quality.networks import FAMILIES, METRIC, Network, numbers
from benchmarks.quality.tasks import Task
from keras_treegate import gates, layers, optimizers

# The bits and the numbers of an embedding of n-grams that is concatenated to
# the inputs, and of one that is added to the first hidden layer: as many
# numbers in both.
NGRAM_BITS = 16
NGRAM_WIDTH = 16
ADDED_BITS = 13

EMBEDDING = 32


def build_model(network: Network, task: Task, seed: int) -> keras.Model:
    """Builds a network, compiled.

    The layer under test is the second of two hidden layers. Its gates are the
    signs that the first one's ReLU takes, or hashes of the last tokens, or the
    signs of their embeddings. For digits it is the only hidden layer, and its
    gates ask whether a pixel is above its mean.
    """
    hidden = hidden_layer(network, seed)
    x, y = task.train
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    if network.task == "digits":
        z = keras.layers.LayerNormalization()(hidden(inputs))
    else:
        z = after_hidden(network, task, seed, inputs, hidden)
    logits = keras.layers.Dense(task.classes)(keras.layers.ReLU()(z))
    if isinstance(hidden, layers.TreeGatedDense):
        for nodes in hidden.nodes[FAMILIES[network.family].frozen]:
            nodes.trainable = False
    model = keras.Model(inputs, logits)
    source = (
        optimizers if network.optimizer == "StepAwareAdam" else keras.optimizers
    )
    model.compile(
        getattr(source, network.optimizer)(
            keras.optimizers.schedules.CosineDecay(
                network.rate * task.learning_rate, len(y) // task.batch
            ),
            weight_decay=network.weight_decay or None,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[METRIC],
    )
    return model


def after_hidden(
    network: Network, task: Task, seed: int, inputs: Any, hidden: Any
) -> Any:
    """Returns what the layer under test gives for tokens, before its ReLU."""
    family = FAMILIES[network.family]
    embedded = keras.layers.Embedding(task.vocabulary, EMBEDDING)(inputs)
    z = keras.layers.Flatten()(embedded)
    if family.n_grams == "inputs":
        rows = n_grams(network, seed, inputs, NGRAM_BITS, NGRAM_WIDTH)
        z = keras.layers.Concatenate()([z, *rows])
    z = keras.layers.Dense(network.width)(z)
    if family.n_grams == "hidden":
        rows = n_grams(network, seed, inputs, ADDED_BITS, network.width)
        z = keras.layers.Add()([z, *rows])
    z = keras.layers.ReLU()(keras.layers.LayerNormalization()(z))
    if family.hashed:
        return hidden(z, gate_inputs=inputs)
    if network.family == "last embeddings":
        last = keras.layers.Flatten()(embedded[:, -2:])
        return hidden(z, gate_inputs=last)
    return hidden(z)


def n_grams(
    network: Network, seed: int, inputs: Any, bits: int, width: int
) -> list[Any]:
    """Returns embeddings (B, width) of hashes of the last tokens, by order."""
    return [
        HashedNGrams(order, bits, width, seed)(inputs)
        for order in numbers(network.orders)
    ]


def hidden_layer(network: Network, seed: int) -> Any:
    """Builds the layer in which networks differ."""
    if network.family in ("dense", "n-grams", "added n-grams"):
        return keras.layers.Dense(network.width)
    if network.experts:
        scale = network.experts if network.family == "scaled mixture" else 1.0
        return TopOneMixture(network.width, network.experts, scale=scale)
    if FAMILIES[network.family].hashed:
        gate = gates.HashGate(numbers(network.orders), seed=seed)
    else:
        threshold = "running_mean" if network.task == "digits" else "zero"
        gate = gates.SignGate(threshold=threshold, seed=seed)
    named = network.levels in ("all", "ends")
    return layers.TreeGatedDense(
        network.width,
        depth=network.depth,
        num_trees=network.trees,
        levels=network.levels if named else numbers(network.levels),
        gate=gate,
    )


def size(model: keras.Model) -> dict:
    """Counts trained numbers, and multiply-adds per example, of a network.

    `folded` is the arithmetic with the sums of all paths stored. An embedding
    reads a row and multiplies nothing.
    """
    parameters = tree = folded = 0
    for layer in model.layers:
        weights = layer.trainable_weights
        if isinstance(layer, layers.TreeGatedDense):
            learnt = [nodes for nodes in layer.nodes if nodes.trainable]
            weights = [*learnt, layer.bias]
            folded += layer.multiply_adds.folded
            tree += layer.multiply_adds.folded * len(learnt)
        elif isinstance(layer, TopOneMixture):
            tree += layer.multiply_adds
            folded += layer.multiply_adds
        elif isinstance(layer, keras.layers.Dense):
            tree += math.prod(layer.kernel.shape)
            folded += math.prod(layer.kernel.shape)
        parameters += sum(math.prod(weight.shape) for weight in weights)
    return {"parameters": parameters, "multiply_adds": tree, "folded": folded}
