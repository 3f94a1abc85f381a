"""`augment`: write a copy of the training images in which small classes are filled up with augmented images."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from counterpoise.augment.operations import OPERATIONS, OperationName, allowed_operations, augmented_image
from counterpoise.core.checks import checked_number
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.core.files import atomic_write, claim, claimed, path_exists, read_json, write_json, writing
from counterpoise.core.images import SYMMETRIES
from counterpoise.core.lineage import LINEAGE_FILE, write_lineage
from counterpoise.core.processes import workers
from counterpoise.core.text import listed, plural
from counterpoise.workflow.audit import audit, warn_of_errors
from counterpoise.workflow.augmentation.contact_sheet import CONTACT_SHEET, contact_sheet
from counterpoise.workflow.augmentation.folders import check_folder, remove_partial_files
from counterpoise.workflow.augmentation.items import Augmented, Item, items_of, target_counts
from counterpoise.workflow.dataset import ImageDataset, as_dataset
from counterpoise.workflow.dataset.decoding import read_image

MAX_SERIAL = 200
"""Up to this number of files, no worker processes are started: starting them would take longer."""
CHUNK = 16
"""Number of files per task of a worker process."""
JPEG_QUALITY = 95
STRENGTH = 0.4
"""Default strength of the operations: at it the objects of photographs and of 32-pixel images stay recognisable."""
_RESUMED = {
    "splits": "`splits` (--with-splits)",
    "target": "`target`",
    "seed": "`seed`",
    "operations": "the list of operations (`operations`, `symmetries`)",
    "strength": "`strength`",
}


def augment(  # noqa: PLR0913  one argument per decision of the user
    data: ImageDataset | str | Path,
    out: str | Path,
    *,
    target: str = "balanced",
    operations: Sequence[str] | None = None,
    strength: float = STRENGTH,
    seed: int = 0,
    splits: bool = False,
    images: bool = True,
    resume: bool = False,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Augmented:
    """Write every training image, and augmented ones for the smaller classes, to ``out/train/<class>/``.

    The images of a class are augmented in turn, each once before any twice. For each new image, every operation is
    drawn with probability ½, except that at most one of "blur", "noise" and "erase" is drawn, because stacked they make
    an image unrecognisable. The operations are drawn from ``seed``, the path of the source and the number of the copy,
    so the files do not depend on the number of processes or on interruptions. ``out/augmented.csv`` lists for every new
    file its source, the operations, their strength and the seed; see `read_lineage`. ``out/contact-sheet.html`` shows
    for each of up to 24 classes some images with their augmented copies: look at it before you train.

    Args:
        data: a dataset with files, or a path for `counterpoise.load`.
        out: a new or empty folder, which neither contains the data nor is inside it.
        target: "balanced" (every class gets as many images as the largest), "count:N" (every class gets at least N), or
            "ratio:R" (the largest class has at most R times the images of the smallest). No class loses images.
        operations: names of `counterpoise.augment.OPERATIONS` that may be drawn, at least one of them other than
            "hflip", "vflip" and "rot90"; None for all that preserve the labels of this dataset.
        strength: share of the range of each operation that is used, above 0 and at most 1. The parameters of each image
            are drawn from that range. At 1 it is: rotation by up to 15 degrees, a crop of at least 60 % of each side,
            brightness, contrast and saturation changed by up to 40 %, blur with a standard deviation of up to 1/24 of
            the shorter side, noise with a standard deviation of up to 0.1, and erasing of up to a quarter of the area.
            Flips do not depend on it, nor do rotations where the dataset's symmetries contain "rot90": then they are by
            any angle.
        seed: seed of everything that is drawn.
        splits: also copy the validation and test images, unchanged, so that ``out`` is a complete dataset. This is
            needed if the splits were drawn automatically: loading ``out/train`` alone would draw new splits, and copies
            of one image could be in both training and test.
        images: write the contact sheet; False leaves it out, and removes that of an earlier call.
        resume: continue an interrupted run in ``out``.
        jobs: number of worker processes; None means one per core.
        progress: called with the number of files written and the number of all files.

    Returns:
        An `Augmented` with the numbers of images.

    Warns:
        UserWarning: the same image is in two classes or two splits; `counterpoise.audit` lists all findings.

    Raises:
        ArgumentError: ``target``, ``operations`` or ``strength`` is not valid, ``data`` has no files, ``data`` and
            ``out`` contain each other, or ``out`` has an augmentation with other arguments.
        ArtifactError: ``out`` has other files, is a link, or cannot be written to.

    Example:
        >>> augment("photos", "balanced", target="ratio:10", operations=["crop", "colour"])  # doctest: +SKIP
    """
    dataset, result = _planned(data, Path(out), target, seed, splits, operations, strength)
    items = items_of(dataset, Path(out), result, allowed_operations(result.operations, dataset.symmetries))
    warn_of_errors(audit(dataset), "the augmentation", stacklevel=2)
    with claimed(out, resume=resume, overwrite=None) as folder:
        _write(result, items, folder, jobs, progress or (lambda done, total: None))
        _write_contact_sheet(contact_sheet(dataset, result, items) if images else None, folder / CONTACT_SHEET)
    return result


def preview(
    data: ImageDataset | str | Path,
    out: str | Path,
    *,
    target: str = "balanced",
    operations: Sequence[str] | None = None,
    strength: float = STRENGTH,
    seed: int = 0,
    splits: bool = False,
    resume: bool = False,
) -> Augmented:
    """Return the result of `augment` with these arguments without writing anything; raises the same errors.

    Args:
        data, out, target, operations, strength, seed, splits, resume: as in `augment`.

    Example:
        >>> preview("photos", "balanced", target="ratio:10")  # doctest: +SKIP
    """
    result = _planned(data, Path(out), target, seed, splits, operations, strength)[1]
    claim(out, resume=resume, overwrite=None)
    return result


def _planned(
    data: ImageDataset | str | Path,
    out: Path,
    target: str,
    seed: int,
    splits: bool,
    operations: Sequence[str] | None,
    strength: float,
) -> tuple[ImageDataset, Augmented]:
    """The dataset and the numbers of the copy; the arguments are checked here."""
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
        operations=_checked_operations(operations, dataset),
        strength=checked_number("strength", strength, above=0, maximum=1),
    )
    return dataset, result


def _checked_operations(operations: Sequence[str] | None, dataset: ImageDataset) -> tuple[OperationName, ...]:
    """The operations that may be drawn; flips and quarter turns alone would make several images alike."""
    allowed = allowed_operations(operations, dataset.symmetries)
    if set(allowed) <= set(SYMMETRIES):
        others = [name for name in OPERATIONS if name not in SYMMETRIES]
        raise ArgumentError(
            f"`operations` must name at least one of {', '.join(others)}; got {', '.join(allowed) or 'none'}, with "
            "which several new images would be equal"
        )
    return allowed


def _check_resumed(result: Augmented, record: Path) -> None:
    """Raise `ArgumentError` if the folder has another augmentation."""
    before = Augmented.from_dict(read_json(record))
    if before == result:
        return
    if before.strength is None:
        raise ArgumentError(
            f"`out` {record.parent} has an augmentation of an earlier version of Counterpoise, which drew other "
            "operations; name a new folder"
        )
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


def _write_contact_sheet(content: str | None, path: Path) -> None:
    """Write the page; without one, remove that of an earlier call."""
    if content is not None:
        with atomic_write(path) as file:
            file.write(content.encode("utf-8"))
    elif path_exists(path):
        with writing(path):
            path.unlink()


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
