"""Trained networks that come with a checkout, and how to load one."""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras

FOLDER = Path(__file__).resolve().parents[1] / "saved_models"
CARD = "card.json"
MODEL = "model.keras"


def load_saved_model(name: Any) -> keras.Model:
    """Loads a trained network, after it was compared with its card.

    A saved model is a folder with `model.keras` and `card.json`, which tells
    what the network is for, what made it, how good it is, and the SHA-256 of
    the file. A checkout has some in `saved_models/`; the folders of others can
    be given by their paths. Loading executes no code from the file: Keras's
    safe mode stays on, whatever the program's own setting.

    Args:
        name: Name of a folder in `saved_models/`, e.g. `"digits"`, or the path
            of such a folder.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: For a name that is neither, a folder without a card, and a
            file that is not the one its card describes.

    Example:

    >>> import keras_treegate
    >>> keras_treegate.load_saved_model("a folder that is not there")
    Traceback (most recent call last):
    ...
    ValueError: `name` must be ...
    """
    folder = _folder(name)
    checksum = read_card(folder)["sha256"]
    found = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    if found != checksum:
        raise ValueError(
            f"The file {str(folder / MODEL)!r} must be the one that its card "
            f"describes, of SHA-256 {checksum}. Received: a file of SHA-256 "
            f"{found}. It is damaged or was changed: get it anew, and do not "
            "load it."
        )
    return keras.saving.load_model(
        folder / MODEL, compile=False, safe_mode=True
    )


def read_card(name: Any) -> dict:
    """The card of a saved model, by its name or path."""
    return json.loads((_folder(name) / CARD).read_text(encoding="utf-8"))


def _folder(name: Any) -> Path:
    for folder in (FOLDER / str(name), Path(str(name))):
        if (folder / CARD).is_file() and (folder / MODEL).is_file():
            return folder
    names = sorted(card.parent.name for card in FOLDER.glob(f"*/{CARD}"))
    there = f"Those there are {names}" if names else "None is there"
    raise ValueError(
        f"`name` must be the name of a model in {FOLDER.name}/ of a checkout, "
        f"or the path of a folder with {CARD} and {MODEL}. Received: "
        f"name={str(name)!r}. {there}: load one of them, or give a path."
    )
