"""A layout of tables for the model parallelism of Keras."""

import keras

from keras_treegate.core import checks

DEEPEST = 31  # the deepest level that a layer may have


def layout_map(
    mesh: keras.distribution.DeviceMesh,
    axis: str | None = None,
    shard: str = "rows",
    min_rows: int = 256,
    embeddings: str = r"sparse_embedding(_\d+)?",
    visits: bool = True,
) -> keras.distribution.LayoutMap:
    r"""Makes the layouts of trees and embeddings for `ModelParallel`.

    The nodes of deep levels, the tables of sparse embeddings, the state of
    their decay, the visits and all optimizer slots that have a number for each
    row are split over one axis of the mesh, all in the same way. What has few
    rows is replicated, as are gates and all other weights. To split other
    weights, add keys to the map that is returned.

    With `shard="rows"` a device keeps some rows of each table, which divides
    all of its state. With `shard="units"` it keeps some output units of all
    rows. Then the state of decay and the visits, which have no units, are
    replicated.

    A slot with the shape of its variable has the layout of that variable, those
    of the optimizers of Keras too. Keras has `ModelParallel` under JAX only.

    Args:
        mesh: A `keras.distribution.DeviceMesh`.
        axis: The name of the axis of the mesh to split over; `None` for the
            last. Defaults to `None`.
        shard: `"rows"` or `"units"`. Defaults to `"rows"`.
        min_rows: Levels of fewer rows in a tree are replicated, and so are
            those of fewer rows than the axis has devices. Defaults to `256`.
        embeddings: A regular expression for the names of the `SparseEmbedding`
            layers to split; `""` for none. Their rows (or units) must divide
            by the devices of the axis. Defaults to
            `r"sparse_embedding(_\d+)?"`.
        visits: Whether the visits of leaves are split with the rows. Trees of
            fewer leaves than the axis has devices need `False`. Defaults to
            `True`.

    Returns:
        A `keras.distribution.LayoutMap`.

    Raises:
        ValueError: For an argument that is none of these, or rows over an axis
            whose devices are no power of 2, by which no level divides.

    Example:

    >>> import keras
    >>> import keras_treegate
    >>> axes = ("batch", "model")
    >>> mesh = keras.distribution.DeviceMesh((1, 1), axes, ["cpu:0"])
    >>> layouts = keras_treegate.distribution.layout_map(mesh)
    >>> layouts["tree_gated_dense/nodes_8"].axes
    ('model', None, None)
    >>> layouts["tree_gated_dense/nodes_7"] is None
    True
    """
    axis = _checked_axis(mesh, axis)
    if shard not in ("rows", "units"):
        raise ValueError(
            "`shard` must be 'rows' or 'units'. Received: "
            f"shard={shard!r}. Use 'rows' for the least memory."
        )
    if not isinstance(embeddings, str):
        raise ValueError(
            "`embeddings` must be a regular expression of layer names. "
            f"Received: embeddings={embeddings!r}. Use '' for no layer."
        )
    min_rows = checks.integer("min_rows", min_rows, 1)
    visits = checks.boolean("visits", visits)
    devices = mesh.shape[mesh.axis_names.index(axis)]
    if shard == "rows" and devices & (devices - 1):
        raise ValueError(
            "`mesh` must have a power of 2 of devices along the axis to split "
            f"the rows of trees. Received: {devices} devices along {axis!r}. "
            "Use another mesh, or shard='units'."
        )
    first = (max(min_rows, devices) - 1).bit_length()
    levels = "_(" + "|".join(map(str, range(first, DEEPEST + 1))) + ")"
    layouts = keras.distribution.LayoutMap(mesh)
    _add_table(layouts, axis, shard, "(.*/)?", f"nodes{levels}", levels, 3)
    if embeddings:
        layer = f"(.*/)?({embeddings})/"
        _add_table(layouts, axis, shard, layer, "embeddings", "", 2)
    if shard == "rows" and visits:
        layouts["(.*/)?visits_(low|high)"] = (axis,)
    return layouts


def _add_table(
    layouts: keras.distribution.LayoutMap,
    axis: str,
    shard: str,
    layer: str,
    values: str,
    suffix: str,
    rank: int,
) -> None:
    """Adds the layouts of tables, of their decay and of their slots.

    Args:
        layouts: the map.
        axis: the axis of the mesh.
        shard: "rows" or "units".
        layer: a regular expression for the path of the layers, with its slash.
        values: one for the names of the variables that hold the rows.
        suffix: one for the ends of the names of clocks and stamps.
        rank: the rank of the rows' variable.
    """
    if shard == "units":
        layouts[layer + values] = (*[None] * (rank - 1), axis)
        return
    layouts[layer + values] = (axis, *[None] * (rank - 1))
    layouts[f"{layer}stamps{suffix}"] = (axis, None)
    # The slots of a table are named by its clock, see `optimizers.row_state`.
    slot = rf"(.*/)?{layer.replace('/', '_')}clock{suffix}_"
    layouts[f"{slot}last_step"] = (axis,)
    layouts[rf"{slot}(?!last_step|\d).*"] = (axis, *[None] * (rank - 1))


def _checked_axis(mesh: keras.distribution.DeviceMesh, axis: str | None) -> str:
    """Returns the name of the axis to split over, or raises."""
    if not isinstance(mesh, keras.distribution.DeviceMesh):
        raise ValueError(
            "`mesh` must be a keras.distribution.DeviceMesh. Received: "
            f"mesh={mesh!r}. Make one of `keras.distribution.list_devices()`."
        )
    names = tuple(mesh.axis_names)
    axis = names[-1] if axis is None else axis
    if axis not in names:
        raise ValueError(
            f"`axis` must be the name of an axis of the mesh, one of {names}. "
            f"Received: axis={axis!r}. Use None for the last axis."
        )
    return axis
