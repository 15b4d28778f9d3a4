"""Leaves out the packages for PyTorch where another backend runs."""

import keras

collect_ignore = [] if keras.backend.backend() == "torch" else ["test_peers.py"]
