"""Models that train in several processes, whose tables keep their rows.

`DistributedDataParallel` sends the gradient of a parameter as a dense tensor.
So it is told to leave the tables alone, and at the end of each backward pass
the processes exchange the rows that they touched.
"""

from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

from keras_treegate.backend.torch.lazy_gradient import LazyGradient
from keras_treegate.backend.torch.processes import gathered, share
from keras_treegate.types import Tensor, Variable

if TYPE_CHECKING:  # because some builds of PyTorch lack it
    from torch.distributed import ProcessGroup

NO_GROUP = (
    "`model` must be given in a process of a group. Received: a process "
    "without one. Call `torch.distributed.init_process_group` first, and "
    "start the program with `torchrun`."
)
TABLES_ONLY = (
    "`model` must have a trainable weight that is no table of rows, because "
    "`DistributedDataParallel` refuses a model without. Received: tables "
    "only, {}. Add a bias."
)

# The form of a gradient in a process; all others are numbers of rows.
NONE, DENSE = -1, -2

NO_JOIN = (
    "`join` must not be called of a model of `data_parallel`: a process that "
    "has joined exchanges no rows. Received: {} tables of rows. Give all "
    "processes the same number of batches."
)


def data_parallel(
    model: torch.nn.Module,
    tables: list[Variable],
    statistics: list[Variable],
    options: dict[str, object],
) -> "RowParallel":
    if not distributed.is_available() or not distributed.is_initialized():
        raise ValueError(NO_GROUP)
    ids = {id(table.value) for table in tables}
    others = (p for p in model.parameters() if id(p) not in ids)
    if tables and not any(p.requires_grad for p in others):
        raise ValueError(TABLES_ONLY.format([table.path for table in tables]))
    return RowParallel(model, tables, statistics, options)


class RowParallel(DistributedDataParallel):
    """A `DistributedDataParallel` that leaves tables to a `RowExchange`."""

    def __init__(
        self,
        model: torch.nn.Module,
        tables: list[Variable],
        statistics: list[Variable],
        options: dict[str, object],
    ) -> None:
        ids = {id(table.value) for table in tables}
        # A parameter has a name in each layer and model that it is in.
        modules = model.named_modules(remove_duplicate=False)
        names = [
            f"{module_name}.{name}".removeprefix(".")
            for module_name, module in modules
            for name, parameter in module.named_parameters(recurse=False)
            if id(parameter) in ids
        ]
        self._set_params_and_buffers_to_ignore_for_model(model, names)
        super().__init__(model, **options)
        group = self.process_group
        if options.get("init_sync", True):
            for table in tables:
                values = table.value.detach()
                distributed.broadcast(values, group=group, group_src=0)
        for variable in statistics:
            share(variable, group)
        self.num_tables = len(tables)
        if tables:
            exchange = RowExchange(tables, group)
            self.register_forward_hook(exchange.listen)

    def join(self, *args: object, **kwargs: object) -> object:
        """Raises, because a process that has joined would be waited for."""
        raise ValueError(NO_JOIN.format(self.num_tables))


class RowExchange:
    """Makes the gradients of tables those of all processes.

    As for all other parameters, that is the mean over the processes, once for
    each backward pass of a forward pass outside of `no_sync`.
    """

    def __init__(self, tables: list[Variable], group: "ProcessGroup") -> None:
        self._tables, self._group = tables, group
        self._waits_for_backward = False

    def listen(
        self, model: RowParallel, inputs: object, outputs: object
    ) -> None:
        """Waits for the backward pass of outputs; a hook of forward passes."""
        if not (torch.is_grad_enabled() and model.require_backward_grad_sync):
            return
        self._waits_for_backward = True
        for output in tree_leaves(outputs):
            if isinstance(output, torch.Tensor) and output.requires_grad:
                output.register_hook(self._begin)

    def _begin(self, gradient: Tensor) -> None:
        if self._waits_for_backward:
            self._waits_for_backward = False
            # It is called when the backward pass is done with all parameters,
            # in every process: one may have used no row of a table at all.
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._exchange)

    @torch.no_grad()
    def _exchange(self) -> None:
        parameters = [table.value for table in self._tables]
        gradients = [parameter.grad for parameter in parameters]
        forms = self._forms(gradients)
        by_rows: list[tuple[Tensor, list[int]]] = []
        for number, parameter in enumerate(parameters):
            found = [form[number] for form in forms]
            if DENSE in found:
                parameter.grad = self._dense_mean(parameter)
            elif max(found) != NONE:
                by_rows.append((parameter, [max(n, 0) for n in found]))
        for dtype in {parameter.dtype: None for parameter, _ in by_rows}:
            self._mean_of_rows([x for x in by_rows if x[0].dtype == dtype])

    def _forms(self, gradients: list[Tensor | None]) -> list[list[int]]:
        """Returns the form of each gradient in each process, by rank."""
        here = torch.tensor(
            [_form_of(gradient) for gradient in gradients],
            device=self._tables[0].value.device,
        )
        world = distributed.get_world_size(self._group)
        return [
            forms.tolist()
            for forms in gathered(here, [len(here)] * world, self._group)
        ]

    def _dense_mean(self, parameter: Tensor) -> Tensor:
        gradient = parameter.grad
        if gradient is None:
            gradient = torch.zeros_like(parameter)
        elif isinstance(gradient, LazyGradient):
            gradient = gradient.to_dense()
        gradient = gradient / distributed.get_world_size(self._group)
        distributed.all_reduce(gradient, group=self._group)
        return gradient

    def _mean_of_rows(self, tables: list[tuple[Tensor, list[int]]]) -> None:
        """Sets the gradients of tables of one dtype to their means.

        Args:
            tables: parameters, with their numbers of rows by rank.
        """
        world = distributed.get_world_size(self._group)
        parts = [_rows_of(parameter) for parameter, _ in tables]
        counts = list(zip(*(numbers for _, numbers in tables), strict=True))
        widths = [parameter[:1].numel() for parameter, _ in tables]
        ids = gathered(  # by rank
            torch.cat([ids for ids, _ in parts]),
            [sum(numbers) for numbers in counts],
            self._group,
        )
        sizes = [
            [n * width for n, width in zip(numbers, widths, strict=True)]
            for numbers in counts
        ]
        rows = gathered(
            torch.cat([(rows / world).reshape(-1) for _, rows in parts]),
            list(map(sum, sizes)),
            self._group,
        )
        ids = [x.split(n) for x, n in zip(ids, counts, strict=True)]
        rows = [x.split(n) for x, n in zip(rows, sizes, strict=True)]
        for number, (parameter, _) in enumerate(tables):
            shape = parameter.shape
            of_ids = [parts[number] for parts in ids]
            of_rows = [parts[number].reshape(-1, *shape[1:]) for parts in rows]
            parameter.grad = LazyGradient.of_rows(
                shape, *summed(of_ids, of_rows)
            )


def _form_of(gradient: Tensor | None) -> int:
    if gradient is None:
        return NONE
    part = gradient.merged() if isinstance(gradient, LazyGradient) else None
    return DENSE if part is None else len(part[0])


def _rows_of(parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Returns ids and rows of a gradient, none where there is no gradient."""
    if parameter.grad is not None:
        return parameter.grad.merged()
    ids = torch.empty(0, dtype=torch.int64, device=parameter.device)
    return ids, parameter.new_empty((0, *parameter.shape[1:]))


def summed(ids: list[Tensor], rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns distinct ids and the sums of their rows.

    The ids of each part are distinct. So the parts, added one after the other,
    give the same sums in all processes to the last bit, on any device.
    """
    distinct, positions = torch.unique(torch.cat(ids), return_inverse=True)
    total = rows[0].new_zeros((len(distinct), *rows[0].shape[1:]))
    parts = positions.split([len(part) for part in ids])
    for positions_of_part, part in zip(parts, rows, strict=True):
        total.index_add_(0, positions_of_part, part)
    return distinct, total
