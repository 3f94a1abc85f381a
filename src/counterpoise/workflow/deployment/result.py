"""Predictions of a trained model on images without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.names import did_you_mean
from counterpoise.core.tables import write_csv
from counterpoise.core.text import listed, number_text
from counterpoise.metrics import softmax
from counterpoise.posthoc.arrays import as_prior

SUM_TOLERANCE = 1e-3
"""How far from 1 the sum of given class shares may be."""


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


def class_shares(prior: Any, classes: Sequence[str]) -> NDArray[np.float64]:
    """Class shares or counts from a vector or from a mapping with all classes; shares must sum to 1.

    Example:
        >>> class_shares({"cat": 0.9, "dog": 0.1}, ("dog", "cat"))
        array([0.1, 0.9])
    """
    if isinstance(prior, Mapping):
        for name in prior:
            if name not in classes:
                raise ArgumentError(f"`target_prior` names {name!r}; {did_you_mean(str(name), classes)}")
        missing = [name for name in classes if name not in prior]
        if missing:
            raise ArgumentError(f"`target_prior` has no share for {listed(missing)}; give 0 where there is none")
        prior = [prior[name] for name in classes]
    try:
        shares = np.asarray(prior, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"`target_prior` must be one number per class; got {prior!r:.80}") from None
    as_prior(shares, len(classes), "target_prior")
    total, are_counts = float(shares.sum()), bool((shares == np.round(shares)).all())
    if not are_counts and abs(total - 1) > SUM_TOLERANCE:
        raise ArgumentError(
            f"`target_prior` must be shares that sum to 1; the sum of those given is {number_text(total, 4)}; correct "
            "them, or give one count (a whole number) per class, such as 900,100"
        )
    return shares
