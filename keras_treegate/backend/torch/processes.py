"""Collective operations, and the variables that several processes share."""

import weakref
from typing import TYPE_CHECKING

import torch
from torch import distributed

from keras_treegate.types import Tensor, Variable

if TYPE_CHECKING:  # because some builds of PyTorch lack it
    from torch.distributed import ProcessGroup

# The processes that share a variable which each of them writes in a forward
# pass, by the id of the variable.
_groups: dict[int, tuple[weakref.ref[Variable], "ProcessGroup"]] = {}


def share(variable: Variable, group: "ProcessGroup") -> None:
    """Has the processes of a group agree on what they write to a variable."""
    key = id(variable)

    def forget(reference: weakref.ref[Variable]) -> None:
        _groups.pop(key, None)

    _groups[key] = weakref.ref(variable, forget), group


def _group_of(variable: Variable) -> "ProcessGroup | None":
    if not _groups:
        return None
    reference, group = _groups.get(id(variable), (None, None))
    return group if reference and reference() is variable else None


def mean_of_processes(variable: Variable, tensor: Tensor) -> Tensor:
    group = _group_of(variable)
    if group is None:
        return tensor
    mean = tensor / distributed.get_world_size(group)
    distributed.all_reduce(mean, group=group)
    return mean


def ids_of_processes(variable: Variable, ids: Tensor) -> Tensor:
    """Returns ids (n,) together with those of all that share a variable."""
    group = _group_of(variable)
    if group is None:
        return ids
    size = torch.tensor([len(ids)], device=ids.device)
    world = distributed.get_world_size(group)
    sizes = [int(n) for n in gathered(size, [1] * world, group)]
    return torch.cat(gathered(ids, sizes, group))


def gathered(
    here: Tensor, sizes: list[int], group: "ProcessGroup"
) -> list[Tensor]:
    """Returns a tensor (n,) of all processes, of these sizes by rank."""
    longest = max(sizes)
    if not longest:
        return [here for _ in sizes]
    padded = here.new_zeros(longest)
    padded[: len(here)] = here
    everywhere = here.new_empty((len(sizes), longest))
    # Sent as bytes, because not all engines send all dtypes.
    distributed.all_gather(
        list(everywhere.view(torch.uint8).unbind()),
        padded.view(torch.uint8),
        group=group,
    )
    return [x[:size] for x, size in zip(everywhere, sizes, strict=True)]
