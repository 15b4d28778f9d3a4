"""Checks of the configs of model files that others made.

Keras's safe mode refuses code in a file, but `safe_mode=True` does not hold
where the program has called `keras.config.enable_unsafe_deserialization()`, and
there is no public way to see or to undo that. So the config is read before
Keras reads it, and refused unless all that it names is of Keras or registered
by this program.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras

from keras_treegate.types import Config

CONFIG = "config.json"
MAX_CONFIG_BYTES = 2**28

# Layers that run or unpickle code from their config or from a file it names.
CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "__lambda__"}
PLAIN = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__"}
PLAIN |= {"__ellipsis__", "__slice__"}


def check_file(path: Path) -> None:
    """Refuses a `.keras` file that brings code, or names unknown objects."""
    config = _config_of(path)
    # Because the file is loaded with `compile=False`, Keras does not read this
    # one. Models inside of the model keep theirs, with which Keras compiles
    # them.
    config.pop("compile_config", None)
    for entry in _dictionaries(config):
        found = _danger_of(entry)
        if found is not None:
            raise ValueError(
                "A model that is loaded here must be made of what Keras has "
                f"and of what this program registered. Received: {path.name!r} "
                f"with {found}. Import the package that registers it, or, if "
                "you trust the file, load it with `keras.saving.load_model("
                "path, safe_mode=False)`."
            )


def _config_of(path: Path) -> Config:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(CONFIG) as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise ValueError(f"a config of more than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError(f"a config that is a {type(config).__name__}")
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"The file {path.name!r} must be one that `model.save` wrote. "
            f"Received: {error}. Get it anew."
        ) from error
    return config


def _dictionaries(config: object) -> Iterator[Config]:
    """Yields every dictionary in a config, however deep."""
    waiting = [config]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            yield entry
            waiting += entry.values()
        elif isinstance(entry, list):
            waiting += entry


def _danger_of(entry: Config) -> str | None:
    """Describes the part of a config entry that must not be loaded, if any."""
    if isinstance(entry.get("vocabulary"), str):
        return f"a vocabulary outside of it, {entry['vocabulary']!r}"
    if "class_name" not in entry:
        return None
    name, module = entry["class_name"], entry.get("module")
    if name == "function":
        name = entry.get("config")
    if not isinstance(name, str) or name.rpartition(".")[2] in CODE:
        return f"{name!r}, which runs code of a file"
    known = name in PLAIN or module in (None, "builtins", "keras")
    if known or str(module).startswith("keras."):
        return None
    for registered in (entry.get("registered_name"), name):
        if isinstance(registered, str) and _is_registered(registered):
            return None
    return f"{name!r} of the module {module!r}, which is not registered"


def _is_registered(name: str) -> bool:
    return keras.saving.get_registered_object(name) is not None
