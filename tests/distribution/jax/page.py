"""Runs the code of `docs/distribution.md` that needs several devices.

A program of its own, because devices are set before the first use:
`python -m tests.distribution.jax.page`.
"""

import json
import re
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parents[3]


def main():
    text = (ROOT / "docs" / "distribution.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```py\n(.*?)^```", text, re.M | re.S)
    names = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"block {number}", "exec"), names)
    split = [
        variable.path
        for variable in names["model"].variables
        if not variable.value.sharding.is_fully_replicated
    ]
    devices = len(keras.distribution.list_devices())
    print(json.dumps([len(blocks), devices, split]))


if __name__ == "__main__":
    main()
