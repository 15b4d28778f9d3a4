"""Optimizers whose step costs nothing for rows that the batch did not touch."""

import keras

from keras_treegate.optimizers.loss_scale_optimizer import (
    LossScaleOptimizer as LossScaleOptimizer,
)
from keras_treegate.optimizers.row_state import Slot as Slot
from keras_treegate.optimizers.row_state import Step as Step
from keras_treegate.optimizers.step_aware_adagrad import (
    StepAwareAdagrad as StepAwareAdagrad,
)
from keras_treegate.optimizers.step_aware_adam import (
    StepAwareAdam as StepAwareAdam,
)
from keras_treegate.optimizers.step_aware_optimizer import (
    StepAwareOptimizer as StepAwareOptimizer,
)
from keras_treegate.optimizers.step_aware_sgd import (
    StepAwareSGD as StepAwareSGD,
)

__all__ = [
    "LossScaleOptimizer",
    "Slot",
    "Step",
    "StepAwareAdagrad",
    "StepAwareAdam",
    "StepAwareOptimizer",
    "StepAwareSGD",
]

# Lets `compile` take these strings. "LossScaleOptimizer" stays Keras's own.
keras.saving.get_custom_objects().update(
    {
        "step_aware_adagrad": StepAwareAdagrad,
        "step_aware_adam": StepAwareAdam,
        "step_aware_sgd": StepAwareSGD,
        "StepAwareAdagrad": StepAwareAdagrad,
        "StepAwareAdam": StepAwareAdam,
        "StepAwareSGD": StepAwareSGD,
    }
)
