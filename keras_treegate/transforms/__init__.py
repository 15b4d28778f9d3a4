"""Changes of a whole model: each returns a new one and leaves the old alone."""

from keras_treegate.transforms.fold import fold as fold

__all__ = ["fold"]
