"""Listing: what a reader found, before the files are looked into and the missing splits drawn."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.images import Split

__all__ = ["SPLIT_NAMES", "Listing", "merged_twins", "shown"]

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What sources call the splits, in lower case."""


@dataclass
class Listing:
    """Image files with their labels and, where the source says so, their splits; paths as on disk.

    ``splits`` has None where the source gives none. ``classes`` has also those without images. ``places`` says on which
    line (or row: ``unit``) of the source each image is named.
    """

    kind: str
    root: Path
    source: str
    classes: tuple[str, ...]
    paths: list[str]
    labels: list[str]
    splits: list[Split | None]
    quarantined: list[Quarantined] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_ignored: int = 0
    places: Sequence[int] = ()
    unit: str = "line"


def shown(name: str) -> str:
    """The name as valid Unicode: bytes that are not UTF-8 become ``\\xff``, so that every writer can write it."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def merged_twins(names: Iterable[str]) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Map each class name to the one that stands for it, and name those that were merged.

    Names that differ in their Unicode normal form alone look the same everywhere (a folder copied through macOS
    arrives as NFD): they are one class, spelled in NFC. Every other name stays exactly as it is.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in names:
        spellings[unicodedata.normalize("NFC", shown(name))].add(name)
    standing: dict[str, str] = {}
    findings = []
    for normal, group in sorted(spellings.items()):
        standing.update({name: normal if len(group) > 1 else shown(name) for name in group})
        if len(group) > 1:
            reason = f"{len(group)} spellings of {normal!r} differ in Unicode normal form alone: merged into one class"
            findings.append(Finding("class-names-merged", "warning", reason, (normal,)))
    return standing, tuple(findings)
