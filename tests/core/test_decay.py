"""The decay clock and what it owes, against float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.core import decay


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


def advance(clock, rate):
    """Calls `decay.advance` with NumPy arrays of any last axes."""
    return ops.convert_to_numpy(decay.advance(tensor(clock), tensor(rate)))


def total(clock):
    """Returns the sum of a clock's two parts (2, ...), in float64."""
    return np.asarray(clock, "float64").sum(axis=0)


def step_of(rate):
    """Returns what a step of this rate should add to a clock, in float64."""
    return np.log1p(-np.asarray(rate, "float32").astype("float64"))


def split(value):
    """Returns a float64 as a pair of float32 whose sum it is."""
    high = np.asarray(value, "float32")
    low = np.asarray(value - high.astype("float64"), "float32")
    return np.stack([high, low])


def signed(factors):
    """Returns the clock after steps of decay by these factors, `1 - rate`."""
    clock = np.zeros(2, "float32")
    for factor in factors:
        clock = advance(clock, 1 - factor)
    return clock


def time_of(clock):
    """Returns the time of a clock, as NumPy: what a row is stamped with."""
    return ops.convert_to_numpy(decay.read_clock(tensor(clock))[0])


def sign_of(clock):
    negative = decay.read_clock(tensor(clock))[1]
    return float(decay.signed(tensor(1.0), negative))


def values_at(clock, writes):
    """Returns rows' values at `clock` if they were 1 at the clocks `writes`."""
    stamps = np.stack([time_of(then) for then in writes])
    rows = np.array([sign_of(then) for then in writes])  # as they are written
    owed = decay.owed(tensor(clock), tensor(stamps))
    return rows * ops.convert_to_numpy(owed)


def cosine(steps, start):
    return start * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2


RATES = {
    "constant": np.full(300, 1e-3),
    "constant and tiny": np.full(300, 1e-9),
    "cosine": cosine(300, 1e-2),
    "steps": np.repeat([1e-2, 1e-4, 1e-6], 100),
    "large": np.full(300, 0.3),
    "some zero": np.tile([0.0, 1e-3, 0.0], 100),
    "random": 10 ** np.random.default_rng(0).uniform(-8, -1, size=300),
}


@pytest.mark.parametrize("rates", RATES)
def test_the_clock_is_the_sum_of_the_logs(rates):
    clock, expected = np.zeros(2, "float32"), 0.0
    for rate in RATES[rates]:
        clock = advance(clock, rate)
        expected += step_of(rate)
        # One float32 rounding of each step's logarithm, and no other.
        assert total(clock) == pytest.approx(expected, rel=2e-7)


def test_a_step_loses_nothing_of_its_sum():
    random = np.random.default_rng(0)
    before = split(-(10 ** random.uniform(-6, 2, size=20_000)))
    rate = 10 ** random.uniform(-9, -0.5, size=20_000)
    after = advance(before, rate)
    added = total(after) - total(before)
    np.testing.assert_allclose(
        added,
        step_of(rate),
        rtol=3e-7,
        atol=2.0**-46 * np.abs(total(before)).max(),
    )
    # The second number holds the small part.
    assert np.all(np.abs(after[1]) <= np.spacing(np.abs(after[0])))


def test_a_step_of_no_decay_leaves_the_clock():
    clock = split(np.array([-0.1, -1e-9, -37.0, 0.0]))
    np.testing.assert_array_equal(advance(clock, np.zeros(4)), clock)


def test_a_million_tiny_steps_decay_by_their_product():
    # There are 1,000 parts side by side, each from where the one before it
    # ends: the errors of the parts add up to at least the error of the whole.
    rate, parts, steps = 1e-7, 1000, 1000
    exact = step_of(rate) * steps * np.arange(parts + 1)
    clocks = split(exact[:-1])
    tick = tensor(np.full(parts, rate))
    clocks = tensor(clocks)
    for _ in range(steps):
        clocks = decay.advance(clocks, tick)
    clocks = ops.convert_to_numpy(clocks)
    errors = np.abs(total(clocks) - exact[1:])
    assert errors.sum() < 1e-4 * 0.1
    owed = decay.owed(tensor(clocks[:, -1]), tensor(np.zeros((1, 2))))
    row = decay.decayed(tensor(np.ones((1, 1, 1))), owed)
    assert float(row[0, 0, 0]) == pytest.approx(np.exp(-0.1), rel=1e-4)


def test_a_single_float32_would_not_do():
    """Shows that the test above can fail."""
    clock, steps = np.float32(-0.0999), 1000
    for _ in range(steps):
        clock = clock + np.float32(-1e-7)
    lost = abs(float(clock) + 0.0999 + 1e-4)
    assert lost * 1000 > 1e-4


def test_rows_owe_the_clock_since_their_stamp():
    random = np.random.default_rng(0)
    times = -np.sort(random.uniform(0, 50, size=40))
    clock, stamps = split(times[-1]), split(times).T
    owed = ops.convert_to_numpy(decay.owed(tensor(clock), tensor(stamps)))
    assert owed.shape == (40,)
    # Near the clock, where the two are almost equal, as well as far from it.
    np.testing.assert_allclose(
        np.log(owed), times[-1] - times, rtol=1e-5, atol=3e-7
    )


def test_rows_just_stamped_owe_nothing():
    clock = advance(advance(np.zeros(2), 0.1), 1e-6)
    stamps = np.tile(clock, (3, 1))
    owed = decay.owed(tensor(clock), tensor(stamps))
    np.testing.assert_array_equal(ops.convert_to_numpy(owed), np.ones(3))


def test_decayed_rows_are_the_product_of_the_factors():
    rates = RATES["cosine"]
    rows = np.random.default_rng(0).normal(size=(300, 2, 3))
    stamps, clock = [], np.zeros(2, "float32")
    for rate in rates:
        stamps.append(clock)
        clock = advance(clock, rate)
    owed = decay.owed(tensor(clock), tensor(np.stack(stamps)))
    actual = ops.convert_to_numpy(decay.decayed(tensor(rows), owed))
    # Row t owes the steps from t on.
    factors = np.cumprod((1 - rates.astype("float32").astype("float64"))[::-1])
    expected = rows.astype("float32") * factors[::-1][:, None, None]
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_rows_that_owe_nothing_are_the_same_bits():
    rows = tensor(np.random.default_rng(0).normal(size=(5, 2, 3)))
    same = decay.decayed(rows, tensor(np.ones(5)))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(same), ops.convert_to_numpy(rows)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_decayed_rows_keep_their_dtype_and_are_rounded_once(dtype):
    rows = np.random.default_rng(0).normal(size=(50, 2, 3))
    rows = ops.cast(tensor(rows), dtype)
    owed = np.linspace(-1, 1, 50)
    actual = decay.decayed(rows, tensor(owed))
    assert keras.backend.standardize_dtype(actual.dtype) == dtype
    exact = ops.convert_to_numpy(ops.cast(rows, "float32"))
    exact = exact * owed[:, None, None].astype("float32")
    expected = ops.cast(tensor(exact), dtype)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(actual, "float32")),
        ops.convert_to_numpy(ops.cast(expected, "float32")),
        rtol={"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6}[dtype],
    )


# --- Rates of 1 and above: factors of 0 and below --------------------------

SIGNED = {
    "to 0": [0.9, 0.0, 0.9],
    "past 0": [0.9, -0.5, 0.25],
    "past 0 and back": [0.5, -0.5, -0.25, 0.75],
    "its own negative at once": [-1.0],
    "its own negative, and smaller": [-1.0, 0.5],
    "its own negative twice": [-1.0, -1.0, 0.5],
    "to 0 from both sides": [-0.5, 0.0, -0.5],
    "larger than itself": [-1.5, -2.0, 0.5],
    "growing": [1.25, 0.5, -0.5],
    "often to 0": [0.0, 0.5] * 20,
}


@pytest.mark.parametrize("case", SIGNED)
def test_factors_of_any_sign_are_multiplied(case):
    factors = SIGNED[case]
    stamps = [signed(factors[:number]) for number in range(len(factors) + 1)]
    expected = [np.prod(factors[number:]) for number in range(len(factors) + 1)]
    actual = values_at(stamps[-1], stamps)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=0)


def test_a_factor_of_0_leaves_exactly_0_in_every_dtype():
    clock = signed([0.0])
    owed = decay.owed(tensor(clock), tensor(np.zeros((1, 2))))
    for dtype in ("float16", "bfloat16", "float32"):
        rows = ops.cast(tensor(np.full((1, 1, 1), 1e4)), dtype)
        assert float(decay.decayed(rows, owed)[0, 0, 0]) == 0


def test_tiny_steps_are_not_lost_while_the_product_is_negative():
    clock, rate, steps = advance(np.zeros(2, "float32"), 1.5), 1e-7, 3000
    for _ in range(steps):
        clock = advance(clock, rate)
    owed = values_at(clock, [advance(np.zeros(2, "float32"), 1.5)])
    assert np.log(owed[0]) == pytest.approx(step_of(rate) * steps, rel=1e-3)
    assert values_at(clock, [np.zeros(2)])[0] == pytest.approx(-0.5, rel=1e-3)


def test_a_rate_that_is_no_number_is_not_hidden():
    assert np.all(np.isnan(total(advance(np.zeros(2, "float32"), np.nan))))
