"""The function `evaluate`: every number about one set of predictions, and findings about its classes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import (
    CalibrationBin,
    ClassScore,
    ConfusionMatrix,
    Evaluation,
    Finding,
    GroupScore,
    Predictions,
)
from counterpoise.core.checks import checked_choice
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.files import path_exists
from counterpoise.core.images import SPLITS
from counterpoise.core.text import listed, percent, plural
from counterpoise.metrics import (
    METRICS,
    Tally,
    expected_calibration_error,
    group_recall,
    reliability,
    tally,
    wilson_interval,
)

PredictionsLike = Predictions | str | os.PathLike[str] | tuple[Any, Any]
TrainCounts = ClassCounts | Mapping[str, int]
TrainRecall = Sequence[float | None] | Mapping[str, float | None]


def evaluate(
    predictions: PredictionsLike,
    *,
    split: str = "test",
    train_counts: TrainCounts | None = None,
    train_recall: TrainRecall | None = None,
    confidence: float = 0.95,
    bins: int = 15,
) -> Evaluation:
    """Accuracy, balanced accuracy, recall and precision per class with intervals, calibration, and findings.

    The prediction is ``logits.argmax(1)``, the probabilities are the softmax of the logits; -inf excludes a class.
    A class without images counts in no average. The definitions are those of scikit-learn; see `counterpoise.metrics`
    for each.

    Args:
        predictions: a `Predictions`, the path of such an .npz or of a run's folder (its predictions for ``split``), or
            ``(logits, labels)`` of shapes (N, C) and (N,).
        split: the split of a run's folder to evaluate: "train", "val" or "test". For other predictions the name of the
            split that they belong to; recorded in the result.
        train_counts: images per class in the training split, matched to the classes **by name**; without them
            there are no many/medium/few groups, and overfitting of rare classes is not examined.
        train_recall: recall per class on the training images, in the order of the classes or by name.
        confidence: confidence level of Wilson's intervals.
        bins: number of bins of the calibration error, of equal width.

    Returns:
        The `Evaluation`; a number that is undefined is None.

    Raises:
        ArgumentError: a logit is NaN or +inf (the image is named), the counts have other class names, or a run has no
            such split.
        ArgumentTypeError: predictions of another type.
        ArtifactError: the file cannot be read as predictions.

    Example:
        >>> result = evaluate(([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 1, 1]), train_counts={"0": 500, "1": 10})
        >>> result.balanced_accuracy, result.groups[2].accuracy
        (0.75, 0.5)
    """
    given = as_predictions(predictions, split)
    _check_logits(given)
    names = tuple(str(name) for name in given.classes)
    counts = None if train_counts is None else counts_by_name(train_counts, names)
    recalls = _recall_by_name(train_recall, names)
    predicted = given.logits.argmax(axis=1) if len(given.labels) else given.labels
    t = tally(given.labels, predicted, num_classes=len(names))
    balanced = _number(METRICS["balanced_accuracy"].value(t))
    classes = class_scores(t, names, counts, recalls, confidence)
    return Evaluation(
        split=split,
        num_images=len(given.labels),
        confidence=confidence,
        accuracy=_number(METRICS["accuracy"].value(t)),
        balanced_accuracy=balanced,
        balanced_error=None if balanced is None else 1.0 - balanced,
        macro_f1=_number(METRICS["macro_f1"].value(t)),
        geometric_mean=_number(METRICS["geometric_mean"].value(t)),
        worst_recall=_number(METRICS["worst_recall"].value(t)),
        expected_calibration_error=_number(expected_calibration_error(given.labels, given.logits, bins=bins)),
        classes=classes,
        groups=() if counts is None else group_scores(t, counts),
        confusion=ConfusionMatrix.from_predictions(given.labels, predicted, num_classes=len(names)),
        calibration=_calibration(given, bins),
        findings=findings_of(classes, split, confidence),
    )


def as_predictions(given: PredictionsLike, split: str = "test") -> Predictions:
    """A `Predictions` as it is, from a file or a run's folder, or from ``(logits, labels)`` with classes ``"0", …``."""
    if isinstance(given, Predictions):
        return given
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if path_exists(path) and path.is_dir():
            path /= f"predictions-{checked_choice('split', split, SPLITS)}.npz"
        return Predictions.load(path)
    try:
        logits, labels = (np.asarray(part) for part in given)
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"`predictions` must be Predictions, the path of an .npz, or (logits, labels); got {type(given).__name__}"
        ) from None
    return Predictions.from_arrays(logits, labels)


def _check_logits(given: Predictions) -> None:
    """Refuse images without a finite largest logit: one is NaN or +inf, or all are -inf."""
    if not given.logits.size:
        return
    bad = ~np.isfinite(given.logits.max(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        raise ArgumentError(
            f"`logits` of {str(given.paths[row])!r} (row {row}; {int(bad.sum())} of {len(bad)} images) define no "
            "prediction: one is NaN or +inf, or all are -inf; train again with a lower `learning_rate`"
        )


def counts_by_name(train_counts: TrainCounts, names: tuple[str, ...]) -> ClassCounts:
    """The counts in the order of ``names``; an `ArgumentError` lists the names that differ."""
    counts = ClassCounts(train_counts)
    by_name = dict(zip(counts.names, counts.counts.tolist(), strict=True))
    _check_names("train_counts", tuple(by_name), names)
    return ClassCounts([by_name[name] for name in names], names)


def _recall_by_name(train_recall: TrainRecall | None, names: tuple[str, ...]) -> tuple[float | None, ...]:
    if train_recall is None:
        return (None,) * len(names)
    if isinstance(train_recall, Mapping):
        _check_names("train_recall", tuple(train_recall), names)
        values = [train_recall[name] for name in names]
    else:
        values = list(train_recall)
    if len(values) != len(names):
        raise ArgumentError(f"`train_recall` must have one number per class, {len(names)}; got {len(values)}")
    return tuple(None if value is None else _number(value) for value in values)


def _check_names(argument: str, got: tuple[str, ...], names: tuple[str, ...]) -> None:
    missing, extra = [n for n in names if n not in set(got)], [n for n in got if n not in set(names)]
    if missing or extra:
        raise ArgumentError(
            f"`{argument}` and the predictions must have the same classes; missing from `{argument}`: "
            f"{listed(missing) or 'none'}; only in `{argument}`: {listed(extra) or 'none'}"
        )


def class_scores(
    t: Tally,
    names: tuple[str, ...],
    counts: ClassCounts | None,
    train_recall: tuple[float | None, ...],
    confidence: float,
) -> tuple[ClassScore, ...]:
    """The scores of every class; ``train_recall`` has one value per class."""
    recall = wilson_interval(t.true_positives, t.support, confidence=confidence)
    precision = wilson_interval(t.true_positives, t.predicted, confidence=confidence)
    group_of = {} if counts is None else {int(i): group for group, ids in counts.groups().items() for i in ids}
    scores = []
    for i, name in enumerate(names):
        estimate, in_training = _number(recall.estimate[i]), train_recall[i]
        scores.append(
            ClassScore(
                name=name,
                support=int(t.support[i]),
                predicted=int(t.predicted[i]),
                true_positives=int(t.true_positives[i]),
                false_positives=int(t.predicted[i] - t.true_positives[i]),
                recall=estimate,
                recall_low=_number(recall.low[i]),
                recall_high=_number(recall.high[i]),
                precision=_number(precision.estimate[i]),
                precision_low=_number(precision.low[i]),
                precision_high=_number(precision.high[i]),
                f1=_number(t.f1[i]),
                group=group_of.get(i),
                train_count=None if counts is None else int(counts.counts[i]),
                train_recall=in_training,
                gap=None if estimate is None or in_training is None else in_training - estimate,
            )
        )
    return tuple(scores)


def group_scores(t: Tally, counts: ClassCounts) -> tuple[GroupScore, ...]:
    """The mean recall of the classes with many, medium and few training images."""
    ids = np.arange(counts.num_classes)
    return tuple(
        GroupScore(
            group=group,
            classes=tuple(counts.names[i] for i in members),
            support=int(t.support[members].sum()),
            accuracy=_number(group_recall(np.isin(ids, members)).value(t)),
        )
        for group, members in counts.groups().items()
    )


def _calibration(given: Predictions, bins: int) -> tuple[CalibrationBin, ...]:
    table = reliability(given.labels, given.logits, bins=bins)
    return tuple(
        CalibrationBin(
            low=float(table.edges[b]),
            high=float(table.edges[b + 1]),
            count=int(table.count[b]),
            confidence=_number(table.confidence[b]),
            accuracy=_number(table.accuracy[b]),
        )
        for b in range(bins)
    )


def _number(value: float | NDArray[np.float64]) -> float | None:
    """A float, or None if the number is undefined."""
    number = float(value)
    return None if math.isnan(number) else number


# A rare class is overfit if nearly all of its training images are recognised, many of its new images are not, and the
# small number of new images cannot explain that: the interval of the recall ends below the recall in training.
MIN_TRAIN_RECALL = 0.9
MIN_GAP = 0.2
RARE_GROUPS = ("few", "medium")


def findings_of(classes: Sequence[ClassScore], split: str, confidence: float) -> tuple[Finding, ...]:
    """Findings about the classes of one split, at most one of each kind."""
    if not any(c.support for c in classes):
        reason = f"there is no image in {split}, so no number is defined; evaluate a split with images"
        return (Finding("no-images", "error", reason),)
    found = (
        _absent([c for c in classes if c.support == 0], split),
        _constant([c for c in classes if c.predicted], classes, split),
        _never_predicted([c for c in classes if c.support and not c.predicted], split),
        _overfit([c for c in classes if is_overfit(c)], split, confidence),
    )
    return tuple(finding for finding in found if finding is not None)


def is_overfit(c: ClassScore) -> bool:
    """Whether a rare class has a high recall in training and a significantly lower one here."""
    if c.group not in RARE_GROUPS or c.train_recall is None or c.gap is None or c.recall_high is None:
        return False
    return c.train_recall >= MIN_TRAIN_RECALL and c.gap >= MIN_GAP and c.recall_high < c.train_recall


def _absent(absent: list[ClassScore], split: str) -> Finding | None:
    if not absent:
        return None
    predicted = [c for c in absent if c.predicted]
    reason = f"no image in {split}: {_names(absent)}. Such a class has no recall and counts in no average"
    if predicted:
        times = sum(c.predicted for c in predicted)
        reason += f"; it is predicted nevertheless ({plural(times, 'time')}): {_names(predicted)}"
    return Finding("absent-class", "warning", f"{reason}. Add images of it to the split", _about(absent))


def _constant(predicted: list[ClassScore], classes: Sequence[ClassScore], split: str) -> Finding | None:
    if len(predicted) != 1 or sum(c.support > 0 for c in classes) < 2:
        return None
    reason = (
        f"every image in {split} is predicted as {predicted[0].name!r}; train for more `epochs`, or compensate the "
        "imbalance less"
    )
    return Finding("constant", "warning", reason, _about(predicted))


def _never_predicted(never: list[ClassScore], split: str) -> Finding | None:
    if not never:
        return None
    reason = (
        f"never predicted in {split}, so the recall is 0 and the precision is undefined: {_names(never)}; use a "
        "strategy that compensates the imbalance, such as logit-adjusted"
    )
    return Finding("never-predicted", "warning", reason, _about(never))


def _overfit(classes: list[ClassScore], split: str, confidence: float) -> Finding | None:
    if not classes:
        return None
    worst = sorted(classes, key=lambda c: -(c.gap or 0.0))
    numbers = "; ".join(
        f"{c.name!r} {percent(c.train_recall, 0)} in training, {percent(c.recall, 0)} in {split} "
        f"[{percent(c.recall_low, 0)}, {percent(c.recall_high, 0)}]"
        for c in worst[:5]
    )
    more = f"; and {len(worst) - 5} more" if len(worst) > 5 else ""
    reason = (
        "the model overfits rare classes: it recognises their training images and not the new ones "
        f"(recall with its {percent(confidence, 0)} interval): {numbers}{more}. Add images of these classes, or use "
        "milder weights or more augmentation"
    )
    return Finding("overfit", "warning", reason, _about(worst))


def _names(classes: Sequence[ClassScore]) -> str:
    return listed(c.name for c in classes)


def _about(classes: Sequence[ClassScore]) -> tuple[str, ...]:
    return tuple(c.name for c in classes)
