"""Settings that save time and memory, and change no result of a test."""

import functools
import gc
import importlib
import itertools

import keras
import pytest

# To look through all that is left takes a second in the end.
FILES_PER_COLLECTION = 5
_files = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    """Lets go of the models of a file, and of what was compiled for them.

    This keeps the memory of a run low. What is left then, modules and what the
    frameworks keep, is not looked through again until some more files have
    ended. It would take minutes of each run.
    """
    yield
    keras.utils.clear_session(free_memory=False)
    if next(_files) % FILES_PER_COLLECTION == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def programs_in_one_context():
    """Lets JAX write all programs into one context of MLIR.

    It makes one for each program otherwise, which takes a quarter of the time
    of the tests and two thirds of their memory.
    """
    if keras.config.backend() != "jax":
        yield
        return
    # Not public: a JAX without it takes its time.
    mlir = importlib.import_module("jax._src.interpreters.mlir")
    make_context = getattr(mlir, "make_ir_context", None)
    with pytest.MonkeyPatch.context() as patch:
        if make_context is not None:
            patch.setattr(
                mlir, "make_ir_context", functools.cache(make_context)
            )
        yield


@pytest.fixture(scope="session", autouse=True)
def data_without_autotuning():
    """Turns off the autotuning of each dataset of TensorFlow.

    `fit` makes one of arrays. When its iterator goes, it waits for the thread
    that tunes it, which sleeps for as long as the iterator has been there: half
    a minute was seen. No value of the data depends on it.
    """
    if keras.config.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    iterate = tf.data.Dataset.__iter__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tf.data.Dataset,
            "__iter__",
            lambda dataset: iterate(dataset.with_options(options)),
        )
        yield
