"""Measures of the visits (G, L) of the leaves of trees, in NumPy.

Visits that are not known are NaN, and so are the measures of them.
"""

import numpy as np


def depth_of(visits: np.ndarray) -> int:
    """Returns D, the bits of a leaf code."""
    return int(visits.shape[-1]).bit_length() - 1


def shares(visits: np.ndarray) -> np.ndarray:
    """Returns the share of its tree's visits of each leaf (G, L), float64."""
    totals = visits.sum(axis=-1, keepdims=True)
    return visits / np.maximum(totals, 1)


def gate_entropies(visits: np.ndarray) -> np.ndarray:
    """Returns the entropy of the leaves of each tree (G,), in bits, over D."""
    share = shares(visits)
    # The 1 avoids the logarithm of 0, and a share of 0 makes its term 0.
    logarithms = np.log2(np.where(share > 0, share, 1.0))
    entropies = np.maximum(-(share * logarithms).sum(axis=-1), 0.0)
    return entropies / depth_of(visits)


def path_utilizations(visits: np.ndarray) -> np.ndarray:
    """Returns the share of the leaves of each tree that have a visit (G,)."""
    return np.where(np.isnan(visits), np.nan, visits > 0).mean(axis=-1)


def bit_balances(visits: np.ndarray) -> np.ndarray:
    """Returns the evenness of bits (G, D): 1 for halves, 0 for constants.

    `1 - |2 p - 1|`, where p is the share of the visits in which it is 1. The
    first bit decides at the root.
    """
    depth = depth_of(visits)
    places = np.arange(depth)[::-1]
    bits = (np.arange(visits.shape[-1])[:, None] >> places) & 1  # (L, D)
    return 1 - np.abs(2 * (shares(visits) @ bits) - 1)


def attainable_utilization(visits: np.ndarray) -> float:
    """Returns the utilization to expect if visits drew leaves by fair coins.

    `1 - (1 - 1/L)^n` for n visits of each tree: few examples cannot reach all
    the leaves of a deep tree.
    """
    leaves = visits.shape[-1]
    each = visits.sum() / visits.shape[0]
    return float(-np.expm1(each * np.log1p(-1 / leaves)))
