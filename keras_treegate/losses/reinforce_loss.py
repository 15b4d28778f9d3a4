"""A loss that tells sampled gates what their bits were worth."""

from collections.abc import Callable

import keras
from keras import ops

from keras_treegate.core.saving import register
from keras_treegate.credit import scores
from keras_treegate.types import Config, Shape, Tensor

POSITIONS = ("all", "own")


@register
class ReinforceLoss(keras.losses.Loss):
    """Wraps a loss so that layers with `credit="reinforce"` learn from it.

    Its value is that of the loss it wraps, with sample weights, masks and
    reduction. Its gradient has one more term, for each layer with sampled bits
    that was called in training in the same step:

        value     sum over i of weight[i] * loss[i]
        gradient  sum over i of weight[i] * (
                      d loss[i] + (loss[i] - baseline) * d log P(bits of i))

    which averages to the gradient of the expected value. `weight` is what
    sample weights, masks and the reduction make of an example.

    A model with several outputs wraps the loss of each: a bit then is credited
    with their weighted sum. What `add_loss` and regularizers add is not
    credited, nor is an effect on other examples, as through batch statistics.
    What a mask leaves out has no loss, and so moves no baseline, and no part in
    the entropy bonus.

    Where losses have more axes than examples, as in sequences, `positions` says
    what is credited to the bits of a position. With `"all"` it is what the
    whole example lost, which is right for every model. With `"own"` it is the
    loss at that position alone, which varies less, and is right where positions
    do not see each other after the layer, as in a stack of Dense layers but
    not under attention.

    In a loop of your own, call all layers of a step first and then its losses.
    Under JAX, call it by `model.stateless_compute_loss`, or baselines are not
    updated.

    Reference: Y. Bengio, arXiv 1305.2982, section 3.

    Args:
        loss: The name of a Keras loss, a `keras.losses.Loss`, or a function of
            `y_true` and `y_pred` that returns a loss for each example.
        positions: `"all"` or `"own"`. Defaults to `"all"`.
        reduction: As of `keras.losses.Loss`; `None` for that of `loss`.
            Defaults to `None`.
        name: Its name; `None` for that of `loss`. Defaults to `None`.
        dtype: The dtype it computes with; `None` for that of `loss`. Defaults
            to `None`.

    Raises:
        ValueError: For a `loss` that is none, a `positions` that is neither,
            and when called, for a loss that is not one for each example.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> loss = keras_treegate.losses.ReinforceLoss("mse")
    >>> float(loss(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]])))
    2.0
    """

    def __init__(
        self,
        loss: str | keras.losses.Loss | Callable[..., Tensor],
        positions: str = "all",
        reduction: str | None = None,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ) -> None:
        if not isinstance(positions, str) or positions not in POSITIONS:
            raise ValueError(
                f"`positions` must be 'all' or 'own'. Received: positions="
                f"{positions!r}. Leave it out for 'all', which is always right."
            )
        loss = _resolved(loss)
        if isinstance(loss, keras.losses.Loss):
            reduction = reduction or loss.reduction or "none"
            name, dtype = name or loss.name, dtype or loss.dtype
        super().__init__(
            name=name or _name_of(loss),
            reduction=reduction or "sum_over_batch_size",
            dtype=dtype,
        )
        self.loss = loss
        self.positions = positions

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if isinstance(self.loss, keras.losses.Loss):
            return self.loss.call(y_true, y_pred)
        return self.loss(*_of_one_rank(y_true, y_pred))

    def __call__(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        credited = _Credited(self)
        value = credited(y_true, y_pred, sample_weight)
        if not credited.scores:
            return value
        # The same reduction of ones gives the sum of the weights.
        ones = _Given(self, credited.unit_losses)
        weight = ones(y_true, y_pred, sample_weight)
        mean = ops.sum(value) / ops.sum(weight)
        # A layer that was called twice has one baseline, updated once.
        unique = {id(score.credit): score for score in credited.scores}
        for score in unique.values():
            score.credit.update_baseline(score.claim.losses - 1, mean)
        return value

    def get_config(self) -> Config:
        config = super().get_config()
        config.update(
            loss=keras.saving.serialize_keras_object(self.loss),
            positions=self.positions,
            dtype=self.dtype,
        )
        return config

    @classmethod
    def from_config(cls, config: Config) -> "ReinforceLoss":
        config = dict(config)
        loss = config["loss"]
        if isinstance(loss, dict):
            config["loss"] = keras.saving.deserialize_keras_object(loss)
        return cls(**config)


class _Credited(keras.losses.Loss):
    """One call of a `ReinforceLoss`.

    Keras weighs, masks and reduces what `call` returns: the losses with terms
    of value zero, whose gradients are those of the bits.
    """

    def __init__(self, loss: ReinforceLoss) -> None:
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.loss = loss
        self.scores: list[scores.Score] = []
        self.unit_losses: Tensor | None = None

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        losses = self.loss.call(y_true, y_pred)
        if len(losses.shape) == 0:
            raise ValueError(
                "`loss` must return a loss for each example, of shape (batch, "
                f"...). Received: a scalar of {self.loss.loss!r}. Leave the "
                "mean over the batch to `reduction`."
            )
        self.scores = scores.due(losses)
        constant = ops.stop_gradient(losses)
        total = ops.zeros_like(constant)
        for score in self.scores:
            total = total + self._term(score, constant)
        if self.scores:
            self.unit_losses = _keeping_mask(losses, ops.ones_like)
        return _keeping_mask(losses, lambda losses: losses + total)

    def _term(self, score: scores.Score, losses: Tensor) -> Tensor:
        """Returns the term of one layer for each loss, of value zero."""
        number = score.claim.losses - 1
        baseline = ops.cast(score.credit.baseline_of(number), losses.dtype)
        log_probability = self._beside(score.log_probability, losses)
        term = (losses - ops.stop_gradient(baseline)) * _of_value_zero(
            log_probability
        )
        if score.credit.entropy_bonus and number == 0:
            entropy = self._entropy_beside(score, losses)
            term = term - score.credit.entropy_bonus * _of_value_zero(entropy)
        return term

    def _entropy_beside(self, score: scores.Score, losses: Tensor) -> Tensor:
        """Returns the entropy for each loss: a mean over unmasked positions."""
        if score.mask is None:
            return self._beside(score.entropy, losses, ops.mean)
        counted = ops.cast(score.mask, score.entropy.dtype)
        total = self._beside(score.entropy * counted, losses)
        return total / ops.maximum(self._beside(counted, losses), 1)

    def _beside(
        self,
        values: Tensor,
        losses: Tensor,
        merge: Callable[..., Tensor] = ops.sum,
    ) -> Tensor:
        """Returns values (B, ...) in a shape that broadcasts with losses."""
        values = ops.cast(values, losses.dtype)
        shared = 1
        if self.loss.positions == "own":
            shared = _shared_axes(values.shape, losses.shape)
        rest = tuple(range(shared, len(values.shape)))
        if rest:
            values = merge(values, axis=rest)
        for _ in range(len(losses.shape) - shared):
            values = ops.expand_dims(values, -1)
        return values


class _Given(keras.losses.Loss):
    """Losses that are known, to be weighed, masked and reduced."""

    def __init__(self, loss: ReinforceLoss, losses: Tensor) -> None:
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.losses = losses

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.losses


def _keeping_mask(
    losses: Tensor, function: Callable[[Tensor], Tensor]
) -> Tensor:
    """Applies a function to losses, and keeps the mask they may carry."""
    return keras.layers.Activation(
        function, autocast=False, dtype=losses.dtype
    )(losses)


def _of_value_zero(tensor: Tensor) -> Tensor:
    return tensor - ops.stop_gradient(tensor)


def _shared_axes(shape: Shape, other: Shape) -> int:
    """Counts the leading axes that two shapes share, at least one."""
    count = 0
    for size, other_size in zip(shape, other, strict=False):
        if size != other_size:
            break
        count += 1
    return max(count, 1)


def _resolved(loss: object) -> keras.losses.Loss | Callable[..., Tensor]:
    try:
        found = keras.losses.get(loss)
    except (TypeError, ValueError):
        found = None
    if found is None or isinstance(found, ReinforceLoss):
        raise ValueError(
            "`loss` must be the name of a Keras loss, a `keras.losses.Loss` or "
            f"a function. Received: loss={loss!r}. Write e.g. "
            '`ReinforceLoss("mse")`.'
        )
    return found


def _name_of(function: Callable[..., Tensor]) -> str:
    return getattr(function, "__name__", "reinforce_loss").strip("<>")


def _of_one_rank(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Adds or drops a last axis of one, as Keras does for functions."""
    true_rank, pred_rank = len(y_true.shape), len(y_pred.shape)
    if true_rank == pred_rank + 1 and y_true.shape[-1] == 1:
        if pred_rank == 1:
            return y_true, ops.expand_dims(y_pred, -1)
        return ops.squeeze(y_true, -1), y_pred
    if pred_rank == true_rank + 1 and y_pred.shape[-1] == 1:
        if true_rank == 1:
            return ops.expand_dims(y_true, -1), y_pred
        return y_true, ops.squeeze(y_pred, -1)
    return y_true, y_pred
