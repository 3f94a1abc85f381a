"""The embedded dataset: scikit-learn's 8×8 digits, resampled to a long-tailed distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.dataset.splits import ranks

IMBALANCE_RATIO = 30
TEST_IMAGES, LEAST_VALIDATION = 50, 30


def read_digits(*, val_fraction: float, seed: int, name: str) -> ImageDataset:
    """The digits 0 to 9; 0 is the most frequent class and 9 the rarest, with 30:1 in the training images.

    The test split is balanced, with 50 images per class. The val split has the share ``val_fraction`` of the other
    images, but at least 30 per class, because a recall measured on one or two images decides nothing. Pixels 0..16
    become 0..255, and grey is repeated in three channels. A rotated 6 is a 9 and a mirrored digit is not a digit, so
    there are no label-preserving flips or rotations.
    """
    everything = all_digits()
    digit, paths = everything.labels, np.array(everything.paths)
    order = np.argsort(ranks(paths.tolist(), seed=seed), kind="stable")
    by_class = [order[digit[order] == d] for d in range(10)]
    train = profile(min(map(len, by_class)) - TEST_IMAGES, val_fraction=val_fraction)
    splits = np.full(len(digit), "", dtype="<U5")
    for rows, n in zip(by_class, train, strict=True):
        splits[rows[:TEST_IMAGES]] = "test"
        splits[rows[TEST_IMAGES : TEST_IMAGES + n]] = "train"
        splits[rows[TEST_IMAGES + n : TEST_IMAGES + n + _validation(n, val_fraction)]] = "val"
    kept = np.flatnonzero(splits != "")
    kept = kept[np.argsort(paths[kept])]
    return ImageDataset(
        name=name,
        classes=tuple("0123456789"),
        labels=digit[kept],
        paths=tuple(paths[kept].tolist()),
        splits=splits[kept],
        symmetries=frozenset(),
        origin={"kind": "digits", "source": "digits", "imbalance_ratio": IMBALANCE_RATIO},
        pixels=None if everything.pixels is None else everything.pixels[kept],
    )


def all_digits() -> ImageDataset:
    """All 1,797 digits of scikit-learn, without splits of their own."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digit = np.asarray(bunch.target, dtype=np.int64)
    return ImageDataset(
        name="digits",
        classes=tuple("0123456789"),
        labels=digit,
        paths=tuple(f"digits/{d}/{i:04d}" for i, d in enumerate(digit.tolist())),
        splits=np.full(len(digit), "train"),
        symmetries=frozenset(),
        pixels=_rgb(np.asarray(bunch.images)),
    )


def profile(available: int, *, val_fraction: float) -> list[int]:
    """Number of training images of each of the 10 classes, decreasing exponentially from n to n/30.

    n is the largest multiple of 30 for which the training and validation images do not exceed ``available``.

    Example:
        >>> profile(124, val_fraction=0.2)
        [90, 62, 42, 29, 20, 14, 9, 6, 4, 3]
    """
    multiples = range(IMBALANCE_RATIO, available + 1, IMBALANCE_RATIO)
    fits = [n for n in multiples if n + _validation(n, val_fraction) <= available]
    if not fits:
        raise ArgumentError(f"`val_fraction` {val_fraction} leaves too few digits to train on; use at most 0.7")
    return [math.floor(fits[-1] * IMBALANCE_RATIO ** (-c / 9) + 0.5) for c in range(10)]


def _validation(train: int, fraction: float) -> int:
    """Number of validation images for ``train`` training images, so that their share is ``fraction``; at least 30."""
    return max(LEAST_VALIDATION, math.floor(train * fraction / (1 - fraction) + 0.5)) if fraction > 0 else 0


def _rgb(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Convert ``(N, 8, 8)`` values in 0..16 to ``(N, 8, 8, 3)`` values in 0..255."""
    scaled = np.floor(grey * (255 / 16) + 0.5).astype(np.uint8)
    return np.repeat(scaled[..., np.newaxis], 3, axis=-1)
