"""Runs a tutorial as a person does, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "tutorials"

# Run before the script, for a machine that has one framework and no other.
ONLY_ONE_FRAMEWORK = f"""
import sys
from importlib.machinery import PathFinder

others = {{"tensorflow", "jax", "torch"}} - {{{keras.backend.backend()!r}}}

class WithoutTheOthers(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in others:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTheOthers
"""


def run_tutorial(name, folder, *arguments, before=""):
    """Runs the script from another folder; it writes to `folder / "out"`."""
    script = str(TUTORIALS / f"{name}.py")
    command = (
        f"{before}\nimport runpy, sys\n"
        f"sys.argv[0] = {script!r}\n"
        "sys.path[0] = ''\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", command, *arguments, "--output", folder / "out"],
        cwd=folder,
        env=os.environ
        | {
            "KERAS_BACKEND": keras.backend.backend(),
            # Its own folder, as for `python tutorials/NAME.py`.
            "PYTHONPATH": os.pathsep.join([str(TUTORIALS), str(ROOT)]),
            "PYTHONIOENCODING": "utf-8",
        },
        capture_output=True,
        encoding="utf-8",
    )


def smoke_run(name, tmp_path_factory):
    """Returns what `--smoke` printed, with one framework, and its folder."""
    folder = tmp_path_factory.mktemp("tutorial")
    run = run_tutorial(name, folder, "--smoke", before=ONLY_ONE_FRAMEWORK)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, folder / "out"
