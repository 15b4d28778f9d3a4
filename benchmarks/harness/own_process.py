"""A measurement in a process of its own, on a backend of its own."""

import json
import os
import subprocess
import sys
from typing import Any


def measure(
    module: str, case: Any, backend: str, environment: dict | None = None
) -> dict:
    """Runs a module of this package with a case as JSON for its argument.

    Args:
        module: name of the module; its last line of output is the result, as
            JSON.
        case: what to measure.
        backend: of Keras.
        environment: variables that are set unless they are already.

    Raises:
        RuntimeError: If the process fails, with the last line it wrote.
    """
    process = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", json.dumps(case)],
        env={"TF_CPP_MIN_LOG_LEVEL": "2"}
        | (environment or {})
        | os.environ
        | {"KERAS_BACKEND": backend},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(
            f"The measurement of {case} ended with status "
            f"{process.returncode}: {lines[-1]}"
        )
    return json.loads(process.stdout.splitlines()[-1])
