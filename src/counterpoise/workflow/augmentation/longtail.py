"""`make_longtail`: write a long-tailed or one-vs-rest version of a dataset, with links to its files."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from counterpoise.core.checks import checked_choice, checked_number
from counterpoise.core.codec import Artifact
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.core.files import atomic_write, claimed, read_json, writing
from counterpoise.core.tables import write_csv
from counterpoise.workflow.augmentation.folders import check_folder, remove_partial_files, unused_path
from counterpoise.workflow.dataset import ImageDataset, as_dataset

RECORD, FILE_LIST = "longtail.json", "longtail.csv"


@dataclass(frozen=True)
class LongTail(Artifact):
    """A long-tailed version of a dataset.

    Attributes:
        source: name of the dataset.
        fingerprint: SHA-256 of its classes, paths, labels and splits.
        ratio: images of the largest training class per image of the smallest, as asked for; None for no thinning.
        one_vs_rest: the class against all others; None for all classes.
        seed: seed of the choice of images.
        classes: names of the classes.
        before: training images per class in the source.
        after: training images per class in the copy.
    """

    source: str
    fingerprint: str
    ratio: float | None
    one_vs_rest: str | None
    seed: int
    classes: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def profile(self) -> tuple[int, ...]:
        """Training images per class of the exponential profile; a class with fewer in the source limits the copy."""
        return self.before if self.ratio is None else tuple(longtail_profile(self.before, self.ratio).tolist())

    @property
    def imbalance_ratio(self) -> float:
        """The ratio that the copy has: larger than asked for where a class had too few images."""
        return max(self.after) / min(n for n in self.after if n)


def make_longtail(
    data: ImageDataset | str | Path,
    out: str | Path,
    *,
    ratio: float | None = 100.0,
    one_vs_rest: str | None = None,
    seed: int = 0,
    resume: bool = False,
) -> LongTail:
    """Write a dataset whose training classes decrease exponentially, to ``out/train``, ``out/val`` and ``out/test``.

    The class of rank r (of C, by its number of training images, then by its order) keeps ``n_max · ratio^(−r/(C−1))``
    of its training images, or all if it has fewer. With the same seed, a larger ratio keeps a subset. Validation and
    test images are all kept. Files are hard links where the file system has them, otherwise copies;
    ``out/longtail.csv`` lists the source of every file, and ``out/longtail.json`` has the numbers.

    Args:
        data: a dataset, or what `counterpoise.load` takes.
        out: a new or empty folder, which neither contains the data nor is inside it.
        ratio: images of the largest class per image of the smallest, at least 1; None keeps all images.
        one_vs_rest: name of a class; the copy then has this class and one with the images of all others, named
            ``not-<class>``.
        seed: seed of the choice of training images.
        resume: continue an interrupted run in ``out``.

    Returns:
        A `LongTail` with the numbers of images.

    Raises:
        ArgumentError: an unknown class, a ratio below 1, or ``data`` and ``out`` contain each other.
        ArtifactError: ``out`` has other files, or cannot be written to.

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 (arXiv:1901.05555).

    Example:
        >>> import tempfile
        >>> make_longtail("digits", tempfile.mkdtemp(), ratio=10, one_vs_rest="3").after
        (25, 250)
    """
    dataset = as_dataset(data)
    if not isinstance(dataset, ImageDataset):
        raise ArgumentTypeError(f"`data` must be an ImageDataset, got {type(dataset).__name__}; use `load`")
    if ratio is not None:
        checked_number("ratio", ratio, minimum=1)
    check_folder(dataset, Path(out))
    classes, labels = _classes(dataset, one_vs_rest)
    is_train = dataset.splits == "train"
    before = np.bincount(labels[is_train], minlength=len(classes))
    after = before if ratio is None else longtail_counts(before, ratio)
    result = LongTail(
        dataset.name, dataset.fingerprint, ratio, one_vs_rest, seed, classes, tuple(before.tolist()),
        tuple(after.tolist()),
    )  # fmt: skip
    rows = np.flatnonzero(~is_train | _chosen(labels, is_train, after, seed))
    with claimed(out, resume=resume, overwrite=None) as folder:
        _write(result, dataset, [(int(row), classes[labels[row]]) for row in rows], folder)
    return result


def longtail_counts(counts: Sequence[int] | NDArray[np.int64], ratio: float) -> NDArray[np.int64]:
    """Images per class of an exponential profile, at most those that there are; at least one where there is one.

    Example:
        >>> longtail_counts([5000] * 10, 100.0).tolist()  # CIFAR-10-LT
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    kept: NDArray[np.int64] = np.minimum(np.asarray(counts, dtype=np.int64), longtail_profile(counts, ratio))
    return kept


def longtail_profile(counts: Sequence[int] | NDArray[np.int64], ratio: float) -> NDArray[np.int64]:
    """Images per class of an exponential profile with the largest class and the order of these counts."""
    n = np.asarray(counts, dtype=np.int64)
    rank = np.empty(len(n), dtype=np.int64)
    rank[np.argsort(-n, kind="stable")] = np.arange(len(n))
    present = max(1, int((n > 0).sum()) - 1)
    profile = np.floor(n.max() * float(ratio) ** (-rank / present) + 1e-9).astype(np.int64)
    least_one: NDArray[np.int64] = np.maximum(profile, 1)
    return least_one


def _classes(dataset: ImageDataset, one_vs_rest: str | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes of the copy, and the class of every image."""
    if one_vs_rest is None:
        return dataset.classes, dataset.labels
    checked_choice("one_vs_rest", one_vs_rest, dataset.classes)
    is_rest: NDArray[np.bool_] = dataset.labels != dataset.classes.index(one_vs_rest)
    rest = f"not-{one_vs_rest}"
    if rest in dataset.classes:
        raise ArgumentError(f"`one_vs_rest`: the dataset has a class {rest!r}, the name of the others; rename it")
    return (one_vs_rest, rest), is_rest.astype(np.int64)


def _chosen(
    labels: NDArray[np.int64], is_train: NDArray[np.bool_], after: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Which images are training images of the copy."""
    chosen = np.zeros(len(labels), dtype=bool)
    for c, n in enumerate(after.tolist()):
        members = np.flatnonzero(is_train & (labels == c))
        chosen[np.random.default_rng((seed, c)).permutation(members)[:n]] = True
    return chosen


def _write(result: LongTail, dataset: ImageDataset, rows: list[tuple[int, str]], out: Path) -> None:
    names: set[str] = set()
    targets = []
    for row, name in rows:
        file = dataset.paths[row].rpartition("/")[2]
        file = file if dataset.file(row) else f"{file}.png"
        targets.append(unused_path(names, f"{out}/{dataset.splits[row]}/{name}", file))
    record = out / RECORD
    if record.exists() and LongTail.from_dict(read_json(record)) != result:
        raise ArtifactError(f"`out` {out} has another long-tailed dataset; name a new folder")
    remove_partial_files(out, set(targets), is_resumed=record.exists())
    result.save(record)
    lineage = [(t.removeprefix(f"{out}/"), dataset.paths[row]) for t, (row, _) in zip(targets, rows, strict=True)]
    write_csv(out / FILE_LIST, ("file", "source"), lineage)
    for target, (row, _) in zip(targets, rows, strict=True):
        _write_file(dataset, row, Path(target))


def _write_file(dataset: ImageDataset, row: int, target: Path) -> None:
    """Link or copy the file of an image, or write its pixels as PNG; a file that exists is kept."""
    if target.exists() and target.stat().st_size:
        return
    source = dataset.file(row)
    if source is not None:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileNotFoundError as error:
            raise ArtifactError(f"{source} cannot be read: {error.strerror}; restore it") from error
        except OSError:  # another file system, or one without hard links
            with Path(source).open("rb") as original, atomic_write(target) as file:
                shutil.copyfileobj(original, file)
        return
    content = io.BytesIO()
    Image.fromarray(dataset[row]).save(content, "PNG")
    with atomic_write(target) as file:
        file.write(content.getvalue())
