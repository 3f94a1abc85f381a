"""audit: hand-computed facts about small datasets, and each finding where it belongs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from counterpoise.core.artifacts import AuditResult, Finding
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, DatasetError
from counterpoise.workflow.audit import audit
from counterpoise.workflow.dataset import ImageDataset, load

EMPTY = "The file is empty (0 bytes). Copy it again, or remove it."


def _dataset(counts: dict[str, tuple[int, int, int]], **more: object) -> ImageDataset:
    """Images in memory, no two alike: ``{class: (train, val, test)}``."""
    labels, splits = [], []
    for c, sizes in enumerate(counts.values()):
        for split, n in zip(("train", "val", "test"), sizes, strict=True):
            labels += [c] * n
            splits += [split] * n
    pixels = np.zeros((len(labels), 2, 2, 3), dtype=np.uint8)
    pixels[:, 0, 0, :2] = np.array([divmod(i, 256) for i in range(len(labels))], dtype=np.uint8).reshape(-1, 2)
    paths = tuple(f"x/{i}" for i in range(len(labels)))
    arguments = {"symmetries": frozenset(), "pixels": pixels, "name": "made", **more}
    return ImageDataset(
        classes=tuple(counts),
        labels=np.array(labels, dtype=np.int64),
        paths=paths,
        splits=np.array(splits, dtype="<U5"),
        **arguments,
    )


def _of_kind(result: AuditResult, kind: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.kind == kind]


def test_counts_groups_and_ratio_by_hand():
    result = audit(_dataset({"a": (150, 5, 10), "b": (100, 4, 10), "c": (20, 2, 5), "d": (19, 1, 0)}))
    assert [(c.name, c.train, c.val, c.test, c.group) for c in result.classes] == [
        ("a", 150, 5, 10, "many"),
        ("b", 100, 4, 10, "medium"),
        ("c", 20, 2, 5, "medium"),
        ("d", 19, 1, 0, "few"),
    ]
    assert result.groups == {"many": ("a",), "medium": ("b", "c"), "few": ("d",)}
    assert result.imbalance_ratio == 150 / 19
    assert [c.share for c in result.classes] == [150 / 289, 100 / 289, 20 / 289, 19 / 289]
    assert result.splits == {"train": 289, "val": 12, "test": 25}
    assert result.num_images == result.num_files == 326
    assert audit(_dataset({"a": (3, 0, 0), "b": (1, 0, 0)}), many=2, few=2).groups["many"] == ("a",)


@pytest.mark.parametrize(
    "counts",
    [
        {"a": (9, 1, 5), "b": (30, 1, 15), "c": (2, 1, 20)},
        {"a": (9, 1, 5), "b": (30, 1, 0), "c": (2, 1, 20)},
        {"a": (9, 4, 0), "b": (30, 2, 0), "c": (2, 0, 0)},
        {"a": (9, 0, 0), "b": (30, 0, 0)},
    ],
)
def test_the_constant_prediction_scores_what_scikit_learn_says(counts):
    data = _dataset(counts)
    result = audit(data)
    reference = next(split for split in ("test", "val", "train") if data.counts(split).total)
    labels = data.labels[data.splits == reference]
    constant = np.full_like(labels, data.classes.index("b"))
    assert (result.reference_split, result.constant_class) == (reference, "b")
    assert result.constant_accuracy == pytest.approx(accuracy_score(labels, constant), abs=1e-12)
    present = np.unique(labels)
    expected = np.mean([(constant[labels == c] == c).mean() for c in present])
    assert result.constant_balanced_accuracy == pytest.approx(expected, abs=1e-12)
    if 1 in present:
        score = balanced_accuracy_score(labels, constant)
        assert result.constant_balanced_accuracy == pytest.approx(score, abs=1e-12)


def test_missing_splits_and_classes_are_named():
    result = audit(_dataset({"a": (5, 0, 3), "b": (5, 0, 0), "c": (0, 0, 2)}))
    assert [f.about for f in _of_kind(result, "no-split")] == [("val",)]
    assert [(f.about, f.reason) for f in _of_kind(result, "class-missing-from-split")] == [
        (("c",), "1 class has no image in train: 'c'. Add images."),
        (("b",), "1 class has no image in test: 'b'. Add images."),
    ]
    assert result.imbalance_ratio == 1.0
    assert audit(_dataset({"a": (0, 0, 2)})).imbalance_ratio is None


@pytest.mark.fault("W6")
def test_names_that_only_case_or_blanks_tell_apart_are_listed_together():
    result = audit(_dataset({"Cat": (2, 1, 1), "cat": (2, 1, 1), " cat": (2, 1, 1), "dog": (2, 1, 1)}))
    assert [f.about for f in _of_kind(result, "class-name-twins")] == [("Cat", "cat", " cat")]
    assert len(result.classes) == 4


@pytest.mark.fault("D17")
def test_the_same_image_in_two_classes_and_in_two_splits():
    data = _dataset({"a": (4, 0, 2), "b": (4, 0, 1)})
    # rows: a train 0-3, a test 4-5, b train 6-9, b test 10
    for copy, original in ((4, 0), (6, 1), (3, 2), (10, 7)):
        data.pixels[copy] = data.pixels[original]
    result = audit(data)
    assert [(f.about, f.reason) for f in _of_kind(result, "same-image-two-classes")] == [
        (("x/1", "x/6"), "'x/1', 'x/6' are the same image with the labels 'a', 'b'. Keep one label.")
    ]
    assert [f.about for f in _of_kind(result, "same-image-two-splits")] == [("x/0", "x/4"), ("x/7", "x/10")]
    assert {f.severity for f in result.findings if f.kind.startswith("same-image")} == {"error"}
    assert [f.reason for f in _of_kind(result, "repeated-images")] == [
        "1 image repeats another image of the same class and split. Remove the copies if they are not intended."
    ]
    assert [(e.path, e.label, e.split) for e in result.examples] == [
        ("x/0", "a", "train"),
        ("x/6", "b", "train"),
        *(("x/4", "a", "test"), ("x/1", "a", "train"), ("x/2", "a", "train"), ("x/3", "a", "train")),
        *(("x/7", "b", "train"), ("x/10", "b", "test")),
    ]
    alone = audit(data, duplicates=False)
    assert not [f for f in alone.findings if "image" in f.kind]
    assert [e.path for e in alone.examples] == ["x/0", "x/6"]


def test_the_first_training_image_of_a_class_is_an_example_and_a_class_without_one_has_none():
    data = _dataset({"a": (0, 1, 2), "b": (3, 0, 1), "c": (0, 0, 0), "d": (2, 0, 0)})
    assert [(e.path, e.label, e.split) for e in audit(data).examples] == [("x/3", "b", "train"), ("x/7", "d", "train")]


def test_of_many_classes_the_largest_and_the_rarest_have_an_example():
    sizes = [1 + (7 * c) % 103 for c in range(103)]  # each from 1 to 103 once, not in order
    labels = [e.label for e in audit(_dataset({f"{n}": (n, 1, 1) for n in sizes}), duplicates=False).examples]
    assert sorted(map(int, labels)) == [*range(1, 51), *range(54, 104)]


@pytest.mark.fault("D17")
def test_a_finding_about_copies_names_labels_and_splits_in_the_order_of_the_paths():
    data = _dataset({"b": (4, 0, 1), "a": (2, 0, 0)})  # rows: b train 0-3, b test 4, a train 5-6
    for copy in (1, 2, 4, 5):
        data.pixels[copy] = data.pixels[0]
    reasons = [f.reason for f in audit(data).findings if f.kind.startswith("same-image")]
    assert reasons == [
        "'x/0', 'x/5', 'x/1' and 2 more are the same image with the labels 'b', 'a'. Keep one label.",
        "'x/0', 'x/4', 'x/1' and 2 more are the same image in train and test. Keep it in one split only.",
    ]


def test_quarantined_files_are_listed_and_counted(make, encoded):
    root = make({"cat": 5, "dog": 5})
    (root / "cat/empty.jpg").touch()
    (root / "cat/notes.txt").touch()
    result = audit(load(root))
    assert [(q.path, q.reason) for q in result.quarantined] == [("cat/empty.jpg", EMPTY)]
    assert (result.num_images, result.num_files, result.num_ignored) == (10, 12, 1)
    finding = _of_kind(result, "quarantined-files")[0]
    assert finding.reason == f"1 file is quarantined and not used; the first is 'cat/empty.jpg': {EMPTY}"
    assert finding.about == ("cat/empty.jpg",)
    assert {f.about for f in _of_kind(result, "split-drawn")} == {("val",), ("test",)}
    assert (result.name, result.source) == ("photos", "photos")


@pytest.mark.fault("D2")
def test_deep_decodes_everything(make, encoded):
    root = make({"train/cat": 3, "train/dog": 3, "test/cat": 1})
    png = bytearray(encoded("PNG", seed=4, size=(30, 30)))
    png[len(png) // 2] ^= 0xFF
    (root / "train/cat/bad.png").write_bytes(png)
    data = load(root, val_fraction=0)
    assert (audit(data).num_images, audit(data, deep=True).num_images) == (8, 7)
    result = audit(data, deep=True)
    assert [q.path for q in result.quarantined] == ["train/cat/bad.png"]
    assert [c.train for c in result.classes] == [3, 3]
    assert result.num_files == 8


def test_the_result_survives_json(tmp_path, make):
    result = audit(load(make({"cat": 5, 'do"g, </script>': 2})))
    result.save(tmp_path / "audit.json")
    assert AuditResult.load(tmp_path / "audit.json") == result
    assert str(tmp_path) not in json.dumps(result.to_dict())


def test_digits_have_no_faults():
    result = audit(load("digits"))
    assert result.imbalance_ratio == 30
    assert result.constant_balanced_accuracy == 0.1
    assert result.findings == ()


def test_what_is_no_dataset():
    with pytest.raises(ArgumentTypeError, match="`data` must be a dataset, got list; pass the dataset that"):
        audit([1, 2])
    with pytest.raises(DatasetError, match="'photos' does not exist"):
        audit("photos")

    class Partial:
        """A dataset of the user that misses a part of the protocol."""

        def __init__(self):
            vars(self).update(vars(load("digits")))
            del self.findings

        __len__ = __getitem__ = subset = counts = quarantine = without_unreadable = to_dict = lambda self: None

    with pytest.raises(ArgumentTypeError, match=r"got Partial; it lacks `findings`, `file`; inherit from .*LabeledIm"):
        audit(Partial())
    with pytest.raises(ArgumentError, match="`few`"):
        audit(load("digits"), many=5, few=10)
    with pytest.raises(DatasetError, match="has no classes"):
        audit(_dataset({}))


def test_cifar10_lt(real_data):
    result = audit(load(real_data / "cifar10-lt"))
    assert result.imbalance_ratio == 100
    assert result.constant_accuracy == result.constant_balanced_accuracy == 0.1
    assert result.constant_class == "airplane"
    assert [f.kind for f in result.findings] == ["split-drawn"]
    assert result.groups["many"][-1] == "horse"


def test_an_audit_takes_the_source_of_a_dataset():
    assert audit("digits") == audit(load("digits"))
