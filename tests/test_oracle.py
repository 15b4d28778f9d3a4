"""The oracle itself, against cases small enough to work out by hand."""

from pathlib import Path

import numpy as np
import pytest

from tests import oracle


def test_inputs_are_split_in_order_into_padded_blocks():
    x = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    expected = [[[1, 2], [3, 4], [5, 0]]]
    np.testing.assert_array_equal(oracle.blocks(x, 3), expected)


def test_blocks_may_be_padding_from_end_to_end():
    x = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    expected = [[[1, 2], [3, 4], [5, 0], [0, 0]]]
    np.testing.assert_array_equal(oracle.blocks(x, 4), expected)


def test_a_bit_is_one_only_above_the_threshold():
    source = np.array([[-1.0, 0.0, 0.5, np.nan, np.inf]])
    bits = oracle.gate_bits(source, np.array([[0, 1, 2, 3, 4]]))
    np.testing.assert_array_equal(bits, [[[0, 0, 1, 0, 1]]])


def test_a_bit_compares_with_the_threshold_of_its_own_place():
    source = np.array([[1.0, 3.0]])
    units = np.array([[0, 1], [1, 0]])
    threshold = np.array([[0.5, 3.5], [2.0, 1.0]])
    bits = oracle.gate_bits(source, units, threshold)
    np.testing.assert_array_equal(bits, [[[1, 0], [1, 0]]])


def test_the_first_bit_weighs_most_in_the_leaf_code():
    bits = np.array([[[1, 0, 0], [0, 0, 1], [1, 1, 0]]])
    np.testing.assert_array_equal(oracle.leaf_codes(bits), [[4, 1, 6]])


def test_the_path_to_a_leaf_visits_one_row_of_each_level():
    # Tree 2, leaf 5 = 101: root, right child, its left child, its right one.
    rows = [oracle.node_row(2, 5, level, 3) for level in range(4)]
    assert rows == [2, 2 * 2 + 1, 2 * 4 + 2, 2 * 8 + 5]


# Two trees of depth 1 over three inputs, one output: W = 2, the last place of
# the second tree is padding.
NODES = [
    np.array([[[1.0], [2.0]], [[3.0], [99.0]]]),
    np.array(
        [[[10.0], [20.0]], [[30.0], [40.0]], [[50.0], [99.0]], [[60.0], [99.0]]]
    ),
]
CODES = np.array([[0, 1], [1, 1]])
X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_the_effective_kernel_sums_the_rows_of_the_path():
    kernel = oracle.effective_kernel(NODES, CODES, 3)
    expected = [[11, 22, 63], [31, 42, 63]]
    np.testing.assert_array_equal(kernel[..., 0], expected)


def test_the_forward_multiplies_the_inputs_with_their_own_kernel():
    y = oracle.forward(X, NODES, CODES, np.array([0.5]))
    expected = [[11 + 44 + 189 + 0.5], [124 + 210 + 378 + 0.5]]
    np.testing.assert_array_equal(y, expected)


def test_the_leaf_table_holds_every_root_to_leaf_sum():
    table = oracle.leaf_table(NODES)
    assert table.shape == (2, 2, 2, 1)
    expected = [[[11, 22], [31, 42]], [[53, 198], [63, 198]]]
    np.testing.assert_array_equal(table[..., 0], expected)


def test_gradients_collect_what_runs_through_each_row():
    dy = np.array([[1.0], [10.0]])
    dx, dnodes, dbias = oracle.gradients(X, dy, NODES, CODES)
    np.testing.assert_array_equal(dx, [[11, 22, 63], [310, 420, 630]])
    roots = [[1 + 40, 2 + 50], [3 + 60, 0]]
    np.testing.assert_array_equal(dnodes[0][..., 0], roots)
    leaves = [[1, 2], [40, 50], [0, 0], [63, 0]]
    np.testing.assert_array_equal(dnodes[1][..., 0], leaves)
    np.testing.assert_array_equal(dbias, [11])


@pytest.mark.parametrize(
    ("batch", "inputs", "trees", "depth"), [(1, 1, 1, 0), (3, 5, 2, 2)]
)
def test_gradients_equal_finite_differences(batch, inputs, trees, depth):
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, inputs))
    dy = random.normal(size=(batch, 2))
    bias = random.normal(size=2)
    codes = random.integers(0, 2**depth, size=(batch, trees))
    nodes = [
        random.normal(size=shape)
        for shape in oracle.node_shapes(inputs, 2, depth, trees)
    ]

    def loss():
        return np.sum(dy * oracle.forward(x, nodes, codes, bias))

    dx, dnodes, dbias = oracle.gradients(x, dy, nodes, codes)
    np.testing.assert_allclose(
        oracle.finite_differences(loss, x), dx, atol=1e-8
    )
    np.testing.assert_allclose(
        oracle.finite_differences(loss, bias), dbias, atol=1e-8
    )
    for level, gradient in zip(nodes, dnodes, strict=True):
        np.testing.assert_allclose(
            oracle.finite_differences(loss, level), gradient, atol=1e-8
        )


def test_the_moving_mean_is_first_a_plain_average_of_batches():
    moving = oracle.MovingMean(np.array([[1], [0]]), momentum=0.75)
    batches = [[1.0, 2.0], [3.0, 4.0], [8.0, 9.0], [0.0, 5.0]]
    for values in batches:
        moving.update(np.array([values, values]))
    np.testing.assert_allclose(moving.mean, [[20 / 4], [12 / 4]])


def test_the_moving_mean_is_then_exponential():
    moving = oracle.MovingMean(np.array([[0]]), momentum=0.75)
    moving.updates = 10
    moving.mean[:] = 8.0
    moving.update(np.array([[4.0], [0.0]]))
    np.testing.assert_allclose(moving.mean, [[0.75 * 8 + 0.25 * 2]])


def test_the_moving_mean_leaves_out_what_is_not_finite():
    moving = oracle.MovingMean(np.array([[0, 1]]))
    moving.update(np.array([[2.0, np.nan], [np.inf, -np.inf]]))
    np.testing.assert_array_equal(moving.mean, [[2.0, 0.0]])
    moving.update(np.array([[4.0, 6.0], [np.nan, np.nan]]))
    np.testing.assert_array_equal(moving.mean, [[3.0, 3.0]])


def test_a_row_is_touched_when_its_gradient_block_is_not_all_zero():
    gradient = np.array([[[0.0, 0.0]], [[0.0, -1.0]], [[np.nan, 0.0]]])
    touched = oracle.touched_rows(gradient)
    np.testing.assert_array_equal(touched, [False, True, True])


def test_idle_rows_decay_and_nothing_else():
    sgd = oracle.SGD([[[8.0], [8.0]]], weight_decay=0.5)
    sgd.apply([np.array([[1.0], [0.0]])], learning_rate=1.0)
    sgd.apply([np.array([[0.0], [1.0]])], learning_rate=0.5)
    expected = [[(8 * 0.5 - 1) * 0.75], [8 * 0.5 * 0.75 - 0.5]]
    np.testing.assert_allclose(sgd.weights[0], expected)


def test_momentum_is_caught_up_and_its_idle_drift_not_replayed():
    sgd = oracle.SGD([[[0.0]]], momentum=0.5)
    for gradient in (8.0, 0.0, 0.0, 2.0):
        sgd.apply([np.array([[gradient]])], learning_rate=1.0)
    velocity = 0.5**3 * -8.0 - 2.0
    np.testing.assert_allclose(sgd.velocities[0], [[velocity]])
    np.testing.assert_allclose(sgd.weights[0], [[-8.0 + velocity]])


def test_nesterov_looks_ahead():
    sgd = oracle.SGD([[[0.0]]], momentum=0.5, nesterov=True)
    sgd.apply([np.array([[1.0]])], learning_rate=1.0)
    sgd.apply([np.array([[1.0]])], learning_rate=1.0)
    np.testing.assert_allclose(sgd.velocities[0], [[-1.5]])
    np.testing.assert_allclose(sgd.weights[0], [[-1.5 + (-0.75 - 1.0)]])


def test_arrays_that_are_not_row_sparse_get_the_dense_rule():
    sgd = oracle.SGD([[0.0, 0.0]], momentum=0.5, row_sparse=[False])
    sgd.apply([np.array([4.0, 0.0])], learning_rate=1.0)
    sgd.apply([np.array([0.0, 0.0])], learning_rate=1.0)
    np.testing.assert_allclose(sgd.weights[0], [-6.0, 0.0])


def test_the_first_step_of_adam_is_one_learning_rate_long():
    adam = oracle.Adam([[[0.0, 0.0]]], epsilon=0.0)
    adam.apply([np.array([[3.0, -0.2]])], learning_rate=0.1)
    np.testing.assert_allclose(adam.weights[0], [[-0.1, 0.1]])


def test_adam_catches_up_moments_and_counts_global_steps():
    adam = oracle.Adam([[[0.0]]], beta_1=0.5, beta_2=0.75, epsilon=0.5)
    for gradient in (4.0, 0.0, 2.0):
        adam.apply([np.array([[gradient]])], learning_rate=1.0)
    m = 0.5**2 * 2.0 + 0.5 * 2.0
    v = 0.75**2 * 4.0 + 0.25 * 4.0
    np.testing.assert_allclose(adam.momentums[0], [[m]])
    np.testing.assert_allclose(adam.velocities[0], [[v]])
    first = -np.sqrt(0.25) / 0.5 * 2.0 / (2.0 + 0.5)
    last = -np.sqrt(1 - 0.75**3) / (1 - 0.5**3) * m / (np.sqrt(v) + 0.5)
    np.testing.assert_allclose(adam.weights[0], [[first + last]])


def test_adagrad_sums_the_squares_of_touched_rows():
    adagrad = oracle.Adagrad([[[0.0], [0.0]]], 1.0, epsilon=0.0)
    for _ in range(2):
        adagrad.apply([np.array([[2.0], [0.0]])], learning_rate=1.0)
    np.testing.assert_allclose(adagrad.accumulators[0], [[9.0], [1.0]])
    expected = [[-2 / np.sqrt(5) - 2 / 3], [0.0]]
    np.testing.assert_allclose(adagrad.weights[0], expected)


def test_rowwise_adagrad_keeps_the_mean_square_of_the_block():
    weights = [np.zeros((2, 1, 2)), np.zeros(2)]
    adagrad = oracle.Adagrad(
        weights, 0.0, epsilon=0.0, rowwise=True, row_sparse=[True, False]
    )
    rows = np.array([[[0.0, 0.0]], [[1.0, 7.0]]])
    adagrad.apply([rows, np.array([3.0, 4.0])], learning_rate=1.0)
    np.testing.assert_allclose(adagrad.accumulators[0], [0.0, 25.0])
    expected = [[[0.0, 0.0]], [[-1 / 5, -7 / 5]]]
    np.testing.assert_allclose(adagrad.weights[0], expected)
    np.testing.assert_allclose(adagrad.accumulators[1], [9.0, 16.0])
    np.testing.assert_allclose(adagrad.weights[1], [-1.0, -1.0])


def test_the_oracle_imports_nothing_but_numpy():
    lines = Path(oracle.__file__).read_text().splitlines()
    imports = [x for x in lines if x.startswith(("import ", "from "))]
    assert imports == ["import numpy as np"]
