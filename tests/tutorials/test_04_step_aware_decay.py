"""The tutorial on decay shows the numbers that decay has."""

import re

import pytest

from tests.tutorials.running import ONLY_ONE_FRAMEWORK, run_tutorial

NAME = "04_step_aware_decay"


def test_idle_rows_decay_as_densely_unless_their_debt_is_waived(tmp_path):
    run = run_tutorial(NAME, tmp_path, "--smoke", before=ONLY_ONE_FRAMEWORK)
    assert run.returncode == 0, run.stdout + run.stderr
    expected = float(re.search(r"dense decay leaves (\S+)", run.stdout)[1])
    assert expected == pytest.approx((1 - 0.05 * 0.2) ** 19, abs=1e-4)
    left = dict(re.findall(r"^  (\S+) +left (\S+) of", run.stdout, re.M))
    assert float(left["dense"]) == pytest.approx(expected, abs=2e-4)
    assert left["step-aware"] == left["dense"]
    assert float(left["forgetful"]) == pytest.approx(1)
    differ = dict(
        re.findall(
            r"^(\S+) +differs from dense by at most (\S+)", run.stdout, re.M
        )
    )
    assert float(differ["step-aware"]) < 1e-5 < float(differ["forgetful"])
    for name in ("decay", "cost"):
        picture = (tmp_path / "out" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
