"""audit: count, compare with a constant prediction, and name what is wrong."""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import AuditResult, ClassAudit, Finding, Quarantined
from counterpoise.core.counts import FEW, MANY, ClassCounts
from counterpoise.core.errors import DatasetError
from counterpoise.core.images import SPLITS, LabeledImages, Split, checked_dataset
from counterpoise.workflow.audit.duplicates import duplicate_findings

__all__ = ["audit"]

Counts = dict[Split, ClassCounts]


def audit(
    data: LabeledImages,
    *,
    duplicates: bool = True,
    deep: bool = False,
    many: int = MANY,
    few: int = FEW,
) -> AuditResult:
    """State the facts about a dataset: counts, imbalance, what a constant prediction would reach, what is wrong.

    Args:
        data: a dataset, as `load` returns it.
        duplicates: also look for images with the same content, which means reading the files.
        deep: also decode every image; those that cannot be decoded are quarantined.
        many, few: classes with more than ``many`` training images are "many", with fewer than ``few`` "few".

    Returns:
        An `AuditResult`; each finding has its kind, severity, reason and what it is about.

    Raises:
        DatasetError: the dataset has no classes.
        ArgumentTypeError: ``data`` is no dataset.
        ArgumentError: ``few`` exceeds ``many``.

    Example:
        >>> from counterpoise import load
        >>> result = audit(load("digits"))
        >>> result.imbalance_ratio, result.constant_class, result.constant_accuracy
        (30.0, '0', 0.1)
    """
    dataset = checked_dataset(data)
    if not dataset.classes:
        raise DatasetError(f"{dataset.name!r} has no classes; add one folder per class, or rows with labels")
    if deep:
        dataset = dataset.without_unreadable()
    counts: Counts = {split: dataset.counts(split) for split in SPLITS}
    groups = {group: _names(dataset, ids) for group, ids in counts["train"].groups(many, few).items()}
    ratio = counts["train"].imbalance_ratio
    reference, constant = _reference(counts), int(np.argmax(counts["train"].counts))
    accuracy, balanced = _constant_prediction(counts[reference].counts, constant)
    return AuditResult(
        name=dataset.name,
        source=str(dataset.to_dict().get("source", dataset.name)),
        num_images=len(dataset),
        splits={split: counts[split].total for split in SPLITS},
        classes=_classes(counts, groups),
        imbalance_ratio=None if math.isnan(ratio) else ratio,
        groups=groups,
        reference_split=reference,
        constant_class=dataset.classes[constant],
        constant_accuracy=accuracy,
        constant_balanced_accuracy=balanced,
        findings=_findings(dataset, counts, duplicates=duplicates),
        quarantined=dataset.quarantined,
        num_files=len(dataset) + len(dataset.quarantined) + dataset.num_ignored,
        num_ignored=dataset.num_ignored,
    )


def _reference(counts: Counts) -> Split:
    """The split that a constant prediction is scored on: test, or validation, or training where there is no other."""
    for split in reversed(SPLITS):
        if counts[split].total:
            return split
    return "train"


def _constant_prediction(counts: NDArray[np.int64], constant: int) -> tuple[float | None, float | None]:
    """Accuracy n_k/n and balanced accuracy 1/(classes present) of always answering k; 0 where k itself is absent."""
    if not counts.sum():
        return None, None
    hit = bool(counts[constant])
    return float(counts[constant] / counts.sum()), float(hit / np.count_nonzero(counts))


def _classes(counts: Counts, groups: dict[str, tuple[str, ...]]) -> tuple[ClassAudit, ...]:
    group_of = {name: group for group, names in groups.items() for name in names}
    train, val, test = (counts[split].counts.tolist() for split in SPLITS)
    total = sum(train)
    return tuple(
        ClassAudit(name, train[c], val[c], test[c], train[c] / total if total else None, group_of[name])
        for c, name in enumerate(counts["train"].names)
    )


def _findings(dataset: LabeledImages, counts: Counts, *, duplicates: bool) -> tuple[Finding, ...]:
    findings = list(dataset.findings)
    findings += _missing_splits(counts)
    findings += [
        _missing_classes(split, counts[split]) for split in SPLITS if counts[split].total and counts[split].empty
    ]
    findings += _name_twins(dataset.classes)
    findings += _unreadable(dataset.quarantined)
    findings += duplicate_findings(dataset) if duplicates else []
    return tuple(findings)


def _missing_splits(counts: Counts) -> list[Finding]:
    meaning = {"train": "nothing can be trained", "val": "nothing can be selected", "test": "nothing can be reported"}
    return [
        Finding("no-split", "warning", f"there is no {split} split: {meaning[split]}", (split,))
        for split in SPLITS
        if not counts[split].total
    ]


def _missing_classes(split: Split, counts: ClassCounts) -> Finding:
    reason = f"{_number(counts.empty, 'class has', 'classes have')} no image in {split}: {_some(counts.empty)}"
    return Finding("class-missing-from-split", "warning", reason, counts.empty)


def _name_twins(classes: Sequence[str]) -> list[Finding]:
    """Names that differ in case, blanks or Unicode form alone: most likely one class."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [
        Finding(
            "class-name-twins", "warning", f"{_some(twins)} differ in case or blanks alone: one class?", tuple(twins)
        )
        for twins in alike.values()
        if len(twins) > 1
    ]


def _unreadable(quarantined: Sequence[Quarantined]) -> list[Finding]:
    if not quarantined:
        return []
    first = quarantined[0]
    reason = f"{_number(quarantined, 'file was', 'files were')} left out; the first, {first.path!r}: {first.reason}"
    return [Finding("quarantined-files", "warning", reason, tuple(item.path for item in quarantined[:20]))]


def _number(items: Sequence[object], one: str, several: str) -> str:
    return f"{len(items)} {one if len(items) == 1 else several}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" …" if len(names) > 5 else "")


def _names(dataset: LabeledImages, ids: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(dataset.classes[c] for c in ids.tolist())
