"""The arithmetic of step-aware weight decay.

Weight decay multiplies every weight by `(1 - eps_t * lambda)` in each step `t`.
A row that is not written owes the product of these factors since its last
write. A decay clock is the running sum of `log(1 - eps_t * lambda)`; the stamp
of a row is the clock at its last write; the row stands for

    row * exp(clock - stamp)

Clock and stamps are pairs of float32 whose sum is the value: a single float32
loses a decay of 1e-7 a step within 1e5 steps.

Reference: Z. Lipton and C. Elkan, "Efficient Elastic Net Regularization for
Sparse Linear Models", arXiv 1505.06449, for updates that wait until a weight is
needed.
"""

from keras import ops

from keras_treegate.core.numerics import at_least_float32
from keras_treegate.types import Tensor


def advance(clock: Tensor, rate: Tensor) -> Tensor:
    """The clock (2,) after one more step of decay by `1 - rate`."""
    step = ops.log1p(-ops.cast(rate, "float32"))
    high, low = clock[0], clock[1]
    # Knuth's two-sum: `total + error` is exactly `high + step`.
    total = high + step
    part = total - high
    error = (high - (total - part)) + (step - part)
    low = low + error
    new_high = total + low
    return ops.stack([new_high, low - (new_high - total)])


def owed(clock: Tensor, stamps: Tensor) -> Tensor:
    """The log of the factor that each row owes (R,), of stamps (R, 2)."""
    return ops.sum(clock - stamps, axis=-1)


def read(rows: Tensor, owed: Tensor) -> Tensor:
    """Returns rows (R, W, Q) with their decay; the gradient is that of these.

    As if the decay had been written each time: a row that owes half of itself
    does not get half the gradient.
    """
    constant = ops.stop_gradient(rows)
    return decayed(constant, owed) + (rows - constant)


def decayed(rows: Tensor, owed: Tensor) -> Tensor:
    """Rows (R, W, Q), each times the exponential of what it owes (R,)."""
    dtype = at_least_float32(rows)
    factors = ops.exp(ops.cast(owed, dtype))[:, None, None]
    return ops.cast(ops.cast(rows, dtype) * factors, rows.dtype)
