"""Data parallelism under PyTorch, with rows for the gradients of tables."""

from typing import Any

import keras

from keras_treegate import backend
from keras_treegate.tables import row_table


def data_parallel(model: keras.layers.Layer, **kwargs: Any) -> Any:
    """Wraps a model in PyTorch's `DistributedDataParallel`, with rows kept.

    `DistributedDataParallel` averages the gradients of the processes as dense
    tensors. The averages are right, but for a tree level or the embeddings of a
    `SparseEmbedding` a step then costs the whole table. With this function the
    processes exchange the rows that they touched, and a step costs those. Use
    it in a training loop of your own in place of `DistributedDataParallel`, and
    apply the gradients with a step-aware optimizer.

    After `loss.backward()` the gradient of a table is, as that of any weight,
    the mean over the processes, here row by row:

        ids    = the distinct ids that any process touched
        row[i] = sum over the processes of their row i / number of processes

    It is the same in each process to the last bit. With batches of equal size,
    training is that of one process on the joint batch: weights, slots, decay
    clocks and stamps. A process sends and receives as many rows as the one that
    touched the most. A level that a batch reads whole has a dense gradient and
    is averaged so.

    In training, the processes also add up their visits of leaves, and average
    the running means of gates and the baselines of `Reinforce`. So all of them
    must make the same number of calls with `training=True`.

    Args:
        model: A built Keras model or layer.
        **kwargs: Those of `torch.nn.parallel.DistributedDataParallel`, such as
            `device_ids` and `process_group`.

    Returns:
        The `DistributedDataParallel` of the model, a `torch.nn.Module` that is
        called as the model is. The weights are those of rank 0 at first.

    Raises:
        ValueError: For a model that is not built or has no trainable weights
            but tables, in a process that belongs to no group, and on any other
            backend.

    Example:

    >>> import keras, keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(1, depth=6)
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> if keras.config.backend() == "torch":
    ...     from torch import distributed
    ...     store = distributed.HashStore()  # `torchrun` needs none of these
    ...     distributed.init_process_group(
    ...         "gloo", store=store, rank=0, world_size=1
    ...     )
    ...     parallel = keras_treegate.distribution.data_parallel(model)
    ...     parallel(keras.ops.ones((4, 8)), training=True).sum().backward()
    ...     weights = model.trainable_variables
    ...     optimizer = keras_treegate.optimizers.StepAwareAdam(1e-3)
    ...     optimizer.apply([w.value.grad for w in weights], weights)
    ...     distributed.destroy_process_group()
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            "`model` must be a Keras model or layer. Received: "
            f"model={model!r}. Wrap other modules in "
            "`torch.nn.parallel.DistributedDataParallel`."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built. Received: a model without weights, "
            f"{model.name!r}. Call it once, or `model.build(input_shape)`."
        )
    tables = [v for v in model.variables if row_table.of(v) is not None]
    return backend.data_parallel(
        model, tables, model.non_trainable_variables, kwargs
    )
