"""The arithmetic of a layer."""

from typing import NamedTuple


class MultiplyAdds(NamedTuple):
    """Arithmetic per example: a multiply-add, or an addition, counts one.

    Args:
        tree: With the path summed for each example, `(depth + 1) * P * Q`.
        folded: With the sums of all paths stored, `P * Q`, as a Dense layer.

    Example:

    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(4, depth=2)
    >>> layer.build((None, 8))
    >>> layer.multiply_adds
    MultiplyAdds(tree=96, folded=32)
    """

    tree: int
    folded: int
