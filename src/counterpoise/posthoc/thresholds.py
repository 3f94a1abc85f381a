"""Thresholds for each class, pulled towards a common one where a class has too few images to have its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.posthoc.arrays import Array, as_float64, as_given, as_labels, as_scores, like

__all__ = ["ThresholdMetric", "apply_thresholds", "tune_thresholds"]

FloatArray = NDArray[np.float64]
ThresholdMetric = Literal["f1", "balanced_accuracy"]
_LEAST = 1e-12  # a threshold of 0 would accept everything, and has no logarithm


def tune_thresholds(
    scores: Any,
    labels: Any,
    *,
    metric: ThresholdMetric = "f1",
    shrinkage: float = 10.0,
    sample_weight: Any = None,
) -> FloatArray:
    """For each class the threshold on its probability that tells it best from the others. Tune on validation.

    ``t_c = (n_c t̂_c + k t) / (n_c + k)``: t̂_c is best for class c, t for all pairs of image and class together, n_c the
    images of class c here, k the shrinkage. A class without images gets t. Thresholds fitted to a handful of images fit
    their noise; fitted to the test images they make its scores worthless, which nothing here can notice.

    Args:
        scores: ``(N, C)`` probabilities in [0, 1]: softmax, or a sigmoid for each class.
        labels: ``(N,)`` class ids; or ``(N, C)`` 0/1 targets, where images have several classes.
        metric: of one class against the others: "f1", or "balanced_accuracy" (the mean of both recalls).
        shrinkage: k, at least 0.
        sample_weight: ``(N,)``, at least 0: how often an image counts in the metric. F1 depends on the class shares;
            where those to come are q and those here d, the weight is ``q_y / d_y``.

    Returns:
        float64 ``(C,)``, in (0, 1]. Predict ``argmax_c log p_c - log t_c`` where an image has one class, ``p_c >= t_c``
        where it has several: `apply_thresholds` serves both.

    Raises:
        ArgumentError: scores that are no probabilities, labels that do not fit (the row is named), an unknown metric.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> tune_thresholds(scores, [0, 0, 1, 1], shrinkage=0.0).round(2)
        array([0.75, 0.25])
    """
    p = as_scores(scores, "scores")
    wrong = ~((p >= 0) & (p <= 1)).all(axis=1)
    if wrong.any():
        raise ArgumentError(
            f"`scores` must be probabilities in [0, 1]; row {int(np.argmax(wrong))} is not: give softmax(logits)"
        )
    if metric not in get_args(ThresholdMetric):
        raise ArgumentError(f"`metric` must be one of {list(get_args(ThresholdMetric))}; got {metric!r}")
    if not (np.isfinite(shrinkage) and shrinkage >= 0):
        raise ArgumentError(f"`shrinkage` must be finite and at least 0; got {shrinkage}")
    truth = _targets(labels, p)
    if not truth.any():
        raise ArgumentError("`labels` must have at least one image of a class to tune on")
    u = _weights(sample_weight, len(p))
    common = _best(p.ravel(), truth.ravel(), np.repeat(u, p.shape[1]), metric)
    n = (truth & (u > 0)[:, None]).sum(axis=0)
    own = np.array([_best(p[:, c], truth[:, c], u, metric) if n[c] else common for c in range(len(n))])
    weight = np.divide(n, n + shrinkage, out=np.zeros(len(n)), where=n > 0)
    thresholds: FloatArray = weight * own + (1.0 - weight) * common
    return thresholds


def apply_thresholds(scores: Array, thresholds: Any) -> Array:
    """``log p - log t``: its argmax is the prediction of one class, its signs (0 and above: yes) those of several.

    Args:
        scores: ``(N, C)`` probabilities, an array or a tensor.
        thresholds: ``(C,)``, above 0; see `tune_thresholds`.

    Returns:
        ``(N, C)`` of the same kind; -inf where the probability is 0.

    Example:
        >>> apply_thresholds(np.array([[0.6, 0.4]]), [0.75, 0.25]).round(3)
        array([[-0.223,  0.47 ]])
    """
    given = as_given(scores, "scores")
    t = as_float64(thresholds, "thresholds")
    if given.ndim != 2 or t.shape != (given.shape[1],):
        raise ArgumentError(f"`thresholds` of shape {t.shape} do not fit `scores` of shape {tuple(given.shape)}")
    if not (np.isfinite(t) & (t > 0)).all():
        raise ArgumentError(f"`thresholds` must be finite and above 0; class {int(np.argmax(~(t > 0)))} has {t.min()}")
    with np.errstate(divide="ignore"):  # a probability of 0 is -inf, which never wins
        log_p = np.log(given) if isinstance(given, np.ndarray) else given.log()
    shifted: Array = log_p - like(np.log(t), given)
    return shifted


def _targets(labels: Any, p: FloatArray) -> NDArray[np.bool_]:
    array = as_float64(labels, "labels")
    if array.ndim == 2:
        wrong = array.shape != p.shape or not np.isin(array, (0, 1)).all()
        if wrong:
            raise ArgumentError(f"`labels` of two dimensions must be 0/1 targets of shape {p.shape}; got {array.shape}")
        return array.astype(bool)
    one_hot: NDArray[np.bool_] = as_labels(labels, *p.shape)[:, None] == np.arange(p.shape[1])
    return one_hot


def _weights(sample_weight: Any, rows: int) -> FloatArray:
    if sample_weight is None:
        return np.ones(rows)
    u = as_float64(sample_weight, "sample_weight")
    if u.shape != (rows,) or not (np.isfinite(u) & (u >= 0)).all() or not u.any():
        raise ArgumentError(f"`sample_weight` must be ({rows},), finite, at least 0 and not all 0; got shape {u.shape}")
    return u


def _best(p: FloatArray, truth: NDArray[np.bool_], u: FloatArray, metric: ThresholdMetric) -> float:
    """The threshold with the best score: half-way between the lowest probability accepted and the next below it."""
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # equal probabilities are accepted together
    accepted = np.cumsum(u[order])[last]
    hits = np.cumsum(np.where(truth, u, 0.0)[order])[last]
    positives, total = float(hits[-1]), float(accepted[-1])
    scores: dict[ThresholdMetric, Callable[[], FloatArray]] = {
        "f1": lambda: 2 * hits / (accepted + positives),
        "balanced_accuracy": lambda: hits / positives - (accepted - hits) / max(total - positives, _LEAST),
    }
    with np.errstate(invalid="ignore"):  # rows of weight 0 before any other: they decide nothing
        best = int(np.nanargmax(scores[metric]()))
    below = ranked[last[best] + 1] if last[best] + 1 < len(ranked) else ranked[last[best]]
    return max(float(ranked[last[best]] + below) / 2, _LEAST)
