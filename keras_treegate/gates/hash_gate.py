"""The gate that hashes the last tokens of an example."""

import itertools
import operator
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, cast

import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core import checks, tensor_checks
from keras_treegate.core.codes import PRIME, TOKEN_DIGITS
from keras_treegate.core.saving import register
from keras_treegate.gates.base import Gate
from keras_treegate.gates.hashing import hash_codes_for_files
from keras_treegate.types import Config, Shape, Tensor, Variable

# The bits that are taken of one hash. More would be less even: each of the
# 2^10 values has 1,024 hashes, and three of them one less.
BITS_OF_HASH = 10


@register
class HashGate(Gate):
    """Reads the bits of a path from hashes of the last tokens.

    Where other gates read what a network makes of an example, this one reads
    what the example is: integer tokens, passed to the layer as `gate_inputs`
    (..., n), the newest last. The `D` bits are shared out evenly over the
    `orders`, the first orders taking what is left over, and the bits of order
    k are those of a hash, the tree's own, of the newest k tokens. With
    `orders=(1, 2, 3)` and depth 9, a node of level 3 stands for a class of the
    last token, one of level 6 for a class of the last two: the tree is a
    back-off model. Paths never change while the network learns, and are the
    same on every backend.

        token    t = sum over i = 0..3 of d[i] * 256^i, an unsigned integer of
                     32 bits, with its digits d
        place    u(g, j) = (sum over i of a[g, j, i] * d[i]) mod p, of the
                     j-th newest token
        order    s(g, k) = (u(g, 1) + ... + u(g, k)) mod p
        hash     h(g, k) = (c[g, k, 0] * (s mod 1024) + c[g, k, 1] *
                     floor(s / 1024) + c[g, k, 2]) mod p
        bits     the highest of the 20 bits of h(g, k)

    with p = 2^20 - 3 and multipliers a and c that are drawn from `seed` and
    kept as weights. A hash gives up to 10 bits; an order of more bits has a
    further hash, with multipliers of its own, for each 10. Contexts that differ
    meet in a leaf as rarely as random ones do. Any integer is a token,
    padding and numbers out of a vocabulary too, such as the -1 of a
    `keras_treegate.layers.TokenWindow`.

    Reference: S. Roller et al., "Hash Layers For Large Sparse Models", arXiv
    2106.04426, for experts that are chosen by a hash of the token; J. L. Carter
    and M. N. Wegman, "Universal Classes of Hash Functions", 1979, for the
    family of hashes. The tree of orders is ours.

    Args:
        orders: Positive integer, or an ascending sequence of them, at most as
            many as the depth: the numbers of tokens that are hashed. Defaults
            to `1`.
        seed: Integer or `None`, of the multipliers. `None` draws one, which is
            kept in the config. Defaults to `None`.
        bits: Sequence of positive integers, the bits of each order; their sum
            is the depth. `None` shares them out evenly. `keras_treegate.grow`
            sets it. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: The gate source (..., n), of an integer dtype, the newest token
            last; taken as integers of 32 bits. `n` is at least the highest
            order.
        training: Boolean, which changes nothing. Defaults to `None`.
        mask: Booleans (...), which change nothing. Defaults to `None`.

    Output shape:
        (..., num_trees), int32: the leaf code of each tree,
        `sum over l of b(g, l) * 2^(depth - l)`.

    Raises:
        ValueError: At construction for `orders` that are no ascending positive
            integers, and `bits` that are not as many; when built, for fewer
            tokens than the highest order, and for a `depth` that is less than
            the number of orders or not the sum of the `bits`; when called, for
            tokens that are no integers.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> gate = keras_treegate.gates.HashGate(orders=(1, 2), seed=0)
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     4, depth=4, num_trees=2, levels="ends", gate=gate
    ... )
    >>> tokens = np.array([[5, 7], [6, 7], [5, 8]])
    >>> y = layer(np.ones((3, 8), dtype="float32"), gate_inputs=tokens)
    >>> first_bits = np.array(gate(tokens)) >> 2  # those of the last token
    >>> bool(np.all(first_bits[0] == first_bits[1]))
    True
    """

    reads_integers = True
    moves = False

    def __init__(
        self,
        orders: int | Sequence[int] = 1,
        seed: int | None = None,
        bits: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        orders = _ascending("orders", orders)
        seed = checks.optional_seed(seed)
        if bits is not None:
            bits = _positive("bits", bits)
            if len(bits) != len(orders):
                raise ValueError(
                    "`bits` must be one positive integer for each of the "
                    f"`orders`, {orders}. Received: bits={bits}. Leave it out "
                    "to share the depth out evenly."
                )
        super().__init__(**kwargs)
        self.orders = orders
        self.seed = random.randrange(2**31) if seed is None else seed
        self.bits = bits
        self._token_multipliers: Any = None
        self._hash_multipliers: Any = None

    def check(
        self, source_shape: Shape, num_trees: int | None, depth: int | None
    ) -> int:
        num_tokens = super().check(source_shape, num_trees, depth)
        depth = depth or 0
        if num_tokens < self.orders[-1]:
            raise ValueError(
                "`gate_inputs` must have at least as many tokens as the "
                f"highest of the `orders`, {self.orders}. Received: "
                f"{num_tokens} token(s) on the last axis. Pass more, e.g. of "
                f"`keras_treegate.layers.TokenWindow({self.orders[-1]})`."
            )
        if len(self.orders) > max(depth, 1):
            raise ValueError(
                "`orders` must be at most as many as the bits of a path, "
                f"`depth`, which is {depth}. Received: orders={self.orders}. "
                "Leave some out, or raise `depth`."
            )
        if self.bits is not None and sum(self.bits) != depth:
            raise ValueError(
                f"`bits` must add up to `depth`, which is {depth}. Received: "
                f"bits={self.bits}. Leave it out to share the depth out evenly."
            )
        return num_tokens

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        hashes = list(self._hashes())
        self._token_multipliers = self._constants(
            "token_multipliers",
            [
                ("token", age, digit)
                for age in range(self.orders[-1])
                for digit in range(TOKEN_DIGITS)
            ],
        )
        self._hash_multipliers = self._constants(
            "hash_multipliers",
            [
                ("hash", order, number, term)
                for order, number, _ in hashes
                for term in range(3)
            ],
        )

    def _constants(self, name: str, keys: list[tuple[object, ...]]) -> Variable:
        """Makes a weight (len(keys), G) of numbers from 1 to p - 1."""
        values = [
            [self._drawn(tree, *key) for tree in range(self.num_trees or 0)]
            for key in keys
        ]
        array = np.array(values, "int32").reshape(
            len(keys), self.num_trees or 0
        )
        return self.add_weight(
            name=name,
            shape=array.shape,
            dtype="int32",
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(array),
            trainable=False,
            autocast=False,
        )

    def _drawn(self, *key: object) -> int:
        """Draws a number from 1 to p - 1, the same for the same key for ever.

        Each number has a key of its own, so that more trees or bits leave the
        numbers of the others as they are.
        """
        # The one method of `random` that promises never to change.
        uniform = random.Random(repr((self.seed, *key))).random()
        return 1 + int(uniform * (PRIME - 1))

    def _shares(self) -> list[int]:
        """Returns the bits of each order."""
        if self.bits is not None:
            return list(self.bits)
        share, rest = divmod(self.depth or 0, len(self.orders))
        return [share + (number < rest) for number in range(len(self.orders))]

    def _hashes(self) -> Iterator[tuple[int, int, int]]:
        """Yields the order, the number and the bits of each hash."""
        for order, bits in zip(self.orders, self._shares(), strict=True):
            for number, first in enumerate(range(0, bits, BITS_OF_HASH)):
                yield order, number, min(BITS_OF_HASH, bits - first)

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        tensor_checks.integers("inputs", inputs)
        hashes = tuple((order, bits) for order, _, bits in self._hashes())
        codes = backend.hash_codes
        if backend.is_exporting():
            codes = hash_codes_for_files
        return codes(
            inputs,
            self._token_multipliers.value,
            self._hash_multipliers.value,
            hashes,
        )

    def with_depth(self, depth: int, generator: np.random.Generator) -> Gate:
        """Returns a gate for another depth, which adds or drops the last bits.

        Further bits are of the highest order. Orders without bits are left out.
        """
        shares = self._shares()
        missing = depth - sum(shares)
        if missing > 0:
            shares[-1] += missing
        ends = np.minimum(np.cumsum(shares), depth)
        shares = np.diff(ends, prepend=0).tolist()
        used = [number for number, bits in enumerate(shares) if bits] or [0]
        config = self.get_config() | {
            "orders": [self.orders[number] for number in used],
            "bits": [shares[number] for number in used] if depth else None,
        }
        return type(self).from_config(config)

    def take_over(self, old: Gate) -> None:
        """Copies the multipliers of the bits that both gates have."""
        for name in ("_token_multipliers", "_hash_multipliers"):
            target = getattr(self, name)
            values = ops.convert_to_numpy(target).copy()
            kept = ops.convert_to_numpy(getattr(old, name))[: len(values)]
            values[: len(kept)] = kept
            target.assign(values)

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            orders=list(self.orders),
            seed=self.seed,
            bits=None if self.bits is None else list(self.bits),
        )
        return config


def _positive(name: str, values: object) -> tuple[int, ...]:
    """Returns a sequence of positive integers as a tuple, or raises."""
    try:
        if isinstance(values, str | bytes | bool):
            raise TypeError
        if not isinstance(values, Iterable):
            values = cast(list[SupportsIndex], [values])
        found = tuple(operator.index(value) for value in values)
    except TypeError:
        found = ()
    if not found or min(found) < 1 or max(found) > checks.MAX_INTEGER:
        raise ValueError(
            f"`{name}` must be a positive integer or a sequence of them. "
            f"Received: {name}={checks.shown(values)}. Write e.g. "
            f"`{name}=(1, 2, 3)`."
        )
    return found


def _ascending(name: str, values: object) -> tuple[int, ...]:
    found = _positive(name, values)
    if any(low >= high for low, high in itertools.pairwise(found)):
        raise ValueError(
            f"`{name}` must be ascending. Received: {name}={found}. Write "
            f"`{name}={tuple(sorted(set(found)))}`."
        )
    return found
