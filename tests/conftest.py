"""Models are let go of after each file, which keeps the memory of a run low."""

import gc

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    """Lets go of the models of a file, and of what was compiled for them."""
    yield
    keras.utils.clear_session()
    gc.collect()
