"""Programs on four virtual devices."""

import json
import os
import subprocess
import sys

FOUR_DEVICES = "--xla_force_host_platform_device_count=4"


def report_of(module, *arguments):
    """Runs a program of this folder, and returns what it printed last."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FOUR_DEVICES}"
    name = f"tests.distribution.jax.{module}"
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
