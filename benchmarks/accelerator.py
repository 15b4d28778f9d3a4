"""Trees on an accelerator: forward, gradients and steps, in a few minutes.

The command line gives sizes in their order of interest, and the minutes. What
the device's memory does not hold is left out, and told.
"""

import argparse
import itertools
from collections.abc import Iterator

from benchmarks import training
from benchmarks.harness import options, plots, rounds, targets
from benchmarks.harness.models import Case
from benchmarks.harness.tables import number

FORWARD = ("dense", "large-dense", "naive", "tree", "folded", "int8")
# The model and the optimizer of each contestant, by the work.
CONTESTANTS = {
    "step": {
        "dense": ("dense", "Adam"),
        "large-dense": ("large-dense", "Adam"),
        "StepAwareAdam": ("tree", "StepAwareAdam"),
        "Adam": ("tree", "Adam"),
    },
    "forward": {model: (model, "") for model in FORWARD},
    "gradients": training.CONTESTANTS["gradients"],
}
# Copies of a case's parameters that are held at once: as weights, as gradients
# and as slots, and while a model is folded.
COPIES = {
    "": 2.5,
    "StepAwareAdam": 3.5,
    "Adam": 5.5,
}
# The kernels of all examples that the naive tree holds, forward and backward.
NAIVE_KERNELS = {"forward": 2, "gradients": 4, "step": 4}

LEGEND = f"""\
large-dense  two Dense layers with as many parameters as the trees
naive        gathers the kernels of each example: (B, P, Q) numbers
int8         folded, with tables of int8
Float32 products are rounded as the framework does it on this device by itself.
JAX_DEFAULT_MATMUL_PRECISION=highest and NVIDIA_TF32_OVERRIDE=0 change that.
{targets.LIMIT_LEGEND}"""


def bytes_needed(case: Case) -> float:
    """Returns the bytes that a case holds at most, about."""
    stored = case.units**2
    if case.model != "dense":
        stored = case.tree_parameters
    copies = COPIES[case.optimizer]
    activations = 8 * case.batches * case.batch * case.units
    if case.model == "naive":
        activations += NAIVE_KERNELS[case.work] * case.batch * case.units**2
    # The sums of the paths of a batch, and their gradient.
    elif case.model == "tree":
        leaves = min(case.batch, 2**case.depth)
        activations += 3 * leaves * case.units**2
    return 4.0 * (copies * stored + activations)


def contests(given: argparse.Namespace) -> Iterator[rounds.Contest]:
    """Yields who takes part, the most interesting sizes first."""
    room = given.memory * 1e9
    for depth, batch, units, work in itertools.product(
        *(given.depth, given.batch, given.units, dict.fromkeys(given.work))
    ):
        cases = [
            Case.of(
                given,
                name,
                model=model,
                optimizer=optimizer,
                work=work,
                batch=batch,
                units=units,
                depth=depth,
                batches=2,
            )
            for name, (model, optimizer) in CONTESTANTS[work].items()
        ]
        cases = [
            case._replace(parameters=case.tree_parameters)
            if case.model == "large-dense"
            else case
            for case in cases
        ]
        fit = [case for case in cases if bytes_needed(case) < 0.8 * room]
        left_out = [
            f"left out: {case.name}, {work}, batch {batch}, {units} units, "
            f"depth {depth}: it needs {bytes_needed(case) / 1e9:.1f} GB of "
            f"{room / 1e9:.1f}"
            for case in cases
            if case not in fit
        ]
        yield rounds.Contest(fit, "dense", left_out)


BENCHMARK = rounds.ContestBenchmark(
    name="accelerator",
    help="time on a GPU or TPU, beside Dense and the limit, in a few minutes",
    options=options.engines("jax", "torch")
    | options.sizes(
        depth=[8, 4, 12, 14],
        batch=[256, 4096, 1, 65536],
        units=[1024, 256, 4096],
        trees=64,
        rounds=3,
    )
    | options.choices("work", CONTESTANTS, "in this order")
    | options.option(
        *("minutes", "stop after so many, shared by the backends"),
        type=options.positive_float,
        default=5.0,
    )
    | options.option(
        *("memory", "GB of the device's memory"),
        type=options.positive_float,
        default=70.0,
    )
    | options.option(
        *("seconds", "length of a turn, about"),
        type=options.positive_float,
        default=0.1,
    ),
    contests=contests,
    legend=LEGEND,
    axes=plots.Axes("batch", "over", "examples in a batch", "over Dense"),
    columns={
        "device": lambda row: row["device_name"] or "cpu",
        "touched": lambda row: number(row["touched_bytes"], ".2f", 1e6),
    }
    | targets.LIMIT_COLUMN,
)
