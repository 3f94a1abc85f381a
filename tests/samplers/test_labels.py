"""labels_of: every kind of dataset, and that no item is ever loaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder

from counterpoise.core.errors import ArgumentError, DatasetError
from counterpoise.samplers import ClassBalancedSampler, labels_of


class Kept(Dataset[Any]):
    """A dataset that keeps something beside its items, and loads none."""

    def __init__(self, length: int, **attributes: Any) -> None:
        self.length = length
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        raise AssertionError(f"item {index} was loaded")


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names

    def int2str(self, index: int) -> str:
        return self.names[index]


class HuggingFaceLike(Kept):
    """What `datasets.Dataset` shows: columns by name, transforms that want the whole row."""

    def __init__(self, columns: dict[str, Any], features: dict[str, Any], transform: bool = False) -> None:
        super().__init__(len(next(column for column in columns.values() if column is not None)))
        self.columns, self.features, self.transform = columns, features, transform

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def with_format(self, kind: str | None) -> HuggingFaceLike:
        return HuggingFaceLike(self.columns, self.features)

    def __getitem__(self, key: Any) -> Any:
        assert isinstance(key, str), "a row was loaded"
        assert not self.transform, "the transform was called"
        assert key != "image", "the images were loaded"
        return self.columns[key]


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    for name, count in [("cat", 3), ("dog", 2)]:
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (2, 2)).save(tmp_path / name / f"{i}.png")

    def loader(path: str) -> Any:
        raise AssertionError(f"{path} was decoded")

    return ImageFolder(str(tmp_path), loader=loader)


@pytest.mark.fault("S4")
def test_image_folders_subsets_concatenations_and_splits(folder: ImageFolder) -> None:
    assert labels_of(folder).tolist() == [0, 0, 0, 1, 1]
    nested = Subset(Subset(folder, [4, 2, 0, 3]), torch.tensor([3, 0, 1]))  # type: ignore[arg-type]
    assert labels_of(nested).tolist() == [1, 1, 0]
    both = ConcatDataset([nested, folder, Subset(folder, [])])
    assert labels_of(both).tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    for part in random_split(folder, [2, 3], generator=torch.Generator().manual_seed(0)):
        assert labels_of(part).tolist() == [folder.targets[i] for i in part.indices]
    sampler = ClassBalancedSampler(labels_of(nested), num_samples=100)
    assert sampler.prior.tolist() == [0.5, 0.5]
    assert max(sampler) == 2  # indices into the subset, not into its parent


def test_a_target_transform_counts(folder: ImageFolder) -> None:
    folder.target_transform = {0: 7, 1: 3}.__getitem__
    assert labels_of(Subset(folder, [0, 4])).tolist() == [7, 3]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (TensorDataset(torch.zeros(3, 2), torch.tensor([2, 0, 1])), [2, 0, 1]),
        (TensorDataset(torch.zeros(2, 2), torch.tensor([[1, 0], [1, 1]])), [[1, 0], [1, 1]]),
        (TensorDataset(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])), [[1, 0], [1, 1]]),
        (Kept(3, targets=[1, 0, 1]), [1, 0, 1]),
        (Kept(3, targets=torch.tensor([1, 0, 1], dtype=torch.uint8)), [1, 0, 1]),
        (Kept(3, labels=np.array([1, 0, 1], dtype=np.int16)), [1, 0, 1]),
        (Kept(3, labels=np.array(["b", "a", "b"])), [1, 0, 1]),
        (Kept(2, _labels=[4, 5]), [4, 5]),
        (Kept(2, samples=[("x.jpg", 1), ("y.jpg", 0)]), [1, 0]),
        (Kept(2, reader=Kept(2, samples=[("x.jpg", 1), ("y.jpg", 0)])), [1, 0]),
        (
            HuggingFaceLike({"image": None, "label": [1, 0]}, {"image": 0, "label": ClassLabel(["a", "b"])}, True),
            [1, 0],
        ),
        (HuggingFaceLike({"fine": [3, 4], "id": [0, 1]}, {"fine": ClassLabel(["a"]), "id": 0}), [3, 4]),
        (HuggingFaceLike({"labels": ["x", "w", "x"], "id": [0, 1, 2]}, {"labels": 0, "id": 0}), [1, 0, 1]),
    ],
)
def test_what_keeps_its_labels(dataset: Any, expected: list[Any]) -> None:
    labels = labels_of(dataset)
    assert labels.dtype == np.int64
    assert labels.tolist() == expected


@pytest.mark.fault("S5")
def test_a_dataset_without_labels_names_three_ways_to_supply_them() -> None:
    with pytest.raises(DatasetError, match=r"\(Kept\).* \(1\) .*sampler.* \(2\) .*`targets`.* \(3\) .*`samples`"):
        labels_of(Kept(3))
    with pytest.raises(DatasetError, match="HuggingFaceLike"):
        labels_of(HuggingFaceLike({"text": ["a"]}, {"text": 0}))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Kept(3, targets=[1, 0]), "has 3 items but 2 labels"),
        (Kept(2, targets=["a/mask.png", "b/mask.png"]), "not paths"),
        (Kept(2, targets=[0.5, 1.0]), "must be one class index per item; got 0.5 of dtype float64"),
        (Kept(2, targets=[[1], [1, 2]]), "must be one class index per item"),
        (Kept(2, targets=[[0.0, 1.0], [0.3, 0.7]]), "must be one class index per item"),
        (Kept(2, targets=[{"boxes": 1}, {"boxes": 2}]), "must be one class index per item; got {'boxes': 1}"),
    ],
)
def test_labels_that_are_none_are_refused(dataset: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        labels_of(dataset)


def test_an_iterable_dataset_cannot_be_sampled() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Any:
            raise AssertionError("an item was loaded")

    with pytest.raises(ArgumentError, match="`dataset` must have a length; a Stream"):
        labels_of(Stream())


def test_a_million_rows_of_a_subset_take_under_a_second() -> None:
    rows = 1_000_000
    parent = Kept(rows, targets=(np.arange(rows) % 1000).tolist())
    subset = Subset(Subset(parent, list(range(rows))), list(range(rows - 1, -1, -1)))
    start = time.process_time()  # of this process alone: others may be at work
    labels = labels_of(subset)
    assert time.process_time() - start < 1.0
    assert labels[:2].tolist() == [999, 998]


def test_real_datasets_of_hugging_face_without_decoding_an_image(tmp_path: Path) -> None:
    """Selected, shuffled, sharded, formatted, transformed, from disk: the images are none, and would raise."""
    datasets = pytest.importorskip("datasets")
    y = [0] * 7 + [1] * 3 + [2] * 2
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    broken = [{"bytes": b"no image", "path": None}] * 12
    data = datasets.Dataset.from_dict({"image": broken, "label": y}, features=features)
    with pytest.raises(OSError, match="cannot identify image"):
        data[0]
    order = np.random.default_rng(0).permutation(12)
    data.save_to_disk(tmp_path / "shards", num_shards=3)
    for kind, expected in [
        (data, y),
        (data.select([11, 0, 8]), [2, 0, 1]),
        (data.select(range(5, 9)), y[5:9]),
        (data.select(order), [y[i] for i in order]),
        (data.select(order).shard(3, 1, contiguous=False), [y[i] for i in order[1::3]]),
        (Subset(data.select(order), [3, 1]), [y[order[3]], y[order[1]]]),
        (ConcatDataset([data, data.select([9])]), [*y, 1]),
        (datasets.concatenate_datasets([data, data.select([9])]), [*y, 1]),
        (datasets.load_from_disk(str(tmp_path / "shards")), y),
        (data.with_format("torch"), y),
        (data.with_format("numpy"), y),
        (data.with_format("torch", columns=["image"]), y),
        (data.with_transform(lambda rows: 1 / 0), y),
        (data.rename_column("label", "kind"), y),
    ]:
        labels = labels_of(kind)
        assert labels.dtype == np.int64
        assert labels.tolist() == expected
    with pytest.raises(DatasetError, match=r"\(Dataset\) must be one class index per item"):
        labels_of(datasets.Dataset.from_dict({"label": [1, None]}))
    with pytest.raises(ArgumentError, match="must have a length; a IterableDataset"):
        labels_of(data.to_iterable_dataset())
