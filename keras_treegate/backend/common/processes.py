"""Data parallelism of frameworks in which one process trains on all devices."""

from keras_treegate.types import Tensor, Variable

TORCH_ONLY = (
    "`data_parallel` wraps a model for PyTorch's `DistributedDataParallel`. "
    "Received: a model of another backend. Leave it out, and use "
    "`keras.distribution.DataParallel` under JAX or "
    "`tf.distribute.MirroredStrategy` under TensorFlow."
)


def data_parallel(
    model: object,
    tables: list[Variable],
    statistics: list[Variable],
    options: dict[str, object],
) -> object:
    """Raises, because only PyTorch wraps models."""
    raise ValueError(TORCH_ONLY)


def mean_of_processes(variable: Variable, tensor: Tensor) -> Tensor:
    """Returns the tensor, which is that of all devices already."""
    return tensor
