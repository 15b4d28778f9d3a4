"""The hashes of tokens, for files.

`core.codes.hash_codes` has the same results. This form has no number of more
than 24 bits but the tokens, and no division of a negative number, which
runtimes round in different directions: some of them compute integers as
float32. All digits, trees and hashes are computed side by side, because most
runtimes take longer for an operation than for a few hundred numbers.
"""

from itertools import accumulate

import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core.codes import (
    HASH_BITS,
    PRIME,
    TOKEN_DIGITS,
)
from keras_treegate.types import Tensor

# The product of a multiplier of 20 bits and a digit of four has 24.
RADIX = 2**4
DIGITS = 2 * TOKEN_DIGITS

# A token is two halves of four digits.
RADIX_OF_HALF = RADIX**4
HALF_PLACES = (1, RADIX, RADIX**2, RADIX**3)

# The divisors of the digits of a hash, and the numbers of their values. Three
# digits make up each of the two digits of `core.codes`.
HASH_PLACES = (1, 2**4, 2**8, 2**10, 2**14, 2**18)
HASH_RADICES = (2**4, 2**4, 2**2, 2**4, 2**4, 2**2)

# The hashes of so many tokens are added up at a time.
AGES = 8


def hash_codes_for_files(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    """Returns `core.codes.hash_codes`; its numbers stay below 2^24."""
    tokens = ops.cast(tokens, "int32")
    if not hashes:
        return ops.zeros_like(tokens[..., :1] * token_multipliers[0])
    orders, bits = zip(*hashes, strict=True)
    combined = _hashes_of_tokens(tokens, token_multipliers, orders)
    code = _bits_of_hashes(combined, hash_multipliers, bits)
    axes = ops.shape(tokens)[:-1]
    return code if len(axes) == 1 else ops.reshape(code, (*axes, -1))


def _hashes_of_tokens(
    tokens: Tensor, multipliers: Tensor, orders: tuple[int, ...]
) -> Tensor:
    """Returns the sums (B, H, G) of the hashes of the last tokens, modulo p."""
    ages = orders[-1]
    of_age = [  # the oldest token comes first
        multipliers[TOKEN_DIGITS * age : TOKEN_DIGITS * (age + 1), None]
        for age in reversed(range(ages))
    ]
    of_digit = _powers(ops.stack(of_age), 2, axis=2)
    of_digit = ops.reshape(of_digit, (ages, DIGITS, -1))
    digits = _digits(tokens[..., -ages:], ages)
    of_tokens = _reduced(ops.sum(_reduced(digits * of_digit), axis=2))
    read = np.arange(ages)[::-1] < np.array(orders)[:, None]  # (H, N)
    combined: Tensor = 0
    for first in range(0, ages, AGES):
        part = slice(first, first + AGES)
        chosen = _constant(read[:, part, None]) * of_tokens[:, None, part]
        combined = _reduced(combined + ops.sum(chosen, axis=2))
    return _remainder(combined)


def _bits_of_hashes(
    combined: Tensor, multipliers: Tensor, bits: tuple[int, ...]
) -> Tensor:
    """Returns the codes (B, G) of which each hash (B, H, G) gives some bits."""
    multipliers = ops.reshape(multipliers, (len(bits), 3, -1))
    of_digit = _powers(multipliers[:, :2, None], 3, axis=2)
    of_digit = ops.reshape(of_digit, (len(bits), len(HASH_PLACES), -1))
    digits = backend.quotient(combined[:, :, None], _column(HASH_PLACES))
    digits = _rest(digits, _column(HASH_RADICES))
    hashed = ops.sum(_reduced(digits * of_digit), axis=2) + multipliers[:, 2]
    hashed = _remainder(_reduced(hashed))
    unused = _column([2 ** (HASH_BITS - number) for number in bits])
    later = list(accumulate(reversed(bits), initial=0))[-2::-1]
    places = _column([2**number for number in later])
    return ops.sum(backend.quotient(hashed, unused) * places, axis=1)


def _digits(tokens: Tensor, ages: int) -> Tensor:
    """Returns the digits (B, N, 8, 1) of tokens (..., N), lowest first.

    A quotient may be one too many where it is computed as float32. Then the
    rest is negative, as that of a negative token.
    """
    tokens = ops.reshape(tokens, (-1, ages, 1))
    high = backend.quotient(tokens, RADIX_OF_HALF)
    low = tokens - high * RADIX_OF_HALF
    borrowed = ops.cast(low < 0, "int32")
    low, high = low + borrowed * RADIX_OF_HALF, high - borrowed
    high = high + ops.cast(high < 0, "int32") * RADIX_OF_HALF
    halves = ops.concatenate([low, high], axis=-1)[..., None]
    places = _constant(np.array(HALF_PLACES))
    digits = _rest(backend.quotient(halves, places), RADIX)
    return ops.reshape(digits, (-1, ages, DIGITS, 1))


def _powers(multipliers: Tensor, number: int, axis: int) -> Tensor:
    """Joins multipliers of a digit, of the next higher one, and so on."""
    powers = [multipliers]
    while len(powers) < number:
        powers.append(_remainder(_reduced(powers[-1] * RADIX)))
    return ops.concatenate(powers, axis=axis)


def _rest(numbers: Tensor, radix: Tensor | int) -> Tensor:
    return numbers - backend.quotient(numbers, radix) * radix


def _reduced(numbers: Tensor) -> Tensor:
    """Returns numbers below 2^20 + 48, equal modulo p to those below 2^24."""
    return numbers - backend.quotient(numbers, 2**HASH_BITS) * PRIME


def _remainder(reduced: Tensor) -> Tensor:
    """Returns the remainders modulo p of what `_reduced` returned."""
    return ops.where(reduced < PRIME, reduced, reduced - PRIME)


def _column(numbers: list[int] | tuple[int, ...]) -> Tensor:
    return _constant(np.array(numbers)[:, None])


def _constant(array: np.ndarray) -> Tensor:
    return ops.convert_to_tensor(array.astype("int32"))
