"""Every pattern of the bits of a model at once, as examples of one batch."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_treegate.credit import scores
from keras_treegate.layers import TreeGatedDense
from tests import gradients


class Patterns:
    """A model whose sampled bits are fixed: one pattern for each example.

    Args:
        model: A built model of layers with `credit="reinforce"`.
        x: The inputs of one example, or of several.
        positions: The shape between the batch axis and the features.
    """

    def __init__(self, model, x, positions=()):
        self.model = model
        layers = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, TreeGatedDense)
        ]
        shapes = [
            (*positions, layer.num_trees, layer.depth) for layer in layers
        ]
        sizes = [int(np.prod(shape)) for shape in shapes]
        patterns = np.array(
            list(itertools.product([False, True], repeat=sum(sizes)))
        )
        # All patterns of the first example, then of the next.
        self.count = len(patterns)
        self.x = np.repeat(x, self.count, axis=0)
        self.examples = len(x)
        patterns = np.tile(patterns, (len(x), 1))
        ends = np.cumsum(sizes)[:-1]
        for layer, shape, bits in zip(
            layers, shapes, np.split(patterns, ends, axis=1), strict=True
        ):
            fix_bits(layer, bits.reshape(-1, *shape))
        self.probabilities = self._probabilities()

    def repeated(self, y):
        """Returns targets of the examples, for all their patterns."""
        return np.repeat(y, self.count, axis=0)

    def _probabilities(self):
        found, add = [], scores.add

        def recording(credit, log_probability, *others):
            values = ops.convert_to_numpy(ops.stop_gradient(log_probability))
            found.append(values.reshape(len(values), -1).sum(axis=1))
            return add(credit, log_probability, *others)

        scores.add = recording
        try:
            self.model(self.x, training=True)
        finally:
            scores.add = add
        return np.exp(sum(found))

    def exact_gradients(self, losses_of):
        """Returns gradients of the expected loss, summed over examples.

        Args:
            losses_of: Function of the outputs, returns a loss for each row.
        """

        def expected(outputs):
            losses = losses_of(outputs)
            return ops.sum(_probabilities(losses) * losses)

        return self._gradients(expected)

    def estimated_gradients(self, loss_of):
        """Returns the mean over all patterns of what a loss gives as gradients.

        Args:
            loss_of: Function of the outputs and sample weights.
        """
        return self._gradients(lambda y: loss_of(y, self.probabilities))

    def _gradients(self, loss_of):
        backend = gradients.BACKENDS[keras.backend.backend()]
        found = backend(self.model, loss_of, [self.x], {"training": True})
        return [
            np.zeros(v.shape) if g is None else ops.convert_to_numpy(g)
            for g, v in zip(
                found[1:], self.model.trainable_variables, strict=True
            )
        ]


def fix_bits(layer, bits):
    """Replaces the samples of a layer."""
    layer.credit.sample = lambda probabilities: ops.convert_to_tensor(bits)


def _probabilities(losses):
    """Returns the probability of each example's pattern, with its gradient."""
    total = 0
    for score in scores.due(ops.convert_to_tensor(losses)):
        value = score.log_probability
        total = total + ops.sum(value, axis=tuple(range(1, len(value.shape))))
    return ops.exp(total)


def assert_gradients_close(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=tolerance)
