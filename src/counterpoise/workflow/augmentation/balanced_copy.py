"""`augment`: write a copy of the training images in which small classes are filled up with augmented images."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from counterpoise.augment.operations import OperationName, allowed_operations, augmented_image
from counterpoise.core.codec import Artifact
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.core.files import atomic_write, claim, claimed, path_exists, read_json, write_json
from counterpoise.core.images import SYMMETRIES, Symmetry
from counterpoise.core.lineage import LINEAGE_FILE, write_lineage
from counterpoise.core.processes import workers
from counterpoise.core.text import listed, plural
from counterpoise.workflow.augmentation.folders import check_folder, remove_partial_files, unused_path
from counterpoise.workflow.dataset import ImageDataset, as_dataset
from counterpoise.workflow.dataset.decoding import read_image

MAX_SERIAL = 200
"""Up to this number of files, no worker processes are started: starting them would take longer."""
CHUNK = 16
"""Number of files per task of a worker process."""
JPEG_QUALITY = 95
_RESUMED = {
    "splits": "`splits` (--with-splits)",
    "target": "`target`",
    "seed": "`seed`",
    "operations": "the list of operations (--symmetries)",
}


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
    """Write every training image, and augmented ones for the smaller classes, to ``out/train/<class>/``.

    The images of a class are augmented in turn, each once before any twice, by a few operations that keep the labels of
    this dataset. Rotations are at most 15 degrees, or by any angle where the dataset's symmetries contain "rot90". The
    operations are drawn from ``seed``, the path of the source and the number of the copy, so the files do not depend on
    the number of processes or on interruptions. ``out/augmented.csv`` lists for every new file its source, the
    operations, their strength and the seed; see `read_lineage`.

    Args:
        data: a dataset with files, or a path for `counterpoise.load`.
        out: a new or empty folder, which neither contains the data nor is inside it.
        target: "balanced" (every class gets as many images as the largest), "count:N" (every class gets at least N), or
            "ratio:R" (the largest class has at most R times the images of the smallest). No class loses images.
        seed: seed of everything that is drawn.
        splits: also copy the validation and test images, unchanged, so that ``out`` is a complete dataset. This is
            needed if the splits were drawn automatically: loading ``out/train`` alone would draw new splits, and copies
            of one image could be in both training and test.
        resume: continue an interrupted run in ``out``.
        jobs: number of worker processes; None means one per core.
        progress: called with the number of files written and the number of all files.

    Returns:
        An `Augmented` with the numbers of images.

    Raises:
        ArgumentError: ``target`` is not valid, ``data`` has no files, or ``data`` and ``out`` contain each other.
        ArtifactError: ``out`` has other files or another augmentation, is a link, or cannot be written to.

    Example:
        >>> augment("photos", "balanced", target="ratio:10")  # doctest: +SKIP
    """
    result, items = _planned(data, Path(out), target, seed, splits)
    with claimed(out, resume=resume, overwrite=None) as folder:
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
    """Return the result of `augment` with these arguments without writing anything; raises the same errors.

    Args:
        data, out, target, seed, splits, resume: as in `augment`.

    Example:
        >>> preview("photos", "balanced", target="ratio:10")  # doctest: +SKIP
    """
    result = _planned(data, Path(out), target, seed, splits)[0]
    claim(out, resume=resume, overwrite=None)
    return result


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
        return name, self.path, "+".join(self.operations), f"{self.strength:g}", str(self.seed)


def _planned(
    data: ImageDataset | str | Path, out: Path, target: str, seed: int, splits: bool
) -> tuple[Augmented, list[Item]]:
    """The result and the files to write; the arguments are checked here."""
    dataset = as_dataset(data)
    if not isinstance(dataset, ImageDataset):
        raise ArgumentTypeError(f"`data` must be an ImageDataset, got {type(dataset).__name__}; use `load`")
    if dataset.root is None:
        raise ArgumentError(f"{dataset.name} has no files to copy; augment its images in training, with `augment=`")
    check_folder(dataset, out)
    counts = dataset.counts("train")
    after = target_counts(counts, target)
    result = Augmented(
        target=target,
        seed=seed,
        classes=dataset.classes,
        before=tuple(counts.counts.tolist()),
        after=tuple(after.tolist()),
        copied=len(dataset) if splits else counts.total,
        made=int(after.sum()) - counts.total,
        quarantined=len(dataset.quarantined),
        fingerprint=dataset.fingerprint,
        splits=splits,
        operations=tuple(allowed_operations(None, dataset.symmetries)),
    )
    return result, _items(dataset, out, result)


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


def _items(dataset: ImageDataset, out: Path, result: Augmented) -> list[Item]:
    """The files to write: the originals in the order of the dataset, then the new images, class by class."""
    allowed = allowed_operations(None, dataset.symmetries)
    names: set[str] = set()
    originals: dict[int, list[Item]] = {}
    items = []
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
        repeats = result.after[label] / len(sources)
        strength = round(max(0.4, (repeats - 1) / (repeats + 1)), 4)
        for k in range(result.after[label] - len(sources)):
            item, copy = sources[order[k % len(sources)]], k // len(sources)
            own_seed = _seed_of(result.seed, item.path, copy)
            target = unused_path(names, item.target.rpartition("/")[0], _new_name(item.target, copy + 1))
            drawn = draw_operations(own_seed, allowed)
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


def draw_operations(seed: int, allowed: tuple[OperationName, ...]) -> tuple[OperationName, ...]:
    """Draw each operation with probability ½, in their order, and at least one with continuous parameters."""
    rng = np.random.default_rng(seed)
    drawn = [name for name in allowed if rng.random() < 0.5]
    continuous = [name for name in allowed if name not in SYMMETRIES]
    if not set(drawn) & set(continuous):
        drawn.append(continuous[int(rng.integers(len(continuous)))])
    return tuple(name for name in allowed if name in drawn)


def _check_resumed(result: Augmented, record: Path) -> None:
    """Raise `ArgumentError` if the folder has another augmentation."""
    before = Augmented.from_dict(read_json(record))
    if before == result:
        return
    for name, option in _RESUMED.items():
        old, new = getattr(before, name), getattr(result, name)
        if old != new:
            problem = f"{option} was {old!r:.80} and is now {new!r:.80}"
            raise ArgumentError(f"`out` {record.parent} has another augmentation: {problem}; name a new folder")
    raise ArgumentError(f"`out` {record.parent} has an augmentation of other data; name a new folder")


def _write(
    result: Augmented, items: list[Item], out: Path, jobs: int | None, progress: Callable[[int, int], None]
) -> None:
    record = out / "augmented.json"
    is_resumed = path_exists(record)
    if is_resumed:
        _check_resumed(result, record)
    remove_partial_files(out, {item.target for item in items}, is_resumed=is_resumed)
    write_json(record, result.to_dict())
    write_lineage(out / LINEAGE_FILE, [item.lineage(out) for item in items if item.operations])
    number = jobs or os.cpu_count() or 1
    if number == 1 or len(items) <= MAX_SERIAL:
        for done, item in enumerate(items, start=1):
            write_item(item)
            progress(done, len(items))
        return
    chunks, lost = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)], []
    with workers(number, initializer=torch.set_num_threads, arguments=(1,)) as pool:
        futures = [pool.submit(_write_items, chunk) for chunk in chunks]
        for done, (chunk, future) in enumerate(zip(chunks, futures, strict=True), start=1):
            lost += [] if _is_written(future) else chunk
            progress(min(done * CHUNK, len(items)), len(items))
    if lost:
        _write_one_by_one(lost)


def _is_written(future: Future[None]) -> bool:
    """Whether a task ended; False if its process was killed."""
    try:
        future.result()
    except BrokenProcessPool:
        return False
    return True


def _write_one_by_one(items: list[Item]) -> None:
    """Write the files of processes that were killed, and name those that kill their process again."""
    with workers(1, initializer=torch.set_num_threads, arguments=(1,)) as pool:
        fatal = [item.path for item in items if not _is_written(pool.submit(write_item, item))]
    if fatal:
        number = plural(len(dict.fromkeys(fatal)), "image")
        raise ArtifactError(
            f"the processes that read {number} were killed, perhaps because memory ran out: "
            f"{listed(dict.fromkeys(fatal), 5)}; all other files are written. Remove or replace them, or free memory "
            "and continue with `resume` (--resume)"
        )


def _write_items(items: list[Item]) -> None:
    for item in items:
        write_item(item)


def write_item(item: Item) -> None:
    """Write one file, whole or not at all; a file that exists and is not empty is kept.

    Raises:
        ArtifactError: the source cannot be read, or the file cannot be written; names the file.
    """
    target = Path(item.target)
    if path_exists(target) and target.stat().st_size:
        return
    content = _content(item, "JPEG" if target.suffix.lower() in (".jpg", ".jpeg") else "PNG")
    with atomic_write(target) as file:
        file.write(content)


def _content(item: Item, format: str) -> bytes:
    """The bytes of the original file, or of the augmented image."""
    try:
        if not item.operations:
            return Path(item.source).read_bytes()
        pixels = _augmented(item)
    except OSError as error:
        raise ArtifactError(f"{item.source} cannot be read: {error.strerror or error}") from error
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if format == "JPEG" else {}
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def _augmented(item: Item) -> NDArray[np.uint8]:
    """The pixels of the source after the operations, uint8 ``(H, W, 3)``."""
    image = torch.from_numpy(np.array(read_image(item.source))).permute(2, 0, 1).float() / 255
    generator = torch.Generator().manual_seed(item.seed)
    changed = augmented_image(image, item.operations, item.strength, generator=generator, symmetries=item.symmetries)
    augmented: NDArray[np.uint8] = (changed.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
    return augmented
