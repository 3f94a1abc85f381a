"""Read an image folder as a `Listing`: one folder per class, alone or below train/, val/ and test/."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import Split
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.decoding import FORMATS, UNSUPPORTED, UNSUPPORTED_REASON, extension_of
from counterpoise.workflow.dataset.images import Listing, merge_class_names
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
    _refuse_annotated_layout(names, root.name)
    class_of, findings = merge_class_names(names)
    listing = Listing("folder", root, display_name(root.name), tuple(sorted(set(class_of.values()))), [], [], [])
    listing.findings = [*findings, *scan.findings, *_extra_folders(scan, splits)]
    listing.findings += [] if nested else _flattened(scan, splits)
    listing.num_ignored = scan.num_ignored
    for path in sorted(scan.images):
        split, folder = _place(path, splits, nested)
        if not folder:
            reason = "The file is not in a class folder. Move it into one."
        elif splits and split is None:
            reason = "The file is not in train/, val/ or test/. Move it into one of them."
        else:
            listing.paths.append(path)
            listing.labels.append(class_of[folder])
            listing.splits.append(split)
            continue
        listing.quarantined.append(Quarantined(display_name(path), reason, None, split))
    for path, reason in sorted(scan.refused):
        split, folder = _place(path, splits, nested)
        listing.quarantined.append(Quarantined(display_name(path), reason, class_of.get(folder), split))
    if not listing.paths:
        raise DatasetError(_no_image(root.name, listing))
    return listing


def _place(path: str, splits: dict[str, Split], nested: bool) -> tuple[Split | None, str]:
    """The split of a file and the folder that is its class; empty if the file is in no class folder."""
    parts = path.split("/")
    folders = parts[1:-1] if splits else parts[:-1]
    return splits.get(parts[0]), "/".join(folders if nested else folders[:1])


def _inside(paths: Iterable[str], splits: dict[str, Split]) -> Iterator[list[str]]:
    """The parts of each path below its split; paths that are in no split are skipped."""
    parts = (path.split("/") for path in paths)
    return (p[1:] for p in parts if p[0] in splits) if splits else parts


@dataclass
class _Scan:
    """The content of a folder; paths are relative to it, with forward slashes."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_ignored: int = 0


def _scan(root: str) -> _Scan:
    """Walk the folder without following links or opening a file."""
    scan, pending = _Scan(), [("", False)]
    while pending:
        prefix, hidden = pending.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as entries:
                for entry in entries:
                    path = prefix + entry.name
                    ignored = hidden or entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((f"{path}/", ignored))
                        if not ignored:
                            scan.folders.append(path)
                    elif ignored:
                        scan.num_ignored += 1
                    else:
                        _add_file(scan, entry, path, root)
        except OSError as error:
            name = display_name(prefix or ".")
            reason = f"The folder {name!r} cannot be read: {error.strerror}. Check its permissions."
            scan.findings.append(Finding("unreadable-folder", "error", reason, (display_name(prefix),)))
    return scan


def _add_file(scan: _Scan, entry: os.DirEntry[str], path: str, root: str) -> None:
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
    elif entry.is_file(follow_symlinks=False):
        scan.images.append(path)
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
    leaves = {path.rpartition("/")[0] for path in scan.images} | (set(scan.folders) - parents)
    return {"/".join(parts) for parts in _inside(leaves - {""}, splits) if parts}


def _flattened(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Findings about class folders that contain folders of images but no image: these folders may be the classes."""
    below: dict[str, set[str]] = {}
    direct: set[str] = set()
    for parts in _inside(scan.images, splits):
        if len(parts) > 2:
            below.setdefault(parts[0], set()).add(parts[1])
        elif len(parts) == 2:
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


def _extra_folders(scan: _Scan, splits: dict[str, Split]) -> list[Finding]:
    """Findings about folders beside train/, val/ and test/, whose images are in no split."""
    extra = sorted(f for f in scan.folders if "/" not in f and f not in splits) if splits else []
    reason = "The folder {!r} is not a split, so its images are not used. Move them into train/, val/ or test/."
    return [
        Finding("folder-beside-splits", "warning", reason.format(name), (name,)) for name in map(display_name, extra)
    ]


def _no_image(name: str, listing: Listing) -> str:
    if not listing.quarantined:
        return f"{display_name(name)!r} has no image ({', '.join(FORMATS)}); {_LAYOUT}"
    first = listing.quarantined[0]
    return f"{display_name(name)!r} has no image that can be used; {_LAYOUT} ({first.path!r}: {first.reason})"


def _refuse_annotated_layout(class_folders: Iterable[str], name: str) -> None:
    """Raise for the folders of a dataset with annotations, which would be taken for classes such as ``labels``."""
    folders = sorted({folder.split("/", 1)[0] for folder in class_folders})
    for layout, (possible, decisive) in _ANNOTATED_LAYOUTS.items():
        matched = all(re.fullmatch(possible, folder, re.IGNORECASE) for folder in folders)
        if matched and len(folders) > 1 and any(re.fullmatch(decisive, folder, re.IGNORECASE) for folder in folders):
            raise DatasetError(
                f"{display_name(name)!r} has the folders {', '.join(f'{folder}/' for folder in folders)}, the layout "
                f"of {layout}; its annotations cannot be read yet. For the classification of whole images, {_LAYOUT}, "
                "or name the class of each image in a CSV manifest with the columns `path` and `label`"
            )
