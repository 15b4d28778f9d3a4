"""A gradient that is made dense only when an operation needs it so."""

from collections.abc import Callable
from typing import Protocol, SupportsIndex, TypeAlias

import numpy as np
import torch
from torch.utils._pytree import tree_map

from keras_treegate.types import Shape, Tensor

aten = torch.ops.aten

# Pairs of ids and rows, whose sum a gradient is.
Parts: TypeAlias = tuple[tuple[Tensor, Tensor], ...]


class Operator(Protocol):
    """An operation as PyTorch's dispatcher hands it on."""

    _schema: torch.FunctionSchema

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Calls the operation."""


class _Store:
    """The state that a gradient and its aliases share, in one of two forms.

    parts: pairs of ids and rows, whose sum the gradient is.
    dense: the gradient itself.
    """

    def __init__(
        self,
        parts: Parts | None,
        dense: Tensor | None = None,
    ) -> None:
        self.parts, self.dense = parts, dense


class LazyGradient(torch.Tensor):
    """The gradient of a table of which a step used only some rows.

    Has the shape of the table. Sums with its like, scaling and norms keep the
    rows apart; any other operation is done on the dense tensor, so that every
    optimizer is right, and one that asks for `merged()` is fast.
    """

    _store: _Store

    @staticmethod
    def __new__(
        cls, like: Tensor, shape: Shape, store: _Store
    ) -> "LazyGradient":
        gradient = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=like.dtype, device=like.device
        )
        gradient._store = store
        return gradient

    def __init__(self, like: Tensor, shape: Shape, store: _Store) -> None:
        pass

    @classmethod
    def of_rows(cls, shape: Shape, ids: Tensor, rows: Tensor) -> "LazyGradient":
        """Makes a gradient that is zero outside the distinct rows `ids`."""
        return cls(rows, shape, _Store(((ids, rows),)))

    def with_parts(self, parts: Parts) -> "LazyGradient":
        return LazyGradient(self, self.shape, _Store(parts))

    def merged(self) -> tuple[Tensor, Tensor] | None:
        """Returns distinct ids and their rows; `None` for a dense gradient."""
        parts = self._store.parts
        if parts is None:
            return None
        if not parts:
            ids = torch.empty(0, dtype=torch.int64, device=self.device)
            size = (0, *self.shape[1:])
            rows = torch.empty(size, dtype=self.dtype, device=self.device)
            return ids, rows
        if len(parts) > 1:
            ids, positions = torch.unique(
                torch.cat([ids for ids, _ in parts]), return_inverse=True
            )
            rows = torch.cat([rows for _, rows in parts])
            total = rows.new_zeros((len(ids), *rows.shape[1:]))
            total.index_add_(0, positions, rows)
            self._store.parts = ((ids, total),)
            return (ids, total)
        return parts[0]

    def to_dense(self) -> torch.Tensor:
        if self._store.dense is not None:
            return self._store.dense
        dense = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        part = self.merged()
        return dense if part is None else dense.index_copy_(0, *part)

    def become_dense(self) -> torch.Tensor:
        """Makes this gradient and its aliases dense; returns the tensor."""
        self._store.dense = self.to_dense()
        self._store.parts = None
        return self._store.dense

    def numpy(self, *, force: bool = False) -> np.ndarray:
        return self.to_dense().numpy(force=force)

    def __repr__(self, **_: object) -> str:
        parts = self._store.parts
        rows = "" if parts is None else f", rows={[len(i) for i, _ in parts]}"
        return f"LazyGradient(shape={tuple(self.shape)}{rows})"

    def __reduce_ex__(
        self, protocol: SupportsIndex
    ) -> str | tuple[object, ...]:
        return self.to_dense().__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Operator,
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        handler = _BY_ROWS.get(func)
        if handler is not None:
            result = handler(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return _on_dense(func, args, kwargs)


def _on_dense(
    func: Operator, args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    """Calls an operation with dense tensors in place of lazy gradients."""
    lazy_of: dict[int, LazyGradient] = {}

    def unwrapped(value: object, written: bool) -> object:
        """Returns an argument with dense tensors, in lists too."""

        def dense_of(x: object) -> object:
            if not isinstance(x, LazyGradient):
                return x
            dense = x.become_dense() if written else x.to_dense()
            lazy_of[id(dense)] = x
            return dense

        return tree_map(dense_of, value)

    arguments = func._schema.arguments
    written = {
        argument.name: argument.alias_info is not None for argument in arguments
    }
    dense_args = [
        unwrapped(value, written[argument.name])
        for value, argument in zip(args, arguments, strict=False)
    ]
    dense_kwargs = {
        name: unwrapped(value, written.get(name, False))
        for name, value in kwargs.items()
    }
    result = func(*dense_args, **dense_kwargs)
    # An operation in place returns its argument.
    return tree_map(lambda x: lazy_of.get(id(x), x), result)


def _has_parts(x: object) -> bool:
    return isinstance(x, LazyGradient) and x._store.parts is not None


def _scaled(
    function: Callable[..., Tensor], in_place: bool
) -> Callable[..., Tensor]:
    def handler(x: Tensor, factor: Tensor | float, **options: object) -> Tensor:
        if options or not _has_parts(x):
            return NotImplemented
        if isinstance(factor, torch.Tensor) and factor.ndim:
            return NotImplemented
        parts = tuple(
            (ids, function(rows, factor)) for ids, rows in x._store.parts
        )
        if not in_place:
            return x.with_parts(parts)
        x._store.parts = parts
        return x

    return handler


def _summed(in_place: bool) -> Callable[..., Tensor]:
    def handler(x: Tensor, y: Tensor, alpha: float = 1) -> Tensor:
        if alpha != 1 or not (_has_parts(x) and _has_parts(y)):
            return NotImplemented
        if x.shape != y.shape or x.dtype != y.dtype:
            return NotImplemented
        parts = x._store.parts + y._store.parts
        if not in_place:
            return x.with_parts(parts)
        x._store.parts = parts
        return x

    return handler


def _norm(
    x: LazyGradient,
    ord: float = 2,
    dim: int | list[int] | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    part = x.merged()
    if part is None or dim or keepdim or ord not in (1, 2, float("inf")):
        return NotImplemented
    if not len(part[0]):
        return torch.zeros((), dtype=dtype or x.dtype, device=x.device)
    return torch.linalg.vector_norm(part[1], ord, dtype=dtype)


def _copy(x: Tensor, y: Tensor, non_blocking: bool = False) -> Tensor:
    both = isinstance(x, LazyGradient) and isinstance(y, LazyGradient)
    if not both or x.dtype != y.dtype:
        return NotImplemented
    dense = y._store.dense
    x._store.parts = y._store.parts
    x._store.dense = None if dense is None else dense.clone()
    return x


def _zeroed(x: LazyGradient) -> LazyGradient:
    x._store.parts, x._store.dense = (), None
    return x


def _empty(
    x: LazyGradient, size: Shape, stride: Shape, **options: object
) -> Tensor:
    alike = tuple(size) == tuple(x.shape)
    if not alike or options.get("dtype") not in (None, x.dtype):
        return NotImplemented
    return x.with_parts(())


def _clone(
    x: LazyGradient, memory_format: torch.memory_format | None = None
) -> Tensor:
    return _copy(x.with_parts(()), x)


def _alias(x: LazyGradient) -> LazyGradient:
    return LazyGradient(x, x.shape, x._store)


_BY_ROWS: dict[Operator, Callable[..., Tensor]] = {
    aten.detach.default: _alias,
    aten.alias.default: _alias,
    aten.detach_.default: lambda x: x,
    aten.clone.default: _clone,
    # Autograd makes the tensor that it accumulates into with this, and then
    # copies to it.
    aten.new_empty_strided.default: _empty,
    aten.copy_.default: _copy,
    aten.zero_.default: _zeroed,
    aten.add.Tensor: _summed(in_place=False),
    aten.add_.Tensor: _summed(in_place=True),
    aten.mul.Tensor: _scaled(torch.mul, in_place=False),
    aten.mul_.Tensor: _scaled(torch.mul, in_place=True),
    aten.div.Tensor: _scaled(torch.div, in_place=False),
    aten.div_.Tensor: _scaled(torch.div, in_place=True),
    aten.linalg_vector_norm.default: _norm,
}
