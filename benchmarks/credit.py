"""What credit assignments cost, and what they bring.

A network reads 16 bytes of the Python standard library's own source and
predicts the next one. Its hidden layer is a `TreeGatedDense` whose gates are
read from what a LayerNormalization makes of the units before their ReLU; the
three credit assignments train it for equally many steps. Each backend is
measured in a process of its own:

    python -m benchmarks.credit '{"backend": "jax", ...}'
"""

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.harness import own_process
from benchmarks.step_time import EpochSeconds
from keras_treegate import credit
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from tutorials.tfds_builders import source_text

CREDITS: dict[str, Callable] = {
    "straight": lambda seed: credit.Straight(),
    "reinforce": lambda seed: credit.Reinforce(seed=seed),
    "noisy_rectifier": lambda seed: credit.NoisyRectifier(seed=seed),
}
CONTEXT = 16  # bytes
EMBEDDING = 32
VALIDATION_BATCHES = 32
ROUNDS = 5  # of timed epochs, after one that is not
TIMED_STEPS = 8  # in each


class Study(NamedTuple):
    """The sizes of a study on one backend."""

    backend: str
    seeds: list[int]
    steps: int
    hidden: int
    depth: int
    trees: int
    batch: int


def run(study: Study) -> dict:
    """Measures in a new process, and returns what `measure` does."""
    return own_process.measure("credit", study._asdict(), study.backend)


def measure(study: Study) -> dict:
    """The costs of a step, and a row for each credit assignment and seed."""
    training, validation = source_text.read().texts
    costs = step_costs(study, training)
    rows = []
    for seed in study.seeds:
        for name in CREDITS:
            model = build_model(study, name, seed)
            model.fit(
                Windows(training, study.batch, study.steps, seed), verbose=0
            )
            rows.append(
                {"backend": study.backend, "credit": name, "seed": seed}
                | evaluate(model, validation, study)
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return {
        "study": study._asdict(),
        "costs": costs,
        "rows": rows,
        "backend_version": sys.modules[study.backend].__version__,
    }


class Windows(keras.utils.PyDataset):
    """Random windows of a text, and the byte that comes next."""

    def __init__(
        self, text: np.ndarray, batch: int, steps: int, seed: int
    ) -> None:
        super().__init__()
        self.text, self.batch, self.steps, self.seed = text, batch, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng([self.seed, index])
        starts = draw.integers(len(self.text) - CONTEXT - 1, size=self.batch)
        windows = self.text[starts[:, None] + np.arange(CONTEXT + 1)]
        return windows[:, :-1].astype("int32"), windows[:, -1].astype("int32")


def build_model(study: Study, name: str, seed: int) -> keras.Model:
    """The network with a credit assignment, compiled."""
    keras.utils.set_random_seed(seed)
    context = keras.Input((CONTEXT,), dtype="int32")
    x = keras.layers.Embedding(256, EMBEDDING)(context)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(study.hidden)(x)
    gates = keras.layers.LayerNormalization()(x)
    x = keras.layers.ReLU()(gates)
    x = TreeGatedDense(
        study.hidden,
        depth=study.depth,
        num_trees=study.trees,
        credit=CREDITS[name](seed),
        seed=seed,
        name="tree",
    )(x, gate_inputs=gates)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.ReLU()(x)
    model = keras.Model(context, keras.layers.Dense(256)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, study.steps)
    model.compile(keras.optimizers.Adam(rate), ReinforceLoss(loss))
    return model


def evaluate(model: keras.Model, text: np.ndarray, study: Study) -> dict:
    """Bits per byte, and how evenly the leaves of the trees are used."""
    batches = Windows(text, study.batch, VALIDATION_BATCHES, 0)
    nats = model.evaluate(batches, verbose=0)
    tree = model.get_layer("tree")
    # The tensors that the layer was called with, the inputs and the gates.
    routes = keras.Model(model.input, list(_inputs_of(model)))
    codes = [
        keras.ops.convert_to_numpy(
            tree.leaf_codes(*routes.predict_on_batch(batches[index][0]))
        )
        for index in range(VALIDATION_BATCHES)
    ]
    return {"bits_per_byte": float(nats / np.log(2))} | leaf_use(
        np.concatenate(codes), study.depth
    )


def _inputs_of(model: keras.Model) -> tuple[Any, Any]:
    relu = next(x for x in model.layers if isinstance(x, keras.layers.ReLU))
    return relu.output, relu.input


def leaf_use(codes: np.ndarray, depth: int) -> dict:
    """Entropy over its maximum, and leaves that are used, of codes (N, G)."""
    entropies, used = [], []
    for tree in codes.T:
        share = np.bincount(tree, minlength=2**depth) / len(tree)
        share = share[share > 0]
        entropies.append(-np.sum(share * np.log2(share)) / depth)
        used.append(len(share) / 2**depth)
    return {
        "gate_entropy": float(np.mean(entropies)),
        "path_utilization": float(np.mean(used)),
    }


def step_costs(study: Study, text: np.ndarray) -> list[dict]:
    """The time of a step of each, in turns, over that of `straight`."""
    models = {name: build_model(study, name, 0) for name in CREDITS}
    seconds: dict[str, list] = {name: [] for name in CREDITS}
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            clock = EpochSeconds()
            batches = Windows(text, study.batch, TIMED_STEPS, 0)
            model.fit(batches, verbose=0, callbacks=[clock])
            seconds[name] += clock.seconds
    ms = {
        name: np.array(values[1:]) / TIMED_STEPS * 1e3
        for name, values in seconds.items()
    }
    return [
        {
            "backend": study.backend,
            "credit": name,
            "ms": float(np.median(values)),
            "ratio": float(np.median(values / ms["straight"])),
        }
        for name, values in ms.items()
    ]


if __name__ == "__main__":
    print(json.dumps(measure(Study(**json.loads(sys.argv[1])))))
