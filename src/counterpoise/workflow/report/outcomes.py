"""`Outcomes`: which images the runs of a strategy predict wrong, as what, and how confidently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Predictions
from counterpoise.core.errors import ArtifactError
from counterpoise.metrics.calibration import softmax

_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The predictions of K runs on the same N images.

    Attributes:
        labels: ``(N,)`` the true classes.
        paths: ``(N,)`` the paths of the images.
        runs: K.
        wrong: ``(N,)`` the number of runs whose prediction is wrong.
        mistaken: ``(N,)`` the wrong class that is predicted most confidently over the runs; the true class where no run
            is wrong.
        confidence: ``(N,)`` the mean probability of ``mistaken`` over the runs that predict it.
        weight: ``(N,)`` the sum of these probabilities divided by K, which orders mistakes.
        true_probability: ``(N,)`` the mean probability of the true class over all runs.
    """

    labels: NDArray[np.int64]
    paths: tuple[str, ...]
    runs: int
    wrong: NDArray[np.int64]
    mistaken: NDArray[np.int64]
    confidence: NDArray[np.float64]
    weight: NDArray[np.float64]
    true_probability: NDArray[np.float64]

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """The images that most of the runs predict wrong."""
        return 2 * self.wrong > self.runs

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """The images that most of the runs predict right."""
        return 2 * self.wrong < self.runs


def read_outcomes(folders: Sequence[Path], classes: Sequence[str]) -> Outcomes:
    """Read the test predictions in the folders of runs.

    Raises:
        ArtifactError: predictions are missing, damaged, or of other images or classes.
    """
    parts = []
    first: Predictions | None = None
    for folder in folders:
        predictions = Predictions.load(folder / "predictions-test.npz")
        first = first or predictions
        same = (predictions.labels, first.labels), (predictions.paths, first.paths), (predictions.classes, [*classes])
        if not all(np.array_equal(one, other) for one, other in same):
            raise ArtifactError(f"{folder / 'predictions-test.npz'} is of other images or classes")
        parts.append(_certainty(predictions))
    if first is None:
        raise ArtifactError("there is no run with predictions")
    labels, paths = first.labels, tuple(first.paths.tolist())
    return _combined(labels, paths, *(np.stack(values) for values in zip(*parts, strict=True)))


def _certainty(predictions: Predictions) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The predicted class of each image, its probability, and that of the true class."""
    predicted: NDArray[np.int64] = predictions.logits.argmax(1)
    chosen, true = np.empty(len(predicted)), np.empty(len(predicted))
    for start in range(0, len(predicted), _ROWS):  # the probabilities of all images may not fit in memory
        rows = slice(start, start + _ROWS)
        probabilities = softmax(predictions.logits[rows])
        within = np.arange(len(probabilities))
        chosen[rows] = probabilities[within, predicted[rows]]
        true[rows] = probabilities[within, predictions.labels[rows]]
    return predicted, chosen, true


def _combined(
    labels: NDArray[np.int64],
    paths: tuple[str, ...],
    predicted: NDArray[Any],
    confidence: NDArray[Any],
    true: NDArray[Any],
) -> Outcomes:
    """The outcomes from the predictions, their confidence and the probability of the true class, each ``(K, N)``."""
    runs, n = predicted.shape
    is_wrong = predicted != labels
    total, times = np.zeros((runs, n)), np.zeros((runs, n))
    for other in range(runs):
        same = is_wrong & (predicted == predicted[other])
        total += same * confidence[other]
        times += same
    best, rows = total.argmax(0), np.arange(n)
    weight, number = total[best, rows], times[best, rows]
    return Outcomes(
        labels=labels,
        paths=paths,
        runs=runs,
        wrong=is_wrong.sum(0),
        mistaken=np.where(number > 0, predicted[best, rows], labels),
        confidence=np.divide(weight, number, out=np.zeros(n), where=number > 0),
        weight=weight / runs,
        true_probability=true.mean(0),
    )
