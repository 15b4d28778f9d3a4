"""The scores of sampled bits, which wait for the loss of their step.

A layer whose bits are sampled leaves a `Score` here when it is called in
training. A `ReinforceLoss` that is called next, in the same thread and the same
trace, finds it, multiplies it with the losses and claims it. The backward pass
of the layer then asks whether someone did, and takes the score away.

The first call of a layer after a loss has claimed scores begins a new step, and
takes away all that was claimed: a step calls its layers first and then its
losses. A layer that is called twice in a step leaves two scores.

A score waits no longer than a gradient can be taken through the outputs that it
belongs to. A call by hand whose outputs are dropped, or that an exception ends,
leaves none for a later step, and one without a gradient leaves none at all.
Where a framework has no object that lives as long as that (in a graph, or in a
trace), scores of another trace are told apart by their tensors.
"""

import threading
import weakref
from typing import Any

import keras

from keras_treegate import backend
from keras_treegate.types import Tensor, Variable

# The most calls of a layer whose scores wait at a time, because calls in
# training that no loss follows must not pile up.
MAX_WAITING = 256


class Claim:
    """A record of the losses that claimed a score; it holds no tensors.

    It lives as long as the outputs that are watched for gradients, which hold
    it.

    owner: the name of the layer.
    losses: the number of losses that claimed the score.
    cause: the reason why a loss that was there did not claim it.
    """

    def __init__(self, waiting: "list[Score]") -> None:
        self.owner = ""
        self.losses = 0
        self.cause = ""
        # Holds the list, because backward passes may run in another thread.
        self._waiting = waiting

    def check(self) -> None:
        """Raises where no loss claimed the score; called by backward passes."""
        if self.losses:
            # Avoids `remove`, which would compare tensors.
            left = [s for s in self._waiting if s.claim is not self]
            self._waiting[:] = left
            return
        self._waiting.clear()
        raise ValueError(
            "`loss` must be a `keras_treegate.losses.ReinforceLoss` for the "
            f"layer {self.owner!r}, whose gates learn by `Reinforce` from the "
            "loss of each example. Received: another loss. Wrap yours, as in "
            '`model.compile(loss=keras_treegate.losses.ReinforceLoss("mse"))`, '
            "or use "
            f'`credit="straight"`.{self.cause}'
        )


class Score:
    """The score of one call of a layer.

    credit: the `Reinforce` of the layer.
    log_probability: (..., ) of the sampled bits of each example or position.
    entropy: (..., ), the mean over the bits of their entropy.
    mask: booleans (..., ), false for positions that do not count; or `None`.
    """

    def __init__(
        self,
        credit: keras.layers.Layer,
        log_probability: Tensor,
        entropy: Tensor,
        mask: Tensor | None,
        claim: Claim,
    ) -> None:
        self.credit = credit
        self.log_probability = log_probability
        self.entropy = entropy
        self.mask = mask
        self._claim = weakref.ref(claim)
        self._kept: Claim | None = claim

    @property
    def claim(self) -> Any:
        """The `Claim`; `None` where no gradient can be taken any more."""
        return self._claim()

    def leave_to_gradient(self) -> None:
        """Lets the score end with the outputs that are watched."""
        self._kept = None


class _Waiting(threading.local):
    def __init__(self) -> None:
        self.scores: list[Score] = []


_waiting = _Waiting()


def add(
    credit: keras.layers.Layer,
    log_probability: Tensor,
    entropy: Tensor,
    mask: Tensor | None = None,
) -> Claim:
    """Leaves a score for the losses of this step; returns its claim."""
    scores = _alive()
    scores[:] = [score for score in scores if not _losses_of(score)]
    own = [score for score in scores if score.credit is credit]
    if len(own) == MAX_WAITING:
        own[
            0
        ].claim.cause = (
            f" The layer was called {MAX_WAITING} times before there was one."
        )
        scores[:] = [score for score in scores if score is not own[0]]
    claim = Claim(scores)
    scores.append(Score(credit, log_probability, entropy, mask, claim))
    return claim


def watch(outputs: Tensor, variable: Variable, claim: Claim | None) -> Tensor:
    """Returns outputs, watched for gradients where there is a claim.

    `variable` is a variable of the layer that made the outputs.
    """
    if claim is None:
        return backend.watch(outputs, variable, None)
    claim.owner = variable.path.rpartition("/")[0]
    outputs = backend.watch(outputs, variable, claim.check)
    for score in _waiting.scores:
        if score.claim is claim and backend.watch_ends_with_gradient(
            outputs, score.log_probability
        ):
            score.leave_to_gradient()
    return outputs


def _alive() -> list[Score]:
    """Returns the scores that wait in this thread and can have a gradient."""
    scores = _waiting.scores
    scores[:] = [score for score in scores if score.claim is not None]
    return scores


def _losses_of(score: Score) -> int:
    claim = score.claim
    return 0 if claim is None else claim.losses


def due(losses: Tensor) -> list[Score]:
    """Returns the scores that fit losses (B, ...), and counts their claims."""
    scores = [score for score in _alive() if _fits(score, losses)]
    for score in scores:
        score.claim.losses += 1
    return scores


def _fits(score: Score, losses: Tensor) -> bool:
    if not backend.is_of_trace(score.log_probability, losses):
        score.claim.cause = (
            " There was such a loss, but out of reach: the layer was called "
            "inside of something that is compiled or recomputed apart (a "
            "rematerialized model, an inner jit, scan, vmap or cond). Take the "
            "layer out of it."
        )
        return False
    examples, expected = score.log_probability.shape[0], losses.shape[0]
    if None not in (examples, expected) and examples != expected:
        score.claim.cause = (
            f" There was such a loss, but of {expected} examples, and the "
            f"layer was called with {examples}. Its first axis must be that "
            "of the loss."
        )
        return False
    return True


def waiting() -> int:
    """Returns the number of scores that wait in this thread."""
    return len(_alive())
