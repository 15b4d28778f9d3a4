"""The picture of `step-time`: time of a step over stored bytes."""

from pathlib import Path
from typing import Any

from benchmarks.harness.tables import distinct, find
from benchmarks.step_time_report import base_row

# Okabe and Ito's colours, which the colour-blind can tell apart, and markers.
STYLES = {
    "StepAwareSGD": ("#0072B2", "o"),
    "StepAwareAdam": ("#009E73", "s"),
    "StepAwareAdagrad": ("#CC79A7", "^"),
    "Adam": ("#D55E00", "D"),
}


def figure_class() -> Any:
    """Matplotlib's `Figure`, which needs no screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "The picture needs matplotlib, which is not installed. Install it "
            'with: pip install "keras_treegate[tutorials]"'
        ) from error
    return Figure


def draw(machine: str, rows: list[dict]) -> Any:
    """A figure with a panel for each backend, both axes logarithmic."""
    backends = distinct(rows, "backend")
    figure = figure_class()(
        figsize=(4.2 * len(backends) + 1.2, 5.2), layout="constrained"
    )
    panels = figure.subplots(
        1, len(backends), sharex=True, sharey=True, squeeze=False
    )[0]
    for panel, backend in zip(panels, backends, strict=True):
        _draw_backend(panel, backend, find(rows, backend=backend))
    panels[0].set_ylabel("time of a fit step [ms]")
    lines = {
        line.get_label(): line for panel in panels for line in panel.get_lines()
    }
    figure.legend(
        handles=list(lines.values()),
        loc="outside lower center",
        ncols=2 if len(backends) == 1 else 5,
    )
    size = "batch {batch}, {units} inputs and units, {trees} trees".format
    figure.suptitle(f"{machine}\n{size(**rows[0])}", fontsize=10)
    return figure


def _draw_backend(panel: Any, backend: str, rows: list[dict]) -> None:
    panel.set(
        title=backend,
        xlabel="bytes stored in all nodes [MB]",
        xscale="log",
        yscale="log",
    )
    for axis in (panel.xaxis, panel.yaxis):
        axis.get_major_locator().set_params(subs=(1, 3))
        axis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    panel.grid(linewidth=0.5, alpha=0.4)
    for optimizer in distinct(rows, "optimizer"):
        ours = find(rows, optimizer=optimizer)
        ms = [row["ms"] for row in ours]
        low, high = zip(*(row["ms_quartiles"] for row in ours), strict=True)
        color, marker = STYLES[optimizer]
        panel.plot(
            _stored(ours), ms, color=color, marker=marker, label=optimizer
        )
        panel.fill_between(_stored(ours), low, high, color=color, alpha=0.2)
    _draw_touched(panel, rows)
    _draw_depths(panel, rows)


def _draw_touched(panel: Any, rows: list[dict]) -> None:
    """A line of the slope that touched bytes have, through a measurement."""
    optimizers = distinct(rows, "optimizer")
    anchor = optimizers[0]
    if "StepAwareAdam" in optimizers:
        anchor = "StepAwareAdam"
    ours = find(rows, optimizer=anchor)
    base = base_row(ours)
    scale = base["ms"] / base["touched_bytes"]
    panel.plot(
        _stored(ours),
        [row["touched_bytes"] * scale for row in ours],
        color="black",
        linestyle="--",
        linewidth=0.8,
        label="proportional to touched bytes",
    )


def _draw_depths(panel: Any, rows: list[dict]) -> None:
    depths = {row["depth"]: row for row in rows}
    top = panel.secondary_xaxis("top")
    top.set_xticks(_stored(depths.values()), labels=map(str, depths))
    top.minorticks_off()
    top.set_xlabel("depth")


def _stored(rows: Any) -> list[float]:
    return [row["stored_bytes"] / 1e6 for row in rows]


def write(machine: str, rows: list[dict], folder: Path) -> None:
    """Writes `step-time.png`."""
    draw(machine, rows).savefig(folder / "step-time.png", dpi=150)
