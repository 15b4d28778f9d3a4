"""Collects the tests of the backend that runs, and no other's."""

import keras

collect_ignore_glob = [
    f"{name}/*"
    for name in ("jax", "tensorflow", "torch")
    if name != keras.backend.backend()
]
