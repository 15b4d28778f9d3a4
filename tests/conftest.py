"""Models are let go of after each file, which keeps the memory of a run low."""

import gc

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    """Lets go of the models of a file, and of what was compiled for them.

    What is left then, modules and what the frameworks keep, is not looked
    through again until the next file ends. It would take minutes of each run.
    """
    yield
    keras.utils.clear_session(free_memory=False)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
