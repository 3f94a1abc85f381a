"""Draw the splits that a source does not have: stratified by class, and the same on every machine for one seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding
from counterpoise.core.errors import DatasetError
from counterpoise.core.images import Split, find_duplicates
from counterpoise.core.lineage import LINEAGE_FILE, is_lineage
from counterpoise.core.text import listed, percent
from counterpoise.workflow.dataset.images import ImageDataset

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of the splits in folders and manifests, in lower case."""


def draw_missing_splits(dataset: ImageDataset, fractions: Mapping[Split, float], seed: int) -> None:
    """Move the share ``fractions`` of the training images of each class to new splits, and record that as findings.

    Raises:
        DatasetError: the folder was made by `augment`, so that copies of one image could be in two splits.
    """
    fractions = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    dataset.origin["drawn"] = sorted(fractions)
    if not fractions:
        return
    if dataset.root is not None and (record := _lineage_of(dataset.root)):
        raise DatasetError(
            f"{dataset.name!r} has augmented images (see {str(record)!r}), so copies of one image could be drawn into "
            "two splits; make the copy again with `splits=True` (--with-splits), or add val and test beside train"
        )
    rows = np.flatnonzero(dataset.splits == "train")
    labels, paths = dataset.labels[rows], [dataset.paths[i] for i in rows]
    groups = find_duplicates(dataset, among=rows.tolist(), changed=False)
    identical = [np.searchsorted(rows, group).tolist() for group in groups]
    splits = dataset.splits.copy()
    splits[rows] = draw(labels, paths, fractions=fractions, seed=seed, identical=identical)
    splits.setflags(write=False)
    dataset.splits = splits
    for split, fraction in fractions.items():
        share = f"{percent(fraction, 0)} of the images of each class, seed {seed}"
        advice = f"Add a {split} split to the data to choose its images yourself."
        reason = f"The split {split} was set aside automatically: {share}. {advice}"
        dataset.findings += (Finding("split-drawn", "info", reason, (split,)),)
    dataset.findings += unrepresented(labels, splits[rows], dataset.classes, list(fractions))


def _lineage_of(root: Path) -> Path | None:
    """The lineage file in the folder or in the one above it, if `augment` made the folder; else None."""
    return next((path for path in (root / LINEAGE_FILE, root.parent / LINEAGE_FILE) if is_lineage(path)), None)


def draw(
    labels: NDArray[np.int64],
    paths: Sequence[str],
    *,
    fractions: Mapping[Split, float],
    seed: int,
    identical: Iterable[Sequence[int]] = (),
) -> NDArray[np.str_]:
    """Draw ``(N,)`` split names: each class is divided by `sizes`, its images taken in the order of `ranks`.

    The result does not depend on the order of the images, on other classes, or on the version of a random generator. Of
    each group in ``identical``, images with the same content, the first by rank is drawn and the others are put into
    its split, so that no image is in both training and test.

    Example:
        >>> labels = np.array([0] * 10 + [1] * 2)
        >>> splits = draw(labels, [f"{i}.png" for i in range(12)], fractions={"val": 0.2}, seed=0)
        >>> [int((splits[labels == c] == "val").sum()) for c in (0, 1)]
        [2, 1]
    """
    splits = np.full(len(labels), "train", dtype="<U5")
    rank = ranks(paths, seed=seed)
    leader = np.arange(len(labels))
    for group in identical:
        leader[list(group)] = min(group, key=lambda i: (rank[i], paths[i]))
    leaders = np.flatnonzero(leader == np.arange(len(labels)))
    order = leaders[np.lexsort((rank[leaders], labels[leaders]))]
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        val, test = sizes(len(rows), val=fractions.get("val", 0.0), test=fractions.get("test", 0.0))
        splits[rows[:test]] = "test"
        splits[rows[test : test + val]] = "val"
    return splits[leader]


def ranks(paths: Iterable[str], *, seed: int) -> NDArray[np.uint64]:
    """A pseudo-random number for each path, which depends only on the path and the seed."""
    key = str(seed).encode()
    names = (path.encode("utf-8", "surrogateescape") for path in paths)
    digests = b"".join([hashlib.blake2b(name, digest_size=8, key=key).digest() for name in names])
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def sizes(n: int, *, val: float, test: float) -> tuple[int, int]:
    """Numbers of validation and test images of a class with ``n`` images.

    They are the nearest whole numbers, but at least one image remains for training and, if there are enough, at least
    one is for validation and then one for the test.

    Example:
        >>> [sizes(n, val=0.2, test=0.2) for n in (1, 2, 3, 100)]
        [(0, 0), (1, 0), (1, 1), (20, 20)]
    """
    least_val = int(val > 0 and n >= 2)
    least_test = int(test > 0 and n >= 2 + least_val)
    n_val, n_test = max(least_val, math.floor(n * val + 0.5)), max(least_test, math.floor(n * test + 0.5))
    while n_val + n_test > max(n - 1, 0):  # rounding took one image too many: reduce the larger split
        if n_test > least_test and (n_test >= n_val or n_val <= least_val):
            n_test -= 1
        else:
            n_val -= 1
    return n_val, n_test


def unrepresented(
    labels: NDArray[np.int64], splits: NDArray[np.str_], classes: Sequence[str], drawn: Sequence[Split]
) -> tuple[Finding, ...]:
    """Findings about the classes that have images, but none in a split that was drawn."""
    available = np.bincount(labels, minlength=len(classes))
    findings = []
    for split in drawn:
        in_split = np.bincount(labels[splits == split], minlength=len(classes))
        names = tuple(classes[c] for c in np.flatnonzero((in_split == 0) & (available > 0)).tolist())
        if names:
            reason = f"These classes have too few images for one in {split}: {listed(names, 5)}. Add images of them."
            findings.append(Finding("class-too-small-to-split", "warning", reason, names))
    return tuple(findings)
