"""Corrections that are fitted on validation scores, and what they change; nothing is ever fitted on test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Evaluation, Predictions
from counterpoise.core.codec import Artifact
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics import balanced_accuracy, softmax
from counterpoise.posthoc import adjust_logits, apply_temperature, apply_thresholds, tune_tau, tune_thresholds
from counterpoise.posthoc import fit_temperature as temperature_of
from counterpoise.workflow.evaluation.evaluate import PredictionsLike, as_predictions, counts_by_name, evaluate

__all__ = ["FOLDS", "Fit", "Fitted", "Tuned", "TuningKind", "cross_fitted", "fit_norm", "fit_tau", "fit_temperature"]
__all__ += ["fit_thresholds", "tune"]

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
TuningKind = Literal["tau", "thresholds", "temperature"]
FOLDS = 5
_NORM_TAUS = np.linspace(0.0, 2.0, 41)


@dataclass(frozen=True)
class Fitted:
    """A correction of scores, and the numbers that were chosen for it."""

    parameters: dict[str, Any]
    apply: Callable[[Scores], Scores]


Fit = Callable[[Scores, Labels], Fitted]


@dataclass(frozen=True)
class Tuned(Artifact):
    """What was fitted on the validation images, and the evaluation of one split before and after.

    ``cross_fitted``: the split is validation itself, so every image was corrected with a fit to the other folds.
    """

    kind: str
    parameters: dict[str, Any]
    cross_fitted: bool
    before: Evaluation
    after: Evaluation


def tune(
    kind: TuningKind,
    validation: PredictionsLike,
    *,
    other: PredictionsLike | None = None,
    split: str = "test",
    prior: Sequence[float] | NDArray[Any] | None = None,
    **known: Any,
) -> Tuned:
    """Fit a correction on validation scores, and evaluate before and after.

    Args:
        kind: "tau" (strength of logit adjustment, for balanced accuracy), "thresholds" (one for each class, pulled
            towards a common one), or "temperature" (one for each shot group where ``train_counts`` are given).
        validation: a `Predictions`, the path of such an .npz, or ``(logits, labels)``: what is fitted on.
        other: the scores to correct and evaluate; None for the validation images themselves, each corrected by a fit
            to the other four of five folds, since a fit looks better than it is on what it was fitted to.
        split: what ``other`` is; goes into the result.
        prior: ``(C,)``, the class prior that training left in the scores; "tau" needs it.
        **known: ``train_counts``, ``train_recall``, ``confidence``, ``bins`` for `evaluate`.

    Returns:
        The parameters chosen, and two evaluations.

    Raises:
        ArgumentError: an unknown kind, "tau" without a prior, or validation and other of different classes.

    Example:
        >>> logits = np.array([[2.0, 1.0], [2.0, 1.5], [2.0, 0.0], [2.0, 1.6]] * 5)
        >>> result = tune("tau", (logits, [0, 1, 0, 1] * 5), prior=[0.8, 0.2])
        >>> result.parameters["tau"], result.before.balanced_accuracy, result.after.balanced_accuracy
        (0.7, 0.5, 1.0)
    """
    given = as_predictions(validation)
    if known.get("train_counts") is not None:
        known["train_counts"] = counts_by_name(known["train_counts"], tuple(str(name) for name in given.classes))
    fit = _fit_of(kind, given, prior, known.get("train_counts"))
    fitted = fit(given.logits, given.labels)
    if other is None:
        scores, after, split = given, cross_fitted(fit, given.logits, given.labels), "val"
    else:
        scores = as_predictions(other)
        if scores.classes.tolist() != given.classes.tolist():
            raise ArgumentError(
                f"`other` has the classes {scores.classes.tolist()[:10]}, `validation` {given.classes.tolist()[:10]}"
            )
        after = fitted.apply(scores.logits)
    return Tuned(
        kind=kind,
        parameters=fitted.parameters,
        cross_fitted=other is None,
        before=evaluate(scores, split=split, **known),
        after=evaluate(replace(scores, logits=after), split=split, **known),
    )


def cross_fitted(fit: Fit, scores: Scores, labels: Labels, *, folds: int = FOLDS) -> Scores:
    """Correct every image by a fit to the other folds: what a fit is worth on images that it has not seen.

    The folds are the same every time, and spread each class evenly. With fewer than two images all stay as they are.

    Example:
        >>> cross_fitted(lambda z, y: Fitted({}, lambda z: z + len(y)), np.zeros((5, 1)), np.zeros(5, int)).T
        array([[4., 4., 4., 4., 4.]])
    """
    corrected = scores.copy()
    rank = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        rank[members] = np.arange(len(members))
    for fold in range(min(folds, len(labels))):
        here = rank % folds == fold
        if here.any() and not here.all():
            corrected[here] = fit(scores[~here], labels[~here]).apply(scores[here])
    return corrected


def fit_tau(scores: Scores, labels: Labels, *, prior: NDArray[Any]) -> Fitted:
    """The strength of logit adjustment with the best balanced accuracy."""
    tau = tune_tau(scores, labels, prior)
    return Fitted({"tau": tau}, lambda z: adjust_logits(z, prior, tau=tau, empty="exclude"))


def fit_thresholds(scores: Scores, labels: Labels, *, shrinkage: float = 10.0) -> Fitted:
    """A threshold for each class, best for the mean of its recall and the others', shrunk towards a common one."""
    t = tune_thresholds(softmax(scores), labels, metric="balanced_accuracy", shrinkage=shrinkage)
    return Fitted({"thresholds": t.tolist()}, lambda z: apply_thresholds(softmax(z), t).astype(z.dtype))


def fit_temperature(scores: Scores, labels: Labels, *, groups: dict[str, Any] | None = None) -> Fitted:
    """One temperature, or one for each group of classes; no prediction changes."""
    if groups is None:
        t: Any = temperature_of(scores, labels)
        return Fitted({"temperature": t}, lambda z: apply_temperature(z, t))
    t = temperature_of(scores, labels, groups=groups)
    chosen = {name: float(t[ids[0]]) for name, ids in groups.items() if len(ids)}
    return Fitted({"temperature": chosen}, lambda z: apply_temperature(z, t))


def fit_norm(scores: Scores, labels: Labels, *, weight: NDArray[Any], bias: NDArray[Any]) -> Fitted:
    """τ of τ-normalisation with the best balanced accuracy, on logits of a linear head with this weight and bias."""
    norm = np.linalg.norm(weight, axis=1)
    norm = np.where(norm > 0, norm, 1.0)

    def normalised(z: Scores, tau: float) -> Scores:
        scaled: Scores = ((z - bias) / norm**tau).astype(z.dtype)
        return scaled

    def score(tau: float) -> float:
        said = normalised(scores, tau).argmax(1)
        return balanced_accuracy(labels, said)

    tau = max((round(float(t), 12) for t in _NORM_TAUS), key=lambda t: (score(t), -abs(t - 1.0)))
    return Fitted({"tau": tau}, lambda z: normalised(z, tau))


def _fit_of(kind: str, given: Predictions, prior: Any, train_counts: Any) -> Fit:
    if kind not in get_args(TuningKind):
        raise ArgumentError(f"`kind` must be one of {', '.join(get_args(TuningKind))}; got {kind!r}")
    if not len(given.labels):
        raise ArgumentError("`validation` has no images to tune on")
    if kind == "thresholds":
        return fit_thresholds
    if kind == "temperature":
        groups = None if train_counts is None else train_counts.groups()
        return lambda z, y: fit_temperature(z, y, groups=groups)
    if prior is None:
        raise ArgumentError("`prior` is missing: to tune tau, give the class prior that training left in the scores")
    return lambda z, y: fit_tau(z, y, prior=np.asarray(prior, dtype=np.float64))
