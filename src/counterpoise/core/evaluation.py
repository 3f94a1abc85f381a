"""`Evaluation`: the metrics of one set of predictions, per class, per group and over all images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from counterpoise.core.audit import Finding
from counterpoise.core.codec import COLUMNS, Artifact
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.core.errors import ArgumentError


@dataclass(frozen=True)
class ClassScore:
    """One class on one split, with Wilson intervals; None where a rate is undefined.

    ``gap`` is ``train_recall`` minus ``recall``: large and positive where the model overfits the class.
    """

    name: str
    support: int
    predicted: int
    true_positives: int
    false_positives: int
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    f1: float | None
    group: str | None = None
    train_count: int | None = None
    train_recall: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class GroupScore:
    """One group of classes (many, medium or few): the mean recall of its classes that have images in this split."""

    group: str
    classes: tuple[str, ...]
    support: int
    accuracy: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose highest probability is in (low, high]: their number, mean confidence and accuracy."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation(Artifact):
    """All metrics of one set of predictions. Rates are in [0, 1].

    ``confusion[i][j]`` is the number of images of class i that are predicted as class j; rows of counts are converted
    to a `ConfusionMatrix`. Averages leave out classes that are absent from the labels. ``worst_recall`` is the smallest
    recall of a class that has images; None in files of versions that did not record it.

    Files with at most 100 classes have format version 1. With more classes they have version 2: ``classes`` has one
    list per attribute, and the matrix is in a file of arrays beside the JSON file; see `Artifact.save`.

    Raises:
        ArgumentError: the matrix is not of these classes.
    """

    versions: ClassVar[tuple[int, ...]] = (1, 2)

    split: str
    num_images: int
    confidence: float
    accuracy: float | None
    balanced_accuracy: float | None
    balanced_error: float | None
    macro_f1: float | None
    geometric_mean: float | None
    expected_calibration_error: float | None
    classes: tuple[ClassScore, ...] = field(metadata=COLUMNS)
    groups: tuple[GroupScore, ...]
    confusion: ConfusionMatrix
    calibration: tuple[CalibrationBin, ...]
    findings: tuple[Finding, ...] = ()
    worst_recall: float | None = None

    def __post_init__(self) -> None:
        given: Any = self.confusion
        if not isinstance(given, ConfusionMatrix):
            object.__setattr__(self, "confusion", ConfusionMatrix.from_dense(given))
        if self.classes and len(self.confusion) not in (0, len(self.classes)):
            raise ArgumentError(
                f"`confusion` must be of {len(self.classes)} classes, as `classes`; got {len(self.confusion)}"
            )
