"""Trained networks that come with the package, and a function to load them."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

import keras

from keras_treegate.core import untrusted
from keras_treegate.types import Config, PathLike

# A wheel holds the small ones, inside the package; a checkout has all.
PACKAGED = Path(__file__).resolve().parent / "packaged_models"
CHECKOUT = PACKAGED.parents[1] / "saved_models"
FOLDER = PACKAGED if PACKAGED.is_dir() else CHECKOUT
CARD = "card.json"
MODEL = "model.keras"
SHA256 = re.compile("[0-9a-fA-F]{64}")


def load_saved_model(name: PathLike) -> keras.Model:
    """Loads a trained network, after it was compared with its card.

    A saved model is a folder with `model.keras` and `card.json`, which tells
    what the network is for, what made it, how good it is, and the SHA-256 of
    the file. `"digits"` and `"byte_language_model_folded"` come with the
    package; a checkout has larger ones in `saved_models/`, too. The folders of
    others can be given by their paths. Loading executes no code from the file,
    whatever `keras.config.enable_unsafe_deserialization` said: a model with a
    Lambda, or with a class that is neither of Keras nor registered, is refused.

    Args:
        name: Name of a model that comes with the package or the checkout, e.g.
            `"digits"`, or the path of a folder, a string or `pathlib.Path`.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: For a name that is neither, a folder without a card, a card
            without the SHA-256, a file that is not the one its card describes,
            and one that holds code or classes that nobody registered.

    Example:

    >>> import keras_treegate
    >>> model = keras_treegate.load_saved_model("digits")
    >>> model.output_shape
    (None, 10)
    """
    folder = _folder(name)
    expected = _checksum(folder)
    content = (folder / MODEL).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"The file {str(folder / MODEL)!r} must be the one that its card "
            f"describes, of SHA-256 {expected}. Received: a file of SHA-256 "
            f"{found}. It is damaged or was changed: get it anew, and do not "
            "load it."
        )
    with tempfile.TemporaryDirectory() as private:
        # Loads a private copy, which nobody can change after the check.
        copy = Path(private) / MODEL
        copy.write_bytes(content)
        untrusted.check_file(copy)
        return keras.saving.load_model(copy, compile=False, safe_mode=True)


def read_card(name: PathLike) -> Config:
    """Returns the card of a saved model, by its name or path."""
    path = _folder(name) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict):
            raise ValueError(f"a JSON {type(card).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The card {str(path)!r} must be a JSON object. Received: {error}. "
            "Get it anew, with its model."
        ) from error
    return card


def _checksum(folder: Path) -> str:
    """Returns the SHA-256 of the model that its card states."""
    checksum = read_card(folder).get("sha256")
    if not isinstance(checksum, str) or not SHA256.fullmatch(checksum):
        raise ValueError(
            f"The card {str(folder / CARD)!r} must tell the SHA-256 of its "
            "model, 64 hexadecimal digits under the key 'sha256'. Received: "
            f"sha256={checksum!r}. Get it anew, with its model."
        )
    return checksum.lower()


def _folder(name: object) -> Path:
    if isinstance(name, str | os.PathLike):
        path = os.fsdecode(name)
        for folder in (FOLDER / path, Path(path)):
            if (folder / CARD).is_file() and (folder / MODEL).is_file():
                return folder
    names = sorted(card.parent.name for card in FOLDER.glob(f"*/{CARD}"))
    there = f"Those there are {names}" if names else "None is there"
    raise ValueError(
        f"`name` must be the name of a model in {FOLDER.name}/, or the path of "
        f"a folder with {CARD} and {MODEL}, a string or path. Received: "
        f"name={name!r} (of type {type(name).__name__}). {there}: load one of "
        f"them, or give a path. A checkout of the repository has all models in "
        f"{CHECKOUT.name}/, also those that are too large for the package."
    )
