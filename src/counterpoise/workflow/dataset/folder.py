"""An image folder → `Listing`: class folders, alone or below train/, val/ and test/."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.images import Split
from counterpoise.workflow.dataset.header import EXTENSIONS, UNSUPPORTED, extension_of
from counterpoise.workflow.dataset.listing import SPLIT_NAMES, Listing, merged_twins, shown

__all__ = ["read_folder"]

_CLUTTER_FOLDERS = frozenset({"__MACOSX", "@eaDir", "__pycache__", "lost+found", "$RECYCLE.BIN"})
_WHAT_TO_DO = "put the images into one folder a class, or below train/<class>/, val/<class>/ and test/<class>/"


def read_folder(root: Path, *, nested: bool = False) -> Listing:
    """List the images of a folder, sorted by path.

    The class of an image is the folder at the class level, and folders below that belong to it; with ``nested`` it is
    the whole way down to the image, ``animal/cat``. Links are not followed.

    Raises:
        DatasetError: no folder of images, or not laid out in classes.
    """
    scan = _scan(os.fspath(root))
    splits = _split_folders(scan, root.name)
    level = 1 if splits else 0
    standing, findings = merged_twins(_nested_folders(scan, splits) if nested else _class_folders(scan, splits))
    listing = Listing("folder", root, shown(root.name), tuple(sorted(set(standing.values()))), [], [], [])
    listing.findings = [*findings, *scan.findings, *_strays(scan, splits)]
    listing.findings += [] if nested else _flattened(scan, splits)
    listing.num_ignored = scan.num_ignored
    for path in sorted(scan.images):
        parts = path.split("/", level + 1)
        split = splits.get(parts[0]) if level else None
        if len(parts) < level + 2:
            listing.quarantined.append(Quarantined(shown(path), "lies in no class folder", None, split))
        elif level and split is None:
            listing.quarantined.append(Quarantined(shown(path), "lies beside train/, val/ and test/"))
        else:
            listing.paths.append(path)
            listing.labels.append(standing[_label(path, level, nested)])
            listing.splits.append(split)
    for path, reason in sorted(scan.refused):
        parts = path.split("/", level + 1)
        label = standing.get(_label(path, level, nested)) if len(parts) == level + 2 else None
        listing.quarantined.append(Quarantined(shown(path), reason, label, splits.get(parts[0])))
    if not listing.paths:
        raise DatasetError(_nothing(root.name, listing))
    return listing


def _label(path: str, level: int, nested: bool) -> str:
    parts = path.split("/")
    return "/".join(parts[level:-1]) if nested else parts[level]


@dataclass
class _Scan:
    """All that lies below a folder; paths relative to it, with forward slashes."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_ignored: int = 0


def _scan(root: str) -> _Scan:
    """Walk without following links or opening anything; what an entry is comes from lstat."""
    scan, waiting = _Scan(), [("", False)]
    while waiting:
        prefix, hidden = waiting.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as entries:
                for entry in entries:
                    path = prefix + entry.name
                    clutter = hidden or entry.name.startswith(".") or entry.name in _CLUTTER_FOLDERS
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((f"{path}/", clutter))
                        if not clutter:
                            scan.folders.append(path)
                    elif clutter:
                        scan.num_ignored += 1
                    else:
                        _sort_in(scan, entry, path, root)
        except OSError as error:
            reason = f"folder {shown(prefix or '.')!r} cannot be read: {error.strerror}"
            scan.findings.append(Finding("unreadable-folder", "error", reason, (shown(prefix),)))
    return scan


def _sort_in(scan: _Scan, entry: os.DirEntry[str], path: str, root: str) -> None:
    extension = extension_of(entry.name)
    if entry.is_symlink():
        if extension in EXTENSIONS or entry.is_dir():
            scan.refused.append((path, _link_reason(f"{root}/{path}", root)))
        else:
            scan.num_ignored += 1
    elif extension in UNSUPPORTED:
        scan.refused.append((path, f"unsupported format {extension}: never opened"))
    elif extension not in EXTENSIONS:
        scan.num_ignored += 1
    elif entry.is_file(follow_symlinks=False):
        scan.images.append(path)
    else:
        scan.refused.append((path, "not a regular file"))


def _link_reason(link: str, root: str) -> str:
    try:
        target = os.path.realpath(link, strict=True)
    except OSError:  # dangling, or a loop
        return "symbolic link that leads nowhere"
    inside = target == root or target.startswith(root.rstrip("/") + "/")
    where = "within the folder: would count images twice" if inside else "out of the folder"
    return f"symbolic link, not followed: it leads {where}"


def _split_folders(scan: _Scan, name: str) -> dict[str, Split]:
    """``{folder: split}``, or nothing where there are class folders alone.

    A folder called train is a split if it holds folders; it may be a class (a kind of vehicle) if it holds images.
    """
    top = [folder for folder in scan.folders if "/" not in folder]
    parents = {folder.split("/", 1)[0] for folder in scan.folders if "/" in folder}
    named = {folder: SPLIT_NAMES[folder.lower()] for folder in sorted(top) if folder.lower() in SPLIT_NAMES}
    if not any(split == "train" and folder in parents for folder, split in named.items()):
        if top and len(named) == len(top):
            raise DatasetError(
                f"{shown(name)!r} has {', '.join(f'{folder}/' for folder in named)} but no class folders in train/; "
                f"{_WHAT_TO_DO}"
            )
        return {}
    for split in set(named.values()):
        twins = [folder for folder in named if named[folder] == split]
        if len(twins) > 1:
            raise DatasetError(f"{shown(name)!r} has {' and '.join(twins)}, which both mean {split}; keep one of them")
    return named


def _class_folders(scan: _Scan, splits: dict[str, Split]) -> set[str]:
    """Names of the folders at the class level."""
    if not splits:
        return {folder for folder in scan.folders if "/" not in folder}
    deep = (folder.split("/") for folder in scan.folders)
    return {parts[1] for parts in deep if len(parts) == 2 and parts[0] in splits}


def _nested_folders(scan: _Scan, splits: dict[str, Split]) -> set[str]:
    """Folders that hold images, or nothing at all: the classes where their whole way is the name."""
    level = 1 if splits else 0
    inner = {folder.rpartition("/")[0] for folder in scan.folders}
    holding = {path.rpartition("/")[0] for path in scan.images}
    ends = [folder.split("/") for folder in holding | (set(scan.folders) - inner) if folder]
    return {"/".join(parts[level:]) for parts in ends if len(parts) > level and (not splits or parts[0] in splits)}


def _flattened(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Class folders that hold folders of images and no image themselves: perhaps these are the classes."""
    level = 1 if splits else 0
    below: dict[str, set[str]] = {}
    direct: set[str] = set()
    for path in scan.images:
        parts = path.split("/")
        if len(parts) > level + 2 and (not splits or parts[0] in splits):
            below.setdefault(parts[level], set()).add(parts[level + 1])
        elif len(parts) == level + 2:
            direct.add(parts[level])
    several = {name: sorted(folders) for name, folders in below.items() if name not in direct and len(folders) > 1}
    return [
        Finding(
            "nested-folders",
            "warning",
            f"class {shown(name)!r} has its images in {len(folders)} folders ({', '.join(map(shown, folders[:3]))}"
            f"{', …' if len(folders) > 3 else ''}), which count as one class; `nested` (--nested) makes each a class",
            (shown(name),),
        )
        for name, folders in sorted(several.items())
    ]


def _strays(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Folders beside train/, val/ and test/: their images are in no split."""
    beside = sorted(f for f in scan.folders if "/" not in f and f not in splits) if splits else []
    return [
        Finding("folder-beside-splits", "warning", f"folder {shown(f)!r} is no split: left out", (shown(f),))
        for f in beside
    ]


def _nothing(name: str, listing: Listing) -> str:
    if not listing.quarantined:
        return f"{shown(name)!r} holds no image ({', '.join(EXTENSIONS)}); {_WHAT_TO_DO}"
    first = listing.quarantined[0]
    return f"{shown(name)!r} holds no usable image; {first.path!r}: {first.reason}; {_WHAT_TO_DO}"
