"""The tutorial in pictures runs, and its pictures are there."""

import re

import pytest

from tests.tutorials.running import ONLY_ONE_FRAMEWORK, run_tutorial

NAME = "02_the_idea_in_pictures"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp(NAME)
    run = run_tutorial(NAME, folder, "--smoke", before=ONLY_ONE_FRAMEWORK)
    assert run.returncode == 0, run.stderr
    return run.stdout, folder / "out"


def test_the_sum_along_the_path_is_the_kernel(smoke):
    output, _ = smoke
    rows = re.findall(r"^  depth \d: +(\S+) +(\S+) +(\S+) ", output, re.M)
    sums, kernel = (
        list(map(float, re.search(f"{name}:(.*)", output)[1].split()))
        for name in ("sum", "kernel")
    )
    assert len(rows) == 6
    assert sums == kernel
    for column, total in zip(zip(*rows, strict=True), sums, strict=True):
        assert sum(map(float, column)) == pytest.approx(total, abs=0.004)


@pytest.mark.parametrize(
    "name", ["bits", "paths", "leaves", "path_sum", "context", "back_off"]
)
def test_it_draws(smoke, name):
    picture = (smoke[1] / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
