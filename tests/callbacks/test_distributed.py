"""Visits of several devices add up."""

import os
import subprocess
import sys

import keras
import pytest


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="tests/distribution/torch counts in processes of PyTorch",
)
def test_two_devices_count_the_examples_of_both():
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-m", "tests.callbacks.two_devices"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
