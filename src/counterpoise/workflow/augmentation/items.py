"""What a balanced copy holds: the number of images per class, and for every file its source and its operations."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoise.augment.operations import OperationName, drawn_operations
from counterpoise.core.codec import Artifact
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.core.images import Symmetry
from counterpoise.workflow.augmentation.folders import unused_path
from counterpoise.workflow.dataset import ImageDataset


@dataclass(frozen=True)
class Augmented(Artifact):
    """A balanced copy of a dataset: images per class before and after, and the number of files.

    Attributes:
        target, seed, splits: as given to `augment`.
        classes: names of the classes.
        before: training images per class in the source.
        after: training images per class in the copy.
        copied: number of files copied from the source, with those of other splits if ``splits`` is set.
        made: number of augmented images.
        quarantined: number of files of the source that cannot be used.
        fingerprint: SHA-256 of the source's classes, paths, labels and splits.
        operations: names of the operations from which each new image draws some.
        strength: strength of the operations; None in the record of an earlier version, which drew other operations.
    """

    target: str
    seed: int
    classes: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    copied: int
    made: int
    quarantined: int
    fingerprint: str
    splits: bool = False
    operations: tuple[str, ...] = ()
    strength: float | None = None


@dataclass(frozen=True)
class Item:
    """A file to write at ``target``: a copy of ``source``, or an augmented image of it if there are operations.

    ``path`` is the path of the source in its dataset; ``symmetries`` are the dataset's label-preserving transforms.
    """

    target: str
    source: str
    path: str
    operations: tuple[OperationName, ...] = ()
    strength: float = 0.0
    seed: int = 0
    symmetries: frozenset[Symmetry] = frozenset()

    def lineage(self, out: Path) -> tuple[str, ...]:
        """The row of this image in augmented.csv."""
        name = self.target.removeprefix(f"{out}/")
        return name, self.path, "+".join(self.operations), str(self.strength), str(self.seed)


def target_counts(counts: ClassCounts, target: str) -> NDArray[np.int64]:
    """Number of training images per class in the copy; a class without images stays empty, and none loses images.

    Example:
        >>> [target_counts(ClassCounts([100, 20, 5]), t).tolist() for t in ("balanced", "count:50", "ratio:10")]
        [[100, 100, 100], [100, 50, 50], [100, 20, 10]]
    """
    n = counts.counts
    kind, _, number = target.partition(":")
    try:
        if target == "balanced":
            level = int(n.max())
        elif kind == "count" and number.isdigit() and int(number) > 0:
            level = int(number)
        elif kind == "ratio" and 1 <= float(number) < np.inf:
            level = int(np.ceil(n.max() / float(number)))
        else:
            raise ValueError
    except ValueError:
        expected = "balanced, count:N or ratio:R with R at least 1"
        raise ArgumentError(f"`target` must be {expected}; got {target!r}") from None
    raised: NDArray[np.int64] = np.where(n > 0, np.maximum(n, level), 0)
    return raised


def items_of(dataset: ImageDataset, out: Path, result: Augmented, operations: tuple[OperationName, ...]) -> list[Item]:
    """The files to write: the originals in the order of the dataset, then the new images, class by class."""
    names: set[str] = set()
    originals: dict[int, list[Item]] = {}
    items, strength = [], result.strength or 0.0
    for i, (label, split) in enumerate(zip(dataset.labels.tolist(), dataset.splits.tolist(), strict=True)):
        if split != "train" and not result.splits:
            continue
        name = dataset.paths[i].rpartition("/")[2]
        target = unused_path(names, f"{out}/{split}/{dataset.classes[label]}", name)
        item = Item(target, str(dataset.file(i)), dataset.paths[i])
        items.append(item)
        if split == "train":
            originals.setdefault(label, []).append(item)
    for label, sources in sorted(originals.items()):
        order = np.random.default_rng((result.seed, label)).permutation(len(sources))
        for k in range(result.after[label] - len(sources)):
            item, copy = sources[order[k % len(sources)]], k // len(sources)
            own_seed = _seed_of(result.seed, item.path, copy)
            target = unused_path(names, item.target.rpartition("/")[0], _new_name(item.target, copy + 1))
            drawn = drawn_operations(own_seed, operations)
            items.append(Item(target, item.source, item.path, drawn, strength, own_seed, dataset.symmetries))
    return items


def _new_name(original: str, number: int) -> str:
    name = original.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    kept = suffix if dot and suffix.lower() in ("jpg", "jpeg", "png") else "png"
    return f"{stem or name}-aug{number:04d}.{kept}"


def _seed_of(seed: int, path: str, copy: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{copy}\0{path}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")
