"""Class weights as Keras takes them, and sample weights for the data with which it refuses them.

`model.fit(class_weight=)` works with arrays, tf.data and PyDatasets of one label an image. It is refused for a torch
DataLoader and for generators, allowed for one output only, and of multi-label targets it silently weighs the argmax.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from typing_extensions import Unpack

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.weights import Scheme, class_weights, sample_weights

__all__ = ["WeightOptions", "class_weight", "sample_weight", "with_sample_weight"]

Several = Literal["max", "mean"]
Pair = tuple[Any, Any]


class WeightOptions(TypedDict, total=False):
    """The keywords of `counterpoise.weights.class_weights`, which says what they do."""

    beta: float | Literal["auto"]
    power: float | None
    max_weight: float | None
    normalize: Literal["mean", "sample", "auto"] | None
    empty: Literal["error", "exclude"]


def class_weight(
    counts: CountsLike | None = None,
    scheme: Scheme | Mapping[str, float] | NDArray[Any] = "inverse",
    *,
    labels: Any = None,
    num_classes: int | None = None,
    **options: Unpack[WeightOptions],
) -> dict[int, float]:
    """What ``model.fit(class_weight=)`` takes: the weight of every class, by its index.

    Give the counts, or the labels to count: a vector of whole numbers could be either, so nothing is guessed.

    Args:
        counts: images per class: a `ClassCounts`, ``(C,)`` whole numbers, or ``{name: count}`` in the order of the
            model's outputs. Of the training split.
        scheme: as `counterpoise.weights.class_weights`: "inverse" averages 1 over the classes; "balanced" is
            scikit-learn's N / (C n_c), which averages 1 over the images.
        labels: ``(N,)`` or ``(N, 1)`` class indices, or ``(N, C)`` one-hot rows, instead of ``counts``.
        num_classes: C, where ``labels`` might lack the last classes.
        **options: ``beta``, ``power``, ``max_weight``, ``normalize``, ``empty``.

    Raises:
        ArgumentError: neither or both of ``counts`` and ``labels``, a class without images (named), multi-label rows.
        ArgumentTypeError: counts or labels that are not whole numbers.

    Example:
        >>> class_weight([1000, 9000], "balanced")  # 1,000 dogs, 9,000 images that show none
        {0: 5.0, 1: 0.5555555555555556}
        >>> class_weight(labels=[0, 1, 1, 1], scheme="balanced")
        {0: 2.0, 1: 0.6666666666666666}
    """
    if (counts is None) == (labels is None):
        raise ArgumentError("give either `counts` (images per class) or `labels` (one class index an image)")
    if counts is None:
        counts = ClassCounts.from_labels(_class_indices(labels), num_classes=num_classes)
    elif num_classes is not None:
        raise ArgumentError("`num_classes` goes with `labels`; `counts` has one number for each class already")
    counts = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    gaps = not counts.counts.all() and options.get("empty") != "exclude"
    if labels is None and gaps and counts.counts.max() < len(counts):
        raise ArgumentError(
            f"`counts` has {len(counts)} numbers from 0 to {counts.counts.max()}: these look like labels; give them as "
            "labels=, or empty='exclude' where there really are classes without images"
        )
    return dict(enumerate(class_weights(counts, scheme, **options).tolist()))


def sample_weight(
    targets: Any, class_weight: Mapping[int, float] | NDArray[Any], *, several: Several = "mean"
) -> NDArray[np.float32]:
    """The weight of each image, ``fit(sample_weight=)``: that of its class, also where ``class_weight=`` is refused.

    Args:
        targets: ``(N,)`` or ``(N, 1)`` class indices, ``(N, C)`` one-hot rows, or ``(N, C)`` multi-label rows of 0 and
            1. NumPy arrays and the tensors of any backend.
        class_weight: ``{index: weight}`` for every class, from `class_weight`, or ``(C,)``.
        several: the weight of an image with several labels: the "mean" or "max" of theirs. An image without any
            weighs 1. (A multi-label loss can weigh each label by itself: ``BinaryCrossEntropyLoss(pos_weight=)``.)

    Returns:
        float32 ``(N,)``.

    Raises:
        ArgumentError: a class without a weight, a target that is no class or label (its row is named).
        ArgumentTypeError: targets that are not whole numbers.

    Example:
        >>> sample_weight([0, 1, 1], {0: 5.0, 1: 0.5})
        array([5. , 0.5, 0.5], dtype=float32)
        >>> sample_weight([[1, 0], [1, 1], [0, 0]], {0: 5.0, 1: 0.5}, several="max")
        array([5., 5., 1.], dtype=float32)
    """
    if several not in ("max", "mean"):
        raise ArgumentError(f'`several` must be "max" or "mean"; got {several!r}')
    weights = _vector(class_weight)
    array = _whole(targets, "targets")
    if array.ndim == 1:
        return sample_weights(array, weights).astype(np.float32)
    positive = _labels(array, "targets") > 0
    if array.shape[1] != len(weights):
        raise ArgumentError(
            f"`targets` of shape {array.shape} must have a column for each of the {len(weights)} classes weighted"
        )
    number = positive.sum(1)
    if several == "max":
        combined = np.where(positive, weights, 0.0).max(1, initial=0.0)
    else:
        combined = (positive * weights).sum(1) / np.maximum(number, 1)
    return np.where(number > 0, combined, 1.0).astype(np.float32)


def with_sample_weight(
    data: Any, class_weight: Mapping[int, float] | NDArray[Any], *, several: Several = "mean"
) -> Any:
    """The same data with a third item, the sample weight, which is how Keras takes weights from a loader.

    For training data only: a weighted validation loss measures something else.

    Args:
        data: what yields ``(x, y)``: a torch DataLoader (batches, batched in its workers as before), a
            `keras.utils.PyDataset` or a generator (batches), or a torch dataset (single images).
        class_weight: ``{index: weight}`` for every class, from `class_weight`, or ``(C,)``.
        several: as `sample_weight`.

    Returns:
        An object of the same kind that yields ``(x, y, sample_weight)``, float32. The data given is not changed; a
        DataLoader's sampler is shared with it, so that ``set_epoch`` reaches both.

    Raises:
        ArgumentTypeError: ``data`` is something else.
        ArgumentError: it does not yield pairs (said when it is read).

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.tensor([0, 1, 1, 1])), batch_size=4)
        >>> x, y, w = next(iter(with_sample_weight(loader, {0: 2.0, 1: 0.5})))
        >>> w
        tensor([2.0000, 0.5000, 0.5000, 0.5000])
    """
    weigh = _Weighing(tuple(_vector(class_weight).tolist()), several)
    if isinstance(data, DataLoader):
        return _weighted_loader(data, weigh)
    if isinstance(data, keras.utils.PyDataset):
        return _WeightedBatches(data, weigh)
    if isinstance(data, Dataset) and hasattr(data, "__getitem__"):
        return _WeightedDataset(data, weigh)
    if isinstance(data, types.GeneratorType):
        return _weighted_generator(data, weigh)
    raise ArgumentTypeError(
        "`data` must be a torch DataLoader, a torch dataset with __getitem__, a keras.utils.PyDataset or a generator; "
        f"got {type(data).__name__}. For arrays use sample_weight(y, …)"
    )


@dataclass(frozen=True)
class _Weighing:
    """(x, y) → (x, y, weight of each y), in the kind of array that y is; picklable, for workers."""

    weights: tuple[float, ...]
    several: Several

    def __call__(self, batch: Any) -> tuple[Any, Any, Any]:
        x, y = _pair(batch)
        weights = sample_weight(y, np.array(self.weights), several=self.several)
        return x, y, torch.from_numpy(weights) if isinstance(y, torch.Tensor) else weights

    def one(self, item: Any) -> tuple[Any, Any, np.float32]:
        x, y = _pair(item)
        return x, y, sample_weight(np.asarray(y)[None], np.array(self.weights), several=self.several)[0]


def _pair(batch: Any) -> Pair:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
        raise ArgumentError(f"`data` must yield pairs (x, y) to be weighted; got a {what}")
    return batch[0], batch[1]


@dataclass(frozen=True)
class _WeighedCollate:
    collate: Any
    weigh: _Weighing

    def __call__(self, samples: Any) -> tuple[Any, Any, Any]:
        return self.weigh(self.collate(samples))


def _weighted_loader(loader: DataLoader[Any], weigh: _Weighing) -> DataLoader[Any]:
    weighted = copy.copy(loader)  # every setting and the sampler itself, which a new DataLoader would have to be told
    weighted.collate_fn = _WeighedCollate(loader.collate_fn, weigh)
    weighted._iterator = None  # persistent workers hold the collate function they were started with
    return weighted


class _WeightedDataset(Dataset[tuple[Any, Any, Any]]):
    def __init__(self, dataset: Any, weigh: _Weighing) -> None:
        self.dataset, self.weigh = dataset, weigh

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        return self.weigh.one(self.dataset[index])


class _WeightedBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras is not typed
    def __init__(self, batches: Any, weigh: _Weighing) -> None:
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self.batches, self.weigh = batches, weigh

    @property
    def num_batches(self) -> int | None:
        number: int | None = self.batches.num_batches
        return number

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        return self.weigh(self.batches[index])

    def on_epoch_begin(self) -> None:
        self.batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()


def _weighted_generator(batches: Iterable[Any], weigh: _Weighing) -> Iterator[tuple[Any, Any, Any]]:
    for batch in batches:
        yield weigh(batch)


def _vector(class_weight: Mapping[int, float] | NDArray[Any]) -> NDArray[np.float64]:
    if not isinstance(class_weight, Mapping):
        return np.asarray(class_weight, dtype=np.float64)
    missing = [c for c in range(len(class_weight)) if c not in class_weight]
    if missing or not class_weight:
        raise ArgumentError(
            "`class_weight` must have a weight for each class 0 .. C−1 (Keras would take 1 for the others); missing "
            f"{missing[:10]}, got {list(class_weight)[:10]}"
        )
    return np.array([class_weight[c] for c in range(len(class_weight))], dtype=np.float64)


def _class_indices(labels: Any) -> NDArray[np.int64]:
    array = _whole(labels, "labels")
    if array.ndim == 1:
        return array
    wrong = _labels(array, "labels").sum(1) != 1
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArgumentError(
            f"`labels` of shape (N, C) must be one-hot; row {row} has {int(array[row].sum())} labels. For multi-label "
            "targets give `counts`, ClassCounts.from_multilabel(targets)"
        )
    classes: NDArray[np.int64] = array.argmax(1)
    return classes


def _whole(values: Any, name: str) -> NDArray[np.int64]:
    """(N,) or (N, C) whole numbers; (N, 1) is (N,). Keras hands labels over as floats, so whole floats will do."""
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise ArgumentError(f"`{name}` must have shape (N,), (N, 1) or (N, C); got {array.shape}")
    if array.dtype.kind not in "iubf" or (array.dtype.kind == "f" and not np.array_equal(array, np.floor(array))):
        raise ArgumentTypeError(f"`{name}` must be whole numbers; got dtype {array.dtype}")
    return array.astype(np.int64)


def _labels(array: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    wrong = ((array != 0) & (array != 1)).any(1)
    if wrong.any():
        raise ArgumentError(f"`{name}` of shape (N, C) must hold only 0 and 1; row {int(np.argmax(wrong))} does not")
    return array
