"""`Predictions`: the logits of a model on one split, saved as an .npz file."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.files import atomic_write

__all__ = ["Predictions"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Final logits of a model on one split; the predicted class is ``logits.argmax(1)``.

    Attributes:
        logits: ``(N, C)`` float32 or float64; with a post-hoc method, the adjusted logits.
        labels: ``(N,)`` int64, the true classes.
        paths: ``(N,)`` strings, the path of each image in the dataset.
        classes: ``(C,)`` strings, the names of the classes.

    Raises:
        ArgumentError: the shapes do not match, or a label is not in 0..C-1.
    """

    logits: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]
    paths: NDArray[np.str_]
    classes: NDArray[np.str_]

    def __post_init__(self) -> None:
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file that NumPy reads with ``allow_pickle=False``."""
        with atomic_write(path) as file:
            np.savez(file, logits=self.logits, labels=self.labels, paths=self.paths, classes=self.classes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read an .npz file with these four arrays, also of other programs; ``paths`` and ``classes`` may be missing.

        Raises:
            ArtifactError: the file is missing, damaged or pickled, or its arrays do not match.
        """
        try:
            # The file is opened here because NumPy does not close a damaged file.
            with Path(path).open("rb") as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise ArtifactError(f"{path} does not exist") from None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"{path} cannot be read as predictions: {error}") from error
        missing = {"logits", "labels"} - arrays.keys()
        if missing:
            raise ArtifactError(f"{path} lacks {sorted(missing)}; predictions hold logits, labels, paths and classes")
        logits, labels = arrays["logits"], arrays["labels"].astype(np.int64)
        paths = arrays.get("paths", np.arange(len(labels)).astype(np.str_))
        classes = arrays.get("classes", np.arange(logits.shape[-1]).astype(np.str_))
        try:
            return cls(logits, labels, paths, classes)
        except ArgumentError as error:
            raise ArtifactError(f"{path}: {error}") from error
