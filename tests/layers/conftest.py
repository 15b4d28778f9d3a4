"""The fixtures of the tests of the layers."""

from tests.optimizers.lifted import lifted as lifted
