"""load and ImageDataset: the contract of LabeledImages, the arguments, and what stays out of the record."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

from counterpoise.core.errors import ArgumentError, ArgumentTypeError, DatasetError
from counterpoise.core.images import LabeledImages
from counterpoise.workflow.dataset import ImageDataset, load, loading


def _dataset(source) -> LabeledImages:  # mypy and the runtime agree that ours satisfies the protocol
    return load(source)


@pytest.mark.parametrize("kind", ["folder", "manifest", "digits"])
def test_every_source_satisfies_the_contract(make, kind):
    root = make({"cat": 6, "dog": 4})
    rows = "".join(f"{c}/{i:03d}.jpg,{c}\n" for c, n in (("cat", 6), ("dog", 4)) for i in range(n))
    (root / "all.csv").write_text(f"path,label\n{rows}")
    data = _dataset({"folder": root, "manifest": root / "all.csv", "digits": "digits"}[kind])
    assert isinstance(data, LabeledImages)
    assert data.labels.dtype == np.int64
    assert data.labels.shape == data.splits.shape == (len(data.paths),) == (len(data),)
    assert len(set(data.paths)) == len(data)
    assert not any(path.startswith("/") or ".." in path for path in data.paths)
    for split in ("train", "val", "test"):
        part = data.subset(split)
        rows = np.flatnonzero(data.splits == split)
        assert part.classes == data.classes
        assert part.paths == tuple(data.paths[i] for i in rows)
        assert set(part.splits.tolist()) <= {split}
        expected = [int((data.labels[rows] == c).sum()) for c in range(len(data.classes))]
        assert part.counts(split).counts.tolist() == data.counts(split).counts.tolist() == expected
        if len(part):
            np.testing.assert_array_equal(part[len(part) - 1], data[int(rows[-1])])
    image = data[np.int64(0)]
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    np.testing.assert_array_equal(data[-1], data[len(data) - 1])
    for index in (len(data), -len(data) - 1):
        with pytest.raises(IndexError, match="outside"):
            data[index]
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy[0], data[0])
    assert copy.fingerprint == data.fingerprint
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 1


@pytest.mark.fault("R6")
@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_the_record_has_no_absolute_path_and_goes_through_json(make, tmp_path, kind):
    root = make({"cat": 6, "dog": 4})
    (root / "cat/empty.jpg").touch()
    (root / "all.csv").write_text("path,label\ncat/000.jpg,cat\ndog/000.jpg,dog\nnone.jpg,dog\n")
    data = load(root if kind == "folder" else root / "all.csv", seed=3)
    record = data.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert str(tmp_path) not in json.dumps(record) + repr(data.quarantined) + repr(data.findings) + repr(data.paths)
    assert record["kind"] == kind
    assert record["source"] == ("photos" if kind == "folder" else "all.csv")
    assert record["seed"] == 3
    assert record["num_quarantined"] == 1
    assert record["drawn"] == ["test", "val"]


def test_the_fingerprint_tells_data_apart(make, tmp_path):
    folders = {"train/cat": 4, "train/dog": 4, "test/cat": 1}
    first = load(make(folders))
    assert load(make(folders, root=tmp_path / "b"), val_fraction=0.5).fingerprint != first.fingerprint
    assert load(make({**folders, "test/dog": 1}, root=tmp_path / "c")).fingerprint != first.fingerprint
    assert first.subset("train").fingerprint != first.fingerprint
    (tmp_path / "photos/train/elk").mkdir()
    assert load(tmp_path / "photos").fingerprint == first.fingerprint
    assert load(tmp_path / "photos", keep_empty_classes=True).fingerprint != first.fingerprint


def test_symmetries_are_checked_and_kept(make):
    root = make({"cat": 3})
    assert load(root).symmetries == {"hflip"}
    assert load(root, symmetries=()).symmetries == set()
    assert load(root, symmetries=["rot90", "vflip"]).symmetries == {"rot90", "vflip"}
    assert load(root, symmetries="vflip").symmetries == {"vflip"}
    assert load("digits", symmetries=["vflip"]).symmetries == {"vflip"}
    with pytest.raises(ArgumentError, match=r"`symmetries` must be one of .*; got 'flip'"):
        load(root, symmetries=["flip"])


def test_one_split(make):
    root = make({"train/cat": 4, "test/cat": 2})
    assert len(load(root, split="test")) == 2
    with pytest.raises(ArgumentError, match=r"`split` must be one of .*'dev'"):
        load(root, split="dev")
    with pytest.raises(DatasetError, match=r"has no test split; it has train \(2\), val \(2\)"):
        load(make({"train/dog": 4}, root=root.parent / "b"), split="test", val_fraction=0.5)


def test_the_name_can_be_given(make):
    root = make({"cat": 3})
    assert load(root).name == "photos"
    assert load(root, name="Animals").name == "Animals"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"val_fraction": 1.0}, ArgumentError, "`val_fraction` must be at least 0 and below 1; got 1"),
        ({"val_fraction": -0.1}, ArgumentError, "`val_fraction`"),
        ({"test_fraction": float("nan")}, ArgumentError, "`test_fraction`"),
        ({"test_fraction": "0.2"}, ArgumentTypeError, "`test_fraction` must be a number"),
        ({"val_fraction": True}, ArgumentTypeError, "`val_fraction`"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, ArgumentError, "must sum to less than 1"),
        ({"seed": 1.5}, ArgumentTypeError, "`seed` must be a whole number"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(arguments, error, match):
    with pytest.raises(error, match=match):
        load("/nowhere", **arguments)


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        ("nowhere", DatasetError, "'nowhere' does not exist; pass an image folder, a CSV or Parquet manifest"),
        ("hf:cifar10", DatasetError, "Hugging Face datasets cannot be read yet; pass an image folder"),
        ("instances.json", DatasetError, "COCO annotations cannot be read yet"),
        ("photos.zip", DatasetError, "archives are not opened; unpack it"),
        ("photos.tar.gz", DatasetError, "archives are not opened; unpack it"),
        ("n" * 5000, DatasetError, r"^'n{100,200} cannot be opened: File name too long|does not exist"),
        ("", ArgumentError, "`source` must be a path"),
        ("a\0b", ArgumentError, "`source` must be a path"),
        (7, ArgumentTypeError, "`source` must be a path or 'digits'; got int"),
        (None, ArgumentTypeError, "got NoneType"),
    ],
)
def test_a_source_that_cannot_be_used_says_what_can(source, error, match):
    with pytest.raises(error, match=match) as caught:
        load(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["notes.txt", "image.jpg", "noextension"])
def test_a_file_that_is_no_manifest(tmp_path, encoded, name):
    (tmp_path / name).write_bytes(encoded())
    with pytest.raises(DatasetError, match=f"'{name}' is not a dataset; pass an image folder"):
        load(tmp_path / name)


@pytest.mark.fault("D12")
def test_a_fifo_as_source_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(DatasetError, match="is not a dataset"):
        load(tmp_path / "x.csv")


def _with_damage(make, encoded) -> ImageDataset:
    """Six images, of which one has a sound header and a sound end, and nonsense in between."""
    root = make({"train/cat": 4, "test/cat": 1})
    png = bytearray(encoded("PNG", seed=4, size=(30, 30)))
    png[len(png) // 2] ^= 0xFF
    (root / "train/cat/bad.png").write_bytes(png)
    return load(root, val_fraction=0)


@pytest.mark.fault("D2")
def test_damage_that_only_decoding_finds_names_index_and_path(make, encoded):
    data = _with_damage(make, encoded)
    index = data.paths.index("train/cat/bad.png")
    with pytest.raises(
        DatasetError, match=rf"^image {index} \('train/cat/bad.png'\): The file cannot be decoded: "
    ) as caught:
        data[index]
    assert str(data.root) not in str(caught.value)


@pytest.mark.fault("D2")
@pytest.mark.parametrize("workers", [None, 1, 4])
def test_without_unreadable_moves_it_to_the_quarantined_and_loses_nothing(make, encoded, workers):
    data = _with_damage(make, encoded)
    done: list[int] = []
    kept = data.without_unreadable(workers=workers, progress=done.append)
    assert done[-1] == len(data) == 6
    assert kept.num_files == data.num_files
    assert [(q.path, q.label, q.split) for q in kept.quarantined] == [("train/cat/bad.png", "cat", "train")]
    assert kept.quarantined[0].reason.startswith("The file cannot be decoded")
    assert set(kept.paths) == set(data.paths) - {"train/cat/bad.png"}
    assert all(kept[i].shape[2] == 3 for i in range(len(kept)))
    assert kept.fingerprint != data.fingerprint
    assert kept.without_unreadable() is kept
    assert len(data) == 6
    assert not data.quarantined


def test_quarantine_by_hand(make):
    data = load(make({"train/cat": 4, "val/cat": 1}))
    kept = data.quarantine({2: "blurred", 0: "not a cat"})
    assert [(q.path, q.reason) for q in kept.quarantined] == [
        ("train/cat/000.jpg", "not a cat"),
        ("train/cat/002.jpg", "blurred"),
    ]
    assert kept.paths == ("train/cat/001.jpg", "train/cat/003.jpg", "val/cat/000.jpg")
    twice = kept.quarantine({2: "too dark"})  # the earlier ones stay
    assert [q.path for q in twice.quarantined] == ["train/cat/000.jpg", "train/cat/002.jpg", "val/cat/000.jpg"]
    assert twice.num_files == data.num_files


@pytest.mark.parametrize("package", ["dataset", "audit"])
def test_importing_stays_light(package):
    code = (
        f"import sys, counterpoise.workflow.{package}; "
        "print(*sorted({'torch', 'polars', 'sklearn', 'PIL', 'altair', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_loading_and_auditing_import_no_torch(make):
    root = make({"cat": 5, "dog": 5})
    code = (
        "import sys; from counterpoise.workflow.audit import audit; from counterpoise.workflow.dataset import load; "
        f"audit(load({str(root)!r}), deep=True); audit(load('digits')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.fault("D14")
def test_many_names_that_are_not_utf8_take_linear_time():
    paths = [f"cat/{i}\udcff.png" for i in range(100_000)]
    start = time.perf_counter()
    names, renamed = loading._unique_names(paths)
    assert time.perf_counter() - start < 5
    assert len(set(names)) == len(renamed) == len(paths)


@pytest.mark.fault("D14")
def test_names_that_look_alike_after_their_bytes_are_written_out_stay_apart():
    spelled = ("\\xff", "\udcff")
    paths = ["".join(parts) for parts in itertools.product(spelled, repeat=12)]
    paths += ["\\xff" * 12 + "_", "\\xff" * 12 + "_7", "plain"]
    names, renamed = loading._unique_names(paths)
    assert len(set(names)) == len(paths)
    assert [renamed.get(name, name) for name in names] == paths
    assert loading._unique_names(["a\udcff", "a\\xff"]) == (["a\\xff_", "a\\xff"], {"a\\xff_": "a\udcff"})
