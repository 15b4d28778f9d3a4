"""The strip of loads."""

import numpy as np
import pytest

from keras_treegate.callbacks import terminal

CASES = {
    "even": ([[2, 2, 2, 2]], "++++"),
    "collapsed": ([[0, 9, 0, 0]], "@   "),
    "sorted in each tree": ([[0, 9, 0, 0], [3, 0, 0, 0]], "@   "),
    "half": ([[4, 0, 4, 0]], "@@  "),
}


@pytest.mark.parametrize("case", CASES)
def test_load(case):
    visits, expected = CASES[case]
    assert terminal.load(np.array(visits)) == expected


def test_many_leaves_take_a_line_of_their_own_at_most():
    assert len(terminal.load(np.ones((2, 4096), dtype=int))) == 32
