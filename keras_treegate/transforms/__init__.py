"""Changes of a whole model: each returns a new one and leaves the old alone."""

from keras_treegate.transforms.convert_embeddings import (
    convert_embeddings as convert_embeddings,
)
from keras_treegate.transforms.fold import fold as fold
from keras_treegate.transforms.grow import grow as grow
from keras_treegate.transforms.prune import PruneReport as PruneReport
from keras_treegate.transforms.prune import prune as prune
from keras_treegate.transforms.upcycle import upcycle as upcycle

__all__ = [
    "PruneReport",
    "convert_embeddings",
    "fold",
    "grow",
    "prune",
    "upcycle",
]
