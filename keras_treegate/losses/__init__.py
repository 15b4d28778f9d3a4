"""Losses that credit what was sampled."""

from keras_treegate.losses.reinforce_loss import ReinforceLoss as ReinforceLoss

__all__ = ["ReinforceLoss"]
