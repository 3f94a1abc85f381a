"""Two corrections with a strength τ: the norm of the classifier's weights, and the strength of logit adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.metrics import METRICS, tally
from counterpoise.posthoc.adjustment import adjust_logits
from counterpoise.posthoc.arrays import Array, as_float64, as_given, as_labels, as_scores, like

__all__ = ["tau_normalize", "tune_tau"]


def tau_normalize(weight: Array, *, tau: float = 1.0) -> Array:
    """``w_c / ||w_c||^tau``: takes from the frequent classes the longer weight vectors that training gave them.

    The logits are then ``features @ weight.T``, without bias; from saved logits of a linear head the same is
    ``(logits - bias) / norm^tau``. Kang et al., Decoupling, ICLR 2020 (arXiv:1910.09217).

    Args:
        weight: ``(C, D)`` of the last linear layer, an array or a tensor.
        tau: 0 leaves the weights as they are, 1 makes every row a unit vector.

    Returns:
        ``(C, D)`` of the same kind and dtype (float32 for half precision). A row of zeros stays one.

    Raises:
        ArgumentError: a weight that is not ``(C, D)``, or a tau that is not finite.

    Example:
        >>> tau_normalize(np.array([[3.0, 4.0], [0.0, 1.0]]))
        array([[0.6, 0.8],
               [0. , 1. ]])
    """
    given = as_given(weight, "weight")
    if given.ndim != 2:
        raise ArgumentError(f"`weight` must have shape (C, D); got {tuple(given.shape)}")
    if not np.isfinite(tau):
        raise ArgumentError(f"`tau` must be finite; got {tau}")
    norms = np.linalg.norm(as_float64(given, "weight"), axis=1, keepdims=True)
    normalised: Array = given / like(np.where(norms > 0, norms, 1.0) ** tau, given)
    return normalised


def tune_tau(
    logits: Any,
    labels: Any,
    prior: Any,
    *,
    metric: str = "balanced_accuracy",
    taus: Sequence[float] | NDArray[Any] | None = None,
) -> float:
    """The strength of `adjust_logits` that scores best on the images given. Give validation images, never test images.

    Args:
        logits: ``(N, C)`` of a model trained without adjustment.
        labels: ``(N,)`` class ids.
        prior: ``(C,)`` class prior as sampled in training; a class with prior 0 is never predicted.
        metric: "balanced_accuracy", "accuracy", "macro_f1" or "geometric_mean"; a class without labels counts in none.
        taus: the strengths to try; default 0 to 3 in steps of 0.05. Of equal scores the one nearest to 1 wins, which
            is what theory gives.

    Returns:
        The best of ``taus``.

    Raises:
        ArgumentError: shapes that do not fit, a label out of range (its row is named), or an unknown metric.

    Example:
        >>> logits = np.array([[2.0, 1.0], [2.0, 1.5], [2.0, 0.0]])
        >>> tune_tau(logits, [0, 1, 0], [0.9, 0.1], taus=[0.0, 0.4, 2.0])
        0.4
    """
    scores = as_scores(logits, "logits")
    truth = as_labels(labels, *scores.shape)
    if metric not in METRICS:
        raise ArgumentError(f"`metric` must be one of {sorted(METRICS)}; got {metric!r}")
    grid = np.linspace(0.0, 3.0, 61) if taus is None else as_float64(taus, "taus").reshape(-1)
    if not grid.size or not np.isfinite(grid).all():
        raise ArgumentError("`taus` must hold at least one number, all of them finite")

    def score(tau: float) -> float:
        adjusted = adjust_logits(scores, prior, tau=tau, empty="exclude")
        counted = tally(truth, adjusted.argmax(axis=1), num_classes=scores.shape[1])
        return float(METRICS[metric].value(counted))

    return min((round(float(tau), 12) for tau in grid), key=lambda tau: (-score(tau), abs(tau - 1.0)))
