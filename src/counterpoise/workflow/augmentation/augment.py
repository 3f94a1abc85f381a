"""augment: a balanced copy of the training split; the source is only read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterpoise.augment.operations import allowed_operations
from counterpoise.core.codec import Artifact
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.files import LOCK, claim, locked, read_json, write_json
from counterpoise.core.lineage import FILE, write_lineage
from counterpoise.core.processes import workers
from counterpoise.workflow.augmentation.making import Item, drawn_operations, make
from counterpoise.workflow.dataset import load
from counterpoise.workflow.dataset.images import ImageDataset

__all__ = ["Augmented", "augment", "preview"]

FEW = 200
"""Up to this many files are written by this process: starting others takes longer."""
PART = 16
"""Files that a process is given at once."""


@dataclass(frozen=True)
class Augmented(Artifact):
    """What was made: images per class before and after, and how many files were copied and made.

    ``made`` counts new images, ``copied`` originals (those of other splits too, where they were asked for);
    ``quarantined`` the files that the dataset left out; ``operations`` are those that new images are made with.
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


def augment(
    data: ImageDataset | str | Path,
    out: str | Path,
    *,
    target: str = "balanced",
    seed: int = 0,
    splits: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Augmented:
    """Write ``out/train/<class>/``: every training image, and new ones made from those of the smaller classes.

    Images of a class are taken in turn, each once before any twice, and changed by a few operations drawn from the
    seed, the source and the number of the copy: the same files result whatever the number of processes, and after any
    interruption. Only operations that keep this dataset's labels are used. ``out/augmented.csv`` has, for every new
    file, its source, the operations, their strength and the seed.

    Args:
        data: a dataset of image files, or what `counterpoise.load` takes.
        out: a new or empty folder, not inside the data nor around it.
        target: "balanced" (every class up to the largest), "count:N" (every class up to N), or "ratio:R" (the
            largest at most R times the smallest). No class loses an image.
        seed: of everything drawn.
        splits: copy the validation and test images too, unchanged, so that ``out`` is a dataset of its own. Needed
            where the splits were drawn by us: read again, ``out/train`` alone would be split anew, and copies of one
            image would be on both sides.
        resume: go on with what ``out`` holds.
        jobs: processes; default one a core.
        progress: called with the files written and all files.

    Raises:
        ArgumentError: a target that cannot be read, data without files, or folders inside each other.
        ArtifactError: ``out`` holds other files or another augmentation, is a link, or the disk refused.

    Example:
        >>> augment("photos", "balanced", target="ratio:10")  # doctest: +SKIP
    """
    result, items = _planned(data, Path(out), target, seed, splits)
    folder = claim(out, resume=resume, overwrite=None)
    with locked(folder):
        _write(result, items, folder, jobs, progress or (lambda done, total: None))
    return result


def preview(
    data: ImageDataset | str | Path,
    out: str | Path,
    *,
    target: str = "balanced",
    seed: int = 0,
    splits: bool = False,
    resume: bool = False,
) -> Augmented:
    """What `augment` would make with these arguments; writes nothing, and refuses what it would.

    Example:
        >>> preview("photos", "balanced", target="ratio:10")  # doctest: +SKIP
    """
    result = _planned(data, Path(out), target, seed, splits)[0]
    claim(out, resume=resume, overwrite=None)
    return result


def _planned(data: Any, out: Path, target: str, seed: int, splits: bool) -> tuple[Augmented, list[Item]]:
    dataset = load(data) if isinstance(data, str | Path) else data
    folder = _checked_folder(dataset, out)
    counts = dataset.counts("train")
    after = wanted(counts, target)
    items = _items(dataset, folder, after, seed, splits)
    made = sum(bool(item.operations) for item in items)
    result = Augmented(
        target=target,
        seed=seed,
        classes=dataset.classes,
        before=tuple(counts.counts.tolist()),
        after=tuple(after.tolist()),
        copied=len(items) - made,
        made=made,
        quarantined=len(dataset.quarantined),
        fingerprint=dataset.fingerprint,
        splits=splits,
        operations=tuple(allowed_operations(None, dataset.symmetries)),
    )
    return result, items


def wanted(counts: ClassCounts, target: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Images of each class afterwards; a class without any stays without, and none loses one.

    Example:
        >>> [wanted(ClassCounts([100, 20, 5]), t).tolist() for t in ("balanced", "count:50", "ratio:10")]
        [[100, 100, 100], [100, 50, 50], [100, 20, 10]]
    """
    n = counts.counts
    kind, _, number = target.partition(":")
    if target == "balanced":
        level = int(n.max())
    elif kind == "count" and number.isdigit() and int(number) > 0:
        level = int(number)
    elif kind == "ratio" and 1 <= _ratio(number) < np.inf:
        level = int(np.ceil(n.max() / _ratio(number)))
    else:
        raise ArgumentError(f"`target` must be balanced, count:N or ratio:R with R at least 1; got {target!r}")
    raised: np.ndarray[Any, np.dtype[np.int64]] = np.where(n > 0, np.maximum(n, level), 0)
    return raised


def _ratio(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _checked_folder(dataset: ImageDataset, out: Path) -> Path:
    if dataset.root is None:
        raise ArgumentError(f"{dataset.name} has no files to copy: its images are embedded; augment while training")
    if out.is_symlink():
        raise ArgumentError(f"`out` {out} is a link; name a folder")
    here, source = out.resolve(), dataset.root.resolve()
    listed = dataset.origin.get("kind") == "manifest"  # a list names its images: none is found in a new folder
    holding = {(source / path).parent for path in dataset.paths} if listed else {source}
    if any(here == f or here in f.parents or (not listed and f in here.parents) for f in holding):
        raise ArgumentError(f"`out` {out} and the data {dataset.root} lie inside each other; name a folder elsewhere")
    return out


def _items(dataset: ImageDataset, out: Path, after: Any, seed: int, splits: bool) -> list[Item]:
    """Originals first, then the new ones, class by class."""
    names: set[str] = set()
    originals: dict[int, list[Item]] = {}
    items = []
    for i, (label, split) in enumerate(zip(dataset.labels.tolist(), dataset.splits.tolist(), strict=True)):
        if split != "train" and not splits:
            continue
        name = dataset.paths[i].rpartition("/")[2]
        target = _free(names, f"{out}/{split}/{dataset.classes[label]}", name)
        item = Item(target, str(dataset.file(i)), dataset.paths[i])
        items.append(item)
        if split == "train":
            originals.setdefault(label, []).append(item)
    allowed = allowed_operations(None, dataset.symmetries)
    for label, mine in sorted(originals.items()):
        order = np.random.default_rng((seed, label)).permutation(len(mine))
        repeats = float(after[label] / len(mine))
        strength = max(0.4, (repeats - 1) / (repeats + 1))
        for k in range(int(after[label]) - len(mine)):
            item = mine[order[k % len(mine)]]
            own = _seed(seed, item.path, k // len(mine))
            name = _named(item.target, k // len(mine) + 1)
            target = _free(names, item.target.rpartition("/")[0], name)
            items.append(Item(target, item.source, item.path, drawn_operations(own, allowed), round(strength, 4), own))
    return items


def _named(original: str, number: int) -> str:
    name = original.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    kept = suffix if dot and suffix.lower() in ("jpg", "jpeg", "png") else "png"
    return f"{stem or name}-aug{number:04d}.{kept}"


def _free(names: set[str], folder: str, name: str) -> str:
    """A path that no other has, also where case does not count; of two originals of one name the later is marked."""
    stem, dot, suffix = name.rpartition(".")
    path, again = f"{folder}/{name}", 1
    while path.casefold() in names:
        again += 1
        path = f"{folder}/{stem}~{again}{dot}{suffix}" if dot else f"{folder}/{name}~{again}"
    names.add(path.casefold())
    return path


def _seed(seed: int, path: str, number: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{number}\0{path}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")


_WORDS = {
    "splits": "`splits` (--with-splits)",
    "target": "`target`",
    "seed": "`seed`",
    "fingerprint": "data",
    "classes": "classes",
    "before": "images",
    "after": "result",
    "copied": "number of copies",
    "made": "number of new images",
    "operations": "operations (--symmetries)",
    "quarantined": "number of unusable files",
}


def _clear(out: Path, ours: set[str], begun: bool) -> None:
    """Take away what an interrupted process left half-written; refuse what is not ours: it would join a class."""
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name == LOCK or (begun and path.parent == out):
            continue
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            path.unlink()
        elif str(path) not in ours:
            raise ArtifactError(
                f"`out` holds a file that is none of this augmentation's, {str(path.relative_to(out))!r}; take it out, "
                "or name a new folder"
            )


def _write(
    result: Augmented, items: list[Item], out: Path, jobs: int | None, progress: Callable[[int, int], None]
) -> None:
    record = out / "augmented.json"
    if record.exists():
        before = Augmented.from_dict(read_json(record))
        if before != result:
            differing = next(key for key in _WORDS if getattr(before, key) != getattr(result, key))
            raise ArgumentError(
                f"`out` {out} holds another augmentation, whose {_WORDS[differing]} was "
                f"{getattr(before, differing)!r:.80} and not {getattr(result, differing)!r:.80}; name a new folder"
            )
    _clear(out, {item.target for item in items}, record.exists())
    write_json(record, result.to_dict())
    new = [item for item in items if item.operations]
    names = [item.target.removeprefix(f"{out}/") for item in new]
    rows = [
        (name, item.path, "+".join(item.operations), f"{item.strength:g}", str(item.seed))
        for name, item in zip(names, new, strict=True)
    ]
    write_lineage(out / FILE, rows)
    number = jobs or os.cpu_count() or 1
    if number == 1 or len(items) <= FEW:
        for done, item in enumerate(items):
            make(item)
            progress(done + 1, len(items))
        return
    with workers(number, initializer=torch.set_num_threads, arguments=(1,)) as pool:
        # Not `pool.map`: it cancels what is left when interrupted, of which the ended pool then complains.
        parts = [pool.submit(_make_all, items[start : start + PART]) for start in range(0, len(items), PART)]
        for number, part in enumerate(parts, start=1):
            part.result()
            progress(min(number * PART, len(items)), len(items))


def _make_all(items: list[Item]) -> None:
    for item in items:
        make(item)
