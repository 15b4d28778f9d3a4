"""Measurements of these tests are made in their process, and compile fast."""

import pickle
from contextlib import contextmanager

import keras
import pytest

from benchmarks.harness import process, rounds


class HereProcess:
    """Calls functions in this process, as if another one were sent them."""

    def __init__(self, backend, environment=None):
        assert backend == keras.backend.backend()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, function, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        return pickle.loads(pickle.dumps(function(*arguments)))


@contextmanager
def measured_here():
    with pytest.MonkeyPatch.context() as patch:
        for module in (process, rounds):
            patch.setattr(module, "Process", HereProcess)
        yield


@pytest.fixture(scope="session")
def in_this_process():
    """A context that starts no process: `inference` and `callbacks` do."""
    return measured_here


@pytest.fixture(scope="package", autouse=True)
def compiled_fast(tmp_path_factory):
    """Compiles with JAX each program once, and without making it faster."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield
