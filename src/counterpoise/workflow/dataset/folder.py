"""Read an image folder as a `Listing`: one folder per class, alone or below train/, val/ and test/."""

from __future__ import annotations

import itertools
import operator
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import SPLITS, Split
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.decoding import FORMATS, UNSUPPORTED, UNSUPPORTED_REASON, extension_of
from counterpoise.workflow.dataset.images import NO_SPLIT, Listing, merge_class_names
from counterpoise.workflow.dataset.splits import SPLIT_NAMES

_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "__pycache__", "lost+found", "$RECYCLE.BIN"})
_LAYOUT = "put the images into one folder per class, or below train/<class>/, val/<class>/ and test/<class>/"

# Layouts of datasets with annotations: folders that there may be in place of class folders, and one that shows it.
_ANNOTATED_LAYOUTS = {
    "COCO": (r"((train|val|test|unlabeled)20\d\d|annotations|images)", r"(train|val|test)20\d\d"),
    "Pascal VOC": (r"(annotations|imagesets|jpegimages|segmentation(class|object))", r"(annotations|imagesets)"),
    "YOLO": (r"(images|labels)", "labels"),
    "segmentation masks": (r"(images?|(segmentation_?)?masks?|annotations)", r".*(masks?|annotations)"),
}

_COCO_FILES = "annotations/*.json"


def read_folder(root: Path, *, nested: bool = False) -> Listing:
    """List the images of a folder, sorted by path.

    The class of an image is its folder at the class level, and deeper folders belong to it. With ``nested`` it is the
    whole path below the class level, such as ``animal/cat``. Links are not followed.

    Raises:
        DatasetError: the folder has no images, or is not laid out in classes.
    """
    scan = _scan(os.fspath(root))
    splits = _split_folders(scan, root.name)
    names = _nested_folders(scan, splits) if nested else {p[0] for p in _inside(scan.folders, splits) if len(p) == 1}
    _refuse_annotated_layout(names, root)
    class_of, findings = merge_class_names(names)
    listing = _listed(scan, root, splits, class_of, nested)
    listing.findings = [*findings, *scan.findings, *_extra_folders(scan, splits)]
    listing.findings += _two_levels(scan, splits) if nested else _flattened(scan, splits)
    if not listing.paths:
        raise DatasetError(_no_image(root.name, listing))
    return listing


def _listed(scan: _Scan, root: Path, splits: dict[str, Split], class_of: dict[str, str], nested: bool) -> Listing:
    """The images sorted by path, and the files that cannot be used: the folder decides on all files in it at once."""
    classes = tuple(sorted(set(class_of.values())))
    code_of = {name: code for code, name in enumerate(classes)}
    paths: list[str] = []
    folders: list[tuple[int, int, int]] = []  # label, split and number of images of each
    misplaced: list[tuple[str, str, Split | None]] = []
    for folder in sorted(scan.images, key="{}/".format):
        split, class_folder = _place(folder, splits, nested)
        found = [_below(folder, name) for name in sorted(scan.images[folder])]
        if reason := _misplacement(split, class_folder, splits):
            misplaced += [(path, reason, split) for path in found]
        else:
            folders.append((code_of[class_of[class_folder]], SPLITS.index(split) if split else NO_SPLIT, len(found)))
            paths += found
    label, split_code, number = np.array(folders, dtype=np.int64).reshape(-1, 3).T
    order = np.arange(len(paths))
    if any(map(operator.gt, paths, itertools.islice(paths, 1, None))):  # a folder has images and folders of images
        order = np.array(sorted(range(len(paths)), key=paths.__getitem__), dtype=np.int64)
        paths.sort()
    refused = [
        (path, reason, *_place(path.rpartition("/")[0], splits, nested)) for path, reason in sorted(scan.refused)
    ]
    return Listing(
        "folder",
        root,
        display_name(root.name),
        classes,
        paths,
        np.repeat(label, number)[order].astype(np.int32),
        np.repeat(split_code, number)[order].astype(np.int8),
        quarantined=[
            *(Quarantined(display_name(path), reason, None, split) for path, reason, split in sorted(misplaced)),
            *(Quarantined(display_name(path), why, class_of.get(name), split) for path, why, split, name in refused),
        ],
        num_ignored=scan.num_ignored,
    )


def _place(folder: str, splits: dict[str, Split], nested: bool) -> tuple[Split | None, str]:
    """The split of a folder and the folder that is its class; empty if it is above the class level."""
    parts = folder.split("/")
    folders = parts[1:] if splits else parts
    return splits.get(parts[0]), "/".join(folders if nested else folders[:1])


def _misplacement(split: Split | None, class_folder: str, splits: dict[str, Split]) -> str:
    """The reason why the images of a folder cannot be used; empty if they can."""
    if not class_folder:
        return "The file is not in a class folder. Move it into one."
    if splits and split is None:
        return "The file is not in train/, val/ or test/. Move it into one of them."
    return ""


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _inside(paths: Iterable[str], splits: dict[str, Split]) -> Iterator[list[str]]:
    """The parts of each path below its split; paths that are in no split are skipped."""
    parts = (path.split("/") for path in paths)
    return (p[1:] for p in parts if p[0] in splits) if splits else parts


@dataclass
class _Scan:
    """The content of a folder; paths are relative to it, with forward slashes.

    ``images`` has the names of the image files per folder that contains some; "" is the folder itself.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_ignored: int = 0


def _scan(root: str) -> _Scan:
    """Walk the folder without following links or opening a file."""
    scan = _Scan()
    pending = [("", False)]
    while pending:
        folder, hidden = pending.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                _scan_folder(scan, pending, entries, folder, hidden, root)
        except OSError as error:
            shown = f"{folder}/" if folder else ""
            problem = f"The folder {display_name(shown or '.')!r} cannot be read: {error.strerror}"
            finding = Finding(
                "unreadable-folder", "error", f"{problem}. Check its permissions.", (display_name(shown),)
            )
            scan.findings.append(finding)
    scan.images = {folder: images for folder, images in scan.images.items() if images}
    return scan


def _scan_folder(
    scan: _Scan,
    pending: list[tuple[str, bool]],
    entries: Iterable[os.DirEntry[str]],
    folder: str,
    hidden: bool,
    root: str,
) -> None:
    """Record the entries of one folder, and add the folders in it to ``pending``."""
    images = scan.images[folder] = []
    for entry in entries:
        name = entry.name
        ignored = hidden or name.startswith(".") or name in _SYSTEM_FOLDERS
        if not ignored and extension_of(name) in FORMATS and entry.is_file(follow_symlinks=False):
            images.append(name)
        elif entry.is_dir(follow_symlinks=False):
            pending.append((_below(folder, name), ignored))
            if not ignored:
                scan.folders.append(_below(folder, name))
        elif ignored:
            scan.num_ignored += 1
        else:
            _add_other(scan, entry, _below(folder, name), root)


def _add_other(scan: _Scan, entry: os.DirEntry[str], path: str, root: str) -> None:
    """Record an entry that is neither an image nor a folder."""
    extension = extension_of(entry.name)
    if entry.is_symlink():
        if extension in FORMATS or entry.is_dir():
            scan.refused.append((path, _link_reason(f"{root}/{path}", root)))
        else:
            scan.num_ignored += 1
    elif extension in UNSUPPORTED:
        scan.refused.append((path, UNSUPPORTED_REASON.format(extension=extension)))
    elif extension not in FORMATS:
        scan.num_ignored += 1
    else:
        scan.refused.append((path, "The file is not a regular file. Move it out of the dataset."))


def _link_reason(link: str, root: str) -> str:
    try:
        target = os.path.realpath(link, strict=True)
    except OSError:  # dangling, or a loop
        return "The symbolic link has no target. Remove it."
    if target == root or target.startswith(root.rstrip("/") + "/"):
        return "The symbolic link is not followed: its target is in the folder and would count twice. Remove it."
    return "The symbolic link is not followed: its target is outside the folder. Replace it by a copy, or remove it."


def _split_folders(scan: _Scan, name: str) -> dict[str, Split]:
    """``{folder: split}``; empty if the folder has class folders only.

    A folder named train is a split if it contains folders; if it contains images it may be a class (of vehicles).
    """
    top = [folder for folder in scan.folders if "/" not in folder]
    parents = {folder.split("/", 1)[0] for folder in scan.folders if "/" in folder}
    named = {folder: SPLIT_NAMES[folder.lower()] for folder in sorted(top) if folder.lower() in SPLIT_NAMES}
    if not any(split == "train" and folder in parents for folder, split in named.items()):
        if top and len(named) == len(top):
            folders = ", ".join(f"{folder}/" for folder in named)
            raise DatasetError(f"{display_name(name)!r} has {folders} but no class folders in train/; {_LAYOUT}")
        return {}
    for split in set(named.values()):
        same = [folder for folder in named if named[folder] == split]
        if len(same) > 1:
            folders = " and ".join(same)
            raise DatasetError(f"{display_name(name)!r} has {folders}, which both mean {split}; keep one of them")
    return named


def _nested_folders(scan: _Scan, splits: dict[str, Split]) -> set[str]:
    """Paths of the folders that contain images or nothing: the classes if folders are nested."""
    parents = {folder.rpartition("/")[0] for folder in scan.folders}
    leaves = set(scan.images) | (set(scan.folders) - parents)
    return {"/".join(parts) for parts in _inside(leaves - {""}, splits) if parts}


def _flattened(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Findings about class folders that contain folders of images but no image: these folders may be the classes."""
    below: dict[str, set[str]] = {}
    direct: set[str] = set()
    for parts in _inside(filter(None, scan.images), splits):
        if len(parts) > 1:
            below.setdefault(parts[0], set()).add(parts[1])
        elif parts:
            direct.add(parts[0])
    findings = []
    for name, folders in sorted(below.items()):
        if name not in direct and len(folders) > 1:
            reason = (
                f"The class {display_name(name)!r} has its images in {len(folders)} folders, which count as one class: "
                f"{listed(map(display_name, sorted(folders)), 3)}. Set `nested=True` (--nested) to make each a class."
            )
            findings.append(Finding("nested-folders", "warning", reason, (display_name(name),)))
    return findings


def _two_levels(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Findings about folders that contain images beside folders of images, so that one class is above others."""
    names = {"/".join(parts) for parts in _inside(filter(None, scan.images), splits) if parts}
    below: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = name.split("/")
        for above in names & {"/".join(parts[:end]) for end in range(1, len(parts))}:
            below.setdefault(above, []).append(name)
    findings = []
    for above in sorted(below):
        name = display_name(above)
        inside = listed(map(display_name, below[above]), 3)
        reason = (
            f"The folder {name!r} has images beside folders of images ({inside}), so that it is a class above other "
            f"classes, and hierarchical strategies cannot use this tree. Move its images into a folder such as "
            f"{name}/other, or write a tree file with all of them as leaves (--tree of train and compare)."
        )
        findings.append(Finding("images-at-two-levels", "warning", reason, (name,)))
    return findings


def _extra_folders(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Findings about folders beside train/, val/ and test/, whose images are in no split."""
    extra = sorted(f for f in scan.folders if "/" not in f and f not in splits) if splits else []
    reason = "The folder {!r} is not a split, so its images are not used. Move them into train/, val/ or test/."
    return [
        Finding("folder-beside-splits", "warning", reason.format(name), (name,)) for name in map(display_name, extra)
    ]


def _no_image(name: str, listing: Listing) -> str:
    unreadable = [finding.reason for finding in listing.findings if finding.kind == "unreadable-folder"]
    if unreadable:
        return f"{display_name(name)!r} has no image that can be read. {unreadable[0]}"
    if not listing.quarantined:
        return f"{display_name(name)!r} has no image ({', '.join(FORMATS)}); {_LAYOUT}"
    first = listing.quarantined[0]
    return f"{display_name(name)!r} has no image that can be used; {_LAYOUT} ({first.path!r}: {first.reason})"


def _refuse_annotated_layout(class_folders: Iterable[str], root: Path) -> None:
    """Raise for the folders of a dataset with annotations, which would be taken for classes such as ``labels``."""
    folders = sorted({folder.split("/", 1)[0] for folder in class_folders})
    for layout, (possible, decisive) in _ANNOTATED_LAYOUTS.items():
        matched = all(re.fullmatch(possible, folder, re.IGNORECASE) for folder in folders)
        if matched and len(folders) > 1 and any(re.fullmatch(decisive, folder, re.IGNORECASE) for folder in folders):
            layout = "COCO" if any(root.glob(_COCO_FILES)) else layout
            raise DatasetError(
                f"{display_name(root.name)!r} has the folders {', '.join(f'{folder}/' for folder in folders)}, the "
                f"layout of {layout}; its annotations cannot be read yet. For the classification of whole images, "
                f"{_LAYOUT}, "
                "or name the class of each image in a CSV manifest with the columns `path` and `label`"
            )
