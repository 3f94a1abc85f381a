"""`ConfusionMatrix`: counts of (true class, predicted class), of which only the cells with images are stored."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_count, checked_indices
from counterpoise.core.errors import ArgumentError, ArgumentTypeError

_MAX_CLASSES = 2**31
_MAX_IMAGES = 2**53


@dataclass(frozen=True, eq=False, repr=False)
class ConfusionMatrix:
    """A confusion matrix of C classes. Its memory grows with the cells that have images, not with the square of C.

    ``matrix[i][j]`` and ``matrix[i, j]`` are the number of images of class i that are predicted as class j;
    ``matrix[i]`` is a row as a tuple, and iteration yields the rows. ``numpy.asarray(matrix)`` is the dense matrix,
    int64 ``(C, C)``, and ``a + b`` adds two matrices of the same classes. Two matrices are equal if all counts are; a
    tuple of rows is compared likewise.

    Attributes:
        labels: ``(K,)`` int64, the true class of each cell with images. The cells are sorted by label, then prediction.
        predictions: ``(K,)`` int64, the predicted class of each cell.
        counts: ``(K,)`` int64, the images in each cell, at least 1.
        num_classes: C.

    Raises:
        ArgumentError: the shapes differ, a class is not in 0..C-1, a count is less than 1, the cells are not sorted, or
            one occurs twice.
        ArgumentTypeError: a class or a count is not a whole number.

    Example:
        >>> matrix = ConfusionMatrix.from_dense([[8, 2, 0], [0, 7, 0], [0, 0, 9]])
        >>> matrix
        ConfusionMatrix(3 classes, 26 images, 4 cells with images)
        >>> matrix[0], matrix[0][1]
        ((8, 2, 0), 2)
        >>> import scipy.sparse
        >>> matrix.counts, scipy.sparse.coo_array((matrix.counts, (matrix.labels, matrix.predictions))).sum(axis=0)
        (array([8, 2, 7, 9]), array([8, 9, 9]))
    """

    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    counts: NDArray[np.int64]
    num_classes: int

    def __post_init__(self) -> None:
        size = checked_count("num_classes", self.num_classes, minimum=0)
        if size > _MAX_CLASSES:
            raise ArgumentError(f"`num_classes` must be at most {_MAX_CLASSES:,}; got {size:,}")
        labels = checked_indices("labels", self.labels, num_classes=size)
        predictions = checked_indices("predictions", self.predictions, num_classes=size)
        counts = _checked_counts(self.counts)
        if labels.ndim != 1 or not labels.shape == predictions.shape == counts.shape:
            raise ArgumentError(
                "`labels`, `predictions` and `counts` must have the same shape (K,); got "
                f"{labels.shape}, {predictions.shape} and {counts.shape}"
            )
        if (wrong := np.diff(labels * size + predictions) <= 0).any():
            row = int(np.argmax(wrong)) + 1
            raise ArgumentError(
                f"the cells must be sorted by `labels`, then `predictions`, each once; row {row} is not after row "
                f"{row - 1}"
            )
        for name, array in (("labels", labels), ("predictions", predictions), ("counts", counts)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def from_dense(cls, matrix: ArrayLike) -> ConfusionMatrix:
        """The matrix with these counts.

        Args:
            matrix: ``(C, C)`` whole numbers of at least 0, rows the true classes; ``()`` for no classes.

        Raises:
            ArgumentError: another shape, or a negative count.
            ArgumentTypeError: the counts are not whole numbers.

        Example:
            >>> ConfusionMatrix.from_dense([[1, 0], [2, 3]]).labels
            array([0, 1, 1])
        """
        dense = np.asarray(matrix)
        size = len(dense) if dense.size else 0
        if dense.size and dense.shape != (size, size):
            raise ArgumentError(f"`matrix` must have shape (C, C); got {dense.shape}")
        if dense.size and dense.dtype.kind not in "iu":
            raise ArgumentTypeError(f"`matrix` must hold whole numbers; got dtype {dense.dtype}")
        labels, predictions = np.nonzero(dense) if dense.size else np.zeros((2, 0), dtype=np.int64)
        return cls(labels, predictions, dense[labels, predictions] if dense.size else labels, size)

    @classmethod
    def from_predictions(cls, labels: ArrayLike, predictions: ArrayLike, *, num_classes: int) -> ConfusionMatrix:
        """Count the pairs of label and prediction.

        Args:
            labels: ``(N,)`` class indices.
            predictions: ``(N,)`` predicted class indices.
            num_classes: C.

        Raises:
            ArgumentError: the shapes differ, or an index is not in 0..C-1.
            ArgumentTypeError: an index is not a whole number.

        Example:
            >>> ConfusionMatrix.from_predictions([0, 0, 1], [0, 1, 1], num_classes=2) == ((1, 1), (0, 1))
            True
        """
        a = checked_indices("labels", labels, num_classes=num_classes)
        b = checked_indices("predictions", predictions, num_classes=num_classes)
        if a.ndim != 1 or a.shape != b.shape:
            raise ArgumentError(f"`labels` and `predictions` must both have shape (N,); got {a.shape} and {b.shape}")
        return cls._of_cells(a * num_classes + b, np.ones(len(a), dtype=np.int64), num_classes)

    @classmethod
    def _of_cells(cls, cells: NDArray[np.int64], counts: NDArray[np.int64], size: int) -> ConfusionMatrix:
        """The sum of counts in cells that are numbered row by row, in any order."""
        distinct, where = np.unique(cells, return_inverse=True)
        total = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(total, where, counts)
        return cls(distinct // max(1, size), distinct % max(1, size), total, size)

    @property
    def shape(self) -> tuple[int, int]:
        """``(C, C)``."""
        return self.num_classes, self.num_classes

    def __len__(self) -> int:
        return self.num_classes

    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[int, ...], ...]: ...
    @overload
    def __getitem__(self, index: tuple[SupportsIndex, SupportsIndex]) -> int: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self.num_classes)))
        if isinstance(index, tuple):
            i, j = index
            return self[i][j]
        return self._row(range(self.num_classes)[operator.index(index)])

    def predicted(self, i: int) -> dict[int, int]:
        """How often images of class i are predicted as each class that occurs: ``{class: images}``.

        Example:
            >>> ConfusionMatrix.from_dense([[8, 2, 0], [0, 7, 0], [0, 0, 9]]).predicted(0)
            {0: 8, 1: 2}
        """
        start, stop = np.searchsorted(self.labels, (i, i + 1))
        return dict(zip(self.predictions[start:stop].tolist(), self.counts[start:stop].tolist(), strict=True))

    def _row(self, i: int) -> tuple[int, ...]:
        """A row; the latest is kept, because loops over ``matrix[i][j]`` ask for it C times."""
        latest: tuple[int, tuple[int, ...]] | None = self.__dict__.get("_latest")
        if latest is None or latest[0] != i:
            row = [0] * self.num_classes
            for prediction, images in self.predicted(i).items():
                row[prediction] = images
            latest = self.__dict__["_latest"] = (i, tuple(row))
        return latest[1]

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (self._row(i) for i in range(self.num_classes))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a dense confusion matrix is always a new array; leave out `copy`")
        dense = np.zeros(self.shape, dtype=np.int64 if dtype is None else dtype)
        dense[self.labels, self.predictions] = self.counts
        return dense

    def __add__(self, other: object) -> ConfusionMatrix:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        size = self.num_classes
        if size != other.num_classes:
            raise ArgumentError(f"matrices of {size} and {other.num_classes} classes cannot be added")
        cells = [m.labels * size + m.predictions for m in (self, other)]
        return self._of_cells(np.concatenate(cells), np.concatenate([self.counts, other.counts]), size)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        return self.num_classes == other.num_classes and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("labels", "predictions", "counts")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        images, cells = int(self.counts.sum()), len(self.counts)
        return f"ConfusionMatrix({self.num_classes:,} classes, {images:,} images, {cells:,} cells with images)"


def cells_of(
    matrix: ArrayLike | ConfusionMatrix,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], int]:
    """Label, prediction and value of each cell that is not 0, and the number of classes; dense values may be floats."""
    if isinstance(matrix, ConfusionMatrix):
        return matrix.labels, matrix.predictions, matrix.counts.astype(np.float64), matrix.num_classes
    dense = np.asarray(matrix, dtype=np.float64)
    labels, predictions = np.nonzero(dense)
    return labels, predictions, dense[labels, predictions], len(dense)


def _checked_counts(counts: Any) -> NDArray[np.int64]:
    """Return ``counts`` as int64, at least 1, and exact in float64 also when they are added."""
    array = np.asarray(counts)
    if array.size and array.dtype.kind in "iu" and array.astype(np.float64).sum() > _MAX_IMAGES:
        raise ArgumentError(
            f"`counts` must be at most {_MAX_IMAGES:,} together; got {array.astype(np.float64).sum():g}"
        )
    checked = checked_indices("counts", array)
    if (checked == 0).any():
        row = int(np.argmax(checked == 0))
        raise ArgumentError(f"`counts` must be at least 1; row {row} is 0; leave out cells without images")
    return checked
