"""`python -m tests --device` tells what it tested, where, and what not."""

import json
import subprocess
import sys

import keras

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


def told_of(area, minutes, tmp_path):
    """Tests an area on CPU; returns its row and the exit status."""
    output = tmp_path / "results.json"
    options = ("--minutes", minutes, "--areas", area, "--output", str(output))
    done = run(BACKEND, "--device", "cpu", *options)
    found = json.loads(output.read_text())
    assert found["problems"] == [], done.stdout + done.stderr
    (row,) = found["rows"]
    cells = [BACKEND, area, *(str(row[outcome]) for outcome in OUTCOMES)]
    assert cells in [line.split()[:6] for line in done.stdout.splitlines()]
    return row, done.returncode


def test_what_passes_is_told(tmp_path):
    row, status = told_of("exactness", "9", tmp_path)
    assert row["passed"] > 50
    assert row["failed"] == row["not run"] == status == 0


def test_what_there_is_no_time_for_is_told(tmp_path):
    row, status = told_of("transforms", "0", tmp_path)
    assert row["not run"] > 50
    assert row["passed"] == row["failed"] == 0
    assert status == 1


def test_a_device_that_is_missing_is_told():
    done = run(BACKEND, "--device", "tpu", "--areas", "gates")
    assert done.returncode == 1
    assert f"{BACKEND}: must compute on a tpu. Received: " in done.stdout


def test_wrong_arguments_are_told():
    done = run("numpy", "--device", "cpu")
    assert done.returncode == 2
    assert "Received: numpy" in done.stderr
