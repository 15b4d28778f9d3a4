"""The language model trains, writes and is saved."""

import re

from tests.tutorials.running import ONLY_ONE_FRAMEWORK, run_tutorial

NAME = "06_byte_language_model"


def test_it_trains_writes_and_saves(tmp_path):
    run = run_tutorial(NAME, tmp_path, "--smoke", before=ONLY_ONE_FRAMEWORK)
    assert run.returncode == 0, run.stdout + run.stderr
    for name in ("Dense 64", "Dense 128", "trees 64"):
        bits = re.search(rf"^{name} +(\S+) bits per byte", run.stdout, re.M)
        assert 2 < float(bits[1]) < 9
    assert "    def __init__(self" in run.stdout
    (change,) = re.findall(r"window differ by at most (\S+)$", run.stdout, re.M)
    assert float(change) < 1e-4
    speeds = re.findall(
        r"^(.+\S) +writes +(\S+) bytes per second, at (\S+) bits",
        run.stdout,
        re.M,
    )
    assert [name for name, *_ in speeds] == [
        "Dense 64",
        "Dense 128",
        "trees 64",
    ]
    assert all(int(speed.replace(",", "")) > 0 for _, speed, _ in speeds)
    loaded, saved = re.search(
        r"bits per byte: (\S+) loaded, (\S+) saved", run.stdout
    ).groups()
    assert loaded == saved
    assert (tmp_path / "out" / "byte_language_model.keras").is_file()
    picture = (tmp_path / "out" / "language_model.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
