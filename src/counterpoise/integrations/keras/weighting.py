"""Class weights for `fit`, and sample weights for the data with which Keras refuses class weights.

``model.fit(class_weight=)`` takes arrays, tf.data and PyDatasets with one label per image. Keras refuses it for a torch
DataLoader, for generators and for several outputs, and applies it to the argmax of multi-label targets.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.weights import Scheme, class_weights, sample_weights

Several = Literal["max", "mean"]
ClassWeight = Mapping[int, float] | NDArray[Any]


def class_weight(  # noqa: PLR0913  the arguments of class_weights
    counts: CountsLike | None = None,
    scheme: Scheme | Mapping[str, float] | NDArray[Any] = "inverse",
    *,
    labels: Any = None,
    num_classes: int | None = None,
    beta: float | Literal["auto"] = 0.9999,
    power: float | None = None,
    max_weight: float | None = None,
    normalize: Literal["mean", "sample", "auto"] | None = "auto",
    empty: Literal["error", "exclude"] = "error",
) -> dict[int, float]:
    """The argument ``class_weight`` of ``model.fit``: the weight of every class by its index.

    Give either the counts or the labels to count.

    Args:
        counts: training images per class: a `ClassCounts`, ``(C,)`` integers, or ``{name: count}`` in the order of
            the model's outputs.
        scheme: scheme of `counterpoise.weights.class_weights`, or ready weights: "inverse" has an average of 1 over
            the classes; "balanced" is scikit-learn's N / (C n_c), with an average of 1 over the images.
        labels: ``(N,)`` or ``(N, 1)`` class indices, or ``(N, C)`` one-hot rows, instead of ``counts``.
        num_classes: C, if ``labels`` may lack the last classes.
        beta: hyperparameter β of the scheme "effective_number", in [0, 1], or "auto".
        power: exponent of the scheme "inverse"; None is 1.
        max_weight: largest weight; None for no bound.
        normalize: "mean" for an average of 1 over the classes, "sample" over the images, None for the formula alone;
            "auto" is None for "balanced" and otherwise "mean".
        empty: "error" refuses a class without images; "exclude" gives it the weight 0.

    Raises:
        ArgumentError: neither or both of ``counts`` and ``labels``, a class without images, labels that start at 1, or
            multi-label rows.
        ArgumentTypeError: counts or labels that are not integers.

    Example:
        >>> class_weight([1000, 9000], "balanced")  # 1,000 images of dogs, 9,000 without
        {0: 5.0, 1: 0.5555555555555556}
        >>> class_weight(labels=[0, 1, 1, 1], scheme="balanced")
        {0: 2.0, 1: 0.6666666666666666}
    """
    if (counts is None) == (labels is None):
        raise ArgumentError("give either `counts` (images per class) or `labels` (one class index per image)")
    if counts is None:
        indices = _class_indices(labels)
        _check_first_class(indices, empty)
        counts = ClassCounts.from_labels(indices, num_classes=num_classes)
    elif num_classes is not None:
        raise ArgumentError("`num_classes` applies to `labels` only; omit it, `counts` has one number per class")
    counts = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    if labels is None and empty == "error" and counts.empty and counts.counts.max() < len(counts):
        raise ArgumentError(
            f"`counts` has {len(counts)} numbers from 0 to {counts.counts.max()}: these look like labels; give them as "
            "labels=, or give empty='exclude' if there are classes without images"
        )
    weights = class_weights(
        counts, scheme, beta=beta, power=power, max_weight=max_weight, normalize=normalize, empty=empty
    )
    return dict(enumerate(weights.tolist()))


def sample_weight(targets: Any, class_weight: ClassWeight, *, several: Several = "mean") -> NDArray[np.float32]:
    """The argument ``sample_weight`` of ``model.fit``: each image has the weight of its class.

    Args:
        targets: ``(N,)`` or ``(N, 1)`` class indices, ``(N, C)`` one-hot rows, or ``(N, C)`` multi-label rows of 0 and
            1; a NumPy array or a tensor of any backend.
        class_weight: ``{index: weight}`` for every class, from `class_weight`, or ``(C,)`` weights.
        several: weight of an image with several labels: the "mean" or "max" of their weights. An image without labels
            has weight 1. ``BinaryCrossEntropyLoss(pos_weight=)`` weights each label instead.

    Returns:
        float32 ``(N,)`` weights.

    Raises:
        ArgumentError: a class without a weight, or an invalid target; the message names the row.
        ArgumentTypeError: targets that are not integers.

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
            f"`targets` of shape {array.shape} must have one column for each of the {len(weights)} classes that "
            "`class_weight` has"
        )
    number = positive.sum(1)
    if several == "max":
        combined = np.where(positive, weights, 0.0).max(1, initial=0.0)
    else:
        combined = (positive * weights).sum(1) / np.maximum(number, 1)
    return np.where(number > 0, combined, 1.0).astype(np.float32)


def with_sample_weight(data: Any, class_weight: ClassWeight, *, several: Several = "mean") -> Any:
    """Training data that yields ``(x, y, sample_weight)``, as Keras takes weights from a loader.

    Use it for training data only: a weighted validation loss is not comparable with others.

    Args:
        data: yields ``(x, y)``: a torch DataLoader, a `keras.utils.PyDataset` or a generator of batches, or a torch
            dataset of single images.
        class_weight: ``{index: weight}`` for every class, from `class_weight`, or ``(C,)`` weights.
        several: weight of an image with several labels, as for `sample_weight`.

    Returns:
        An object of the same kind that yields ``(x, y, sample_weight)`` with float32 weights. ``data`` is not changed;
        the sampler of a DataLoader is shared with it, so that ``set_epoch`` reaches both.

    Raises:
        ArgumentTypeError: ``data`` is of another kind.
        ArgumentError: ``data`` does not yield pairs (raised when it is read).

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.tensor([0, 1, 1, 1])), batch_size=4)
        >>> x, y, w = next(iter(with_sample_weight(loader, {0: 2.0, 1: 0.5})))
        >>> w
        tensor([2.0000, 0.5000, 0.5000, 0.5000])
    """
    add = _AddWeights(tuple(_vector(class_weight).tolist()), several)
    if isinstance(data, DataLoader):
        return _weighted_loader(data, add)
    if isinstance(data, keras.utils.PyDataset):
        return _WeightedBatches(data, add)
    if isinstance(data, Dataset) and hasattr(data, "__getitem__"):
        return _WeightedDataset(data, add)
    if isinstance(data, types.GeneratorType):
        return _weighted_generator(data, add)
    raise ArgumentTypeError(
        "`data` must be a torch DataLoader, a torch dataset with __getitem__, a keras.utils.PyDataset or a generator; "
        f"got {type(data).__name__}. For arrays use sample_weight(y, …)"
    )


@dataclass(frozen=True)
class _AddWeights:
    """Adds the weights of y to a pair (x, y), as the kind of array that y is; picklable, for worker processes."""

    weights: tuple[float, ...]
    several: Several

    def __call__(self, batch: Any) -> tuple[Any, Any, Any]:
        x, y = _pair(batch)
        weights = sample_weight(y, np.array(self.weights), several=self.several)
        return x, y, torch.from_numpy(weights) if isinstance(y, torch.Tensor) else weights

    def one(self, item: Any) -> tuple[Any, Any, np.float32]:
        x, y = _pair(item)
        return x, y, sample_weight(np.asarray(y)[None], np.array(self.weights), several=self.several)[0]


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
        raise ArgumentError(f"`data` must yield pairs (x, y); got a {what}")
    return batch[0], batch[1]


@dataclass(frozen=True)
class _CollateWithWeights:
    collate: Any
    add: _AddWeights

    def __call__(self, samples: Any) -> tuple[Any, Any, Any]:
        return self.add(self.collate(samples))


def _weighted_loader(loader: DataLoader[Any], add: _AddWeights) -> DataLoader[Any]:
    weighted = copy.copy(loader)  # keeps every setting and shares the sampler
    weighted.collate_fn = _CollateWithWeights(loader.collate_fn, add)
    weighted._iterator = None  # persistent workers would keep the old collate function
    return weighted


class _WeightedDataset(Dataset[tuple[Any, Any, Any]]):
    def __init__(self, dataset: Any, add: _AddWeights) -> None:
        self.dataset, self.add = dataset, add

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        return self.add.one(self.dataset[index])


class _WeightedBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras is not typed
    def __init__(self, batches: Any, add: _AddWeights) -> None:
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self.batches, self.add = batches, add

    @property
    def num_batches(self) -> int | None:
        number: int | None = self.batches.num_batches
        return number

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        return self.add(self.batches[index])

    def on_epoch_begin(self) -> None:
        self.batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()


def _weighted_generator(batches: Iterable[Any], add: _AddWeights) -> Iterator[tuple[Any, Any, Any]]:
    for batch in batches:
        yield add(batch)


def _vector(class_weight: ClassWeight) -> NDArray[np.float64]:
    if not isinstance(class_weight, Mapping):
        return np.asarray(class_weight, dtype=np.float64)
    missing = [c for c in range(len(class_weight)) if c not in class_weight]
    if missing or not class_weight:
        raise ArgumentError(
            "`class_weight` must have a weight for each class 0 .. C−1 (Keras would use 1 for a missing one); missing: "
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


def _check_first_class(indices: NDArray[np.int64], empty: str) -> None:
    """Refuse labels that are counted from 1, unless classes without images are allowed."""
    if empty == "error" and indices.size and indices.min() == 1:
        raise ArgumentError(
            f"`labels` are from 1 to {indices.max()}, and Keras counts classes from 0: subtract 1 from them here and "
            "in `fit`. If there is a class 0 without images, pass empty='exclude'"
        )


def _whole(values: Any, name: str) -> NDArray[np.int64]:
    """(N,) or (N, C) integers; (N, 1) becomes (N,). Whole floats pass, because Keras turns labels into floats."""
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise ArgumentError(f"`{name}` must have shape (N,), (N, 1) or (N, C); got {array.shape}")
    if array.dtype.kind not in "iubf" or (array.dtype.kind == "f" and not np.array_equal(array, np.floor(array))):
        raise ArgumentTypeError(f"`{name}` must be integers; got dtype {array.dtype}")
    return array.astype(np.int64)


def _labels(array: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    wrong = ((array != 0) & (array != 1)).any(1)
    if wrong.any():
        raise ArgumentError(f"`{name}` of shape (N, C) must hold only 0 and 1; row {int(np.argmax(wrong))} does not")
    return array
