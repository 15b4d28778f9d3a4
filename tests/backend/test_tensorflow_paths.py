"""Row gradients under TensorFlow, which are added up block by block."""

import numpy as np
import pytest
import tensorflow as tf

from keras_treegate.backend import tensorflow_paths, xla_loops
from tests.backend.test_paths import each_shape, example, expected


@each_shape
@pytest.mark.parametrize("added", [1, 40, 100])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_blocks_of_any_size_give_the_same(shape, added, known, monkeypatch):
    """Of one example, of some (and a rest), and of all, in batches that
    TensorFlow knows the size of when it traces, or not."""
    monkeypatch.setattr(xla_loops, "ADDED", added)
    x, sums, slots, dy = map(tf.constant, example(shape))
    batch = len(x) if known else None
    of_sums = tf.function(
        tensorflow_paths._gradient_of_sums,
        input_signature=[
            tf.TensorSpec((batch, *x.shape[1:])),
            tf.TensorSpec((batch, *dy.shape[1:])),
            tf.TensorSpec(sums.shape),
            tf.TensorSpec((len(slots), batch), tf.int32),
        ],
        jit_compile=True,
        autograph=False,
    )
    found = of_sums(x, dy, sums, slots)
    _, _, want = expected(*example(shape))
    np.testing.assert_allclose(found, want, 1e-5, 1e-5)
