"""`Predictions`: the logits of a model on one split, saved as an .npz file; `LogitTransform`: a step to them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.arrays import read_arrays
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.core.files import atomic_write

_NAMES = ("logits", "labels", "paths", "classes")


@dataclass(frozen=True)
class LogitTransform:
    """One step from the output of a model to its final logits: a name of `counterpoise.posthoc.TRANSFORMS`."""

    method: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Final logits of a model on one split; the predicted class is ``logits.argmax(1)``.

    Attributes:
        logits: ``(N, C)`` float32 or float64; with a post-hoc method, the adjusted logits.
        labels: ``(N,)`` int64, the true classes.
        paths: ``(N,)`` strings, the path of each image in the dataset.
        classes: ``(C,)`` strings, the names of the classes.

    Whole numbers are converted: logits to float64, labels of any integer type to int64, the others to strings.

    Raises:
        ArgumentError: the shapes do not match, a label is not in 0..C-1, or two classes have the same name.
        ArgumentTypeError: the logits are not real numbers, the labels are not whole numbers, or a name is no string.
    """

    logits: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]
    paths: NDArray[np.str_]
    classes: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.logits.dtype.kind not in "fiu" or self.labels.dtype.kind not in "iu":
            raise ArgumentTypeError(
                "`predictions` must be logits of numbers and labels of whole numbers; got "
                f"{self.logits.dtype}, {self.labels.dtype}; convert them"
            )
        for name, array in (("paths", self.paths), ("classes", self.classes)):
            if array.dtype.kind not in "Uiu":
                raise ArgumentTypeError(f"`{name}` must be an array of strings; got {array.dtype}; convert it")
            object.__setattr__(self, name, array.astype(np.str_, copy=False))
        n, c = self.logits.shape if self.logits.ndim == 2 else (-1, -1)
        if n < 0 or self.labels.shape != (n,) or self.paths.shape != (n,) or self.classes.shape != (c,):
            raise ArgumentError(
                "predictions need logits (N, C), labels (N,), paths (N,) and classes (C,); got "
                f"{self.logits.shape}, {self.labels.shape}, {self.paths.shape}, {self.classes.shape}"
            )
        bad = (self.labels < 0) | (self.labels >= c)
        if bad.any():
            row = int(np.argmax(bad))
            raise ArgumentError(f"`labels` row {row} is {self.labels[row]}, outside the {c} classes; use 0 to {c - 1}")
        name, times = next(iter(Counter(self.classes.tolist()).most_common(1)), ("", 0))
        if times > 1:
            raise ArgumentError(f"`classes` has the name {name!r} {times} times; rename or merge these classes")
        object.__setattr__(self, "labels", self.labels.astype(np.int64, copy=False))
        object.__setattr__(self, "logits", _as_floats(self.logits))

    @classmethod
    def from_arrays(
        cls,
        logits: NDArray[Any],
        labels: NDArray[Any],
        paths: NDArray[Any] | None = None,
        classes: NDArray[Any] | None = None,
    ) -> Predictions:
        """Predictions whose images or classes have no names: they are numbered from 0."""
        if paths is None:
            paths = np.arange(labels.size).astype(np.str_)
        if classes is None:
            classes = np.arange(logits.shape[-1] if logits.ndim else 0).astype(np.str_)
        return cls(logits, labels, paths, classes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file that NumPy reads with ``allow_pickle=False``."""
        with atomic_write(path) as file:
            np.savez(file, logits=self.logits, labels=self.labels, paths=self.paths, classes=self.classes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read an .npz file with these four arrays, also of other programs; ``paths`` and ``classes`` may be missing.

        Raises:
            ArtifactError: the file is missing or damaged, an array is pickled or much larger than the file, or the
                arrays do not match.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                arrays = read_arrays(file, os.fstat(file.fileno()).st_size, _NAMES)
        except FileNotFoundError:
            raise ArtifactError(f"{path} does not exist") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ArtifactError(f"{path} cannot be read as predictions: {reason}") from error
        missing = {"logits", "labels"} - arrays.keys()
        if missing:
            raise ArtifactError(f"{path} lacks {sorted(missing)}; predictions hold logits, labels, paths and classes")
        try:
            return cls.from_arrays(**arrays)
        except (ArgumentError, ArgumentTypeError) as error:
            raise ArtifactError(f"{path}: {error}") from error


def _as_floats(logits: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Logits that are whole numbers as float64, if they are exact there."""
    if logits.dtype.kind == "f":
        return logits
    if logits.size and max(-int(logits.min()), int(logits.max())) > 2**53:
        raise ArgumentError("`logits` of whole numbers must be at most 2^53, up to which they are exact; use floats")
    return logits.astype(np.float64)
