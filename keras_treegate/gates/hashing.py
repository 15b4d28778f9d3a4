"""The hashes of tokens, as formulas of tensors.

There are two forms, with the same results. One has the fewest operations. The
other, for files, has no number of more than 24 bits but the tokens, and no
division of a negative number, which runtimes round in different directions:
some of them compute integers as float32.
"""

from keras import ops

from keras_treegate import backend
from keras_treegate.types import Tensor

# A hash is a number below this prime, just below 2^20. Products of it with the
# digits below, and sums of a few of them, stay below 2^31, so that integers of
# 32 bits never overflow: frameworks and file formats differ in what they do.
PRIME = 2**20 - 3
HASH_BITS = 20

# A token is four digits of eight bits; a hash is two of ten.
TOKEN_DIGITS = 4
HASH_RADIX = 2**10


def leaf_codes(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    """Returns the leaf codes (..., G) of tokens (..., n), int32.

    Args:
        tokens: integers, the newest last.
        token_multipliers: (4 * n, G), those of the digits of the newest tokens.
        hash_multipliers: (3 * H, G), those of H hashes.
        hashes: for each of them its order and how many of its bits are used.
    """
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


def leaf_codes_of_small_numbers(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    """Returns what `leaf_codes` returns; its numbers stay below 2^24."""
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
