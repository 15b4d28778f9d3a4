"""`python -m tests --device` tells what it tested, where, and what not."""

import json
import subprocess
import sys

import keras
import pytest

from tests import device

BACKEND = keras.backend.backend()
OUTCOMES = ("passed", "failed", "skipped", "not run")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests", *arguments],
        cwd=device.ROOT,
        capture_output=True,
        text=True,
    )


def test_every_area_has_files():
    for files in device.AREAS.values():
        assert files
        for file in files:
            assert (device.ROOT / file).exists(), file


def test_a_run_on_cpu(tmp_path):
    output = tmp_path / "results.json"
    minutes = ("--minutes", "0.35", "--output", str(output))
    done = run(
        BACKEND, "--device", "cpu", *minutes, "--areas", "gates", "transforms"
    )
    found = json.loads(output.read_text())
    assert found["problems"] == [], done.stdout + done.stderr
    gates, transforms = found["rows"]
    assert (gates["area"], transforms["area"]) == ("gates", "transforms")
    assert gates["passed"] + gates["not run"] > 0
    assert gates["failed"] == transforms["failed"] == 0
    # What there is no time for is told.
    late = gates["not run"] + transforms["not run"]
    assert done.returncode == (1 if late else 0)
    for row in found["rows"]:
        cells = [row["backend"], row["area"], *(str(row[o]) for o in OUTCOMES)]
        assert any(
            line.split()[:6] == cells for line in done.stdout.split("\n")
        )


@pytest.mark.skipif(BACKEND != "jax", reason="the others look for no TPU")
def test_a_device_that_is_missing_is_told():
    done = run(BACKEND, "--device", "tpu", "--areas", "gates")
    assert done.returncode == 1
    assert "jax: must compute on a tpu. Received: no device" in done.stdout


def test_wrong_arguments_are_told():
    done = run("numpy", "--device", "cpu")
    assert done.returncode == 2
    assert "Received: numpy" in done.stderr
