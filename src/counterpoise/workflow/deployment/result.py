"""Predictions of a trained model on images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.tables import write_csv
from counterpoise.metrics import softmax


@dataclass(frozen=True, eq=False)
class ImagePredictions:
    """Predictions on N images.

    Attributes:
        names: N paths, or the positions of images that were given as arrays.
        logits: ``(N, C)``, the final logits, corrected as in the evaluation; -inf for a class that is never predicted.
        classes: C class names.
        failed: images that cannot be decoded and have no prediction, with the reason.
        prior: class shares that were estimated from the images, if this was asked for.

    Example:
        >>> predicted = ImagePredictions(("a.png",), np.log([[0.7, 0.3]]), ("cat", "dog"))
        >>> predicted.labels.tolist(), predicted.probabilities.round(2).tolist()
        (['cat'], [[0.7, 0.3]])
    """

    names: tuple[str, ...]
    logits: NDArray[np.floating[Any]]
    classes: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    prior: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Index of the predicted class ``(N,)``."""
        predicted: NDArray[np.int64] = self.logits.argmax(1)
        return predicted

    @property
    def labels(self) -> NDArray[np.str_]:
        """Name of the predicted class ``(N,)``."""
        return np.array(self.classes, dtype=np.str_)[self.indices]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the final logits, float64 ``(N, C)``; as in the evaluation of the calibration."""
        return softmax(self.logits)

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` most probable classes of each image, with their probabilities; all of them if there are fewer.

        Example:
            >>> ImagePredictions(("a.png",), np.log([[0.25, 0.75]]), ("cat", "dog")).top(1)
            [[('dog', 0.75)]]
        """
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, : checked_count("k", k)]
        p = np.take_along_axis(self.probabilities, order, axis=1).round(12)
        return [[(self.classes[c], float(q)) for c, q in zip(*row, strict=True)] for row in zip(order, p, strict=True)]

    def save(self, path: str | Path, *, top: int = 1) -> Path:
        """Write a CSV file: path, prediction and probability, then those of the next classes up to ``top``."""
        k = min(checked_count("top", top), len(self.classes))
        header = ["path", "prediction", "probability"]
        header += [f"{name}_{i}" for i in range(2, k + 1) for name in ("prediction", "probability")]
        rows: Sequence[Sequence[str | float]] = [
            [name, *(cell for pair in best for cell in pair)]
            for name, best in zip(self.names, self.top(k), strict=True)
        ]
        write_csv(Path(path), header, rows)
        return Path(path)

    def to_dict(self, *, top: int = 1) -> dict[str, Any]:
        """Predictions and failures as JSON-compatible data."""
        images = [
            {"path": name, "predictions": [{"class": label, "probability": p} for label, p in best]}
            for name, best in zip(self.names, self.top(top), strict=True)
        ]
        failed = [{"path": name, "reason": reason} for name, reason in self.failed.items()]
        estimated = dict(zip(self.classes, self.prior, strict=True)) if self.prior else {}
        return {"images": images, "failed": failed, **({"estimated_prior": estimated} if estimated else {})}
