"""Callbacks that show how a model routes while it trains."""

from keras_treegate.callbacks.gate_entropy import GateEntropy as GateEntropy
from keras_treegate.callbacks.path_utilization import (
    PathUtilization as PathUtilization,
)

__all__ = ["GateEntropy", "PathUtilization"]
