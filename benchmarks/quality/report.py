"""The results of `quality`: means over seeds, a table, pictures."""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness import tables
from benchmarks.harness.tables import number
from benchmarks.quality.networks import FAMILIES, Network
from keras_treegate.plotting import canvas

LEGEND = """\
bits      of the held-out labels, given the inputs: mean and sample standard
          deviation over the seeds (- for one seed)
rate      the learning rate that was best for the first seed, of those tried
tried     how many learning rates were
train     bits of the last examples that were trained on: where these are far
          below the bits, the network overfits
at 1      bits at the learning rate of the task, the same for all: mean, and
          deviation over the seeds that were trained at it
params    numbers that are trained
work      multiply-adds per example, with the additions along the paths
folded    the same with the sums of all paths stored
The best rate is that of the lowest bits of the held-out labels, and that very
seed counts in the mean: this flatters, and more so the more were tried. But
rates of all but "bytes" and "digits" are chosen on one half of the held-out
data, and bits are of the other.
"""

COLUMNS: tables.Columns = {
    "network": "name",
    "bits": lambda row: f"{row['bits']:.3f}",
    "+-": lambda row: number(row["bits_spread"], ".3f"),
    "rate": lambda row: f"{row['learning_rate']:g}",
    "tried": "rates",
    "train": lambda row: number(row.get("train_bits"), ".3f"),
    "at 1": lambda row: number(row["at_one"], ".3f"),
    "+- at 1": lambda row: number(row["at_one_spread"], ".3f"),
    "accuracy": lambda row: f"{row['accuracy']:.2%}",
    "params": lambda row: f"{row['parameters']:,}",
    "work": lambda row: f"{row['multiply_adds']:,}",
    "folded": lambda row: f"{row['folded']:,}",
    "seeds": lambda row: len(row["seeds"]),
}


def summary(rows: list[dict]) -> list[dict]:
    """Returns a row for each network and number of steps, in their order."""
    groups: dict[Any, list[dict]] = {}
    for row in rows:
        groups.setdefault((Network.of(row), row["steps"]), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: list[dict]) -> dict:
    bits = [row["bits"] for row in group]
    same = {k: v for k, v in group[0].items() if k not in (*MEANS, "seed")}
    return same | {
        "seeds": sorted(row["seed"] for row in group),
        "bits_spread": statistics.stdev(bits) if len(bits) > 1 else None,
        # Older results lack some, and short runs have no time of a step.
        **{
            name: statistics.mean(row[name] for row in group)
            for name in MEANS
            if all(row.get(name) is not None for row in group)
        },
    }


MEANS = ("bits", "train_bits", "accuracy", "seconds", "step_ms")


def best_rate(rows: list[dict], network: Network, steps: int) -> float | None:
    """Finds the rate with the lowest bits for the first seed, if any."""
    wanted = network._asdict() | {"steps": steps, "seed": 0}
    del wanted["rate"]
    bits = {
        row["rate"]: row.get("choice_bits", row["bits"])
        for row in tables.find(rows, **wanted)
    }
    return min(bits, key=bits.__getitem__, default=None)


def best(rows: list[dict]) -> list[dict]:
    """Returns, of the summary, each network at its best rate.

    With the bits and their spread `at_one`, the learning rate of the task, and
    the number of `rates` that were tried.
    """
    networks: dict[Any, dict] = {}
    for row in summary(rows):
        network = Network.of(row)
        key = network._replace(rate=1.0), row["steps"]
        networks.setdefault(key, {})[network.rate] = row
    found = []
    for (network, steps), by_rate in networks.items():
        first = next(iter(by_rate.values()))
        at_one = by_rate.get(1.0, {})
        tried = {
            "at_one": at_one.get("bits"),
            "at_one_spread": at_one.get("bits_spread"),
            "rates": len(by_rate),
        }
        # The first seed may have been broken off, and another not.
        row = by_rate.get(best_rate(rows, network, steps), first)
        found.append(row | tried)
    return found


def text(found: dict) -> str:
    """Returns the results for people, the best last."""
    lines = tables.heading(found)
    means = best(found["rows"])
    for task, data in found["data"].items():
        ours = tables.find(means, task=task)
        ours.sort(key=lambda row: -row["bits"])
        facts = [f"{name} {value}" for name, value in data.items()]
        lines.append(f"{task}: {', '.join(facts)}")
        lines += [*tables.table(COLUMNS, ours), ""]
    return "\n".join(
        [*lines, LEGEND, *(f"Not done: {cut}" for cut in found["cut"])]
    )


def write(found: dict, folder: Path) -> None:
    """Writes `quality.json` and `quality.txt`."""
    with_means = found | {"summary": summary(found["rows"])}
    tables.write("quality", with_means, text(found), folder)


LEGEND_WIDTH = 150  # letters, with 8 for each line that is drawn

AXES = {
    "multiply_adds": "thousand multiply-adds of an example, as trained",
    "folded": "thousand multiply-adds of an example, folded",
    "parameters": "thousand parameters",
}


def style(network: Network) -> dict:
    """Returns how a line is drawn: dotted with decay, hollow where frozen."""
    family = FAMILIES[network.family]
    decayed = network.weight_decay > 0
    fill = "left" if decayed and family.fill == "full" else family.fill
    return canvas.style(family.styles[network.trees]) | {
        "markersize": 6,
        "linewidth": 1.2,
        "linestyle": ":" if decayed else "-",
        "fillstyle": fill,
    }


def draw(found: dict, task: str) -> Any:
    """Returns a figure with a panel for each of `AXES`, a line per family.

    Of the networks whose learning rate was searched, if any was.
    """
    rows = tables.find(best(found["rows"]), task=task)
    rows = [row for row in rows if row["rates"] > 1] or rows
    lines: dict[str, list[dict]] = {}
    for row in rows:
        lines.setdefault(Network.of(row).line, []).append(row)
    figure = canvas.figure(12, 5)
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, (axis, label) in zip(panels, AXES.items(), strict=True):
        panel.set(xlabel=label)
        panel.grid(linewidth=0.5, alpha=0.4)
        for name, ours in lines.items():
            ours.sort(key=lambda row: row["parameters"])
            panel.errorbar(
                [row[axis] / 1000 for row in ours],
                [row["bits"] for row in ours],
                [row["bits_spread"] or 0 for row in ours],
                label=name,
                **style(Network.of(ours[0])),
            )
        # After the error bars: around a single point on axes that are
        # logarithmic before, Matplotlib leaves no space.
        _scale(panel.xaxis, [row[axis] for row in rows])
    what = {"digits": "digit", "flights": "flight"}.get(task, "byte")
    panels[0].set_ylabel(f"held-out bits per {what}")
    handles = panels[0].get_legend_handles_labels()
    columns = LEGEND_WIDTH // (8 + max(map(len, lines)))
    columns = min(max(columns, 1), 5)
    figure.legend(*handles, loc="outside lower center", ncols=columns)
    tried = _span(rows, "rates")
    rates = (
        "all at one learning rate"
        if tried == "1"
        else f"each at the best of {tried} learning rates"
    )
    title = f"{task}: {_span(rows, 'steps')} steps, {rates}; lower is better"
    figure.suptitle(title, fontsize=10)
    return figure


def _span(rows: list[dict], name: str) -> str:
    """Returns the values of a column: one number, or the least and the most."""
    values = {row[name] for row in rows}
    return " to ".join(map(str, sorted({min(values), max(values)})))


def _scale(axis: Any, values: list) -> None:
    """Makes an axis logarithmic, with as many numbers as have space."""
    axis.axes.set_xscale("log")
    several_decades = max(values) > 100 * min(values)
    axis.get_major_locator().set_params(
        subs=(1,) if several_decades else (1, 2, 5)
    )
    axis.set_major_formatter("{x:g}")
    axis.axes.minorticks_off()


def write_pictures(found: dict, folder: Path) -> None:
    """Writes a picture for each task, such as `quality-bytes.png`."""
    for task in tables.distinct(found["rows"], "task"):
        figure = draw(found, task)
        figure.savefig(folder / f"quality-{task}.png", dpi=150)
