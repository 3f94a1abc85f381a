"""Post-hoc methods that are fitted on validation logits, and the evaluation before and after.

Nothing is ever fitted on test images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Evaluation, LogitTransform, Predictions, Run
from counterpoise.core.checks import checked_choice
from counterpoise.core.codec import Artifact
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.metrics import balanced_accuracy, softmax
from counterpoise.posthoc import apply_transforms, prior_after_adjustment, tune_tau, tune_thresholds
from counterpoise.posthoc import fit_temperature as temperature_of
from counterpoise.workflow.evaluation.evaluate import PredictionsLike, as_predictions, counts_by_name, evaluate

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
TuningKind = Literal["tau", "thresholds", "temperature"]
FOLDS = 5
TUNING_FILE = "tuned.json"
_VALIDATION = "predictions-val.npz"
_NORM_TAUS = np.linspace(0.0, 2.0, 41)


@dataclass(frozen=True)
class FittedMethod:
    """A fitted post-hoc method: the parameters it chose, and the steps that transform logits."""

    parameters: dict[str, Any] = field(default_factory=dict)
    transforms: tuple[LogitTransform, ...] = ()

    def apply(self, logits: Logits) -> Logits:
        """Transform the logits of any images."""
        return apply_transforms(logits, self.transforms)


Fitter = Callable[[Logits, Labels], FittedMethod]


@dataclass(frozen=True)
class Tuned(Artifact):
    """What was fitted on the validation images, and the evaluation of one split before and after.

    ``cross_fitted``: the split is validation itself, so every image was transformed by a fit to the other folds.
    """

    versions: ClassVar[tuple[int, ...]] = (1, 2)

    kind: str
    parameters: dict[str, Any]
    cross_fitted: bool
    before: Evaluation
    after: Evaluation
    transforms: tuple[LogitTransform, ...] = ()


@dataclass(frozen=True)
class RunTuning(Artifact):
    """The tuning that is saved in a run folder and that predictions of new images apply, with its values in
    ``transforms``.

    ``prior`` is the class prior in the logits afterwards, empty where it is not known; ``validation`` is the SHA-256 of
    the predictions that were fitted on.
    """

    kind: str
    transforms: tuple[LogitTransform, ...]
    prior: tuple[float, ...]
    validation: str


def tune(
    kind: TuningKind,
    validation: PredictionsLike,
    *,
    other: PredictionsLike | None = None,
    split: str = "test",
    prior: Sequence[float] | NDArray[Any] | None = None,
    **options: Any,
) -> Tuned:
    """Fit a post-hoc method on validation logits, and evaluate before and after.

    Args:
        kind: "tau" (strength of logit adjustment, chosen for balanced accuracy), "thresholds" (one per class, shrunk
            towards a common one), or "temperature" (one per shot group if ``train_counts`` are given).
        validation: a `Predictions`, the path of such an .npz, or ``(logits, labels)``: the images to fit on.
        other: the predictions to transform and evaluate; None for the validation images themselves, each transformed
            by a fit to the other four of five folds, because a fit looks better than it is on the images it was
            fitted to.
        split: the split of ``other``; recorded in the result.
        prior: ``(C,)``, the class prior that the logits contain; required for "tau".
        **options: ``train_counts``, ``train_recall``, ``confidence`` and ``bins`` for `evaluate`.

    Returns:
        The parameters chosen, and two evaluations.

    Raises:
        ArgumentError: an unknown kind, "tau" without a prior, or validation and other have different classes.

    Example:
        >>> logits = np.array([[2.0, 1.0], [2.0, 1.5], [2.0, 0.0], [2.0, 1.6]] * 5)
        >>> result = tune("tau", (logits, [0, 1, 0, 1] * 5), prior=[0.8, 0.2])
        >>> result.parameters["tau"], result.before.balanced_accuracy, result.after.balanced_accuracy
        (0.7, 0.5, 1.0)
    """
    given = as_predictions(validation)
    if options.get("train_counts") is not None:
        options["train_counts"] = counts_by_name(options["train_counts"], tuple(str(name) for name in given.classes))
    fit = _fitter(kind, given, prior, options.get("train_counts"))
    fitted = fit(given.logits, given.labels)
    if other is None:
        before, logits, split = given, cross_fitted(fit, given.logits, given.labels), "val"
    else:
        before = as_predictions(other)
        if before.classes.tolist() != given.classes.tolist():
            raise ArgumentError(
                f"`other` must have the classes of `validation`, {given.classes.tolist()[:10]}; got "
                f"{before.classes.tolist()[:10]}"
            )
        logits = fitted.apply(before.logits)
    return Tuned(
        kind=kind,
        parameters=fitted.parameters,
        cross_fitted=other is None,
        before=evaluate(before, split=split, **options),
        after=evaluate(replace(before, logits=logits), split=split, **options),
        transforms=fitted.transforms,
    )


def save_tuning(tuned: Tuned, folder: str | Path) -> Path:
    """Save what `tune` fitted on the validation predictions of a run in its folder, as tuned.json.

    `counterpoise.load_model` applies it. Tuning that is already there is replaced; to undo it, delete the file.

    Args:
        tuned: the result of `tune` on ``predictions-val.npz`` of this folder.
        folder: the folder of a finished run.

    Returns:
        The file.

    Raises:
        ArtifactError: the folder has no finished run with validation predictions.
    """
    path, run = Path(folder) / TUNING_FILE, Run.load(Path(folder) / "run.json")
    digest = run.digests.get(_VALIDATION)
    if run.status != "done" or digest is None:
        raise ArtifactError(f"{folder} has no finished run with {_VALIDATION}; tuning is saved in a run that has both")
    RunTuning(tuned.kind, tuned.transforms, _prior_after(tuned, run), digest).save(path)
    return path


def read_tuning(folder: str | Path, run: Run) -> RunTuning | None:
    """The tuning saved in a run folder, or None.

    Raises:
        ArtifactError: the file is damaged, or was fitted on other predictions than those of the run.
    """
    path = Path(folder) / TUNING_FILE
    if not path.exists():
        return None
    tuning = RunTuning.load(path)
    if tuning.validation != run.digests.get(_VALIDATION):
        raise ArtifactError(
            f"{path} was fitted on other validation predictions than those of the run; tune again with `counterpoise "
            "evaluate RUN --tune … --save`, or delete the file"
        )
    return tuning


def _prior_after(tuned: Tuned, run: Run) -> tuple[float, ...]:
    """The class prior in the logits after tuning; only that of logit adjustment is known."""
    if tuned.kind != "tau" or not run.prior:
        return ()
    return tuple(prior_after_adjustment(run.prior, tuned.parameters["tau"]).tolist())


def cross_fitted(fit: Fitter, logits: Logits, labels: Labels, *, folds: int = FOLDS) -> Logits:
    """Transform every image by a fit to the other folds, which estimates the fit's value on new images.

    The folds are the same every time, and each class is spread evenly over them. With fewer than two images all logits
    stay as they are.

    Example:
        >>> def fit(z, y):
        ...     return FittedMethod(transforms=(LogitTransform("scale_logits", {"scale": len(y)}),))
        >>> cross_fitted(fit, np.ones((5, 1)), np.zeros(5, int)).T
        array([[4., 4., 4., 4., 4.]])
    """
    transformed = logits.copy()
    rank = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        rank[members] = np.arange(len(members))
    for fold in range(min(folds, len(labels))):
        held_out = rank % folds == fold
        if held_out.any() and not held_out.all():
            transformed[held_out] = fit(logits[~held_out], labels[~held_out]).apply(logits[held_out])
    return transformed


def fit_tau(logits: Logits, labels: Labels, *, prior: NDArray[Any]) -> FittedMethod:
    """The strength of logit adjustment with the best balanced accuracy."""
    tau = tune_tau(logits, labels, prior)
    return _fitted({"tau": tau}, "adjust_logits", prior=prior.tolist(), tau=tau)


def fit_thresholds(logits: Logits, labels: Labels, **options: float) -> FittedMethod:
    """A threshold per class, best for the balanced accuracy of that class against the others; see `tune_thresholds`."""
    t = tune_thresholds(softmax(logits), labels, metric="balanced_accuracy", **options)
    return _fitted({"thresholds": t.tolist()}, "tune_thresholds", thresholds=t.tolist())


def fit_temperature(logits: Logits, labels: Labels, *, groups: dict[str, Any] | None = None) -> FittedMethod:
    """One temperature, or one per group of classes; no prediction changes."""
    t: Any = temperature_of(logits, labels, groups=cast("Any", groups))
    chosen = t if groups is None else {name: float(t[ids[0]]) for name, ids in groups.items() if len(ids)}
    return _fitted({"temperature": chosen}, "temperature", temperature=np.asarray(t).tolist())


def fit_norm(logits: Logits, labels: Labels, *, weight: NDArray[Any], bias: NDArray[Any]) -> FittedMethod:
    """The τ of τ-normalisation with the best balanced accuracy, for a linear head with this weight and bias."""
    return norm_method(best_norm([(logits, labels, weight, bias)]), weight, bias)


def best_norm(parts: Sequence[tuple[Logits, Labels, NDArray[Any], NDArray[Any]]]) -> float:
    """The τ of τ-normalisation with the best balanced accuracy on several parts together (logits, labels, head)."""
    labels = np.concatenate([part[1] for part in parts])

    def score(tau: float) -> float:
        found = [norm_method(tau, weight, bias).apply(logits).argmax(1) for logits, _, weight, bias in parts]
        return balanced_accuracy(labels, np.concatenate(found))

    return max((round(float(t), 12) for t in _NORM_TAUS), key=lambda t: (score(t), -abs(t - 1.0)))


def norm_method(tau: float, weight: NDArray[Any], bias: NDArray[Any]) -> FittedMethod:
    """τ-normalisation with this τ, for a linear head with this weight and bias."""
    norm = np.linalg.norm(weight, axis=1)
    norm = np.where(norm > 0, norm, 1.0)
    return _fitted({"tau": tau}, "tau_normalize", tau=tau, norm=norm.tolist(), bias=bias.tolist())


def _fitted(chosen: dict[str, Any], method: str, **parameters: Any) -> FittedMethod:
    return FittedMethod(chosen, (LogitTransform(method, parameters),))


def _fitter(kind: str, given: Predictions, prior: Any, train_counts: Any) -> Fitter:
    checked_choice("kind", kind, get_args(TuningKind))
    if not len(given.labels):
        raise ArgumentError("`validation` has no images to fit on; pass predictions on a validation split")
    if kind == "thresholds":
        return fit_thresholds
    if kind == "temperature":
        groups = None if train_counts is None else train_counts.groups()
        return lambda z, y: fit_temperature(z, y, groups=groups)
    if prior is None:
        raise ArgumentError("`prior` is missing: to tune tau, pass the class prior that the logits contain")
    return lambda z, y: fit_tau(z, y, prior=np.asarray(prior, dtype=np.float64))
