"""Temperature scaling: calibrate the confidences with one temperature, or with one per group of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_indices, checked_number
from counterpoise.core.errors import ArgumentError
from counterpoise.posthoc.arrays import Array, as_float64, as_floating, as_labels, as_scores, convert_like

FloatArray = NDArray[np.float64]
Groups = Mapping[str, Sequence[int] | NDArray[Any]]
_COLDEST, _HOTTEST = 0.01, 100.0  # if all predictions are right, or worse than chance, the optimum is 0 or infinite


@overload
def fit_temperature(logits: Any, labels: Any, *, groups: None = None, shrinkage: float = 10.0) -> float: ...


@overload
def fit_temperature(logits: Any, labels: Any, *, groups: Groups, shrinkage: float = 10.0) -> FloatArray: ...


def fit_temperature(
    logits: Any, labels: Any, *, groups: Groups | None = None, shrinkage: float = 10.0
) -> float | FloatArray:
    """Fit the temperature T that minimises the negative log-likelihood of ``softmax(logits / T)`` on validation.

    A temperature changes no prediction. If you correct the prior as well (`adjust_logits`), correct it first and fit
    the temperature on the adjusted logits.

    Args:
        logits: ``(N, C)``, an array or tensor; -inf excludes a class from a row.
        labels: ``(N,)`` class indices.
        groups: ``{name: class indices}``, such as `ClassCounts.groups`: a temperature per group, fitted on the images
            *predicted* as a class of the group, because the true class of a new image is unknown.
        shrinkage: k, at least 0: a group of n images gets ``log T = (n log T_group + k log T_all) / (n + k)``.

    Returns:
        T in [0.01, 100]; with ``groups`` float64 ``(C,)``, one per predicted class. See `apply_temperature`.

    Raises:
        ArgumentError: no images, shapes that do not match, a label out of range or of a class that its row excludes
            (the row is named), or a class in two groups.

    Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599).

    Example:
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> round(fit_temperature(logits, [0, 0, 1, 1]), 3)  # three of four are correct: p = 3/4
        1.82
    """
    scores = as_scores(logits, "logits")
    truth = as_labels(labels, *scores.shape)
    if not len(truth):
        raise ArgumentError("`labels` must have at least one image to fit a temperature to")
    excluded = np.isneginf(scores[np.arange(len(truth)), truth])
    if excluded.any():
        row = int(np.argmax(excluded))
        raise ArgumentError(f"`logits` row {row} must be finite for its own label {truth[row]}; got -inf")
    overall = _fit(scores, truth)
    if groups is None:
        return overall
    checked_number("shrinkage", shrinkage, minimum=0.0)
    predicted = scores.argmax(axis=1)
    temperatures = np.full(scores.shape[1], overall)
    for classes in _checked_groups(groups, scores.shape[1]):
        rows = np.isin(predicted, classes)
        n = int(rows.sum())
        if n:
            own = _fit(scores[rows], truth[rows])
            temperatures[classes] = np.exp((n * np.log(own) + shrinkage * np.log(overall)) / (n + shrinkage))
    return temperatures


def apply_temperature(logits: Array, temperature: float | NDArray[Any]) -> Array:
    """Divide logits by a temperature; with one per class, by that of the predicted class of each row.

    Args:
        logits: ``(N, C)``, an array or a tensor.
        temperature: a number above 0, or ``(C,)`` of them.

    Returns:
        An array or tensor ``(N, C)`` of the dtype of ``logits``; no prediction changes.

    Raises:
        ArgumentError: a temperature that is not finite and above 0, or shapes that do not match.

    Example:
        >>> apply_temperature(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([1.0, 4.0]))
        array([[2. , 0. ],
               [0. , 0.5]])
    """
    given = as_floating(logits, "logits")
    hot = as_float64(temperature, "temperature")
    if not (np.isfinite(hot) & (hot > 0)).all():
        raise ArgumentError(f"`temperature` must be finite and above 0; got {temperature}")
    if hot.ndim == 0:
        scaled: Array = given / float(hot)
        return scaled
    if given.ndim != 2 or hot.shape != (given.shape[1],):
        raise ArgumentError(f"`temperature` of shape {hot.shape} needs `logits` (N, C); got {tuple(given.shape)}")
    rows: Array = given / convert_like(hot[as_float64(given, "logits").argmax(axis=1)][:, None], given)
    return rows


def _checked_groups(groups: Groups, num_classes: int) -> list[NDArray[np.int64]]:
    checked, grouped = [], np.zeros(num_classes, dtype=bool)
    for name, classes in groups.items():
        array = checked_indices(
            f"groups[{name!r}]", np.asarray(classes, dtype=np.int64).ravel(), num_classes=num_classes
        )
        if grouped[array].any():
            raise ArgumentError(
                f"`groups` {name!r} has class {int(array[grouped[array]][0])}, which is in another group too"
            )
        grouped[array] = True
        checked.append(array)
    return checked


def _fit(scores: FloatArray, truth: NDArray[np.int64]) -> float:
    """The temperature by root finding on the inverse temperature s, in which the negative log-likelihood is convex."""
    from scipy.optimize import brentq

    allowed = np.isfinite(scores)
    z = np.where(allowed, scores - scores.max(axis=1, keepdims=True), 0.0)
    own = z[np.arange(len(truth)), truth].mean()

    def slope(s: float) -> float:
        p = np.where(allowed, np.exp(s * z), 0.0)
        return float(((p * z).sum(axis=1) / p.sum(axis=1)).mean() - own)

    if slope(1.0) == 0:
        return 1.0
    low, high = 1.0 / _HOTTEST, 1.0 / _COLDEST
    if slope(low) >= 0:
        return _HOTTEST
    if slope(high) <= 0:
        return _COLDEST
    return float(1.0 / brentq(slope, low, high, xtol=1e-14, rtol=1e-14))
