"""Configs that bring code are refused, whatever the program allows."""

import concurrent.futures
import copy
import json
import zipfile

import keras
import pytest

from keras_treegate.core import untrusted


@keras.saving.register_keras_serializable(package="tests_of_untrusted")
class Mine(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def config_of(*layers):
    model = keras.Sequential([keras.Input((2, 2)), *layers])
    return json.loads(model.to_json())


def write(config, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return path


def lambda_layer():
    return keras.layers.Lambda(lambda x: x)


def changed(**changes):
    """Returns the config of a model, with the entry of one layer changed."""
    config = copy.deepcopy(config_of(keras.layers.Dense(2)))
    config["config"]["layers"][1] |= changes
    return config


def with_function(**entry):
    config = config_of(keras.layers.Dense(2))
    config["config"]["layers"][1]["config"]["activation"] = entry
    return config


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4w=="}}
OUT_OF_MODULE = {"module": "keras", "registered_name": None}
REFUSED = {
    "a lambda": (lambda: config_of(lambda_layer()), "Lambda"),
    "in a model": (
        lambda: config_of(keras.Sequential([lambda_layer()])),
        "Lambda",
    ),
    "in a wrapper": (
        lambda: config_of(keras.layers.TimeDistributed(lambda_layer())),
        "Lambda",
    ),
    "a name with dots": (
        lambda: changed(class_name="layers.Lambda", **OUT_OF_MODULE),
        "Lambda",
    ),
    "a private module": (
        lambda: changed(
            class_name="Lambda", module="keras.src.layers.core.lambda_layer"
        ),
        "Lambda",
    ),
    "an activation": (lambda: with_function(**LAMBDA), "__lambda__"),
    "a saved model": (lambda: changed(class_name="TFSMLayer"), "TFSMLayer"),
    "a pickle": (
        lambda: changed(class_name="TorchModuleWrapper"),
        "TorchModuleWrapper",
    ),
    "a class of another module": (
        lambda: changed(class_name="Popen", module="subprocess"),
        "'Popen' of the module 'subprocess'",
    ),
    "a function of another module": (
        lambda: with_function(
            class_name="function", config="system", module="os"
        ),
        "'system' of the module 'os'",
    ),
    "a function of keras that runs code": (
        lambda: with_function(
            class_name="function", config="layers.Lambda", module="keras"
        ),
        "Lambda",
    ),
    "a vocabulary outside of the file": (
        lambda: changed(config={"vocabulary": "/etc/passwd"}),
        "/etc/passwd",
    ),
    "a name that is none": (lambda: changed(class_name=["Dense"]), "Dense"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_code_is_refused(case, tmp_path):
    config, received = REFUSED[case]
    file = write(config(), tmp_path / "model.keras")
    message = f"(?s)must be made of.*Received: 'model.keras' with.*{received}"
    with pytest.raises(ValueError, match=message):
        untrusted.check_file(file)


ALLOWED = {
    "layers of Keras": lambda: config_of(
        keras.layers.Dense(2, activation="relu", kernel_regularizer="l2"),
        keras.layers.LSTM(3, return_sequences=True),
        keras.layers.TimeDistributed(keras.layers.Dense(2)),
    ),
    "a layer that is registered": lambda: config_of(Mine()),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_of_keras_or_registered_is_not_refused(case, tmp_path):
    untrusted.check_file(write(ALLOWED[case](), tmp_path / "model.keras"))


def test_what_is_compiled_only_is_not_looked_at(tmp_path):
    config = config_of(keras.layers.Dense(2)) | {"compile_config": LAMBDA}
    untrusted.check_file(write(config, tmp_path / "model.keras"))


BROKEN = {
    "no archive": b"PK",
    "no config": {"other.json": "{}"},
    "no JSON": {"config.json": "{"},
    "no object": {"config.json": "[1]"},
    "no text": {"config.json": b"\xff\xfe\xff"},
    "a config without end": {"config.json": "[" * 200_000},
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_no_model_is_refused(case, tmp_path):
    file, content = tmp_path / "model.keras", BROKEN[case]
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    message = "'model.keras' must be one that .*Received: .*Get it anew"
    with pytest.raises(ValueError, match=message):
        untrusted.check_file(file)


def test_the_setting_of_the_process_changes_nothing(tmp_path):
    file = write(config_of(lambda_layer()), tmp_path / "model.keras")

    def unsafe():
        keras.config.enable_unsafe_deserialization()  # for this thread
        untrusted.check_file(file)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        result = threads.submit(unsafe)
    with pytest.raises(ValueError, match="Lambda"):
        result.result()
