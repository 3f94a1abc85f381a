"""A written manifest is read as the same images, wherever it may lie, and with names that break other tools."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from counterpoise.core.errors import ArgumentError, ArtifactError, CounterpoiseError, DatasetError
from counterpoise.workflow.dataset import load, write_manifest


def _images(data) -> dict[str, tuple[str, str]]:
    """Label and split by the path of the file."""
    return {
        str(Path(data.file(i)).resolve()): (data.classes[data.labels[i]], str(data.splits[i])) for i in range(len(data))
    }


@pytest.mark.parametrize("folders", [{"cat": 9, "dog": 5, "ant": 3}, {"train/cat": 6, "train/dog": 6, "test/cat": 2}])
def test_a_manifest_beside_the_images_is_the_same_dataset(make, folders):
    root = make(folders)
    data = load(root, seed=3)
    write_manifest(data, root / "all.csv")
    again = load(root / "all.csv", seed=4)
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again[0], data[0])
    assert not again.quarantined


def test_a_manifest_above_the_images_or_of_a_manifest_names_the_same_files(make, tmp_path, monkeypatch):
    root = make({"cat": 6, "dog": 4}, root=tmp_path / "deep/er/photos")
    data = load(root)
    monkeypatch.chdir(tmp_path)
    write_manifest(data, "all.csv")
    assert Path("all.csv").read_text().splitlines()[1].startswith("deep/er/photos/cat/000.jpg,cat,")
    assert _images(load("all.csv")) == _images(data)
    write_manifest(load("all.csv"), "again.csv")
    assert _images(load("again.csv")) == _images(data)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    write_manifest(load("link"), "link/linked.csv")
    assert _images(load(root / "linked.csv")) == _images(data)


@pytest.mark.fault("D14")
@pytest.mark.fault("D20")
def test_names_that_break_other_tools_come_back(make, encoded):
    root = make({"=1+1": 2, "007": 2, " pad ": 2, "a,b": 2, 'qu"ote': 2, "NA": 2})
    for i, name in enumerate(["new\nline.jpg", "-rf.jpg", "~x.jpg", "file:x.jpg", "@a.jpg", "'a.jpg", "é.jpg"]):
        (root / name.partition(".")[0].strip("~'@-")).mkdir(exist_ok=True)
        (root / "NA" / name).write_bytes(encoded(seed=300 + i))
    (root / "~home").mkdir()
    (root / "~home/1.jpg").write_bytes(encoded(seed=400))
    (root / "file:").mkdir()
    (root / "file:/1.jpg").write_bytes(encoded(seed=401))
    data = load(root)
    write_manifest(data, root / "all.csv")
    assert load(root / "all.csv").fingerprint == data.fingerprint


@pytest.mark.fault("D14")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (os.fsdecode(b"caf\xe9.jpg"), "cannot be named in a CSV file, because its name is not UTF-8; rename it"),
        ("back\\slash.jpg", "cannot be named in a CSV file, which is read otherwise; rename the file"),
        ("a\nb,c.jpg", "the dataset cannot be written as a CSV file: .* opens a quote"),
    ],
)
def test_a_name_that_would_be_read_otherwise_is_refused_and_nothing_is_written(make, encoded, name, message):
    root = make({"cat": 3})
    (root / "cat" / name).write_bytes(encoded(seed=9))
    data = load(root)
    (root / "all.csv").write_text("old")
    with pytest.raises(DatasetError, match=message):
        write_manifest(data, root / "all.csv", overwrite=True)
    assert (root / "all.csv").read_text() == "old"
    assert sorted(path.name for path in root.iterdir()) == ["all.csv", "cat"]


@pytest.mark.parametrize(
    ("source", "file", "error", "message"),
    [
        (".", "sub/all.csv", ArgumentError, "must be in the folder of the images, photos, or in a folder above it"),
        (".", "../elsewhere/all.csv", ArgumentError, "or in a folder above it"),
        (".", "all.parquet", ArgumentError, "`file` must end in .csv; got 'all.parquet'"),
        (".", "taken.csv", ArtifactError, r"taken.csv exists; choose another name, or set `overwrite`"),
        ("taken.csv", "taken.csv", ArtifactError, r"taken.csv exists; choose another name$"),
        ("digits", "all.csv", ArgumentError, "the images of 'digits' are not files"),
    ],
)
def test_places_where_no_manifest_is_written(make, source, file, error, message):
    root = make({"cat": 3, "sub": 3})
    (root / "taken.csv").write_text("path,label\ncat/000.jpg,a\ncat/001.jpg,b\n")
    data = load(source if source == "digits" else root / source, val_fraction=0, test_fraction=0)
    with pytest.raises(error, match=message):
        write_manifest(data, root / file, overwrite=source == "taken.csv")
    assert (root / "taken.csv").read_text().startswith("path,label\ncat/000.jpg,a\n")


def test_an_existing_file_is_replaced_on_request(make):
    root = make({"cat": 3})
    (root / "all.csv").write_text("old")
    write_manifest(load(root), root / "all.csv", overwrite=True)
    assert len(load(root / "all.csv")) == 3
    with pytest.raises(CounterpoiseError, match="exists"):
        write_manifest(load(root), root / "all.csv")
