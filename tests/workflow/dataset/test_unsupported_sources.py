"""Sources that are no image folder or manifest of one label per image: refused with what to do instead."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile

import pytest
from tests.cli.test_cli import call

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.dataset import load

HOSTILE = ("../evil.jpg", "/tmp/counterpoise-evil.jpg", "photos-evil/x.jpg", "cat/a.jpg", "cat/a.jpg")


def hostile_archive(path, image: bytes):
    """Write an archive whose members would leave its folder, and links to outside."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns about the name that is there twice
            for name in HOSTILE:
                archive.writestr(name, image)
        return
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name in HOSTILE:
            member = tarfile.TarInfo(name)
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo("cat/link.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)


@pytest.mark.fault("D24")
@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz", "photos.tgz", "Photos.ZIP"])
def test_an_archive_is_refused_whole_and_nothing_is_unpacked(tmp_path, encoded, name):
    file = tmp_path / "data" / name
    file.parent.mkdir()
    hostile_archive(file, encoded())
    before = file.read_bytes()
    for command in ("audit", "plan", "train", "compare", "augment"):
        options = ["--strategy", "focal"] if command == "train" else []
        options += ["--out", tmp_path / "out"] if command != "plan" else []
        (line,) = call(command, file, *options, code=2).stderr.splitlines()
        reason = "archives are not opened; unpack it, and pass the folder or the manifest in it"
        assert line == f"error: {str(file)!r}: {reason}"
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()] == [file.relative_to(tmp_path)]
    assert file.read_bytes() == before


@pytest.mark.fault("D24")
def test_an_archive_within_a_dataset_is_no_image_and_is_not_opened(make, encoded):
    root = make({"cat": 4, "dog": 4})
    hostile_archive(root / "cat" / "more.zip", encoded())
    hostile_archive(root / "cat" / "more.tar", encoded())
    (root / "cat" / "more.tar").rename(root / "cat" / "more.jpg")  # an archive by content
    data = load(root)
    assert (len(data), data.num_ignored) == (8, 1)
    (fault,) = data.quarantined
    assert (fault.path, "not an image" in fault.reason) == ("cat/more.jpg", True)
    (root / "list.csv").write_text("path,label\ncat/000.jpg,cat\ncat/001.jpg,cat\ncat/002.jpg,cat\ncat/more.zip,cat\n")
    assert [fault.path for fault in load(root / "list.csv").quarantined] == ["cat/more.zip"]


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        ({"train2017": 3, "val2017": 3, "annotations": 0}, "COCO"),
        ({"train2014": 3, "val2014": 3}, "COCO"),
        ({"images/train2017": 3, "annotations": 0}, "COCO|segmentation masks"),
        ({"images/train": 3, "images/val": 3, "labels/train": 0, "labels/val": 0}, "YOLO"),
        ({"train/images": 3, "train/labels": 0, "valid/images": 3, "valid/labels": 0}, "YOLO"),
        ({"JPEGImages": 3, "Annotations": 0, "ImageSets/Main": 0, "SegmentationClass": 3}, "Pascal VOC"),
        ({"images": 3, "masks": 3}, "segmentation masks"),
        ({"train/image": 3, "train/mask": 3, "test/image": 3, "test/mask": 3}, "segmentation masks"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_the_folders_of_a_dataset_with_annotations_are_not_taken_for_classes(make, folders, layout, nested):
    message = rf"'photos' has the folders .*/, the layout of ({layout}); its annotations cannot be read yet\. .*CSV man"
    with pytest.raises(DatasetError, match=message):
        load(make(folders), nested=nested)


def test_a_folder_with_instances_of_coco_is_called_coco(make):
    root = make({"images/train2017": 3, "images/val2017": 3, "annotations": 0})
    (root / "annotations" / "instances_train2017.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"annotations/, images/, the layout of COCO;"):
        load(root)


@pytest.mark.parametrize(
    "folders",
    [
        {"labels": 4, "stickers": 4},
        {"masks": 4, "no masks": 4},
        {"images": 4},
        {"train2017": 4, "bus": 4},
        {"train/images": 4, "train/texts": 4},
    ],
)
def test_classes_with_such_names_are_classes(make, folders):
    assert len(load(make(folders), val_fraction=0, test_fraction=0)) == sum(folders.values())


def listed(folder, *labels: str):
    """A manifest with these labels, one image each."""
    rows = "".join(f'cat/{i:03d}.jpg,"{label}"\n' for i, label in enumerate(labels))
    (folder / "list.csv").write_text(f"path,label\n{rows}")
    return folder / "list.csv"


@pytest.mark.fault("D27")
@pytest.mark.parametrize(
    ("labels", "first"),
    [
        (("car", "cup", "car|cup", "car"), "line 4: 'car|cup'"),
        (("car", "car|plane", "car"), "line 3: 'car|plane'"),  # plane has no image of its own
        (("car|cup", "cup|dog", "car|dog"), "line 2: 'car|cup'"),  # none stands alone
        (("car|car", "dog"), r"line 2: 'car|car'"),  # repeated
        (("car", "car|"), "line 3: 'car|'"),  # empty
        (("car", "cup", "car ; cup"), "line 4: 'car ; cup'"),
        (("car", "cup", "car, cup"), "line 4: 'car, cup'"),
    ],
)
def test_several_labels_per_image_are_refused_with_the_row(make, labels, first):
    file = listed(make({"cat": 5}), *labels)
    (line,) = call("audit", file, code=2).stderr.splitlines()
    assert line.startswith(f"error: 'list.csv' {first} are several labels, and several labels per image are not")
    assert "keep one label per image" in line


@pytest.mark.fault("D27")
def test_a_column_of_several_labels_is_refused(make):
    file = make({"cat": 3}) / "list.csv"
    file.write_text("path,labels\ncat/000.jpg,car|cup\n")
    with pytest.raises(DatasetError, match="several labels per image are not supported; write one label per image"):
        load(file)


@pytest.mark.fault("D20")
@pytest.mark.parametrize(
    "labels",
    [
        ("crane, bird", "crane, machine", "crane"),
        ("animal|cat", "animal|dog", "plant|rose"),
        ("a|b", "c|d", "e"),
        ("<|>", "x"),
        (";", "x"),
    ],
)
def test_a_separator_within_the_name_of_a_class_is_kept(make, labels):
    assert set(load(listed(make({"cat": 5}), *labels), val_fraction=0, test_fraction=0).classes) == set(labels)
