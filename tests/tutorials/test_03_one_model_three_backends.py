"""One file is trained, trained further and served; the backends agree."""

import re

import keras

from tests.tutorials.running import ONLY_ONE_FRAMEWORK, run_tutorial


def test_a_model_goes_through_all_stages(tmp_path):
    # All three backends once, and each with the others not installed.
    alone = "" if keras.backend.backend() == "jax" else ONLY_ONE_FRAMEWORK
    run = run_tutorial(
        "03_one_model_three_backends", tmp_path, "--smoke", before=alone
    )
    assert run.returncode == 0, run.stdout + run.stderr
    stages = re.findall(r"^(\w+) on (\w+) \d", run.stdout, re.M)
    backends = ["jax", "torch", "tensorflow"]
    if alone:
        backends = [keras.backend.backend()] * 3
    expected = list(zip(["train", "go_on", "serve"], backends, strict=True))
    assert stages == expected
    steps = re.findall(r"steps so far: (\d+)", run.stdout)
    assert steps == ["0", "38"]
    differ = re.search(r"differ by at most (\S+)", run.stdout)
    assert float(differ[1]) < 1e-3
    # With a number: the tutorial shows the line of code that prints it, too.
    _, went_on, served = re.findall(r"test accuracy: (\d\S+)", run.stdout)
    assert went_on == served
