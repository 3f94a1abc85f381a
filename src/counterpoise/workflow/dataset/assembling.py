"""A `Listing` → `ImageDataset`: look into every file, then draw the splits that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from counterpoise.core import lineage
from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.duplicates import duplicates
from counterpoise.core.errors import DatasetError
from counterpoise.core.images import Split
from counterpoise.workflow.dataset.header import EXTENSIONS, Header, UnreadableImage, extension_of, read_header
from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.dataset.listing import Listing, shown
from counterpoise.workflow.dataset.splitting import draw, unrepresented

__all__ = ["assemble"]


def assemble(listing: Listing, *, val_fraction: float, test_fraction: float, seed: int) -> ImageDataset:
    """Quarantine what is no image, draw what splits are missing, and put the rest together, in the order of the paths.

    Raises:
        DatasetError: no image is left, or none to train on.
    """
    good, headers = _inspect(listing)
    names, renamed = _shown_paths([listing.paths[i] for i in good])
    index = {name: c for c, name in enumerate(listing.classes)}
    dataset = ImageDataset(
        name=listing.source,
        classes=listing.classes,
        labels=np.array([index[listing.labels[i]] for i in good], dtype=np.int64),
        paths=tuple(names),
        splits=np.array([listing.splits[i] or "train" for i in good], dtype="<U5"),
        symmetries=frozenset({"hflip"}),
        quarantined=tuple(sorted(listing.quarantined, key=lambda item: item.path)),
        findings=(*listing.findings, *_of_headers(names, headers)),
        num_ignored=listing.num_ignored,
        root=listing.root,
        origin={"kind": listing.kind, "source": listing.source},
        renamed=renamed,
    )
    fractions = _missing(listing.splits, val_fraction, test_fraction)
    _draw(dataset, fractions, seed)
    if not (dataset.splits == "train").any():
        raise DatasetError(f"{listing.source!r} has no usable image in train; {_first_fault(listing)}")
    return dataset


def _inspect(listing: Listing) -> tuple[list[int], list[Header]]:
    """Rows whose file has a sound header and its end, with the headers; the others join the quarantined."""
    good, headers, root = [], [], str(listing.root)
    for i, path in enumerate(listing.paths):
        try:
            headers.append(read_header(f"{root}/{path}"))
            good.append(i)
        except UnreadableImage as error:
            reason = f"{error} ({listing.unit} {listing.places[i]})" if listing.places else str(error)
            listing.quarantined.append(Quarantined(shown(path), reason, listing.labels[i], listing.splits[i]))
    if not good:
        raise DatasetError(f"{listing.source!r} has no image that can be read; {_first_fault(listing)}")
    return good, headers


def _first_fault(listing: Listing) -> str:
    if not listing.quarantined:
        return "all its images are in other splits"
    first = min(listing.quarantined, key=lambda item: item.path)
    return f"{len(listing.quarantined)} quarantined, the first {first.path!r}: {first.reason}"


def _shown_paths(paths: list[str]) -> tuple[list[str], dict[str, str]]:
    """The paths as valid Unicode, and what the changed ones are called on disk."""
    names = [shown(path) for path in paths]
    renamed, taken = {}, set(names)
    for i, (name, path) in enumerate(zip(names, paths, strict=True)):
        if name != path:
            while name in taken and names.count(name) > 1:
                name += "_"
            names[i], renamed[name] = name, path
    return names, renamed


def _of_headers(paths: list[str], headers: Iterable[Header]) -> list[Finding]:
    """Files whose extension promises another format, and colour modes that will be converted."""
    findings, modes = [], Counter[str]()
    for path, header in zip(paths, headers, strict=True):
        modes[header.mode] += 1
        promised = EXTENSIONS.get(extension_of(path), header.format)
        if promised != header.format:
            reason = f"{path!r} is a {header.format} by its content; read as that"
            findings.append(Finding("extension-mismatch", "warning", reason, (path,)))
    converted = {mode: n for mode, n in sorted(modes.items()) if mode != "RGB"}
    if converted:
        listed = ", ".join(f"{n} {mode}" for mode, n in converted.items())
        findings.append(Finding("colour-modes", "info", f"converted to RGB when read: {listed}", tuple(converted)))
    return findings


def _missing(given: list[Split | None], val: float, test: float) -> dict[Split, float]:
    """The splits to draw, with the fraction of each class that they take."""
    wanted: dict[Split, float] = {}
    present: set[Any] = set(given)
    if "val" not in present:
        wanted["val"] = val
    if present == {None}:
        wanted["test"] = test
    return {split: fraction for split, fraction in wanted.items() if fraction > 0}


def _draw(dataset: ImageDataset, fractions: dict[Split, float], seed: int) -> None:
    """Divide the training images (all, where the source has no splits) and say so in the findings."""
    dataset.origin["drawn"] = sorted(fractions)
    if not fractions:
        return
    if dataset.root is not None and (record := _lineage(dataset.root)):
        raise DatasetError(
            f"{str(record)!r} says that images of {dataset.name!r} were made from others, so that splits drawn from "
            "them would have one image on both sides; make the copy again with --with-splits, or put folders val and "
            "test beside train"
        )
    rows = np.flatnonzero(dataset.splits == "train")
    labels, paths = dataset.labels[rows], [dataset.paths[i] for i in rows]
    splits = dataset.splits.copy()
    place = {int(row): i for i, row in enumerate(rows)}
    same = [[place[i] for i in group] for group in duplicates(dataset, among=place)]
    splits[rows] = draw(labels, paths, fractions=fractions, seed=seed, same=same)
    splits.setflags(write=False)
    dataset.splits = splits
    for split, fraction in fractions.items():
        reason = f"{split} was drawn by us: {fraction:.0%} of each class, stratified, seed {seed}"
        dataset.findings += (Finding("split-drawn", "info", reason, (split,)),)
    dataset.findings += unrepresented(labels, splits[rows], dataset.classes, list(fractions))


def _lineage(root: Path) -> Path | None:
    """The record of a balanced copy, in its folder or above its ``train``."""
    for folder in (root, root.parent):
        path = folder / lineage.FILE
        if path.is_file():
            with path.open("rb") as file:
                return path if file.readline(200).strip() == ",".join(lineage.COLUMNS).encode() else None
    return None
