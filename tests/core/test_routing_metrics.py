"""The numbers, against sums that are written out."""

import math

import numpy as np
import pytest

from keras_treegate.core import routing_metrics as measures

VISITS = np.array([[8, 0, 4, 4], [3, 3, 3, 3], [9, 0, 0, 0]])


def entropy(counts):
    total = sum(counts)
    shares = [count / total for count in counts if count]
    return -sum(share * math.log2(share) for share in shares)


def test_gate_entropy_is_in_bits_over_the_depth():
    expected = [entropy(counts) / 2 for counts in VISITS.tolist()]
    np.testing.assert_allclose(measures.gate_entropies(VISITS), expected)
    assert expected == [0.75, 1.0, 0.0]


def test_path_utilization_is_the_share_of_visited_leaves():
    expected = [0.75, 1.0, 0.25]
    np.testing.assert_array_equal(measures.path_utilizations(VISITS), expected)


def test_bit_balance_is_1_for_halves_and_0_for_a_constant():
    # Tree 0: the first bit is 1 in 8 of 16 visits, the last in 4 of 16.
    expected = [[1.0, 0.5], [1.0, 1.0], [0.0, 0.0]]
    np.testing.assert_allclose(measures.bit_balances(VISITS), expected)


@pytest.mark.parametrize(("examples", "leaves"), [(1, 4), (5, 4), (300, 128)])
def test_attainable_utilization_is_that_of_fair_coins(examples, leaves):
    visits = np.zeros((3, leaves), dtype=int)
    visits[:, 0] = examples
    expected = 1 - (1 - 1 / leaves) ** examples
    assert measures.attainable_utilization(visits) == pytest.approx(expected)


def test_no_visit_at_all_has_no_entropy():
    assert measures.gate_entropies(np.zeros((1, 4), dtype=int)) == [0.0]
