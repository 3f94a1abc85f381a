"""Evaluations of several seeds put together, for display. The numbers seed by seed are in the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from counterpoise.core.artifacts import CalibrationBin, Evaluation
from counterpoise.metrics import wilson_interval
from counterpoise.workflow.report.text import number

__all__ = ["ClassMean", "calibration_sum", "class_means", "confusion_sum", "mean"]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there; None where nothing is."""
    known = [v for v in map(number, values) if v is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class ClassMean:
    """One class over seeds: every field is the mean of the seeds' values.

    The interval is Wilson's for the mean recall on the images of one seed: the seeds share them, so more seeds do not
    make it narrower.
    """

    recall: float | None
    low: float | None
    high: float | None
    train_recall: float | None
    gap: float | None
    support: int


def class_means(evaluations: Sequence[Evaluation], index: int) -> ClassMean:
    """Class ``index`` over the evaluations of one strategy."""
    scores = [e.classes[index] for e in evaluations if index < len(e.classes)]
    recall, images = mean(s.recall for s in scores), scores[0].support if scores else 0
    low = high = None
    if recall is not None and images:
        wilson = wilson_interval(recall * images, images, confidence=evaluations[0].confidence)
        low, high = float(wilson.low), float(wilson.high)
    return ClassMean(
        recall=recall,
        low=low,
        high=high,
        train_recall=mean(s.train_recall for s in scores),
        gap=mean(s.gap for s in scores),
        support=images,
    )


def confusion_sum(evaluations: Sequence[Evaluation], true: int, predicted: int) -> int:
    """Images of class ``true`` taken for class ``predicted``, over all seeds."""
    return sum(e.confusion[true][predicted] for e in evaluations if e.confusion)


def calibration_sum(evaluations: Sequence[Evaluation]) -> list[CalibrationBin]:
    """Bins over all seeds: counts added, confidence and accuracy weighted by them."""
    bins = []
    for same in zip(*(e.calibration for e in evaluations), strict=False):
        n = sum(b.count for b in same)
        sure = sum((number(b.confidence) or 0.0) * b.count for b in same)
        right = sum((number(b.accuracy) or 0.0) * b.count for b in same)
        bins.append(CalibrationBin(same[0].low, same[0].high, n, sure / n if n else None, right / n if n else None))
    return bins
