"""The results of `credit`: two tables, and both as JSON."""

import numpy as np

from benchmarks.harness import tables as output
from benchmarks.step_time_report import distinct, find

LEGEND = """\
ms        time of a `fit` step of the whole network, median of epochs in turns
ratio     over that of straight, median over the turns
bits      per byte of held-out files, mean over the seeds and their spread
entropy   of the leaves that validation visits, over its maximum
used      the fraction of leaves that validation visits
"""


def text(found: dict) -> str:
    """What was found, for people."""
    lines = output.heading(found)
    for study in found["studies"]:
        sizes = study["study"]
        lines += [
            "",
            "{backend}: {steps} steps of {batch}, hidden {hidden}, depth "
            "{depth}, {trees} trees, seeds {seeds}".format(**sizes),
            "",
            *_table(study),
        ]
    return "\n".join([*lines, "", LEGEND, *found["failures"]])


def _table(study: dict) -> list[str]:
    lines = [
        "| credit | ms | ratio | bits | entropy | used |",
        "|---|---|---|---|---|---|",
    ]
    for name in distinct(study["costs"], "credit"):
        (cost,) = find(study["costs"], credit=name)
        rows = find(study["rows"], credit=name)
        bits, entropy, used = (
            np.array([row[key] for row in rows])
            for key in ("bits_per_byte", "gate_entropy", "path_utilization")
        )
        lines.append(
            f"| {name} | {cost['ms']:.1f} | {cost['ratio']:.2f} "
            f"| {bits.mean():.3f} ({bits.min():.3f} to {bits.max():.3f}) "
            f"| {entropy.mean():.2f} | {used.mean():.2f} |"
        )
    return lines
