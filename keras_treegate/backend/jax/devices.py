"""Tensors on several devices, where a distribution of Keras is set."""

import keras

from keras_treegate.types import Tensor


def may_be_split() -> bool:
    """Returns whether tables may be split over devices along any axis."""
    distribution = keras.distribution.distribution()
    return isinstance(distribution, keras.distribution.ModelParallel)


def on_every_device(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Gathers tensors that may be split, whole, on all devices."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensors
    mesh = distribution.device_mesh
    return tuple(
        keras.distribution.distribute_tensor(
            tensor,
            keras.distribution.TensorLayout([None] * tensor.ndim, mesh),
        )
        for tensor in tensors
    )
