"""Copies of images are excluded on request: which copy remains, how many went, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from counterpoise.workflow.audit import audit
from counterpoise.workflow.dataset import load


def place(root: Path, encoded, images: dict[str, int]) -> Path:
    """Write ``{path: seed}``; equal seeds are equal images."""
    for path, seed in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encoded("BMP", seed=seed))
    return root


COPIES = {
    **{f"train/cat/{i}.bmp": i for i in range(4)},
    **{f"train/dog/{i}.bmp": 10 + i for i in range(4)},
    "val/cat/v.bmp": 20,
    "test/cat/t.bmp": 30,
    "test/dog/t.bmp": 31,
    "train/cat/again.bmp": 0,  # a copy of train/cat/0
    "train/dog/wrong.bmp": 1,  # as train/cat/1, with another label
    "train/cat/leak.bmp": 30,  # as test/cat/t
    "val/cat/leak.bmp": 30,
    "train/cat/seen.bmp": 20,  # as val/cat/v
    "test/cat/both.bmp": 10,  # as train/dog/0, with another label and split
}


@pytest.mark.fault("D17")
def test_the_copy_that_remains_is_that_of_test_then_val_and_none_if_the_labels_differ(tmp_path, encoded):
    root = place(tmp_path / "x", encoded, COPIES)
    everything, data = load(root), load(root, exclude_duplicates=True)
    gone = {
        "test/cat/both.bmp": "The image is in the dataset with the labels 'cat', 'dog'. Keep the right one.",
        "train/dog/0.bmp": "The image is in the dataset with the labels 'cat', 'dog'. Keep the right one.",
        "train/cat/1.bmp": "The image is in the dataset with the labels 'cat', 'dog'. Keep the right one.",
        "train/dog/wrong.bmp": "The image is in the dataset with the labels 'cat', 'dog'. Keep the right one.",
        "train/cat/leak.bmp": "The image is a copy of 'test/cat/t.bmp' in test. Delete it.",
        "val/cat/leak.bmp": "The image is a copy of 'test/cat/t.bmp' in test. Delete it.",
        "train/cat/seen.bmp": "The image is a copy of 'val/cat/v.bmp' in val. Delete it.",
        "train/cat/again.bmp": "The image is a copy of 'train/cat/0.bmp'. Delete it.",
    }
    assert {item.path: item.reason for item in data.quarantined} == gone
    assert set(data.paths) == set(everything.paths) - set(gone)
    assert data.num_files == everything.num_files
    assert [data.splits[i] for i in range(len(data))] == [path.split("/")[0] for path in data.paths]
    (found,) = [f for f in data.findings if f.kind == "duplicates-excluded"]
    assert (found.severity, found.reason) == (
        "info",
        "8 copies of images are excluded: 4 with different labels, 3 in another split, 1 in the same class and split.",
    )
    assert not [f for f in audit(data).findings if f.kind.startswith(("same-image", "repeated"))]
    assert len([f for f in audit(everything).findings if f.severity == "error"]) == 5


def test_copies_are_excluded_before_the_splits_are_drawn(tmp_path, encoded):
    images = {f"cat/{i:02d}-{copy}.bmp": i for i in range(20) for copy in range(3)}
    root = place(tmp_path / "x", encoded, images)
    data = load(root, exclude_duplicates=True)
    assert [data.counts(split).total for split in ("train", "val", "test")] == [12, 4, 4]
    assert all(path.endswith("-0.bmp") for path in data.paths)
    train_and_test = {f"train/cat/{i}.bmp": i for i in range(10)} | {f"test/cat/{i}.bmp": i for i in range(5)}
    leaking = load(place(tmp_path / "y", encoded, train_and_test), exclude_duplicates=True)
    assert [leaking.counts(split).total for split in ("train", "val", "test")] == [4, 1, 5]


def test_a_class_of_copies_alone_is_excluded_with_them(tmp_path, encoded):
    root = place(tmp_path / "x", encoded, {f"cat/{i}.bmp": i for i in range(6)} | {"dog/0.bmp": 0})
    data = load(root, exclude_duplicates=True)
    assert data.classes == ("cat",)
    assert len(data) == 5


def test_a_dataset_without_copies_is_unchanged(make):
    root = make({"cat": 6, "dog": 4})
    data, cleaned = load(root), load(root, exclude_duplicates=True)
    assert cleaned.fingerprint == data.fingerprint
    np.testing.assert_array_equal(cleaned.splits, data.splits)
    assert "No image has a copy" in next(f.reason for f in cleaned.findings if f.kind == "duplicates-excluded")
