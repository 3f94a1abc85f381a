"""Features that the user has computed: they are matched to the images by their paths, and checked."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from tests.workflow.blobs import blobs

from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.training.frozen.features import link_backbone, load_features, save_backbone


@pytest.fixture
def data():
    return blobs()


@pytest.fixture
def values(data):
    return np.random.default_rng(0).normal(size=(len(data), 6)).astype(np.float32)


@pytest.fixture
def saved(tmp_path, data, values):
    """A function that saves these features, with changes, and returns the file."""

    def save(**changes):
        arrays = {"features": values, "paths": np.array(data.paths), **changes}
        file = tmp_path / "clip.npz"
        np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
        return file

    return save


def rows(data, split):
    return np.flatnonzero(data.splits == split)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_features_are_matched_to_the_images_by_their_paths(data, values, saved, dtype):
    order = np.random.default_rng(1).permutation(len(data))
    given = values.astype(dtype)
    names = np.array(data.classes)[data.labels]
    file = saved(features=given[order], paths=np.array(data.paths)[order], labels=names[order])
    features = load_features(file, data)
    for split in ("train", "val", "test"):
        expected = given[rows(data, split)][:, None].astype(np.float32)
        np.testing.assert_array_equal(features.values[split], expected)
        assert features.values[split].dtype == (np.float16 if dtype == np.float16 else np.float32)
    assert features.width == 6
    assert features.backbone is None
    assert features.source == {
        "file": "clip.npz", "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "views": 0,
    }  # fmt: skip


def test_without_paths_the_order_is_that_of_the_dataset(data, values, saved):
    features = load_features(saved(paths=None, labels=data.labels), data)
    np.testing.assert_array_equal(features.values["test"][:, 0], values[rows(data, "test")])


def test_views_are_used_for_training_images_only(data, values, saved):
    views = np.stack([values, values + 1, values + 2], axis=1)
    features = load_features(saved(features=views), data)
    np.testing.assert_array_equal(features.values["train"], views[rows(data, "train")])
    np.testing.assert_array_equal(features.values["val"], views[rows(data, "val")][:, :1])
    assert features.source["views"] == 2


def test_features_of_quarantined_images_are_ignored(data, values, saved):
    file = saved()
    rest = data.quarantine({3: "damaged", 60: "damaged"})
    features = load_features(file, rest)
    np.testing.assert_array_equal(features.values["train"][:, 0], np.delete(values, 3, axis=0)[:53])


def with_value(values, row, value):
    changed = values.copy()
    changed[row, 2] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, d: {"paths": None, "features": v[:-1]}, r"101 rows and no 'paths', and blobs has 102 images; add"),
        (lambda v, d: {"features": v[:-1], "paths": np.array(d.paths[:-1])}, r"no row for 1 image .*'test/rarest/101'"),
        (lambda v, d: {"paths": np.array(["/data/" + p for p in d.paths])}, r"no row for 102 images .*'/data/train/"),
        (
            lambda v, d: {"paths": np.array([*d.paths[:-1], d.paths[0]])},
            r"has the path 'train/common/0' twice, in rows",
        ),
        (
            lambda v, d: {"features": np.vstack([v, v[:1]]), "paths": np.array([*d.paths, "x.png"])},
            r"row 102 is of 'x.png', which is not in blobs",
        ),
        (lambda v, d: {"paths": np.arange(len(d))}, r"must have 'paths' of strings \(102,\)"),
        (lambda v, d: {"paths": np.array(d.paths[:5])}, r"must have 'paths' of strings \(102,\)"),
        (lambda v, d: {"features": with_value(v, 7, np.nan)}, r"NaN or infinity for image 'train/common/7'"),
        (lambda v, d: {"features": with_value(v, 41, np.inf)}, r"NaN or infinity for image 'train/rare/41'"),
        (lambda v, d: {"features": with_value(v.astype(float), 2, 1e300)}, r"infinity for image 'train/common/2'"),
        (lambda v, d: {"features": np.ones_like(v)}, r"the same for all 102 images"),
        (lambda v, d: {"features": v.astype(int)}, r"must have 'features' of floats .*int64 \(102, 6\)"),
        (lambda v, d: {"features": v[0]}, r"must have 'features' of floats .*float32 \(6,\)"),
        (lambda v, d: {"features": v[:, None, None]}, r"must have 'features' of floats"),
        (lambda v, d: {"features": v[:, :0]}, r"must have 'features' of floats"),
        (lambda v, d: {"features": None}, r"has no array 'features'"),
        (lambda v, d: {"features": v.astype(object)}, r"Python objects, which are not read"),
        (lambda v, d: {"labels": (d.labels + (np.arange(102) == 4)) % 3}, r"the label 1 for 'train/common/4'.* has 0"),
        (lambda v, d: {"labels": np.full(102, "common")}, r"the label 'common' for 'train/rare/40'.* has 'rare'; 40"),
        (lambda v, d: {"labels": d.labels[:9]}, r"must have 'labels' of class names or indices"),
        (lambda v, d: {"labels": d.labels.astype(float)}, r"must have 'labels' of class names or indices"),
    ],
)
def test_features_that_do_not_fit_are_refused(data, values, saved, change, message):
    with pytest.raises(ArgumentError, match=rf"`features` .*clip\.npz.*{message}"):
        load_features(saved(**change(values, data)), data)


def test_a_file_that_cannot_be_read_is_refused(data, tmp_path, saved):
    for content in (b"", b"PK\x03\x04 damaged", saved().read_bytes()[:300]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ArgumentError, match=r"`features` .*bad\.npz cannot be read: .*np\.savez"):
            load_features(tmp_path / "bad.npz", data)
    with pytest.raises(ArgumentError, match="cannot be read: No such file"):
        load_features(tmp_path / "none.npz", data)
    with pytest.raises(ArgumentError, match="cannot be read: Is a directory"):
        load_features(tmp_path, data)


def test_own_features_have_no_backbone_to_save(data, saved, tmp_path):
    save_backbone(tmp_path / "out", load_features(saved(), data))
    link_backbone(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()
