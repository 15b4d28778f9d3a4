"""Leaf codes in few operations.

For one example an eager operation costs more than what it computes. So these
are PyTorch's own, and as few as can be.
"""

import torch

from keras_treegate.backend.torch.exporting import gather, is_exporting
from keras_treegate.core import codes as formulas
from keras_treegate.core.codes import HASH_BITS, PRIME, TOKEN_DIGITS
from keras_treegate.core.numerics import SMALLEST_NORMAL
from keras_treegate.types import Tensor


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    if is_exporting():  # some runtimes shift no bits
        return formulas.sign_codes(inputs, units, thresholds, shape, gather)
    trees, depth = shape
    axes = inputs.shape[:-1]
    if not depth:
        return inputs.new_zeros((*axes, trees), dtype=torch.int32)
    if inputs.requires_grad:
        inputs = inputs.detach()
    source = inputs.index_select(-1, units.reshape(-1))
    if source.dtype not in (torch.float32, torch.float64):
        source = source.float()
    if thresholds is None:
        bits = source >= SMALLEST_NORMAL
    else:
        thresholds = thresholds.to(source.dtype).reshape(-1)
        bits = _without_subnormals(source) > _without_subnormals(thresholds)
    places = torch.arange(depth - 1, -1, -1, device=inputs.device)
    bits = bits.reshape(*axes, trees, depth)
    # PyTorch compiles no shift of booleans.
    return (bits.view(torch.uint8) << places).sum(-1, dtype=torch.int32)


def _without_subnormals(numbers: Tensor) -> Tensor:
    return numbers.masked_fill(numbers.abs() < SMALLEST_NORMAL, 0.0)


def hash_codes(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    trees = token_multipliers.shape[1]
    ages = token_multipliers.shape[0] // TOKEN_DIGITS
    newest = tokens[..., tokens.shape[-1] - ages :].to(torch.int64).flip(-1)
    shifts = torch.arange(0, 8 * TOKEN_DIGITS, 8, device=tokens.device)
    digits = (newest[..., None, None] >> shifts[:, None]) & 255
    multipliers = token_multipliers.reshape(ages, TOKEN_DIGITS, trees)
    of_tokens = (digits * multipliers).sum(-2) % PRIME  # (..., N, G)
    of_orders = of_tokens.cumsum(-2) % PRIME
    code = None
    for number, (order, bits) in enumerate(hashes):
        one, two, constant = hash_multipliers[
            3 * number : 3 * number + 3
        ].unbind()
        combined = of_orders[..., order - 1, :]
        hashed = one * (combined & 1023) + two * (combined >> 10) + constant
        hashed = hashed % PRIME >> HASH_BITS - bits
        code = hashed if code is None else (code << bits) + hashed
    if code is None:
        return tokens.new_zeros((*tokens.shape[:-1], trees), dtype=torch.int32)
    return code.to(torch.int32)
