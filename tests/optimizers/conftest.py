"""The fixtures of the tests of the optimizers."""

from tests.optimizers.lifted import lifted as lifted
