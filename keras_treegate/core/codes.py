"""Leaf codes of sign bits and of hashes, in `keras.ops` alone."""

from collections.abc import Callable

import numpy as np
from keras import ops

from keras_treegate.core.numerics import SMALLEST_NORMAL, at_least_float32
from keras_treegate.types import Tensor

# A hash is a number below this prime, just below 2^20. Products of it with the
# digits below, and sums of a few of them, stay below 2^31, so that integers of
# 32 bits never overflow: frameworks and file formats differ in what they do.
PRIME = 2**20 - 3
HASH_BITS = 20

# A token is four digits of eight bits; a hash is two of ten.
TOKEN_DIGITS = 4
HASH_RADIX = 2**10


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
    gather: Callable[[Tensor, Tensor, int], Tensor],
) -> Tensor:
    """Computes `sign_codes` as `backend.contract` describes it."""
    trees, depth = shape
    axes = ops.shape(inputs)[:-1]
    if not depth:
        return ops.zeros((*axes, trees), "int32")
    if len(axes) == 1:
        axes = (-1,)  # needs no operations for the batch size in a file
    source = gather(inputs, ops.reshape(units, (-1,)), -1)
    source = ops.cast(source, at_least_float32(source))
    if thresholds is None:
        bits = source >= SMALLEST_NORMAL
    else:
        thresholds = ops.reshape(thresholds, (-1,))
        source, thresholds = (
            ops.where(ops.abs(numbers) < SMALLEST_NORMAL, 0.0, numbers)
            for numbers in (source, ops.cast(thresholds, source.dtype))
        )
        bits = source > thresholds
    bits = ops.reshape(ops.cast(bits, "int32"), (*axes, *shape))
    places = 2 ** np.arange(depth, dtype="int32")[::-1]
    return ops.sum(bits * ops.convert_to_tensor(places.copy()), axis=-1)


def hash_codes(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    """Computes `hash_codes` as `backend.contract` describes it."""
    tokens = ops.cast(tokens, "int32")
    code: Tensor = ops.zeros_like(tokens[..., :1] * token_multipliers[0])
    combined: Tensor = code
    age = 0
    for number, (order, bits) in enumerate(hashes):
        while age < order:
            token = tokens[..., tokens.shape[-1] - 1 - age, None]
            first = TOKEN_DIGITS * age
            multipliers = token_multipliers[first : first + TOKEN_DIGITS]
            combined = ops.mod(combined + _hash_of(token, multipliers), PRIME)
            age += 1
        one, two, constant = (
            hash_multipliers[3 * number + term] for term in range(3)
        )
        hashed = ops.mod(
            one * ops.mod(combined, HASH_RADIX)
            + two * ops.floor_divide(combined, HASH_RADIX)
            + constant,
            PRIME,
        )
        bits_of_hash = ops.floor_divide(hashed, 2 ** (HASH_BITS - bits))
        code = code * 2**bits + bits_of_hash
    return code


def _hash_of(token: Tensor, multipliers: Tensor) -> Tensor:
    """Returns the hash (..., G) of tokens (..., 1) by multipliers (4, G)."""
    total: Tensor = 0
    for digit in range(TOKEN_DIGITS):
        # Floors, so that the digits of a negative token are not negative; the
        # last one is of the sign.
        rest = ops.mod(token, 256)
        token = ops.floor_divide(token, 256)
        total = total + multipliers[digit] * rest
    return ops.mod(total, PRIME)
