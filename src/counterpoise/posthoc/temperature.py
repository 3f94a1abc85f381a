"""Temperature scaling: one number, or one for each shot group, that makes the confidences true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.posthoc.arrays import Array, as_float64, as_given, as_labels, as_scores, like

__all__ = ["apply_temperature", "fit_temperature"]

FloatArray = NDArray[np.float64]
Groups = Mapping[str, Sequence[int] | NDArray[Any]]
_COLDEST, _HOTTEST = 0.01, 100.0  # images all right, or worse than guessing, would take it to 0 or to infinity


@overload
def fit_temperature(logits: Any, labels: Any, *, groups: None = None, shrinkage: float = 10.0) -> float: ...


@overload
def fit_temperature(logits: Any, labels: Any, *, groups: Groups, shrinkage: float = 10.0) -> FloatArray: ...


def fit_temperature(
    logits: Any, labels: Any, *, groups: Groups | None = None, shrinkage: float = 10.0
) -> float | FloatArray:
    """The temperature T for which ``softmax(logits / T)`` has the least negative log-likelihood. Fit on validation.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599). It changes no prediction. Where
    the prior is corrected as well (`adjust_logits`), correct first and fit on the corrected logits.

    Args:
        logits: ``(N, C)``; -inf excludes a class from a row.
        labels: ``(N,)`` class ids.
        groups: ``{name: class ids}``, such as `ClassCounts.groups`: a temperature for each group, fitted on the images
            that are *predicted* in it, since that is all one knows of a new image.
        shrinkage: k: a group of n images gets ``log T = (n log T_group + k log T_all) / (n + k)``.

    Returns:
        T in [0.01, 100]; with ``groups`` float64 ``(C,)``, one for each predicted class. See `apply_temperature`.

    Raises:
        ArgumentError: no images, shapes that do not fit, a label out of range or of a class that its row excludes (the
            row is named), a class in two groups.

    Example:
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> round(fit_temperature(logits, [0, 0, 1, 1]), 3)  # three of four are right: p = 3/4
        1.82
    """
    scores = as_scores(logits, "logits")
    truth = as_labels(labels, *scores.shape)
    if not len(truth):
        raise ArgumentError("`labels` must have at least one image to fit a temperature on")
    excluded = np.isneginf(scores[np.arange(len(truth)), truth])
    if excluded.any():
        row = int(np.argmax(excluded))
        raise ArgumentError(f"`logits` row {row} is -inf for its own label {truth[row]}; no temperature explains that")
    overall = _fit(scores, truth)
    if groups is None:
        return overall
    if not (np.isfinite(shrinkage) and shrinkage >= 0):
        raise ArgumentError(f"`shrinkage` must be finite and at least 0; got {shrinkage}")
    predicted = scores.argmax(axis=1)
    temperatures = np.full(scores.shape[1], overall)
    for ids in _checked_groups(groups, scores.shape[1]):
        here = np.isin(predicted, ids)
        n = int(here.sum())
        if n:
            own = _fit(scores[here], truth[here])
            temperatures[ids] = np.exp((n * np.log(own) + shrinkage * np.log(overall)) / (n + shrinkage))
    return temperatures


def apply_temperature(logits: Array, temperature: float | NDArray[Any]) -> Array:
    """``logits / T``; with one T for each class, that of the class which the row predicts.

    Args:
        logits: ``(N, C)``, an array or a tensor.
        temperature: a positive number, or ``(C,)`` of them.

    Returns:
        ``(N, C)`` of the same kind; the prediction of every row stays.

    Example:
        >>> apply_temperature(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([1.0, 4.0]))
        array([[2. , 0. ],
               [0. , 0.5]])
    """
    given = as_given(logits, "logits")
    hot = as_float64(temperature, "temperature")
    if not (np.isfinite(hot) & (hot > 0)).all():
        raise ArgumentError(f"`temperature` must be finite and above 0; got {temperature}")
    if hot.ndim == 0:
        scaled: Array = given / float(hot)
        return scaled
    if given.ndim != 2 or hot.shape != (given.shape[1],):
        raise ArgumentError(f"`temperature` of shape {hot.shape} needs `logits` (N, C); got {tuple(given.shape)}")
    rows: Array = given / like(hot[as_float64(given, "logits").argmax(axis=1)][:, None], given)
    return rows


def _checked_groups(groups: Groups, num_classes: int) -> list[NDArray[np.int64]]:
    checked, seen = [], np.zeros(num_classes, dtype=bool)
    for name, ids in groups.items():
        array = np.asarray(ids, dtype=np.int64).reshape(-1)
        if ((array < 0) | (array >= num_classes)).any():
            raise ArgumentError(
                f"`groups` {name!r} must hold class ids in 0 .. {num_classes - 1}; got {array.tolist()}"
            )
        if seen[array].any():
            raise ArgumentError(
                f"`groups` {name!r} has class {int(array[seen[array]][0])}, which is in another group too"
            )
        seen[array] = True
        checked.append(array)
    return checked


def _fit(scores: FloatArray, truth: NDArray[np.int64]) -> float:
    """Newton's steps on the inverse temperature s, in which the likelihood is convex; halving where a step leaves."""
    allowed = np.isfinite(scores)
    z = np.where(allowed, scores - scores.max(axis=1, keepdims=True), 0.0)
    own = z[np.arange(len(truth)), truth].mean()
    low, high, s = 1.0 / _HOTTEST, 1.0 / _COLDEST, 1.0
    for _ in range(200):
        p = np.where(allowed, np.exp(s * z), 0.0)
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * z).sum(axis=1)
        slope = mean.mean() - own
        low, high = (s, high) if slope < 0 else (low, s)
        if high - low < 1e-12 * high or slope == 0:
            break
        curve = ((p * z * z).sum(axis=1) - mean**2).mean()
        step = s - slope / curve if curve > 0 else np.inf
        if abs(step - s) < 1e-13 * s:
            break
        s = float(step) if low < step < high else float(np.sqrt(low * high))
    return float(np.clip(1.0 / s, _COLDEST, _HOTTEST))
