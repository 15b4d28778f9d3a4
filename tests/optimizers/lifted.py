"""A fixture that tells how the gradients of nodes came to an optimizer."""

import pytest

from keras_treegate import backend


class Lifted(dict):
    """The forms that the gradients of the nodes came in, by variable path.

    The values are sets of "rows", "dense" and the causes of lost rows.
    """

    def record(self, variable, gradient, cause):
        rows = isinstance(gradient, backend.RowGradient)
        kinds = self.setdefault(variable.path, set())
        kinds.add(cause or ("rows" if rows else "dense"))

    def of(self, layer):
        """Returns the kinds of a layer's levels, `None` for one without any."""
        return [self.get(nodes.path) for nodes in layer.nodes]


@pytest.fixture
def lifted(monkeypatch):
    """Listens to what the optimizer is given; see `Lifted`."""
    as_row_gradient, found = backend.as_row_gradient, Lifted()

    def listening_lift(gradient, variable):
        result, cause = as_row_gradient(gradient, variable)
        found.record(variable, result, cause)
        return result, cause

    monkeypatch.setattr(backend, "as_row_gradient", listening_lift)
    return found
