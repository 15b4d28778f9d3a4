"""The hashes of tokens in the form for files, beside the oracle's."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from keras_treegate.core.codes import PRIME
from keras_treegate.gates.hashing import hash_codes_for_files
from tests import oracle
from tests.jit_on_jax import jit_on_jax

# Sixteen orders and more are added up in parts.
HASHES = {
    "one": ((1, 4),),
    "three orders": ((1, 3), (2, 3), (3, 3)),
    "two of an order": ((2, 10), (2, 3), (5, 1)),
    "no bits": ((1, 4), (2, 0)),
    "long": ((1, 10), (8, 1), (20, 2)),
}
each_kind = pytest.mark.parametrize("hashes", HASHES.values(), ids=HASHES)

# A runtime whose integers are float32 rounds larger ones.
MOST = 2**24


def tokens_of(hashes):
    random = np.random.default_rng(1)
    ages = max(3, hashes[-1][0] + 1)
    tokens = random.integers(-(2**31), 2**31, (7, ages)).astype("int32")
    tokens[:3, -3:] = [
        [-1, 0, 255],
        [2**31 - 1, -(2**31), 2**24 + 1],
        [65535, -65536, -1],
    ]
    return tokens


def multipliers_of(hashes, largest=False):
    """Draws the multipliers of three trees; the largest of the first ones."""
    random = np.random.default_rng(2)
    found = [
        random.integers(1, PRIME, (rows, 3)).astype("int32")
        for rows in (4 * hashes[-1][0], 3 * len(hashes))
    ]
    for array in found if largest else ():
        array[:, 0] = PRIME - 1
    return found


def expected(tokens, multipliers, hashes):
    orders, bits = zip(*hashes, strict=True)
    integers = [array.astype(object) for array in multipliers]
    return oracle.hash_codes(tokens.astype(object), *integers, orders, bits)


def codes_of(tokens, multipliers, hashes):
    compute = jit_on_jax(
        lambda *arrays: hash_codes_for_files(*arrays, hashes=hashes)
    )
    found = compute(*map(ops.convert_to_tensor, (tokens, *multipliers)))
    assert keras.backend.standardize_dtype(found.dtype) == "int32"
    return ops.convert_to_numpy(found)


@each_kind
def test_codes_equal_the_oracle(hashes):
    tokens, multipliers = tokens_of(hashes), multipliers_of(hashes)
    of_pairs = expected(tokens, multipliers, hashes)
    np.testing.assert_array_equal(
        codes_of(tokens, multipliers, hashes), of_pairs
    )
    cube = tokens[:6].reshape(2, 3, -1)
    np.testing.assert_array_equal(
        codes_of(cube, multipliers, hashes), of_pairs[:6].reshape(2, 3, 3)
    )


def test_no_hashes():
    multipliers = multipliers_of(((1, 4),))
    codes = codes_of(tokens_of(((1, 4),)), multipliers, ())
    np.testing.assert_array_equal(codes, np.zeros((7, 3)))


@each_kind
def test_a_runtime_may_divide_in_float32(hashes, monkeypatch):
    # A token next to 2^31 is rounded up to it.
    def quotient(numbers, divisor):
        found = ops.cast(numbers, "float32") / ops.cast(divisor, "float32")
        return ops.cast(ops.trunc(found), "int32")

    monkeypatch.setattr(backend, "quotient", quotient)
    tokens = tokens_of(hashes)
    multipliers = multipliers_of(hashes, largest=True)
    np.testing.assert_array_equal(
        codes_of(tokens, multipliers, hashes),
        expected(tokens, multipliers, hashes),
    )


def test_no_number_that_is_divided_has_more_bits_than_float32(monkeypatch):
    # Tokens alone have more.
    divided = []
    computed = backend.quotient

    def quotient(numbers, divisor):
        divided.append(ops.convert_to_numpy(numbers))
        return computed(numbers, divisor)

    monkeypatch.setattr(backend, "quotient", quotient)
    hashes = HASHES["long"]
    arrays = tokens_of(hashes), *multipliers_of(hashes, largest=True)
    hash_codes_for_files(*map(ops.convert_to_tensor, arrays), hashes)
    (of_tokens,) = [n for n in divided if n.size == 7 * 20]
    np.testing.assert_array_equal(of_tokens.reshape(7, 20), arrays[0][:, -20:])
    for numbers in divided:
        if numbers is not of_tokens:
            assert numbers.min() >= 0
            assert numbers.max() < MOST
