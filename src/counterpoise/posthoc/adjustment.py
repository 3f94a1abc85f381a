"""Logit adjustment after training: take the training prior out of the scores, put another one in."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.posthoc.arrays import Array, as_given, as_prior, like

__all__ = ["adjust_logits"]

Empty = Literal["error", "exclude"]


def adjust_logits(
    logits: Array, prior: Any, *, tau: float = 1.0, target_prior: Any = None, empty: Empty = "error"
) -> Array:
    """``z - tau (log prior - log target_prior)``: the scores for data in which the classes are as in ``target_prior``.

    With ``tau=1`` and logits that are log posteriors (plus a constant a row) this is Bayes' rule exactly. The target is
    uniform by default, where balanced accuracy is at stake; it then only shifts all classes alike, and is left out.

    Menon et al., Long-tail learning via logit adjustment, ICLR 2021 (arXiv:2007.07314), the post-hoc form.

    Args:
        logits: ``(N, C)``, ``(N, C, ...)`` or ``(C,)``, of a model trained *without* adjustment. A tensor stays on its
            device and in its graph.
        prior: ``(C,)``, the class prior *as sampled* in training: the sampler's ``.prior``, not the dataset's.
            After a class-balanced sampler it is uniform and there is nothing left to take out. Counts do as well.
        tau: strength of the correction; 0 leaves the logits as they are. See `tune_tau`.
        target_prior: ``(C,)``, the prior where the model is used; a 0 there rules the class out (logit -inf).
        empty: what a class with a prior of 0 does: ``"error"``, or ``"exclude"`` (logit -inf: it was never trained).

    Returns:
        What ``logits`` is, array or tensor, of the same shape and dtype (float32 for half precision).

    Raises:
        ArgumentError: a prior of the wrong length, negative, or 0 for a class (named).
        ArgumentTypeError: logits that are not floating point.

    Example:
        >>> adjust_logits(np.array([[2.0, 1.0]]), [0.9, 0.1]).round(3)
        array([[2.105, 3.303]])
    """
    given = as_given(logits, "logits")
    if given.ndim == 0:
        raise ArgumentError("`logits` must have a class dimension: (N, C), (N, C, ...) or (C,); got a number")
    if not np.isfinite(tau):
        raise ArgumentError(f"`tau` must be finite; got {tau}")
    axis = 1 if given.ndim > 1 else 0
    num_classes = given.shape[axis]
    shares = _checked_prior(prior, num_classes, empty)
    shift = tau * np.log(np.where(shares > 0, shares, 1.0))
    if target_prior is not None and tau != 0:
        with np.errstate(divide="ignore"):  # a class that cannot occur gets the logit -inf
            shift = shift - tau * np.log(as_prior(target_prior, num_classes, "target_prior"))
    shift[shares == 0] = np.inf
    shape = [1] * given.ndim
    shape[axis] = num_classes
    adjusted: Array = given - like(shift.reshape(shape), given)
    return adjusted


def _checked_prior(prior: Any, num_classes: int, empty: Empty) -> NDArray[np.float64]:
    if empty not in ("error", "exclude"):
        raise ArgumentError(f'`empty` must be "error" or "exclude"; got {empty!r}')
    shares = as_prior(prior, num_classes)
    absent = np.flatnonzero(shares == 0)
    if absent.size and empty == "error":
        raise ArgumentError(
            f"`prior` is 0 for class {absent[:10].tolist()}: the model never saw it; "
            'give empty="exclude" to rule it out, or a smoothed prior (ClassCounts.prior(smoothing=...))'
        )
    return shares
