"""Builds the networks that `quality` compares, and counts what they cost."""

import math
from typing import Any

import keras

from benchmarks.baselines.mixture import TopOneMixture
from benchmarks.baselines.n_grams import HashedNGrams
from benchmarks.quality import hidden, transformer
from benchmarks.quality.networks import FAMILIES, METRIC, Network, numbers
from benchmarks.quality.tasks import Task
from keras_treegate import layers, optimizers

# The numbers of an embedding of n-grams that is concatenated to the inputs. One
# that is added to the first hidden layer is as wide as that.
NGRAM_WIDTH = 16

EMBEDDING = 32
PROJECTIONS = 128


def build_model(network: Network, task: Task, seed: int) -> keras.Model:
    """Builds a network, compiled.

    The layer under test is the second of two hidden layers. Its gates are the
    signs that the first one's ReLU takes, or hashes of the last tokens, or the
    signs of their embeddings or of random projections. For digits it is the
    only hidden layer, and its gates ask whether a pixel is above its mean.
    """
    x, y = task.train
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    logits = LOGITS.get(network.task, logits_of_context)
    model = keras.Model(inputs, logits(network, task, seed, inputs))
    for layer in model.layers:
        if isinstance(layer, layers.TreeGatedDense):
            for nodes in layer.nodes[FAMILIES[network.family].frozen]:
                nodes.trainable = False
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


def logits_of_digits(
    network: Network, task: Task, seed: int, inputs: Any
) -> Any:
    """Returns the logits of images, of a network with one hidden layer."""
    z = hidden.layer(network, seed, network.width)(inputs)
    z = keras.layers.ReLU()(keras.layers.LayerNormalization()(z))
    return keras.layers.Dense(task.classes)(z)


def logits_of_context(
    network: Network, task: Task, seed: int, inputs: Any
) -> Any:
    """Returns the logits of tokens, of a network with two hidden layers."""
    z = after_hidden(network, task, seed, inputs)
    return keras.layers.Dense(task.classes)(keras.layers.ReLU()(z))


LOGITS = {"digits": logits_of_digits, "transformer": transformer.logits}


def after_hidden(network: Network, task: Task, seed: int, inputs: Any) -> Any:
    """Returns what the layer under test gives for tokens, before its ReLU."""
    family = FAMILIES[network.family]
    layer = hidden.layer(network, seed, network.width)
    embedded = keras.layers.Embedding(task.vocabulary, EMBEDDING)(inputs)
    z = keras.layers.Flatten()(embedded)
    if family.n_grams == "inputs":
        rows = n_grams(network, seed, inputs, NGRAM_WIDTH)
        z = keras.layers.Concatenate()([z, *rows])
    z = keras.layers.Dense(network.width)(z)
    if family.n_grams == "hidden":
        rows = n_grams(network, seed, inputs, network.width)
        z = keras.layers.Add()([z, *rows])
    z = keras.layers.ReLU()(keras.layers.LayerNormalization()(z))
    if family.hashed:
        return layer(z, gate_inputs=inputs)
    if network.family == "last embeddings":
        last = keras.layers.Flatten()(embedded[:, -2:])
        return layer(z, gate_inputs=last)
    if network.family == "random projections":
        return layer(z, gate_inputs=projections(task, seed, inputs))
    return layer(z)


def projections(task: Task, seed: int, inputs: Any) -> Any:
    """Returns random projections (B, 128) of which tokens there are."""
    drawn = keras.layers.Embedding(
        task.vocabulary,
        PROJECTIONS,
        embeddings_initializer=keras.initializers.RandomNormal(seed=seed),
        trainable=False,
    )
    return keras.layers.GlobalAveragePooling1D()(drawn(inputs))


def n_grams(network: Network, seed: int, inputs: Any, width: int) -> list[Any]:
    """Returns embeddings (B, width) of hashes of the last tokens, by order."""
    bits = FAMILIES[network.family].n_gram_bits
    return [
        HashedNGrams(order, bits, width, seed)(inputs)
        for order in numbers(network.orders)
    ]


def size(model: keras.Model) -> dict:
    """Counts trained numbers, and multiply-adds per example, of a network.

    `folded` is the arithmetic with the sums of all paths stored. An embedding
    reads a row and multiplies nothing; of attention the projections count.
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
        elif isinstance(
            layer, keras.layers.Dense | keras.layers.MultiHeadAttention
        ):
            kernels = [x.shape for x in weights if x.name == "kernel"]
            tree += sum(map(math.prod, kernels))
            folded += sum(map(math.prod, kernels))
        parameters += sum(math.prod(weight.shape) for weight in weights)
    return {"parameters": parameters, "multiply_adds": tree, "folded": folded}
