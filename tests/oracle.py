"""The oracle: every formula of the layer, its gate and its optimizers.

Slow and obvious on purpose: NumPy, float64 and loops, one line per formula,
and nothing of the package. Each backend is held against these functions in
its own process, so the backends agree with each other by transitivity.

Shapes: `B` batch, `P` input units, `Q` output units, `G` trees, `W` width of
a tree's input block, `D` depth, `L` leaves of a tree (`2^D`).
"""

import numpy as np

# --- Trees: blocks of inputs, bits, leaf codes, rows of a level ------------


def tree_width(inputs, trees):
    """Returns `W = ceil(P / G)`."""
    return -(-inputs // trees)


def place(unit, inputs, trees):
    """Returns the tree of an input unit, and the unit's offset in its block."""
    width = tree_width(inputs, trees)
    return unit // width, unit % width


def blocks(x, trees):
    """Returns inputs `(B, P)` as zero-padded blocks `(B, G, W)`."""
    batch, inputs = x.shape
    out = np.zeros((batch, trees, tree_width(inputs, trees)))
    for unit in range(inputs):
        tree, offset = place(unit, inputs, trees)
        out[:, tree, offset] = x[:, unit]
    return out


def no_subnormal(z):
    """Returns a number, or 0 in the place of one nearer to 0 than `2^-126`."""
    return 0.0 if abs(z) < 2.0**-126 else z


def gate_bits(source, units, threshold=None):
    """Returns bits `(B, G, D)`: 1 where `z > threshold`; NaN reads as 0.

    Numbers nearer to 0 than the smallest normal number of float32 count as 0,
    in `z` and in the threshold.
    """
    trees, depth = units.shape
    threshold = np.zeros((trees, depth)) if threshold is None else threshold
    bits = np.zeros((len(source), trees, depth), dtype=int)
    for example in range(len(source)):
        for tree in range(trees):
            for level in range(depth):
                z = no_subnormal(float(source[example, units[tree, level]]))
                limit = no_subnormal(float(threshold[tree, level]))
                if not np.isnan(z) and z > limit:
                    bits[example, tree, level] = 1
    return bits


def leaf_codes(bits):
    """Returns codes `(B, G)`; the first bit is the root's and weighs most."""
    batch, trees, depth = bits.shape
    codes = np.zeros((batch, trees), dtype=int)
    for level in range(depth):
        codes += bits[:, :, level] * 2 ** (depth - 1 - level)
    return codes


def node_row(tree, code, level, depth):
    """Finds the row of `nodes[level]` on the path to leaf `code` of `tree`."""
    return tree * 2**level + (code >> (depth - level))


def node_shapes(inputs, units, depth, trees):
    """Returns the shape `(G * 2^l, W, Q)` of every level."""
    width = tree_width(inputs, trees)
    return [(trees * 2**level, width, units) for level in range(depth + 1)]


# --- The layer: kernel, forward, leaf table, gradients ---------------------


def effective_kernel(nodes, codes, inputs):
    """Returns `W[j] = sum over l of T[j, n(j, l)]`, as `(B, P, Q)`."""
    depth = len(nodes) - 1
    batch, trees = codes.shape
    kernel = np.zeros((batch, inputs, nodes[0].shape[-1]))
    for example in range(batch):
        for unit in range(inputs):
            tree, offset = place(unit, inputs, trees)
            for level in range(depth + 1):
                row = node_row(tree, codes[example, tree], level, depth)
                kernel[example, unit] += nodes[level][row, offset]
    return kernel


def forward(x, nodes, codes, bias=None):
    """Returns `y = sum over j of x[j] * W[j] + b`, as `(B, Q)`."""
    kernel = effective_kernel(nodes, codes, x.shape[1])
    y = np.einsum("bp,bpq->bq", x, kernel)
    return y if bias is None else y + bias


def leaf_table(nodes):
    """Returns every root-to-leaf sum, `(G, L, W, Q)`."""
    depth = len(nodes) - 1
    trees, width, units = nodes[0].shape
    table = np.zeros((trees, 2**depth, width, units))
    for tree in range(trees):
        for code in range(2**depth):
            for level in range(depth + 1):
                row = node_row(tree, code, level, depth)
                table[tree, code] += nodes[level][row]
    return table


def gradients(x, dy, nodes, codes):
    """Returns `dx (B, P)`, `dnodes` (one array per level) and `dbias (Q,)`.

    The gates are constants for the gradient, and a row collects the outer
    products `x dy` of every example whose path runs through it.
    """
    depth = len(nodes) - 1
    batch, inputs = x.shape
    trees = codes.shape[1]
    dx = np.einsum("bq,bpq->bp", dy, effective_kernel(nodes, codes, inputs))
    dnodes = [np.zeros(level.shape) for level in nodes]
    for example in range(batch):
        for unit in range(inputs):
            tree, offset = place(unit, inputs, trees)
            for level in range(depth + 1):
                row = node_row(tree, codes[example, tree], level, depth)
                dnodes[level][row, offset] += x[example, unit] * dy[example]
    return dx, dnodes, dy.sum(axis=0)


def finite_differences(loss, array, step=1e-6):
    """Computes central differences of `loss()`; changes `array` in place."""
    slope = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = loss()
        array[place] = value - step
        below = loss()
        array[place] = value
        slope[place] = (above - below) / (2 * step)
    return slope


# --- The gate: a moving mean of every gate unit ----------------------------


class MovingMean:
    """The `"running_mean"` threshold, `(G, D)`.

    A batch's mean leaves out values that are not finite; a unit without a
    finite value keeps its mean, and a batch without any is no update. `update`
    comes first in a training step and the new mean is the threshold of that
    same step.
    """

    def __init__(self, units, momentum=0.99):
        self.units = units
        self.momentum = momentum
        self.mean = np.zeros(units.shape)
        self.updates = 0

    def update(self, source):
        rate = max(1 - self.momentum, 1 / (self.updates + 1))
        seen = False
        for place_of_unit, unit in np.ndenumerate(self.units):
            values = source[:, unit].astype("float64")
            values = values[np.isfinite(values)]
            if len(values):
                seen = True
                change = values.mean() - self.mean[place_of_unit]
                self.mean[place_of_unit] += rate * change
        self.updates += seen
        return self.mean


# --- Optimizers: decay on every step, updates on touched rows --------------


def touched_rows(gradient):
    """Returns the mask of rows whose gradient block is not all zero."""
    return np.array([np.any(row != 0) for row in gradient], dtype=bool)


class Optimizer:
    """The common part of the rules: exact decay, touched mask, row clock.

    Each step every row of every array is multiplied by `1 - eps * lambda`;
    then rows that are touched get the rule's update. Slots of untouched rows
    stand still and are caught up, by `idle` steps, at the next touch.

    Args:
        weights: List of arrays, copied.
        weight_decay: `lambda`.
        row_sparse: One boolean per array; all rows of an array that is not
            row-sparse (any other layer's weight) count as touched always.
    """

    def __init__(self, weights, weight_decay=0.0, row_sparse=None):
        self.weights = [np.array(w, dtype="float64") for w in weights]
        self.weight_decay = weight_decay
        self.row_sparse = row_sparse or [True] * len(self.weights)
        self.last = [np.zeros(len(w), dtype=int) for w in self.weights]
        self.step = 0

    def slots(self, value=0.0):
        return [np.full(w.shape, value) for w in self.weights]

    def apply(self, gradients, learning_rate):
        self.step += 1
        for index, (weight, gradient) in enumerate(
            zip(self.weights, gradients, strict=True)
        ):
            weight *= 1 - learning_rate * self.weight_decay
            touched = np.ones(len(weight), dtype=bool)
            if self.row_sparse[index]:
                touched = touched_rows(gradient)
            for row in np.flatnonzero(touched):
                idle = self.step - self.last[index][row]
                g = np.asarray(gradient[row], dtype="float64")
                weight[row] += self.change(index, row, g, learning_rate, idle)
                self.last[index][row] = self.step

    def change(self, index, row, g, learning_rate, idle):
        """Returns the change of a touched row, and moves the row's slots."""
        raise NotImplementedError


class SGD(Optimizer):
    """`v <- beta^dt v - eps g`, `w <- w + v`.

    Nesterov: `w <- w + beta v - eps g`.
    """

    def __init__(self, weights, momentum=0.0, nesterov=False, **kwargs):
        super().__init__(weights, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocities = self.slots()

    def change(self, index, row, g, learning_rate, idle):
        v = self.velocities[index][row] * self.momentum**idle
        v = v - learning_rate * g
        self.velocities[index][row] = v
        if self.nesterov:
            return self.momentum * v - learning_rate * g
        return v


class Adam(Optimizer):
    """`m <- b1^dt m + (1 - b1) g`, `v <- b2^dt v + (1 - b2) g^2`.

    `w <- w - eps * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`
    with the global step `t`, as in Keras.
    """

    def __init__(
        self, weights, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs
    ):
        super().__init__(weights, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.momentums = self.slots()
        self.velocities = self.slots()

    def change(self, index, row, g, learning_rate, idle):
        b1, b2, t = self.beta_1, self.beta_2, self.step
        m = b1**idle * self.momentums[index][row] + (1 - b1) * g
        v = b2**idle * self.velocities[index][row] + (1 - b2) * g**2
        self.momentums[index][row] = m
        self.velocities[index][row] = v
        alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
        return -alpha * m / (np.sqrt(v) + self.epsilon)


class Adagrad(Optimizer):
    """`a <- a + g^2`, `w <- w - eps g / sqrt(a + epsilon)`.

    `rowwise=True` keeps one number per row of a row-sparse array:
    `a <- a + mean(g^2)` over the row's block.
    """

    def __init__(
        self,
        weights,
        initial_accumulator_value=0.1,
        epsilon=1e-7,
        rowwise=False,
        **kwargs,
    ):
        super().__init__(weights, **kwargs)
        self.epsilon = epsilon
        self.accumulators = self.slots(initial_accumulator_value)
        for index, sparse in enumerate(self.row_sparse):
            if rowwise and sparse:
                rows = len(self.weights[index])
                self.accumulators[index] = np.full(
                    rows, initial_accumulator_value
                )

    def change(self, index, row, g, learning_rate, idle):
        square = g**2
        if self.accumulators[index].ndim == 1 and g.ndim > 0:
            square = square.mean()
        self.accumulators[index][row] += square
        a = self.accumulators[index][row]
        return -learning_rate * g / np.sqrt(a + self.epsilon)


# --- The hash gate: the newest tokens of each order ------------------------


def hash_codes(tokens, token_multipliers, hash_multipliers, orders, bits):
    """Hashes tokens `(B, n)`, the newest last, to codes `(B, G)`, exactly.

    Args:
        tokens: integers.
        token_multipliers: `(4 N, G)`, four for each of the N newest tokens.
        hash_multipliers: `(3 H, G)`, three for each hash.
        orders: the number of tokens that each hash reads.
        bits: the highest bits that are taken of each hash, of 20.
    """
    prime = 2**20 - 3
    trees = token_multipliers.shape[1]
    codes = np.zeros((len(tokens), trees), dtype=int)
    for example, row in enumerate(tokens):
        for tree in range(trees):
            for number, (order, taken) in enumerate(
                zip(orders, bits, strict=True)
            ):
                s = 0
                for age in range(order):
                    unsigned = int(row[len(row) - 1 - age]) % 2**32
                    digits = [unsigned // 256**i % 256 for i in range(4)]
                    a = token_multipliers[4 * age : 4 * age + 4, tree].tolist()
                    u = sum(x * d for x, d in zip(a, digits, strict=True))
                    s += u % prime
                s %= prime
                c = hash_multipliers[3 * number : 3 * number + 3, tree].tolist()
                h = (c[0] * (s % 1024) + c[1] * (s // 1024) + c[2]) % prime
                codes[example, tree] *= 2**taken
                codes[example, tree] += h // 2 ** (20 - taken)
    return codes
