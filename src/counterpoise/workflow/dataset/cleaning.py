"""Leave out of a dataset what would harm training: classes without images, and copies of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from counterpoise.core.artifacts import Finding
from counterpoise.core.images import SPLITS, find_duplicates
from counterpoise.core.text import listed, plural
from counterpoise.workflow.dataset.images import ImageDataset

_KEEP = "or set `keep_empty_classes=True` (--keep-empty-classes) to keep empty classes with count 0"


def without_empty_classes(dataset: ImageDataset) -> ImageDataset:
    """The dataset without the classes that have no image in any split, which a finding names."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    empty = [dataset.classes[c] for c in np.flatnonzero(counts == 0).tolist()]
    if not empty:
        return dataset
    number = np.cumsum(counts > 0) - 1
    kept = replace(
        dataset,
        classes=tuple(name for name, n in zip(dataset.classes, counts.tolist(), strict=True) if n),
        labels=number[dataset.labels],
    )
    excluded = plural(len(empty), "class has no image and is excluded", "classes have no image and are excluded")
    damaged = [name for name in empty if any(item.label == name for item in dataset.quarantined)]
    reason = f"{excluded}: {listed(empty, 5)}."
    reason += f" All files of {listed(damaged, 5)} are quarantined." if damaged else ""
    kept.findings += (Finding("empty-classes-excluded", "warning", f"{reason} Add images, {_KEEP}.", tuple(empty)),)
    return kept


def without_duplicates(dataset: ImageDataset) -> ImageDataset:
    """The dataset without copies of images, which become quarantined; a finding says how many.

    Of images with identical content, one remains, of the test split rather than of the validation split, and of the
    validation split rather than of the training split. None remains if the labels differ.
    """
    faults: dict[int, str] = {}
    numbers: Counter[str] = Counter()
    for group in find_duplicates(dataset, changed=False):
        for row, kind, reason in _excluded_copies(dataset, group):
            faults[row] = reason
            numbers[kind] += 1
    kept = dataset.quarantine(faults) if faults else dataset
    parts = [f"{n} {kind}" for kind in (_CONFLICT, _LEAK, _REPEAT) if (n := numbers[kind])]
    reason = f"{plural(len(faults), 'copy', 'copies')} of images {'is' if len(faults) == 1 else 'are'} excluded"
    reason = (
        f"{reason}: {', '.join(parts)}." if parts else "No image has a copy, so `exclude_duplicates` excludes none."
    )
    kept.findings += (Finding("duplicates-excluded", "info", reason),)
    return kept


_CONFLICT, _LEAK, _REPEAT = "with different labels", "in another split", "in the same class and split"


def _excluded_copies(dataset: ImageDataset, group: Sequence[int]) -> list[tuple[int, str, str]]:
    """The rows of a group of identical images that are excluded, each with the kind and the reason."""
    labels = dict.fromkeys(dataset.classes[dataset.labels[row]] for row in group)
    if len(labels) > 1:
        reason = f"The image is in the dataset with the labels {listed(labels)}. Keep the right one."
        return [(row, _CONFLICT, reason) for row in group]
    kept = max(group, key=lambda row: (SPLITS.index(dataset.splits[row]), -row))
    excluded = []
    for row in group:
        same = dataset.splits[row] == dataset.splits[kept]
        reason = f"The image is a copy of {dataset.paths[kept]!r}" + ("" if same else f" in {dataset.splits[kept]}")
        if row != kept:
            excluded.append((row, _REPEAT if same else _LEAK, f"{reason}. Delete it."))
    return excluded
