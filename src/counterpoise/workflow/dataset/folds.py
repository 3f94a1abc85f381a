"""Division of the training and validation images into folds, and views of a dataset with other splits."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Quarantined
from counterpoise.core.checks import checked_count
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, DatasetError
from counterpoise.core.images import LabeledImages, Split, find_duplicates
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.splits import ranks

ALWAYS_TRAIN = -1
"""The fold of the images that are in training in every fold."""


class ResplitImages(LabeledImages):
    """Images of another dataset with other splits; nothing is copied.

    Args:
        source: the dataset.
        splits: the split of each of these images, strings ``(n,)``.
        rows: their indices in ``source``; None for all of its images.
        record: what `to_dict` adds to the record of the source.
    """

    def __init__(
        self,
        source: LabeledImages,
        splits: NDArray[np.str_],
        *,
        rows: NDArray[np.int64] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.source, self.record = source, dict(record or {})
        self.rows = np.arange(len(source)) if rows is None else rows
        self.splits, self.labels = splits, source.labels[self.rows]
        self.paths = source.paths if rows is None else tuple(source.paths[i] for i in rows.tolist())
        self.name, self.classes, self.symmetries = source.name, source.classes, source.symmetries
        self.quarantined, self.findings = source.quarantined, source.findings
        self.num_ignored = source.num_ignored
        groups = getattr(source, "groups", None)
        self.groups = None if groups is None else np.asarray(groups)[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.source[int(self.rows[index])]

    def file(self, index: int) -> str | None:
        """Absolute path of the image file; None if the image is not stored in a file."""
        return self.source.file(int(self.rows[index]))

    def subset(self, split: Split) -> ResplitImages:
        """The images of one split, in order; all classes are kept."""
        inside = self.splits == split
        return self._view(inside)

    def counts(self, split: Split = "train") -> ClassCounts:
        """Number of images per class in one split."""
        return ClassCounts(np.bincount(self.labels[self.splits == split], minlength=len(self.classes)), self.classes)

    def quarantine(self, faults: Mapping[int, str]) -> ResplitImages:
        """The dataset without these images, which are added to ``quarantined``."""
        moved = [
            Quarantined(self.paths[i], faults[i], self.classes[self.labels[i]], str(self.splits[i])) for i in faults
        ]
        inside = np.ones(len(self), dtype=bool)
        inside[list(faults)] = False
        kept = self._view(inside)
        kept.quarantined = tuple(sorted((*self.quarantined, *moved), key=lambda item: item.path))
        return kept

    def without_unreadable(self) -> ResplitImages:
        """The dataset without the images that cannot be decoded; decodes every image once."""
        faults = {}
        for i in range(len(self)):
            try:
                self[i]
            except DatasetError as error:
                faults[i] = str(error)
        return self.quarantine(faults)

    def to_dict(self) -> dict[str, Any]:
        """How the dataset was made, for the record of a run."""
        splits = {split: int((self.splits == split).sum()) for split in ("train", "val", "test")}
        current = {"splits": splits, "num_quarantined": len(self.quarantined)}
        # The own record first: it explains the other differences from another run.
        return {**self.record, **self.source.to_dict(), **current, **self.record}

    def _view(self, inside: NDArray[np.bool_]) -> ResplitImages:
        view = ResplitImages(self.source, self.splits[inside], rows=self.rows[inside], record=self.record)
        view.quarantined, view.findings = self.quarantined, self.findings
        return view


def with_validation(data: LabeledImages) -> ResplitImages:
    """The dataset with the validation images in the training split; the test images stay what they are."""
    splits = np.where(data.splits == "val", "train", data.splits)
    merged = ResplitImages(data, splits, record={"validation_in_training": True})
    # What was found about a validation split does not hold any more.
    merged.findings = tuple(
        f for f in data.findings if not (f.kind in ("split-drawn", "class-too-small-to-split") and "val" in f.reason)
    )
    return merged


@dataclass(frozen=True)
class Folds:
    """Folds of the training images of a dataset.

    Attributes:
        ids: int64 ``(n,)``, the fold of each training image, in the order of ``data.subset("train")``: it is held out
            there and is a training image in the others. `ALWAYS_TRAIN` for images that are never held out.
        units: int64 ``(n,)``, equal for images that stay together: those of one group, and copies of one image.
        number: the number of folds.
    """

    ids: NDArray[np.int64]
    units: NDArray[np.int64]
    number: int

    def split(self, data: LabeledImages, fold: int) -> ResplitImages:
        """The dataset with the images of one fold as its validation split."""
        splits = data.splits.copy()
        train = np.flatnonzero(splits == "train")
        splits[train[self.ids == fold]] = "val"
        digest = hashlib.sha256(self.ids.tobytes()).hexdigest()
        return ResplitImages(data, splits, record={"folds": self.number, "fold": fold, "assignment": digest})

    def units_by_path(self, data: LabeledImages) -> dict[str, int] | None:
        """The unit of each training image by its path; None if every image is a unit of its own."""
        if len(np.unique(self.units)) == len(self.units):
            return None
        return dict(zip(data.subset("train").paths, self.units.tolist(), strict=True))

    def never_scored(self, data: LabeledImages) -> list[str]:
        """A sentence about the classes none of whose images is held out in any fold; empty if there are none."""
        labels = data.subset("train").labels
        scored = np.unique(labels[self.ids != ALWAYS_TRAIN])
        names = [data.classes[c] for c in np.setdiff1d(labels, scored).tolist()]
        if not names:
            return []
        return [
            f"no image of {listed(names, 5)} was held out in any fold, because a class with one image (or one group of "
            "images) is always in training; the scores on validation do not include "
            f"{'this class' if len(names) == 1 else 'these classes'}, so add images"
        ]


def draw_folds(data: LabeledImages, folds: int, *, seed: int | None = None) -> Folds:
    """Divide the training images of a dataset into folds, stratified by class.

    Images with the same entry of ``data.groups``, if the dataset has this attribute, and copies of one image stay
    together. See `assign_folds` for the rules.

    Args:
        data: the dataset; `with_validation` adds its validation images to those that are divided.
        folds: the number of folds, at least 2.
        seed: seed of the assignment; None for that of the splits that `load` set aside, or 0.

    Raises:
        ArgumentError: fewer than two folds, or more than every class has images (or groups of images).

    Example:
        >>> from counterpoise import load
        >>> data = with_validation(load("digits"))
        >>> found = draw_folds(data, 5)
        >>> np.bincount(found.ids).tolist(), data.counts("train").total
        ([116, 116, 116, 116, 115], 579)
    """
    checked_count("folds", folds, minimum=2)
    rows = np.flatnonzero(data.splits == "train")
    copies = [np.searchsorted(rows, group).tolist() for group in find_duplicates(data, among=rows.tolist())]
    groups = getattr(data, "groups", None)
    units = units_of(len(rows), copies, None if groups is None else np.asarray(groups)[rows])
    labels = data.labels[rows]
    largest = max((len(np.unique(units[labels == c])) for c in np.unique(labels)), default=0)
    if folds > largest:
        raise ArgumentError(
            f"`folds` must be at most the number of images of the largest class, {largest} (images of one group and "
            f"copies of one image count once); got {folds}"
        )
    chosen = int(data.to_dict().get("seed") or 0) if seed is None else seed
    ids = assign_folds(labels, [data.paths[i] for i in rows], units=units, folds=folds, seed=chosen)
    if empty := folds - len(np.unique(ids[ids != ALWAYS_TRAIN])):
        raise ArgumentError(
            f"`folds` {folds} leaves {empty} without images, because images of one group stay together; use fewer folds"
        )
    return Folds(ids, units, folds)


def units_of(number: int, copies: Iterable[Sequence[int]], groups: NDArray[Any] | None) -> NDArray[np.int64]:
    """Number the sets of images that stay together, ``(number,)``, in the order of their first images.

    Args:
        number: the number of images.
        copies: the indices of identical images, one sequence per image.
        groups: the group of each image; None if the images have none.

    Example:
        >>> units_of(5, [[0, 3]], np.array(["a", "b", "b", "c", "d"])).tolist()
        [0, 1, 1, 0, 2]
    """
    parent = list(range(number))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[Any, int] = {}
    same = [] if groups is None else [(first.setdefault(group, i), i) for i, group in enumerate(groups.tolist())]
    for a, b in (*same, *((copy[0], other) for copy in copies for other in copy[1:])):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.unique([root(i) for i in range(number)], return_inverse=True)[1].astype(np.int64)


def assign_folds(
    labels: NDArray[np.int64], paths: Sequence[str], *, units: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """Assign each image to a fold, ``(n,)``; `ALWAYS_TRAIN` for the images that are never held out.

    The classes take turns from the rarest to the most frequent. Each of their units (sets of images that stay
    together), in a pseudo-random order of which the larger ones come first, goes to the fold with the fewest images of
    the class, of equal ones to the fold with the fewest images. A class with n units is therefore held out in
    min(n, folds) folds, unless the units have several classes. Where all images of a class would be held out in one
    fold, which leaves none for training, one unit stays in training: so does the only unit of a class.

    The result does not depend on the order of the images or on the version of a random generator.

    Example:
        >>> labels = np.array([0] * 6 + [1] * 2 + [2])
        >>> assign_folds(labels, [f"{i}.png" for i in range(9)], units=np.arange(9), folds=3, seed=0).tolist()
        [2, 1, 2, 0, 1, 0, 1, 0, -1]
    """
    order = np.lexsort((np.array(paths), ranks(paths, seed=seed))).tolist()
    label_of, unit_of = labels.tolist(), units.tolist()
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for i in order:
        counts[unit_of[i]][label_of[i]] += 1
    of_class: dict[int, list[int]] = defaultdict(list)
    for unit, images in counts.items():
        for c in images:
            of_class[c].append(unit)
    fold_of = {found[0]: ALWAYS_TRAIN for found in of_class.values() if len(found) == 1}
    _fill_folds(fold_of, counts, of_class, folds)
    for found in of_class.values():
        if len({fold_of[unit] for unit in found}) == 1:
            fold_of[found[0]] = ALWAYS_TRAIN
    return np.array([fold_of[unit] for unit in unit_of], dtype=np.int64)


def _fill_folds(
    fold_of: dict[int, int], counts: dict[int, Counter[int]], of_class: dict[int, list[int]], folds: int
) -> None:
    """Put each unit that has no fold into one; ``counts`` are the images per class of each unit."""
    in_class: dict[int, list[int]] = defaultdict(lambda: [0] * folds)
    total = [0] * folds
    for c in sorted(of_class, key=lambda c: (len(of_class[c]), c)):
        waiting = [unit for unit in of_class[c] if unit not in fold_of]
        waiting.sort(key=lambda unit: -counts[unit][c])  # stable: equal ones stay in their pseudo-random order
        heap = [(in_class[c][fold], total[fold], fold) for fold in range(folds)]
        heapq.heapify(heap)
        for unit in waiting:
            fold = fold_of[unit] = heap[0][2]
            for other, n in counts[unit].items():
                in_class[other][fold] += n
            total[fold] += counts[unit].total()
            heapq.heapreplace(heap, (in_class[c][fold], total[fold], fold))
