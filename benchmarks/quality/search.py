"""The command line of `quality`, and its run: a search over learning rates."""

import argparse
import functools
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator

from benchmarks import frameworks
from benchmarks.harness import options, process, tables
from benchmarks.harness.benchmark import Benchmark
from benchmarks.quality import measuring, networks, report, tasks
from benchmarks.quality.networks import Network

MINUTES = {"quick": 5.0, "full": 60.0}
COUNTS = {
    "minutes": "training that would not end in time is broken off; 60 unless "
    "given, with --quick 5",
    "steps": "steps of training; 500 for bytes, 660 for digits, 1000 for "
    "transformer and 3000 for others unless given, with --quick 300, 66, 100 "
    "and 300",
    "seeds": "seeds of each network",
    "jobs": "networks trained side by side, on shares of the cores",
}
OPTIONS = (
    options.choices(
        *("tasks", tasks.TASKS, "what to learn", ["bytes", "digits"])
    )
    | options.option(
        "quick", "few networks, steps and rates", action="store_true"
    )
    | options.option(
        "cases",
        "only networks in whose name one of these regular expressions is found",
        nargs="+",
        metavar="TEXT",
        type=options.pattern,
    )
    | options.option(
        "rates",
        "learning rates to search among, times that of the task; four for "
        "texts and five for digits unless given, with --quick 1",
        nargs="+",
        type=options.positive_float,
    )
    | options.sizes(COUNTS, minutes=None, steps=None, seeds=3, jobs=1)
    | options.option(
        *("optimizer", "Adam is Keras's own"),
        choices=networks.OPTIMIZERS,
        default=networks.OPTIMIZERS[0],
    )
    | options.option(
        "resume",
        "keep the results in the output folder and add what is missing",
        action="store_true",
    )
)


class QualityBenchmark(Benchmark):
    """Trains every network at several learning rates, with several seeds."""

    def check(self, given: argparse.Namespace) -> None:
        grid = networks.quick if given.quick else networks.everything
        if not list(_networks(given, grid)):
            raise ValueError(
                "`--cases` must be part of the name of a network, e.g. "
                "'Dense', 'depth 4' or 'Dense 128$', where the name ends. "
                f"Received: {given.cases}. Without it all are trained."
            )
        known = _known(given)["data"]
        for name in given.tasks:
            data = tasks.load(name, seed=0, steps=1).about
            if known.get(name, data) != data:
                raise ValueError(
                    "`--resume` adds to results on the same data only. "
                    f"Received: results on {known[name]}, where the data now "
                    f"is {data}. Leave `--resume` out, or choose another "
                    "`--output`."
                )

    def run(self, given: argparse.Namespace, command: str) -> int:
        known = _known(given)
        found = tables.about(command, [frameworks.about()]) | {
            "commands": [*known["commands"], command],
            "data": known["data"],
            "rows": known["rows"],
            "cut": [],
        }
        minutes = given.minutes or MINUTES["quick" if given.quick else "full"]
        deadline = time.time() + minutes * 60
        for stage in _plan(given, found["rows"]):
            missing = []
            for network, seed in stage:
                steps = _steps(given, network.task)
                wanted = network._asdict() | {"steps": steps, "seed": seed}
                if not tables.find(found["rows"], **wanted):
                    missing.append((network, seed, steps, deadline))
            done = process.map_on_shares(measure, missing, given.jobs)
            pairs = zip(missing, done, strict=True)
            for (network, seed, *_), (row, about) in pairs:
                name = f"{network.task}: {network.name}, seed {seed}"
                if network.rate != 1:
                    name += f", {network.rate:g} times the rate"
                if row is None:
                    found["cut"].append(name)
                    print(f"{name}: would not end in time", flush=True)
                    continue
                found["data"][network.task] = about
                found["rows"].append(row)
                result = f"{row['bits']:.3f} bits, {row['seconds']:.0f} s"
                print(f"{name}: {result}", flush=True)
                report.write(found, given.output)
        print(f"\n{report.text(found)}")
        report.write(found, given.output)
        report.write_pictures(found, given.output)
        print(f"\nWrote {given.output / 'quality'}.json, .txt and .png")
        return 0


BENCHMARK = QualityBenchmark(
    name="quality",
    help="how well networks predict, by work and by parameters",
    options=OPTIONS,
)


def measure(
    network: Network, seed: int, steps: int, deadline: float
) -> tuple[dict | None, dict]:
    """Returns the row of a network, and what to know of the data.

    No row if the training would not end before `deadline`, a `time.time`, which
    all processes share.
    """
    left = deadline - time.time()
    if left < 0:
        return None, {}
    task = _loaded(network.task, seed, steps)
    ends = time.perf_counter() + left
    return measuring.measure(network, task, seed, ends), task.about


# The last task alone: examples take up to a hundred megabytes.
_loaded = functools.lru_cache(maxsize=1)(tasks.load)


def _plan(
    given: argparse.Namespace, rows: list
) -> Iterator[list[tuple[Network, int]]]:
    """Yields stages of networks and seeds; the longest ones come last.

    The learning rate is searched with the first seed, and the other seeds are
    of the best of these rates: the lowest bits among the rows, which a stage
    may add to. What is in one stage can be trained side by side.
    """
    grids = [networks.shallow, networks.deep]
    for grid in [networks.quick] if given.quick else grids:
        compared = list(_networks(given, grid))
        searches = [
            [(one._replace(rate=rate), 0) for rate in _rates(given, one.task)]
            for one in compared
        ]
        # The first rate of each, then the second of each, and so on.
        in_turn = itertools.chain(*itertools.zip_longest(*searches))
        yield [one for one in in_turn if one is not None]
        later = []
        for seed, one in itertools.product(range(1, given.seeds), compared):
            rates = _rates(given, one.task)
            searched = [row for row in rows if row["rate"] in rates]
            best = report.best_rate(searched, one, _steps(given, one.task))
            later.append((one._replace(rate=best or one.rate), seed))
        yield later


def _networks(given: argparse.Namespace, grid: Callable) -> Iterator[Network]:
    wanted = given.cases or [""]
    for task in dict.fromkeys(given.tasks):
        for network in grid(task):
            if any(re.search(text, network.name) for text in wanted):
                yield network._replace(optimizer=given.optimizer)


def _steps(given: argparse.Namespace, task: str) -> int:
    usual = networks.QUICK_STEPS if given.quick else networks.STEPS
    return given.steps or usual[task]


def _rates(given: argparse.Namespace, task: str) -> tuple[float, ...]:
    usual = networks.RATES[task]
    return tuple(given.rates or (usual[:1] if given.quick else usual))


def _known(given: argparse.Namespace) -> dict:
    """Returns the results of an earlier run to add to, if that is wanted."""
    path = given.output / "quality.json"
    if given.resume and path.is_file():
        found = json.loads(path.read_text())
        # Older results lack the newer fields.
        found["rows"] = [Network._field_defaults | x for x in found["rows"]]
        return found
    return {"data": {}, "rows": [], "commands": []}
