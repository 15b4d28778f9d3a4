"""The tasks of `quality`: the next byte of texts, flights, and digits."""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from benchmarks.quality import flights, prose
from tutorials.tfds_builders import source_text

CONTEXT = 16  # bytes
VALIDATION_BYTES = 2**16
# Rates are chosen on one half of the held-out data, and bits are of the other.
OF_CONTEXT = ("context", "keras", "prose", "little-prose", "flights")
TASKS = ("bytes", "digits", *OF_CONTEXT, "transformer")
WINDOW = 64  # bytes that a Transformer sees
BYTES = 256


class Task(NamedTuple):
    """Examples and labels, and how all networks are trained on them.

    validation: what results are reported on.
    about: what to know of the data, as JSON has it.
    choice: what learning rates are chosen on; `None` where that is
        `validation`.
    vocabulary: how many tokens there are, where inputs are tokens.
    """

    name: str
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    classes: int
    batch: int
    learning_rate: float
    about: dict
    choice: tuple[np.ndarray, np.ndarray] | None = None
    vocabulary: int = 0


def load(name: str, seed: int, steps: int) -> Task:
    """Returns the task of this name, with the examples that steps need."""
    makers = {
        "bytes": next_byte,
        "digits": digits,
        "context": from_context,
        "keras": from_keras,
        "prose": from_prose,
        "little-prose": from_little_prose,
        "flights": from_flights,
        "transformer": windows,
    }
    return makers[name](seed, steps)


def next_byte(
    seed: int, steps: int, batch: int = 512, folder: Path | None = None
) -> Task:
    """Returns `CONTEXT` bytes of the source text in a folder, and the next one.

    The folder is the standard library unless another one is given.
    """
    source = source_text.read(folder)
    texts = source.texts
    return _of_texts(
        "bytes", *texts, _about(source, *texts), seed, steps, batch
    )


def _of_texts(
    name: str,
    train: np.ndarray,
    held_out: np.ndarray,
    about: dict,
    seed: int,
    steps: int,
    batch: int = 512,
) -> Task:
    draw = np.random.default_rng(seed)
    places = draw.integers(CONTEXT, len(train), steps * batch)
    even = np.linspace(CONTEXT, len(held_out) - 1, VALIDATION_BYTES)
    return Task(
        name,
        contexts(train, places),
        contexts(held_out, even.astype("int64")),
        classes=BYTES,
        vocabulary=BYTES,
        batch=batch,
        learning_rate=1e-3,
        about=about,
    )


def from_context(seed: int, steps: int) -> Task:
    """Returns the bytes, with one half of the held-out text to choose on."""
    return _halved("context", next_byte(seed, steps))


def from_keras(seed: int, steps: int) -> Task:
    """Returns the same of another text, the source of the installed Keras."""
    folder = Path(keras.__file__).parent
    task = _halved("keras", next_byte(seed, steps, folder=folder))
    return task._replace(about=task.about | {"keras": keras.__version__})


def from_prose(seed: int, steps: int, little: bool = False) -> Task:
    """Returns the same of English prose."""
    found = prose.read(little)
    name = "little-prose" if little else "prose"
    about = {
        prose.PACKAGE: found.version,
        "checksum": found.checksum,
        **_sizes(found.train, found.held_out),
    }
    texts = found.train, found.held_out
    return _halved(name, _of_texts(name, *texts, about, seed, steps))


def from_little_prose(seed: int, steps: int) -> Task:
    """Returns the same, with a fifteenth of the text to train on."""
    return from_prose(seed, steps, little=True)


def _halved(name: str, task: Task) -> Task:
    x, y = task.validation
    half = len(y) // 2
    return task._replace(
        name=name,
        validation=(x[half:], y[half:]),
        choice=(x[:half], y[:half]),
    )


def windows(seed: int, steps: int, batch: int = 32) -> Task:
    """Returns windows of source text (B, 64), and the byte after each place."""
    source = source_text.read()
    train, held_out = source.texts
    draw = np.random.default_rng(seed)
    places = draw.integers(0, len(train) - WINDOW, steps * batch)
    count = VALIDATION_BYTES // WINDOW
    even = np.linspace(0, len(held_out) - WINDOW - 1, count).astype("int64")

    def cut(text: np.ndarray, starts: np.ndarray) -> tuple:
        found = text[starts[:, np.newaxis] + np.arange(WINDOW + 1)]
        return found[:, :-1], found[:, 1:].astype("int32")

    task = Task(
        "transformer",
        cut(train, places),
        cut(held_out, even),
        classes=BYTES,
        vocabulary=BYTES,
        batch=batch,
        learning_rate=1e-3,
        about=_about(source, train, held_out),
    )
    return _halved("transformer", task)


def _about(
    source: source_text.SourceText, train: np.ndarray, held_out: np.ndarray
) -> dict:
    return {
        "python": source.python,
        "checksum": source.checksum,
        **_sizes(train, held_out),
    }


def _sizes(train: np.ndarray, held_out: np.ndarray) -> dict:
    return {"train_bytes": len(train), "validation_bytes": len(held_out)}


def from_flights(seed: int, steps: int, batch: int = 512) -> Task:
    """Returns categories of flights, and whether they arrive late.

    Of the days of the year, eight in ten are trained on, one in ten is for
    choosing rates, and one in ten is reported on.
    """
    found = flights.read()
    tenth = found.day % 10
    parts = [found.day % 5 != 3, tenth == 3, tenth == 8]
    train, choice, report = ((found.tokens[at], found.late[at]) for at in parts)
    draw = np.random.default_rng(seed)
    order = draw.integers(0, len(train[1]), steps * batch)
    return Task(
        "flights",
        (train[0][order], train[1][order]),
        report,
        classes=2,
        vocabulary=found.vocabulary,
        batch=batch,
        learning_rate=1e-3,
        about={
            "train_flights": len(train[1]),
            "validation_flights": len(report[1]),
            "late": round(float(found.late.mean()), 4),
        },
        choice=choice,
    )


def contexts(text: np.ndarray, places: np.ndarray) -> tuple:
    """Returns the bytes before each place (B, 16), and the byte there."""
    before = np.arange(-CONTEXT, 0)
    return text[places[:, np.newaxis] + before], text[places].astype("int32")


def digits(seed: int, steps: int, batch: int = 128) -> Task:
    """Returns scikit-learn's digits, moved by a pixel to each of nine places.

    Every third image is validated on. The order of the others is drawn anew
    for each pass.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed. "
            'Install it with: pip install -e ".[tutorials]"'
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype("float32") / 16
    held_out = np.arange(len(labels)) % 3 == 2
    x, y = moved(images[~held_out], labels[~held_out])
    draw = np.random.default_rng(seed)
    passes = -(-steps * batch // len(y))
    order = np.concatenate([draw.permutation(len(y)) for _ in range(passes)])
    order = order[: steps * batch]
    return Task(
        "digits",
        (x[order], y[order]),
        moved(images[held_out], labels[held_out]),
        classes=10,
        batch=batch,
        learning_rate=0.02,
        about={
            "train_images": len(y),
            "validation_images": int(held_out.sum()) * 9,
        },
    )


def moved(images: np.ndarray, labels: np.ndarray) -> tuple:
    """Returns images (B, 8, 8) at nine places as rows (9 B, 64), and labels."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    places = [
        padded[:, row : row + 8, column : column + 8].reshape(len(images), -1)
        for row in range(3)
        for column in range(3)
    ]
    return np.concatenate(places), np.tile(labels, 9).astype("int32")
