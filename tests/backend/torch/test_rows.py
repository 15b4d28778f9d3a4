"""The gradient that PyTorch carries: lazy, and dense to everyone else."""

import copy
import gc
import io
import pickle

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_treegate import backend
from keras_treegate.backend import RowGradient, SharedUpdate
from keras_treegate.backend.torch import settling as torch_settling
from keras_treegate.backend.torch import updates as torch_updates
from keras_treegate.backend.torch.lazy_gradient import LazyGradient
from keras_treegate.optimizers import StepAwareSGD
from tests.backend.updating import Doubling, plain_tables
from tests.optimizers.routing import inputs_for, make_layer, make_model

ROWS, IDS, OTHER_IDS = 9, [1, 4, 6, 7], [0, 4, 7, 8]
SHAPE = (ROWS, 2, 3)


class Table:
    """The part of a Keras variable that `take_rows` needs."""

    def __init__(self, seed=0):
        values = np.random.default_rng(seed).normal(size=SHAPE)
        self.value = torch.nn.Parameter(torch.tensor(values).float())

    def take(self, ids, carried):
        ids = torch.tensor(ids, dtype=torch.int32)
        if carried:
            return backend.take_rows(self, ids, True)
        return self.value.index_select(0, ids)


def loss_of(table, ids=IDS, carried=True):
    rows = table.take(ids, carried)
    return (rows - 1).square().sum() * 0.5


def dense_gradient(*ids_of_uses):
    """Sums the gradients of `loss_of` with these ids, as an array."""
    values = Table().value.detach().numpy()
    gradient = np.zeros(SHAPE, "float32")
    for ids in ids_of_uses:
        gradient[ids] += values[ids] - 1
    return gradient


def is_in_rows(gradient):
    return isinstance(gradient, LazyGradient) and gradient.merged() is not None


def assert_is(gradient, expected):
    np.testing.assert_allclose(
        gradient.to_dense().detach().numpy(), expected, rtol=1e-6, atol=1e-7
    )


@pytest.fixture(name="table")
def a_table_with_a_gradient():
    table = Table()
    loss_of(table).backward()
    return table


# --- What autograd makes ---------------------------------------------------


def test_one_backward_pass_leaves_rows(table):
    gradient = table.value.grad
    assert is_in_rows(gradient)
    assert gradient.shape == SHAPE
    ids, rows = gradient.merged()
    assert ids.tolist() == IDS
    assert rows.shape == (4, 2, 3)
    assert_is(gradient, dense_gradient(IDS))


def test_lifting_gives_the_rows(table):
    lifted, cause = backend.as_row_gradient(table.value.grad, table)
    assert cause is None
    assert lifted.num_rows == ROWS
    np.testing.assert_array_equal(lifted.ids, IDS)
    np.testing.assert_allclose(lifted.rows, dense_gradient(IDS)[IDS])


@pytest.mark.parametrize("second", [IDS, OTHER_IDS])
def test_two_backward_passes_add_up_in_rows(table, second):
    loss_of(table, second).backward()
    assert is_in_rows(table.value.grad)
    assert_is(table.value.grad, dense_gradient(IDS, second))
    ids, _ = table.value.grad.merged()
    assert ids.tolist() == sorted({*IDS, *second})


def test_two_uses_in_one_loss_add_up_in_rows():
    table = Table()
    (loss_of(table) + loss_of(table, OTHER_IDS)).backward()
    assert is_in_rows(table.value.grad)
    assert_is(table.value.grad, dense_gradient(IDS, OTHER_IDS))


@pytest.mark.parametrize("order", ["rows first", "dense first", "one loss"])
def test_a_dense_use_is_not_lost(order):
    table = Table()
    losses = [loss_of(table), table.value.sum()]
    if order == "one loss":
        sum(losses).backward()
    else:
        for loss in losses if order == "rows first" else losses[::-1]:
            loss.backward()
    assert_is(table.value.grad, dense_gradient(IDS) + 1)
    lifted, _ = backend.as_row_gradient(table.value.grad, table)
    assert not isinstance(lifted, backend.RowGradient)
    np.testing.assert_allclose(lifted, dense_gradient(IDS) + 1, rtol=1e-6)


def test_torch_autograd_grad(table):
    (gradient,) = torch.autograd.grad(loss_of(table), [table.value])
    assert is_in_rows(gradient)
    assert_is(gradient, dense_gradient(IDS))


def test_a_gradient_of_the_gradient(table):
    (gradient,) = torch.autograd.grad(
        loss_of(table), [table.value], create_graph=True
    )
    (second,) = torch.autograd.grad(gradient.sum(), [table.value])
    expected = np.zeros(SHAPE)
    expected[IDS] = 1.0
    assert_is(second, expected)


def test_torch_func_grad(table):
    def loss(value):
        copied = Table()
        copied.value = value
        return loss_of(copied)

    gradient = torch.func.grad(loss)(table.value.detach())
    assert_is(gradient, dense_gradient(IDS))


def test_gradcheck():
    def rows(value):
        table = Table()
        table.value = value
        # The gradient of the rows is not the buffer that gradcheck reuses.
        return table.take(IDS, carried=True).square()

    value = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rows, value, check_batched_grad=False)


def test_hooks_see_the_gradient():
    table, seen = Table(), []
    table.value.register_hook(seen.append)
    table.value.register_post_accumulate_grad_hook(
        lambda parameter: seen.append(parameter.grad)
    )
    loss_of(table).backward()
    for gradient in (*seen, table.value.grad):
        assert is_in_rows(gradient)
        assert_is(gradient, dense_gradient(IDS))


# --- What is done to it ----------------------------------------------------


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(table, set_to_none):
    torch.optim.SGD([table.value]).zero_grad(set_to_none=set_to_none)
    if not set_to_none:
        assert_is(table.value.grad, np.zeros(SHAPE))
    loss_of(table, OTHER_IDS).backward()
    assert is_in_rows(table.value.grad)
    assert_is(table.value.grad, dense_gradient(OTHER_IDS))


@pytest.mark.parametrize("ord", [1, 2, float("inf")])
def test_a_zeroed_gradient_has_no_rows(table, ord, monkeypatch):
    loss_of(table).backward()
    table.value.grad.zero_()
    monkeypatch.setattr(LazyGradient, "to_dense", None)
    ids, rows = table.value.grad.merged()
    assert ids.shape == (0,)
    assert rows.shape == (0, *SHAPE[1:])
    assert torch.linalg.vector_norm(table.value.grad, ord) == 0


def test_a_zeroed_gradient_is_lifted_as_zeros(table):
    table.value.grad.zero_()
    lifted, _ = backend.as_row_gradient(table.value.grad, table)
    rows = getattr(lifted, "rows", lifted)
    assert not np.any(ops.convert_to_numpy(rows))


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("norm", [2.0, 1.0, float("inf")])
def test_clip_grad_norm(table, foreach, norm):
    expected = dense_gradient(IDS)
    size = np.linalg.norm(expected.ravel(), norm)
    found = torch.nn.utils.clip_grad_norm_(
        [table.value], 0.5, norm_type=norm, foreach=foreach
    )
    assert float(found) == pytest.approx(size, rel=1e-6)
    assert_is(table.value.grad, expected * min(1, 0.5 / (size + 1e-6)))
    # `foreach=True` hands over lists of tensors, which are made dense.
    assert foreach or is_in_rows(table.value.grad)


def test_clip_grad_norm_of_two_parts_counts_them_once(table):
    loss_of(table, OTHER_IDS).backward()
    expected = dense_gradient(IDS, OTHER_IDS)
    found = torch.nn.utils.clip_grad_norm_([table.value], 0.5)
    assert float(found) == pytest.approx(np.linalg.norm(expected), rel=1e-6)


@pytest.mark.parametrize("foreach", [None, True, False])
def test_clip_grad_value(table, foreach):
    torch.nn.utils.clip_grad_value_([table.value], 0.2, foreach=foreach)
    assert_is(table.value.grad, np.clip(dense_gradient(IDS), -0.2, 0.2))


IN_PLACE = {
    "mul_": lambda g: g.mul_(2),
    "mul_ by a tensor": lambda g: g.mul_(torch.tensor(3.0)),
    "mul_ by a vector": lambda g: g.mul_(torch.tensor([1.0, 2.0, 3.0])),
    "div_": lambda g: g.div_(4),
    "add_ a number": lambda g: g.add_(1),
    "add_ a dense tensor": lambda g: g.add_(torch.ones(SHAPE), alpha=2),
    "clamp_": lambda g: g.clamp_(-0.1, 0.1),
    "write a row": lambda g: g[2].fill_(5.0),
    "write through a view": lambda g: g.view(-1)[3:5].mul_(7),
    "_foreach_mul_": lambda g: torch._foreach_mul_([g], 2.0),
    "copy_ from dense": lambda g: g.copy_(torch.full(SHAPE, 2.0)),
    "zero_": lambda g: g.zero_(),
}


@pytest.mark.parametrize("operation", IN_PLACE)
def test_operations_in_place_change_the_gradient(table, operation):
    expected = torch.tensor(dense_gradient(IDS))
    alias = table.value.grad.detach()
    IN_PLACE[operation](expected)
    IN_PLACE[operation](table.value.grad)
    assert_is(table.value.grad, expected.numpy())
    assert_is(alias, expected.numpy())


OUT_OF_PLACE = {
    "times two": lambda g: g * 2,
    "half": lambda g: g / 2,
    "sum with itself": lambda g: g + g,
    "sum with alpha": lambda g: torch.add(g, g, alpha=3),
    "sum with dense": lambda g: g + torch.ones(SHAPE),
    "negative": lambda g: -g,
    "square": lambda g: g.square(),
    "rows at a list": lambda g: g[[4, 2]],
    "double": lambda g: g.to(torch.float64),
    "where": lambda g: torch.where(g > 0, g, 0.0),
    "norm": lambda g: g.norm(),
    "norm by row": lambda g: torch.linalg.vector_norm(g, dim=(1, 2)),
    "finite": lambda g: torch.isfinite(g).all(),
    "clone": lambda g: g.clone(),
    "stack": lambda g: torch.stack([g, g]),
}


@pytest.mark.parametrize("operation", OUT_OF_PLACE)
def test_operations_give_what_the_dense_tensor_gives(table, operation):
    gradient = table.value.grad
    expected = OUT_OF_PLACE[operation](torch.tensor(dense_gradient(IDS)))
    result = OUT_OF_PLACE[operation](gradient)
    assert result.dtype == expected.dtype
    assert_is(result, expected.numpy())
    assert_is(gradient, dense_gradient(IDS))  # is as it was
    assert is_in_rows(gradient)


def test_a_clone_has_a_life_of_its_own(table):
    clone = table.value.grad.clone()
    table.value.grad.mul_(0)
    assert_is(clone, dense_gradient(IDS))


def saved_and_loaded(gradient):
    file = io.BytesIO()
    torch.save(gradient, file)
    file.seek(0)
    return torch.load(file)


COPIES = {
    "pickle": lambda g: pickle.loads(pickle.dumps(g)),
    "torch.save": saved_and_loaded,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_are_equal(table, way):
    assert_is(COPIES[way](table.value.grad), dense_gradient(IDS))


def test_a_view_sees_what_is_written(table):
    view = table.value.grad[4]
    table.value.grad.mul_(2)
    assert_is(view, 2 * dense_gradient(IDS)[4])


def test_numpy_sees_the_dense_gradient(table):
    gradient = table.value.grad
    for array in (gradient.numpy(), np.asarray(gradient), np.array(gradient)):
        np.testing.assert_allclose(array, dense_gradient(IDS), rtol=1e-6)
    array = ops.convert_to_numpy(gradient)
    np.testing.assert_allclose(array, dense_gradient(IDS), rtol=1e-6)


def test_its_text_says_how_many_rows_it_holds(table):
    assert repr(table.value.grad) == "LazyGradient(shape=(9, 2, 3), rows=[4])"


# --- Optimizers that know nothing of it ------------------------------------

TORCH_OPTIMIZERS = {
    "SGD": {},
    "SGD, momentum": {"momentum": 0.9, "nesterov": True},
    "Adam": {},
    "AdamW": {},
    "Adagrad": {},
    "RMSprop": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "Adadelta": {},
    "Rprop": {},
    "ASGD": {},
}


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_torch_optimizers_train_as_on_dense_gradients(name, foreach):
    results = []
    for carried in (True, False):
        table = Table()
        make = getattr(torch.optim, name.split(",")[0])
        optimizer = make(
            [table.value], lr=0.1, foreach=foreach, **TORCH_OPTIMIZERS[name]
        )
        for ids in (IDS, OTHER_IDS, IDS):
            optimizer.zero_grad()
            loss_of(table, ids, carried).backward()
            optimizer.step()
        results.append(table.value.detach().numpy())
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
    assert np.any(results[0] != Table().value.detach().numpy())


KERAS_OPTIMIZERS = (
    *("SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adamax", "Nadam"),
    *("Lion", "Adadelta", "Ftrl", "Adafactor", "Lamb"),
)


def after_fit(row_levels, optimizer, **compiled):
    layer = make_layer(2, 2, 3, row_levels=row_levels)
    model = make_model(layer, optimizer, **compiled)
    random = np.random.default_rng(0)
    x = inputs_for(random, random.integers(0, 8, size=(12, 2)), 3)
    y = random.normal(size=(12, 2)).astype("float32")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return [nodes.numpy() for nodes in layer.nodes]


@pytest.mark.parametrize("name", KERAS_OPTIMIZERS)
def test_keras_optimizers_train_as_on_dense_gradients(name):
    make = getattr(keras.optimizers, name)
    for one, two in zip(
        after_fit("all", make(0.1)), after_fit("none", make(0.1)), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"clipnorm": 0.01},
        {"global_clipnorm": 0.01},
        {"clipvalue": 0.001},
        {"loss_scale_factor": 8.0},
        {"weight_decay": 0.1},
        {"use_ema": True},
        {"gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_options_of_keras_optimizers_work_on_it(options):
    make = keras.optimizers.SGD
    for one, two in zip(
        after_fit("all", make(0.1, **options)),
        after_fit("none", make(0.1, **options)),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_a_model_is_saved_and_copied_while_it_holds_gradients(tmp_path):
    layer = make_layer(2, 2, 3, row_levels="all")
    model = make_model(layer, StepAwareSGD(0.1))
    x = inputs_for(np.random.default_rng(0), np.array([[1, 2], [3, 4]]), 3)
    model(torch.as_tensor(x)).sum().backward()
    assert is_in_rows(layer.nodes[3].value.grad)
    model.save(tmp_path / "model.keras")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin.predict(x, verbose=0), expected)


def test_gradients_scaled_by_hand_keep_their_rows(lifted):
    layer = make_layer(2, 2, 3, row_levels="all")
    model = make_model(layer, StepAwareSGD(0.1))
    x = inputs_for(np.random.default_rng(0), np.array([[1, 2], [3, 4]]), 3)
    before = layer.nodes[3].numpy()
    model(torch.as_tensor(x)).sum().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    variables = model.trainable_variables
    gradients = [variable.value.grad / 2 for variable in variables]
    expected = before - 0.1 * gradients[3].to_dense().numpy()
    model.optimizer.apply(gradients, variables)
    assert lifted.of(layer) == [{"rows"}] * 4
    np.testing.assert_allclose(layer.nodes[3].numpy(), expected, rtol=1e-6)


def test_an_unknown_operation_makes_it_dense_with_a_warning():
    layer = make_layer(2, 2, 3, row_levels="all")
    model = make_model(layer, StepAwareSGD(0.1))
    x = inputs_for(np.random.default_rng(0), np.array([[1, 2], [3, 4]]), 3)
    model(torch.as_tensor(x)).sum().backward()
    nodes = layer.nodes[3]
    before, gradient = nodes.numpy(), nodes.value.grad
    gradient.clamp_(-0.1, 0.1)
    expected = before - 0.1 * gradient.to_dense().numpy()
    with pytest.warns(
        UserWarning, match="nodes_3 of the .* is dense: an operation on"
    ):
        model.optimizer.apply([gradient], [nodes])
    np.testing.assert_allclose(nodes.numpy(), expected, rtol=1e-6)


# --- Optimizers of PyTorch's own -------------------------------------------

NATIVE = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, 0.1),
}


@pytest.mark.parametrize("native", NATIVE)
def test_optimizers_of_pytorch_meet_rows_that_owe_nothing(native):
    # They write two of three levels, and these alone are settled.
    random = np.random.default_rng(0)
    codes = np.array([[0], [1], [1], [3]])
    x = inputs_for(random, codes, 2)
    trained = []
    for settles in (False, True):
        layer = make_layer(3, 1, 2, row_levels="all")
        model = make_model(layer, StepAwareSGD(0.1, weight_decay=5.0))
        for part in np.split(x, 2):
            model.train_on_batch(part, np.ones((2, 3)))
        if settles:
            layer.settle()
        written = [nodes.value for nodes in layer.nodes[1:]]
        optimizer = NATIVE[native](written)
        for _ in range(2):
            optimizer.zero_grad()
            outputs = layer(torch.as_tensor(x), training=True)
            outputs.square().mean().backward()
            optimizer.step()
        owing = [
            bool(np.any(level.clock.numpy())) for level in layer.tree_levels
        ]
        assert owing == [not settles, False, False]
        trained.append([level.read().detach() for level in layer.tree_levels])
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_levels_that_are_gone_leave_nothing_to_settle():
    gc.collect()
    before = len(torch_settling._settled_before_steps)
    layer = make_layer(3, 1, 2)
    assert len(torch_settling._settled_before_steps) == before + 3
    del layer
    gc.collect()
    assert len(torch_settling._settled_before_steps) == before


# --- What is written -------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("columns", [(4,), (3,), (2,), (2, 8), (1, 1), ()])
def test_rows_of_any_width_are_written(dtype, columns):
    # Rows of wide numbers are written as these, others as they are.
    draw = np.random.default_rng(0)
    table = keras.Variable(draw.normal(size=(9, *columns)), dtype=dtype)
    expected = table.numpy().copy()
    rows = draw.normal(size=(4, *columns)).astype(dtype)
    torch_updates._write_part(table, torch.tensor(IDS), torch.tensor(rows))
    expected[IDS] = rows
    np.testing.assert_array_equal(table.numpy(), expected)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_table_that_starts_anywhere_is_written(start):
    storage = torch.zeros(start + 36)
    table = Table()
    table.value = torch.nn.Parameter(storage[start:].view(9, 4))
    rows = torch.arange(16.0).view(4, 4)
    torch_updates._write_part(table, torch.tensor(IDS), rows)
    np.testing.assert_array_equal(table.value.detach()[IDS], rows)
    assert float(storage.sum()) == float(rows.sum())


@pytest.mark.parametrize("ids", [None, IDS])
def test_autograd_sees_that_a_table_was_written(ids):
    # A backward pass after a write of what it needs raises, as in PyTorch.
    table = Table()
    loss = table.value.square().sum()
    rows = torch.zeros(9 if ids is None else 4, 2, 3)
    part = slice(0, 9) if ids is None else torch.tensor(ids)
    torch_updates._write_part(table, part, rows)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


class DoublingTouched(Doubling):
    """The same for rows whose gradient is not all zero."""

    @property
    def touched(self):
        return (self.gradient != 0).any(-1)


@pytest.mark.parametrize("zeros", [(), (0, 3, 4, 8), range(9)])
@pytest.mark.parametrize("chunk", [1, 6, 2**17])
@pytest.mark.parametrize("by_rows", [False, True])
def test_touched_rows_alone_are_updated_chunk_by_chunk(
    zeros, chunk, by_rows, monkeypatch
):
    # This holds for tables that are read whole, and for rows.
    monkeypatch.setattr(torch_updates, "CHUNK", chunk)
    random = np.random.default_rng(0)
    old, gradient = random.normal(size=(2, 9, 3)).astype("float32")
    gradient[list(zeros)] = 0
    expected = np.where(gradient.any(1)[:, None], 2 * old - gradient, old)
    nodes = keras.Variable(old)
    dense = torch.tensor(gradient)
    rows = RowGradient(torch.arange(9), dense, 9)
    with backend.updating_rows() as update_rows:
        update_rows(
            plain_tables(nodes),
            rows if by_rows else dense,
            SharedUpdate(DoublingTouched),
        )
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(nodes), expected)
