"""Read the labels of a dataset without decoding an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, DatasetError

_ATTRIBUTES = ("labels", "targets", "_labels")  # a third of torchvision's datasets uses `_labels`
_COLUMNS = ("label", "labels", "target", "targets")


def labels_of(dataset: Any) -> NDArray[np.int64]:
    """The class index of every item, read from the attributes of the dataset; no item is loaded.

    Supports torch's ``Subset`` (also nested, and of ``random_split``), ``ConcatDataset`` and ``TensorDataset`` (the
    last tensor), the folders and datasets of torchvision and timm, Hugging Face datasets, and those of Counterpoise. A
    ``target_transform`` is applied once to each distinct label.

    Args:
        dataset: a map-style dataset of N items.

    Returns:
        int64 ``(N,)``, in the order of the dataset; names are numbered in sorted order. ``(N, C)`` for 0/1 targets.

    Raises:
        ArgumentError: the dataset has no length.
        DatasetError: no labels are found (the message lists three ways to supply them), or an item does not have
            exactly one class.

    Example:
        >>> import torch
        >>> data = torch.utils.data.TensorDataset(torch.zeros(4, 3), torch.tensor([5, 0, 5, 1]))
        >>> labels_of(torch.utils.data.Subset(data, [3, 0]))
        array([1, 5])
    """
    if not hasattr(dataset, "__len__"):
        raise ArgumentError(f"`dataset` must have a length; a {type(dataset).__name__} without one cannot be sampled")
    labels = _find_labels(dataset)
    if len(labels) != len(dataset):
        raise DatasetError(f"{_kind(dataset)} has {len(dataset)} items but {len(labels)} labels")
    return labels


def _find_labels(dataset: Any) -> NDArray[np.int64]:
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        parent: NDArray[np.int64] = labels_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
        return parent
    if hasattr(dataset, "cumulative_sizes") and hasattr(dataset, "datasets"):
        return np.concatenate([labels_of(part) for part in dataset.datasets])
    for look in (_tensors, _columns, _stored):
        values = look(dataset)
        if values is not None:
            return _as_indices(values, dataset)
    raise DatasetError(
        f"{_kind(dataset)} has no attribute with its labels, and items are not loaded to find them. Supply them in one "
        "of three ways: (1) give the sampler an array with one class index per item; (2) give the dataset an attribute "
        "`labels` or `targets` with one class index per item; (3) give it an attribute `samples`, a list of (item, "
        "class index)"
    )


def _tensors(dataset: Any) -> Any:
    tensors = getattr(dataset, "tensors", None)
    return tensors[-1] if isinstance(tensors, list | tuple) and tensors else None


def _columns(dataset: Any) -> Any:
    """The label column of a Hugging Face dataset: its only ClassLabel, or one with a usual name."""
    features: Any = getattr(dataset, "features", None)
    if not (hasattr(dataset, "column_names") and hasattr(features, "items")):
        return None
    class_labels = [name for name, feature in features.items() if hasattr(feature, "int2str")]
    usual = [name for name in _COLUMNS if name in dataset.column_names]
    chosen = class_labels if len(class_labels) == 1 else [name for name in usual if name in class_labels] or usual
    if not chosen:
        return None
    plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset  # without the user's transform
    return plain[chosen[0]][:]  # this column only: a list, or a lazy sequence from version 4 on


def _stored(dataset: Any) -> Any:
    """Labels in an attribute of the dataset, or in (item, label) pairs of the dataset or of a reader as timm has it."""
    transform = getattr(dataset, "target_transform", None)
    for name in _ATTRIBUTES:
        values = getattr(dataset, name, None)
        if values is not None and not callable(values) and hasattr(values, "__len__"):
            return _transformed(values, transform)
    for owner in (dataset, getattr(dataset, "reader", None)):
        for name in ("samples", "imgs"):
            pairs = getattr(owner, name, None)
            if isinstance(pairs, list | tuple) and pairs and isinstance(pairs[0], list | tuple) and len(pairs[0]) == 2:
                return _transformed([label for _, label in pairs], transform)
    return None


def _transformed(values: Any, transform: Callable[[Any], Any] | None) -> Any:
    if transform is None:
        return values
    distinct, inverse = np.unique(np.asarray(values), return_inverse=True)
    return np.asarray([transform(value) for value in distinct.tolist()])[inverse]


def _as_indices(values: Any, dataset: Any) -> NDArray[np.int64]:
    try:
        array = np.asarray(values.cpu() if hasattr(values, "cpu") else values)
    except ValueError:  # rows of differing lengths
        array = np.empty((0,), dtype=object)
    if array.dtype.kind in "iub" and array.ndim in (1, 2):
        return array.astype(np.int64)
    if array.dtype.kind == "f" and array.ndim == 2 and np.isin(array, (0.0, 1.0)).all():  # targets of binary losses
        return array.astype(np.int64)
    if array.dtype.kind in "US" and array.ndim == 1:
        distinct, inverse = np.unique(array, return_inverse=True)
        if len(distinct) < len(array):
            return inverse.astype(np.int64)
        raise DatasetError(
            f"the labels of {_kind(dataset)} are all different: {distinct[:3].tolist()}; give class names or indices, "
            "not paths"
        )
    raise DatasetError(
        f"the labels of {_kind(dataset)} must be one class index per item; got {_first(values)} of dtype "
        f"{array.dtype}. Give the sampler an array of class indices instead"
    )


def _first(values: Sequence[Any]) -> str:
    return f"{values[0]!r:.60}" if len(values) else "none"


def _kind(dataset: Any) -> str:
    return f"`dataset` ({type(dataset).__name__})"
