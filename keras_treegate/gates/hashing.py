"""The hashes of tokens, for files.

`core.codes.hash_codes` has the same results in the fewest operations. This form
has no number of more than 24 bits but the tokens, and no division of a negative
number, which runtimes round in different directions: some of them compute
integers as float32.
"""

from keras import ops

from keras_treegate import backend
from keras_treegate.core.codes import (
    HASH_BITS,
    HASH_RADIX,
    PRIME,
    TOKEN_DIGITS,
)
from keras_treegate.types import Tensor


def hash_codes_for_files(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    """Returns `core.codes.hash_codes`; its numbers stay below 2^24."""
    tokens = ops.cast(tokens, "int32")
    code: Tensor = 0
    combined: Tensor = 0
    age = 0
    for number, (order, bits) in enumerate(hashes):
        while age < order:
            place = tokens.shape[-1] - 1 - age
            token = tokens[..., place : place + 1]
            for digit, of_token in enumerate(_digits(token)):
                multiplier = token_multipliers[TOKEN_DIGITS * age + digit]
                combined = combined + _product(multiplier, of_token)
            combined = _remainder(combined)
            age += 1
        one, two, constant = (
            hash_multipliers[3 * number + term] for term in range(3)
        )
        high, low = _parts(combined, HASH_RADIX)
        hashed = _remainder(_product(one, low) + _product(two, high) + constant)
        bits_of_hash = backend.quotient(hashed, 2 ** (HASH_BITS - bits))
        code = code * 2**bits + bits_of_hash
    return code


def _digits(token: Tensor) -> list[Tensor]:
    """Returns the digits of tokens as unsigned integers, lowest first."""
    digits = []
    for _ in range(TOKEN_DIGITS):
        quotient, rest = _parts(token, 256)
        negative = ops.cast(rest < 0, "int32")
        digits.append(rest + negative * 256)
        token = quotient - negative
    return digits


def _parts(number: Tensor, radix: int) -> tuple[Tensor, Tensor]:
    """Returns quotient, rounded towards zero, and remainder."""
    quotient = backend.quotient(number, radix)
    return quotient, number - quotient * radix


def _product(multiplier: Tensor, digit: Tensor) -> Tensor:
    """Returns a number below 2^21 + 2^12, equal to the product modulo p.

    The multiplier has 20 bits, the digit at most 10. 2^20 is 3 modulo p.
    """
    high, low = _parts(multiplier, HASH_RADIX)
    over, rest = _parts(high * digit, HASH_RADIX)
    return low * digit + rest * HASH_RADIX + over * 3


def _remainder(number: Tensor) -> Tensor:
    """Returns the remainder modulo p of numbers below 2^24."""
    over, rest = _parts(number, 2**HASH_BITS)
    number = rest + over * (2**HASH_BITS - PRIME)
    return number - ops.cast(number >= PRIME, "int32") * PRIME
