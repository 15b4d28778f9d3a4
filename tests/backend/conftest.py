"""Collects the tests of the backend that runs, and no other's."""

import keras

from tests.optimizers.lifted import lifted as lifted

collect_ignore_glob = [
    f"*test_{name}*.py"
    for name in ("jax", "tensorflow", "torch")
    if name != keras.backend.backend()
]
