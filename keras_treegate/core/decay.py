"""The arithmetic of step-aware weight decay.

Weight decay multiplies every weight by `1 - eps_t * lambda` in each step `t`.
A row that is not written owes the product of these factors since its last
write. A decay clock is the running sum of `log |1 - eps_t * lambda|`, its time,
and the sign of the whole product; the stamp of a row is the time of its last
write; the row stands for

    sign * row * exp(time - stamp)

and is written with the sign of then. Times and stamps are pairs of float32
whose sum is the value: a single float32 loses a decay of 1e-7 a step within 1e5
steps. The first number is the larger one. A clock has them the other way round
where its sign is negative, which takes an `eps * lambda` above 1. A factor of 0
has `LOG_OF_ZERO` for its logarithm.

Reference: Z. Lipton and C. Elkan, "Efficient Elastic Net Regularization for
Sparse Linear Models", arXiv 1505.06449, for updates that wait until a weight is
needed.
"""

from keras import ops

from keras_treegate.core.numerics import at_least_float32
from keras_treegate.types import Tensor

# Leaves exactly 0 of a row, of float64 too.
LOG_OF_ZERO = -1000.0
# Stands for a sum of 0 where the sign must be seen; exp(1e-30) is 1.
ALMOST_ZERO = 1e-30


def read_clock(clock: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the time (2,) of a clock, and whether its sign is negative.

    Of clocks (2, T) it returns (2, T) and (T,).
    """
    sizes = ops.abs(clock)
    negative = sizes[0] < sizes[1]
    return ops.where(negative, ops.flip(clock, axis=0), clock), negative


def read_clocks(clocks: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns what `read_clock` says of each of some clocks (2, T)."""
    times, negative = read_clock(clocks)
    each = zip(ops.unstack(times, axis=1), ops.unstack(negative), strict=True)
    return list(each)


def advance(clock: Tensor, rate: Tensor) -> Tensor:
    """Returns clocks (2, ...) after one more step of decay by `1 - rate`."""
    rate = ops.cast(rate, "float32")
    step = _log_of_size(rate)
    time, negative = read_clock(clock)
    high, low = time[0], time[1]
    # Knuth's two-sum: `total + error` is exactly `high + step`.
    total = high + step
    part = total - high
    error = (high - (total - part)) + (step - part)
    low = low + error
    new_high = total + low
    new_low = low - (new_high - total)
    negative = ops.not_equal(negative, rate > 1)
    unseen = ops.logical_and(negative, ops.equal(new_high, 0))
    new_high = ops.where(unseen, ALMOST_ZERO, new_high)
    first = ops.where(negative, new_low, new_high)
    return ops.stack([first, ops.where(negative, new_high, new_low)])


def _log_of_size(rate: Tensor) -> Tensor:
    """Returns `log |1 - rate|`; each branch gets only rates of its domain."""
    exceeds = rate >= 1
    below = ops.log1p(-ops.where(exceeds, 0.0, rate))
    beyond = ops.log(ops.where(rate > 1, rate - 1, 1.0))
    beyond = ops.where(rate > 1, beyond, LOG_OF_ZERO)
    return ops.where(exceeds, beyond, below)


def owed(clock: Tensor, stamps: Tensor) -> Tensor:
    """Returns the factor that each row owes (R,), of stamps (R, 2)."""
    return owed_at(*read_clock(clock), stamps)


def owed_at(time: Tensor, negative: Tensor | bool, stamps: Tensor) -> Tensor:
    """Returns the same as `owed`, given what `read_clock` returned."""
    return signed(ops.exp(ops.sum(time - stamps, axis=-1)), negative)


def signed(x: Tensor, negative: Tensor | bool) -> Tensor:
    """Returns `x`, or `-x` where a sign is negative.

    Nothing is computed for a positive sign that is known, a `bool`.
    """
    if isinstance(negative, bool):
        return -x if negative else x
    return ops.where(negative, -x, x)


def read(rows: Tensor, owed: Tensor) -> Tensor:
    """Returns rows (R, ...) with their decay; the gradient is that of these.

    It is as if the decay had been written each time: a row that owes half of
    itself does not get half the gradient.
    """
    constant = ops.stop_gradient(rows)
    return decayed(constant, owed) + (rows - constant)


def decayed(rows: Tensor, owed: Tensor) -> Tensor:
    """Multiplies rows (R, ...), each by the factor that it owes (R,)."""
    dtype = at_least_float32(rows)
    factors = of_rows(ops.cast(owed, dtype), rows)
    return ops.cast(ops.cast(rows, dtype) * factors, rows.dtype)


def of_rows(numbers: Tensor, rows: Tensor) -> Tensor:
    """Returns numbers (R,) as (R, 1, ...), one for each row of any shape."""
    # Faster under PyTorch than `ops.reshape`.
    return numbers[(slice(None), *[None] * (len(rows.shape) - 1))]
