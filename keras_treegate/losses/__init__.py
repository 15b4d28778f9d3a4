"""Losses that credit sampled gates."""

from keras_treegate.losses.reinforce_loss import ReinforceLoss as ReinforceLoss

__all__ = ["ReinforceLoss"]
