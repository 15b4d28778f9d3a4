"""Runs the code of `docs/distribution.md` that needs several devices.

A program of its own, because devices are set before the first use:
`python -m tests.distribution.jax.code_of_page`.
"""

import json

import keras

from tests.distribution.page import code_under

HEADINGS = (
    "JAX: every device keeps all weights",
    "JAX: tables are split over devices",
)


def main():
    blocks = [block for heading in HEADINGS for block in code_under(heading)]
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
