"""`audit`: counts, imbalance, the accuracy of a constant prediction, and findings about a dataset."""

from __future__ import annotations

import math
import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import AuditResult, ClassAudit, Example, Finding, Quarantined
from counterpoise.core.counts import FEW, MANY, ClassCounts
from counterpoise.core.errors import DatasetError
from counterpoise.core.images import SPLITS, SYMMETRIES, LabeledImages, Split, find_duplicates
from counterpoise.core.text import listed, plural
from counterpoise.workflow.dataset import as_dataset

Counts = dict[Split, ClassCounts]
_MOST_PAIRED = 40
"""The finding of repeated images names this many: an image, a copy of it, the next image, and so on."""
_MOST_EXEMPLIFIED = 100
"""With more classes than this, only the largest and the rarest ones have an example, half each."""


def audit(
    data: LabeledImages | str | os.PathLike[str],
    *,
    duplicates: bool = True,
    deep: bool = False,
    many: int = MANY,
    few: int = FEW,
) -> AuditResult:
    """Count the images of a dataset, measure its imbalance, and list what is wrong with it.

    Args:
        data: a dataset, or a source that `counterpoise.load` takes.
        duplicates: whether to search for images with identical content, which reads the files of equal size.
        deep: whether to decode every image; those that cannot be decoded are quarantined.
        many: a class with more training images than this is in the group "many".
        few: a class with fewer training images than this is in the group "few", others in "medium".

    Returns:
        An `AuditResult`, with counts, groups, the accuracy of a constant prediction, and findings.

    Raises:
        DatasetError: the dataset has no classes, or the source cannot be loaded.
        ArgumentTypeError: ``data`` is not a dataset.
        ArgumentError: ``few`` exceeds ``many``.

    Example:
        >>> from counterpoise import load
        >>> result = audit(load("digits"))
        >>> result.imbalance_ratio, result.constant_class, result.constant_accuracy
        (30.0, '0', 0.1)
    """
    dataset = as_dataset(data)
    if not dataset.classes:
        raise DatasetError(f"{dataset.name!r} has no classes; add one folder per class, or rows with labels")
    if deep:
        dataset = dataset.without_unreadable()
    counts: Counts = {split: dataset.counts(split) for split in SPLITS}
    ids = counts["train"].groups(many, few)
    groups = {group: tuple(dataset.classes[c] for c in ids[group].tolist()) for group in ids}
    ratio = counts["train"].imbalance_ratio
    reference: Split = next((split for split in reversed(SPLITS) if counts[split].total), "train")
    constant = int(np.argmax(counts["train"].counts))
    accuracy, balanced = _constant_prediction(counts[reference].counts, constant)
    copies = find_duplicates(dataset) if duplicates else []
    about_copies = _duplicate_findings(dataset, copies)
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
        findings=(
            *dataset.findings,
            *_missing_splits(counts),
            *_missing_classes(counts),
            *_similar_names(dataset.classes),
            *_quarantined_files(dataset.quarantined),
            *about_copies,
        ),
        quarantined=dataset.quarantined,
        num_files=len(dataset) + len(dataset.quarantined) + dataset.num_ignored,
        num_ignored=dataset.num_ignored,
        symmetries=tuple(name for name in SYMMETRIES if name in dataset.symmetries),
        examples=_examples(dataset, copies, about_copies),
    )


def warn_of_errors(audited: AuditResult, activity: str, *, stacklevel: int) -> None:
    """Warn that ``activity``, such as "the training", goes on although the data have errors, and say what to do."""
    faults = [finding for finding in audited.findings if finding.severity == "error"]
    if faults:
        more = f" (and {plural(len(faults) - 1, 'more error')})" if len(faults) > 1 else ""
        advice = "`counterpoise audit` lists all findings"
        if any(finding.kind.startswith("same-image") for finding in faults):
            advice += ", and `exclude_duplicates=True` (--exclude-duplicates) leaves copies of images out"
        warnings.warn(
            f"{activity} goes on although the audit found an error in the data: {faults[0].reason.rstrip('.')}"
            f"{more}; {advice}",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _constant_prediction(counts: NDArray[np.int64], constant: int) -> tuple[float | None, float | None]:
    """Accuracy n_k/n and balanced accuracy 1/(number of classes present) of always predicting class k."""
    if not counts.sum():
        return None, None
    present = bool(counts[constant])
    return float(counts[constant] / counts.sum()), float(present / np.count_nonzero(counts))


def _classes(counts: Counts, groups: dict[str, tuple[str, ...]]) -> tuple[ClassAudit, ...]:
    group_of = {name: group for group, names in groups.items() for name in names}
    train, val, test = (counts[split].counts.tolist() for split in SPLITS)
    total = sum(train)
    return tuple(
        ClassAudit(name, train[c], val[c], test[c], train[c] / total if total else None, group_of[name])
        for c, name in enumerate(counts["train"].names)
    )


def _missing_splits(counts: Counts) -> list[Finding]:
    consequence = {
        "train": "so no model can be trained. Add a folder train, or rows with the split train",
        "val": "so no strategy can be selected. Add one, or let it be drawn with `val_fraction` (--val-fraction)",
        "test": "so no test metrics can be reported. Add one",
    }
    return [
        Finding("no-split", "warning", f"The data have no {split} split, {consequence[split]}.", (split,))
        for split in SPLITS
        if not counts[split].total
    ]


def _missing_classes(counts: Counts) -> list[Finding]:
    findings = []
    for split in SPLITS:
        if counts[split].total and (names := counts[split].empty):
            number = plural(len(names), "class has", "classes have")
            reason = f"{number} no image in {split}: {listed(names, 5)}. Add images."
            findings.append(Finding("class-missing-from-split", "warning", reason, names))
    return findings


def _similar_names(classes: Sequence[str]) -> list[Finding]:
    """Findings about class names that differ only in case, spaces or Unicode form."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    reason = "The class names {} differ only in case or spaces. Rename them alike if they are one class."
    return [
        Finding("class-name-twins", "warning", reason.format(listed(names, 5)), tuple(names))
        for names in alike.values()
        if len(names) > 1
    ]


def _quarantined_files(quarantined: Sequence[Quarantined]) -> list[Finding]:
    if not quarantined:
        return []
    number = plural(len(quarantined), "file is", "files are")
    reason = f"{number} quarantined and not used; the first is {quarantined[0].path!r}: {quarantined[0].reason}"
    return [Finding("quarantined-files", "warning", reason, tuple(item.path for item in quarantined[:20]))]


def _duplicate_findings(data: LabeledImages, copies: list[list[int]]) -> list[Finding]:
    """Findings about identical images: errors if they differ in label or split, else information."""
    findings: list[Finding] = []
    repeated = 0
    pairs: list[str] = []
    for group in copies:
        paths = tuple(data.paths[i] for i in group)
        classes, labelled = _one_of_each([data.classes[data.labels[i]] for i in group], paths)
        splits, placed = _one_of_each([str(data.splits[i]) for i in group], paths)
        if len(classes) > 1:
            reason = f"{listed(labelled, 3)} are the same image with the labels {listed(classes)}. Keep one label."
            findings.append(Finding("same-image-two-classes", "error", reason, paths))
        if len(splits) > 1:
            reason = f"{listed(placed, 3)} are the same image in {' and '.join(splits)}. Keep it in one split only."
            findings.append(Finding("same-image-two-splits", "error", reason, paths))
        if len(classes) == len(splits) == 1:
            repeated += len(group) - 1
            pairs += [path for copy in paths[1:] for path in (paths[0], copy)]
    if repeated:
        reason = f"{plural(repeated, 'image repeats', 'images repeat')} another image of the same class and split"
        reason += ". Remove the copies if they are not intended."
        findings.append(Finding("repeated-images", "info", reason, tuple(pairs[:_MOST_PAIRED])))
    return findings


def _examples(data: LabeledImages, copies: list[list[int]], findings: Sequence[Finding]) -> tuple[Example, ...]:
    """The first training image of the largest and the rarest classes, and the copies that the findings name."""
    training = np.flatnonzero(np.asarray(data.splits) == "train")[::-1]
    first = np.full(len(data.classes), -1)
    first[np.asarray(data.labels)[training]] = training  # of several rows the last one stays, which is the first image
    largest_first = np.argsort(-data.counts("train").counts, kind="stable")
    if len(first) > _MOST_EXEMPLIFIED:
        first[largest_first[_MOST_EXEMPLIFIED // 2 : -_MOST_EXEMPLIFIED // 2]] = -1
    named = {path for finding in findings for path in finding.about}
    rows = [*first[first >= 0].tolist(), *(row for group in copies for row in group if data.paths[row] in named)]
    return tuple(
        Example(data.paths[row], data.classes[data.labels[row]], str(data.splits[row])) for row in dict.fromkeys(rows)
    )


def _one_of_each(values: Sequence[str], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The distinct values, and the paths with the first path of each value in front, in the same order."""
    first = dict(zip(reversed(values), reversed(paths), strict=True))
    distinct = list(dict.fromkeys(values))
    front = [first[value] for value in distinct]
    return distinct, [*front, *(path for path in paths if path not in front)]
