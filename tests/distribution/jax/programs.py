"""Programs on virtual devices."""

import json
import os
import subprocess
import sys

DEVICES = "--xla_force_host_platform_device_count"


def report_of(module, *arguments, devices=4):
    """Runs a program of this folder, and returns what it printed last."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}={devices}"
    name = f"tests.distribution.jax.{module}"
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
