"""Paired, class-stratified bootstrap of the difference between two sets of predictions.

Drawing n_c images of a class with replacement is a multinomial draw over the distinct *joint outcomes* (what both arms
said about an image, in all seeds), so the resamples are drawn as counts, exactly, without a list of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.inputs import FloatArray, IntArray, class_indices, num_classes_of
from counterpoise.metrics.intervals import check_confidence
from counterpoise.metrics.tally import METRICS, Metric, Tally

__all__ = ["SEEDS_FOR_TWO_LEVELS", "Bootstrap", "bootstrap_differences", "paired_bootstrap"]

SEEDS_FOR_TWO_LEVELS = 5
"""Fewer seeds say too little about the spread between seeds to be resampled."""

_CHUNK = 2**22
"""Sums held at once for a chunk of resamples: 32 MB."""

_Stratum = tuple[int, IntArray, IntArray]
"""A class, its distinct joint outcomes (columns, U), and how many images have each (U,)."""


@dataclass(frozen=True)
class Bootstrap:
    """``a`` minus ``b``: the difference of seed means with its percentile interval; NaN where it is not defined.

    ``seed_sd`` is the sample standard deviation over seeds of the paired difference, NaN for one seed or where
    the arms have different numbers of seeds.
    """

    estimate: float
    low: float
    high: float
    seed_sd: float
    method: Literal["images", "images-and-seeds"]
    confidence: float
    resamples: int


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    *,
    metric: str | Metric = "balanced_accuracy",
    num_classes: int | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Interval of the difference ``metric(a) - metric(b)`` of two sets of predictions for the same images.

    Images are resampled within each class and stay paired: an image brings what both arms said about it, in all
    seeds. From 5 seeds on in both arms the seeds are resampled too (two levels, crossed).

    Args:
        a: predicted class indices, ``(N,)`` or ``(seeds, N)``.
        b: those of the other arm, in the same order of images and of seeds.
        labels: class indices, ``(N,)``.
        metric: "accuracy", "balanced_accuracy", "macro_f1", "geometric_mean", or a `Metric`.
        num_classes: C; default the largest index plus one.
        resamples: number of bootstrap resamples.
        confidence: coverage of the percentile interval.
        seed: the same seed gives the same interval.

    Raises:
        ArgumentError: unknown metric, shapes that do not fit, ``resamples`` < 1, ``confidence`` not in (0, 1).

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> baseline = np.zeros(100, dtype=int)
        >>> better = np.where(np.arange(100) < 80, baseline, labels)
        >>> result = paired_bootstrap(better, baseline, labels)
        >>> round(result.estimate, 3), result.low > 0.1, result.high < 0.3
        (0.2, True, True)
    """
    if isinstance(metric, str) and metric not in METRICS:
        raise ArgumentError(f"`metric` must be one of {sorted(METRICS)} or a Metric; got {metric!r}")
    chosen = METRICS[metric] if isinstance(metric, str) else metric
    return bootstrap_differences(
        a,
        b,
        labels,
        metrics={"it": chosen},
        num_classes=num_classes,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )["it"]


def bootstrap_differences(
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    *,
    metrics: Mapping[str, Metric],
    num_classes: int | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Bootstrap]:
    """`paired_bootstrap` for several metrics at once, on the same resamples.

    Example:
        >>> both = bootstrap_differences([0, 1, 1], [0, 0, 0], [0, 1, 1], metrics=METRICS, resamples=10)
        >>> round(both["accuracy"].estimate, 3)
        0.667
    """
    check_confidence(confidence)
    if resamples < 1:
        raise ArgumentError(f"`resamples` must be at least 1; got {resamples}")
    y, said, seeds_a = _columns(a, b, labels)
    size = num_classes_of(num_classes, y, said)
    strata = [(int(c), *np.unique(said[:, y == c], axis=1, return_counts=True)) for c in np.unique(y)]
    drawn = _resampled(strata, metrics, len(said), size, resamples=resamples, rng=np.random.default_rng(seed))
    observed = _values(strata, [repeats[None] for _, _, repeats in strata], metrics, len(said), size)
    return {
        name: _difference(observed[name], drawn[name], seeds_a, confidence, np.random.default_rng((seed, 1)))
        for name in metrics
    }


def _columns(a: ArrayLike, b: ArrayLike, labels: ArrayLike) -> tuple[IntArray, IntArray, int]:
    """Labels (N,), all predictions as columns (seeds of a + seeds of b, N), and the number of a's seeds."""
    y = class_indices(labels, "labels")
    first, second = (np.atleast_2d(class_indices(x, name)) for x, name in ((a, "a"), (b, "b")))
    for name, x in (("a", first), ("b", second)):
        if y.ndim != 1 or x.ndim != 2 or x.shape[1:] != y.shape or not len(x):
            raise ArgumentError(f"`{name}` must have shape (N,) or (seeds, N) for `labels` {y.shape}; got {x.shape}")
    return y, np.concatenate([first, second]), len(first)


def _resampled(
    strata: Sequence[_Stratum],
    metrics: Mapping[str, Metric],
    columns: int,
    num_classes: int,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """The metrics of every resample and column, ``(resamples, columns)``, in chunks that fit in memory."""
    outcomes = sum(len(repeats) for _, _, repeats in strata)
    chunk = max(1, _CHUNK // max(1, columns * num_classes, outcomes))
    parts = []
    for start in range(0, resamples, chunk):
        times = [_draw(repeats, min(chunk, resamples - start), rng) for _, _, repeats in strata]
        parts.append(_values(strata, times, metrics, columns, num_classes))
    return {name: np.concatenate([part[name] for part in parts]) for name in metrics}


def _draw(repeats: IntArray, rows: int, rng: np.random.Generator) -> IntArray:
    """How often each outcome occurs among n images drawn with replacement, ``(rows, U)``."""
    n, size = int(repeats.sum()), len(repeats)
    if 3 * size < n:
        return rng.multinomial(n, repeats / n, size=rows)
    # Nearly every image has an outcome of its own: drawing the images is the same and twice as fast.
    drawn = np.repeat(np.arange(size), repeats)[rng.integers(n, size=(rows, n))]
    return np.bincount((drawn + size * np.arange(rows)[:, None]).ravel(), minlength=rows * size).reshape(rows, size)


def _values(
    strata: Sequence[_Stratum], times: Sequence[IntArray], metrics: Mapping[str, Metric], columns: int, num_classes: int
) -> dict[str, FloatArray]:
    """``times[k][r, u]`` is how often resample r holds outcome u of stratum k; the metrics, ``(rows, columns)``."""
    rows = len(times[0]) if times else 1
    tallies: dict[bytes, Tally] = {}
    for name, metric in metrics.items():
        if metric.merge is not None and len(metric.merge) != num_classes:
            raise ArgumentError(f"metric {name!r} is about {len(metric.merge)} classes; there are {num_classes}")
        size = num_classes if metric.merge is None else max(2, int(metric.merge.max(initial=0)) + 1)
        tallies.setdefault(_key(metric), Tally(*(np.zeros((rows, columns, size)) for _ in range(3))))
    merges = {_key(metric): metric.merge for metric in metrics.values()}
    for (label, outcomes, repeats), number in zip(strata, times, strict=True):
        said, sums = _sums(outcomes, number)
        for key, merge in merges.items():
            _add(tallies[key], label, int(repeats.sum()), said, sums, merge)
    return {name: metric.value(tallies[_key(metric)]) for name, metric in metrics.items()}


def _key(metric: Metric) -> bytes:
    return b"" if metric.merge is None else metric.merge.tobytes()


def _sums(outcomes: IntArray, times: IntArray) -> tuple[IntArray, FloatArray]:
    """The classes that were said, ``(m,)``, and how often in each resample and column, ``(rows, columns, m)``."""
    said, where = np.unique(outcomes, return_inverse=True)
    one_hot = where.reshape(outcomes.shape).T[:, :, None] == np.arange(len(said))
    sums = times.astype(np.float64) @ one_hot.reshape(len(one_hot), -1).astype(np.float64)
    return said, sums.reshape(len(times), len(outcomes), len(said))


def _add(t: Tally, label: int, images: int, said: IntArray, sums: FloatArray, merge: IntArray | None) -> None:
    if merge is not None:
        label = int(merge[label])
        said, where = np.unique(merge[said], return_inverse=True)
        sums = sums @ (where[:, None] == np.arange(len(said))).astype(np.float64)
    t.support[..., label] += images
    t.predicted[..., said] += sums
    t.true_positives[..., label] += sums[..., said == label].sum(axis=-1)


def _difference(
    observed: FloatArray, drawn: FloatArray, seeds_a: int, confidence: float, rng: np.random.Generator
) -> Bootstrap:
    """From the values of all columns, a's seeds first, to the difference of seed means and its interval."""
    a, b = observed[0, :seeds_a], observed[0, seeds_a:]
    paired = len(a) == len(b)
    two_levels = min(len(a), len(b)) >= SEEDS_FOR_TWO_LEVELS
    drawn_a, drawn_b = drawn[:, :seeds_a], drawn[:, seeds_a:]
    if two_levels:
        which_a = rng.integers(len(a), size=drawn_a.shape)
        which_b = which_a if paired else rng.integers(len(b), size=drawn_b.shape)
        drawn_a, drawn_b = (np.take_along_axis(x, w, axis=1) for x, w in ((drawn_a, which_a), (drawn_b, which_b)))
    differences = drawn_a.mean(axis=1) - drawn_b.mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Bootstrap(
        estimate=float(a.mean() - b.mean()),
        low=float(low),
        high=float(high),
        seed_sd=float(np.std(a - b, ddof=1)) if paired and len(a) > 1 else float("nan"),
        method="images-and-seeds" if two_levels else "images",
        confidence=confidence,
        resamples=len(drawn),
    )
