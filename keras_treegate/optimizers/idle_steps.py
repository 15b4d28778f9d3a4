"""How long rows have not been written."""

from typing import Any

import numpy as np
from keras import ops


def idle_steps(level: Any) -> np.ndarray | None:
    """The steps since each row of a tree level was last written, (N,) int64.

    Of the optimizers that listen to the level, the one that has taken the most
    steps tells; `None` where none of them keeps this. A row that was never
    written has been idle for all its steps.
    """
    told: list[tuple[int, np.ndarray]] = []
    for optimizer in level.listeners:
        last_step = optimizer.last_steps(level.nodes)
        if last_step is not None:
            step = int(ops.convert_to_numpy(optimizer.steps_taken))
            last_step = ops.convert_to_numpy(last_step).astype("int64")
            told.append((step, step - last_step))
    if not told:
        return None
    return max(told, key=lambda pair: pair[0])[1]
