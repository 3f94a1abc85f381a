"""Decision thresholds per class, shrunk towards a common threshold if a class has few images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_choice
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import check_options
from counterpoise.posthoc.arrays import Array, as_float64, as_floating, as_labels, as_scores, convert_like

FloatArray = NDArray[np.float64]
ThresholdMetric = Literal["f1", "balanced_accuracy"]
_LEAST = 1e-12  # a threshold of 0 accepts everything and has no logarithm


def tune_thresholds(
    scores: Any,
    labels: Any,
    *,
    metric: ThresholdMetric = "f1",
    shrinkage: float = 10.0,
    sample_weight: Any = None,
) -> FloatArray:
    """Tune the threshold of each class that best separates it from the other classes. Use validation images only.

    ``t_c = (n_c t̂_c + k t) / (n_c + k)``: t̂_c is the best threshold for class c, t the best one for all pairs of image
    and class, n_c the number of images of class c, and k the shrinkage. A class without images gets t. Thresholds
    tuned on test images make the test metrics invalid.

    Args:
        scores: ``(N, C)`` probabilities in [0, 1]: softmax, or one sigmoid per class.
        labels: ``(N,)`` class indices; or ``(N, C)`` 0/1 targets if images have several classes.
        metric: of one class against the others: "f1", or "balanced_accuracy" (the mean of both recalls).
        shrinkage: k, at least 0: the number of images at which a class keeps half of its own threshold.
        sample_weight: ``(N,)``, at least 0: how often an image counts in the metric. F1 depends on the class shares;
            if they will be q and are d in these images, use the weights ``q_y / d_y``.

    Returns:
        float64 ``(C,)``, in (0, 1]. Predict ``argmax_c log p_c − log t_c`` if an image has one class, and
        ``p_c >= t_c`` if it has several; see `apply_thresholds`.

    Raises:
        ArgumentError: scores that are not probabilities, labels that do not match (the row is named), or an unknown
            metric.

    Reference: Lipton, Elkan and Naryanaswamy, Optimal Thresholding of Classifiers to Maximize F1, ECML 2014.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> tune_thresholds(scores, [0, 0, 1, 1], shrinkage=0.0).round(2)
        array([0.75, 0.25])
    """
    p = as_scores(scores, "scores")
    wrong = ~((p >= 0) & (p <= 1)).all(axis=1)
    if wrong.any():
        raise ArgumentError(
            f"`scores` must be probabilities in [0, 1]; row {int(np.argmax(wrong))} has others: give softmax(logits)"
        )
    checked_choice("metric", metric, get_args(ThresholdMetric))
    check_options("posthoc", "tune_thresholds", {"shrinkage": shrinkage})
    truth = _targets(labels, p)
    if not truth.any():
        raise ArgumentError("`labels` must have at least one image of a class to tune thresholds on")
    u = _weights(sample_weight, len(p))
    common = _best(p.ravel(), truth.ravel(), np.repeat(u, p.shape[1]), metric)
    n = (truth & (u > 0)[:, None]).sum(axis=0)
    own = np.array([_best(p[:, c], truth[:, c], u, metric) if n[c] else common for c in range(len(n))])
    weight = np.divide(n, n + shrinkage, out=np.zeros(len(n)), where=n > 0)
    thresholds: FloatArray = weight * own + (1.0 - weight) * common
    return thresholds


def apply_thresholds(scores: Array, thresholds: Any) -> Array:
    """Compute ``log p − log t``: its argmax predicts one class, its sign (at least 0) predicts several classes.

    Args:
        scores: ``(N, C)`` probabilities, an array or a tensor.
        thresholds: ``(C,)``, above 0; see `tune_thresholds`.

    Returns:
        An array or tensor ``(N, C)`` of the dtype of ``scores``; -inf for a probability of 0.

    Raises:
        ArgumentError: thresholds that are not finite and above 0, or shapes that do not match.

    Example:
        >>> apply_thresholds(np.array([[0.6, 0.4]]), [0.75, 0.25]).round(3)
        array([[-0.223,  0.47 ]])
    """
    given = as_floating(scores, "scores")
    t = as_float64(thresholds, "thresholds")
    if given.ndim != 2 or t.shape != (given.shape[1],):
        raise ArgumentError(f"`thresholds` must be (C,) for `scores` (N, C); got {t.shape} and {tuple(given.shape)}")
    if not (np.isfinite(t) & (t > 0)).all():
        raise ArgumentError(f"`thresholds` must be finite and above 0; class {int(np.argmax(~(t > 0)))} has {t.min()}")
    with np.errstate(divide="ignore"):  # a probability of 0 becomes -inf
        log_p = np.log(given) if isinstance(given, np.ndarray) else given.log()
    shifted: Array = log_p - convert_like(np.log(t), given)
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
    """The threshold with the best metric: half-way between the lowest accepted probability and the next lower one."""
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
