"""Collects the tests of the backend that runs, and no other's."""

import keras

from tests.optimizers.lifted import lifted as lifted

collect_ignore_glob = [
    pattern
    for name in ("jax", "tensorflow", "torch")
    if name != keras.backend.backend()
    for pattern in (f"{name}/*", f"*test_{name}*.py")
]
