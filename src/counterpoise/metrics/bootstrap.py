"""Paired, class-stratified bootstrap of the difference between two sets of predictions.

Resampling n_c images of a class with replacement is a multinomial draw over the distinct *joint outcomes* (the
predictions of both arms for an image, in all seeds). So resamples are drawn exactly as counts, without lists of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.checks import checked_count, checked_indices, checked_number
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.calibration import calibration_gaps
from counterpoise.metrics.tally import METRICS, FloatArray, IntArray, Metric, Tally, num_classes_of

SEEDS_FOR_TWO_LEVELS = 5
"""The spread between fewer seeds is too uncertain to resample them."""

_CHUNK = 2**22
"""Numbers of a chunk of resamples: 32 MB."""

_Stratum = tuple[int, IntArray, IntArray]
"""A class, its distinct joint outcomes (columns, U), and the number of images with each, (units, U).

Units are what is drawn. One row stands for images that are drawn one by one.
"""


@dataclass(frozen=True)
class Bootstrap:
    """The difference ``a`` minus ``b`` of the means over seeds, with a percentile interval; NaN if undefined.

    Attributes:
        estimate: the difference.
        low, high: bounds of the interval.
        seed_sd: sample standard deviation over seeds of the paired difference; NaN for one seed, or if the arms have
            different numbers of seeds.
        method: what was resampled.
        confidence: coverage of the interval.
        resamples: number of resamples.
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
    """Estimate ``metric(a) − metric(b)`` of two sets of predictions for the same images, with a confidence interval.

    Images are resampled within each class, together with their predictions by both arms in all seeds. If both arms
    have at least 5 seeds, the seeds are resampled too (two levels, crossed).

    Args:
        a: predicted class indices, ``(N,)`` or ``(seeds, N)``.
        b: those of the other arm, in the same order of images and of seeds.
        labels: ``(N,)`` class indices.
        metric: "accuracy", "balanced_accuracy", "macro_f1", "geometric_mean", "worst_recall" (the smallest recall of
            a class with images), or a `Metric`.
        num_classes: C; None for the largest index plus one.
        resamples: number of bootstrap resamples, at least 1.
        confidence: coverage of the percentile interval, between 0 and 1.
        seed: at least 0; the same seed gives the same interval.

    Returns:
        The difference with its interval.

    Raises:
        ArgumentError: an unknown metric, shapes that do not match, ``resamples`` < 1, ``confidence`` not in (0, 1).

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
        metrics={"chosen": chosen},
        num_classes=num_classes,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )["chosen"]


def bootstrap_differences(  # noqa: PLR0913  the data and the choices of the bootstrap
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    *,
    metrics: Mapping[str, Metric],
    num_classes: int | None = None,
    units: ArrayLike | None = None,
    models_per_seed: int = 1,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Bootstrap]:
    """Estimate the differences of several metrics on the same resamples.

    Args:
        a, b, labels, num_classes, resamples, confidence, seed: as for `paired_bootstrap`.
        metrics: ``{name: Metric}``.
        units: ``(N,)``, equal for images that depend on each other, such as those of one patient; within each class
            they are drawn together. None draws every image by itself.
        models_per_seed: M, if ``a`` and ``b`` have M consecutive rows per seed, one for each of M models, such as those
            of the folds of a cross-validation. A metric of a seed is the mean over its models.

    Returns:
        The difference with its interval for each name in ``metrics``.

    Example:
        >>> both = bootstrap_differences([0, 1, 1], [0, 0, 0], [0, 1, 1], metrics=METRICS, resamples=10)
        >>> round(both["accuracy"].estimate, 3)
        0.667
    """
    checked_number("confidence", confidence, above=0.0, below=1.0)
    checked_count("resamples", resamples)
    y, predicted, rows_a = _columns(a, b, labels)
    if len(predicted) % models_per_seed or rows_a % models_per_seed:
        raise ArgumentError(f"`models_per_seed` must divide the number of rows of `a` and `b`; got {models_per_seed}")
    size, together = num_classes_of(num_classes, y, predicted), None if units is None else np.asarray(units)
    strata = [_stratum(c, predicted[:, y == c], None if together is None else together[y == c]) for c in np.unique(y)]
    resampled = _resampled(strata, metrics, len(predicted), size, resamples=resamples, rng=np.random.default_rng(seed))
    observed = _values(strata, [number.sum(axis=0)[None] for _, _, number in strata], metrics, len(predicted), size)
    found = {}
    for name in metrics:
        means = [_seed_means(values[name], models_per_seed) for values in (observed, resampled)]
        rng = np.random.default_rng((seed, 1))
        found[name] = _difference(means[0], means[1], rows_a // models_per_seed, confidence, rng)
    return found


def bootstrap_calibration(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    bins: int = 15,
    models_per_seed: int = 1,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Estimate the difference of the expected calibration errors of two sets of logits for the same images.

    Args:
        a: logits ``(N, C)`` per seed.
        b: those of the other arm, in the same order of images and of seeds.
        labels, resamples, confidence, seed: as for `paired_bootstrap`.
        bins: number of bins of the calibration error.
        models_per_seed: as for `bootstrap_differences`.

    Returns:
        The difference with its interval.

    Example:
        >>> z = np.log([[0.8, 0.2], [0.8, 0.2]])
        >>> round(bootstrap_calibration([2 * z], [z], [0, 1], resamples=10).estimate, 3)
        0.141
    """
    checked_number("confidence", confidence, above=0.0, below=1.0)
    checked_count("resamples", resamples)
    y, rng = checked_indices("labels", labels), np.random.default_rng(seed)
    columns = [calibration_gaps(y, logits, bins=bins) for logits in (*a, *b)]
    gaps = np.zeros((len(y), len(columns), bins))
    for j, (which, gap) in enumerate(columns):
        gaps[np.arange(len(y)), j, which] = gap
    strata = [np.flatnonzero(y == c) for c in np.unique(y)]
    order = np.concatenate(strata) if strata else np.zeros(0, dtype=np.int64)
    flat, chunk = gaps[order].reshape(len(y), -1), max(1, _CHUNK // max(1, len(y)))
    parts = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        times = [_draw(np.ones(len(images), dtype=np.int64), rows, rng) for images in strata]
        drawn = np.concatenate(times, axis=1) if times else np.zeros((rows, 0))
        parts.append(_calibration_errors(drawn.astype(np.float64) @ flat, len(columns), len(y)))
    observed = _seed_means(_calibration_errors(flat.sum(axis=0)[None], len(columns), len(y)), models_per_seed)
    resampled, seeds_a = _seed_means(np.concatenate(parts), models_per_seed), len(a) // models_per_seed
    return _difference(observed, resampled, seeds_a, confidence, np.random.default_rng((seed, 1)))


def _calibration_errors(sums: FloatArray, columns: int, images: int) -> FloatArray:
    """The errors ``(rows, columns)`` from the sums of the gaps per column and bin, ``(rows, columns * bins)``."""
    errors: FloatArray = np.abs(sums.reshape(len(sums), columns, -1)).sum(axis=2)
    return errors / (images or np.nan)


def _columns(a: ArrayLike, b: ArrayLike, labels: ArrayLike) -> tuple[IntArray, IntArray, int]:
    """Labels (N,), all predictions as columns (seeds of a + seeds of b, N), and the number of a's seeds."""
    y = checked_indices("labels", labels)
    first, second = (np.atleast_2d(checked_indices(name, x)) for x, name in ((a, "a"), (b, "b")))
    for name, x in (("a", first), ("b", second)):
        if y.ndim != 1 or x.ndim != 2 or x.shape[1:] != y.shape or not len(x):
            raise ArgumentError(f"`{name}` must have shape (N,) or (seeds, N) for `labels` {y.shape}; got {x.shape}")
    return y, np.concatenate([first, second]), len(first)


def _stratum(label: int, predicted: IntArray, units: IntArray | None) -> _Stratum:
    """The distinct joint outcomes of the images of a class, and how many of them each unit has."""
    outcomes, which, repeats = np.unique(predicted, axis=1, return_inverse=True, return_counts=True)
    if units is None or len(distinct := np.unique(units)) == len(units):
        return int(label), outcomes, repeats[None]
    number = np.zeros((len(distinct), len(repeats)), dtype=np.int64)
    np.add.at(number, (np.searchsorted(distinct, units), which.ravel()), 1)
    return int(label), outcomes, number


def _seed_means(values: FloatArray, models: int) -> FloatArray:
    """The means ``(rows, seeds)`` over the models of each seed."""
    means: FloatArray = values if models == 1 else values.reshape(len(values), -1, models).mean(axis=2)
    return means


def _resampled(
    strata: Sequence[_Stratum],
    metrics: Mapping[str, Metric],
    columns: int,
    num_classes: int,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """The metrics of every resample and column, ``(resamples, columns)``, computed in chunks that fit in memory."""
    outcomes = sum(number.shape[1] for _, _, number in strata)
    chunk = max(1, _CHUNK // max(1, columns * num_classes, outcomes))
    parts = []
    for start in range(0, resamples, chunk):
        times = [_draw_units(number, min(chunk, resamples - start), rng) for _, _, number in strata]
        parts.append(_values(strata, times, metrics, columns, num_classes))
    return {name: np.concatenate([part[name] for part in parts]) for name in metrics}


def _draw_units(number: IntArray, rows: int, rng: np.random.Generator) -> IntArray:
    """Draw as many units as there are with replacement ``rows`` times, and count each outcome: ``(rows, U)``."""
    if len(number) == 1:
        return _draw(number[0], rows, rng)
    times: IntArray = _draw(np.ones(len(number), dtype=np.int64), rows, rng) @ number
    return times


def _draw(repeats: IntArray, rows: int, rng: np.random.Generator) -> IntArray:
    """Draw n images with replacement ``rows`` times, and count each outcome: ``(rows, U)``."""
    n, size = int(repeats.sum()), len(repeats)
    if 3 * size < n:
        return rng.multinomial(n, repeats / n, size=rows)
    # Nearly every image has a distinct outcome: drawing images gives the same distribution and is twice as fast.
    images = np.repeat(np.arange(size), repeats)[rng.integers(n, size=(rows, n))]
    return np.bincount((images + size * np.arange(rows)[:, None]).ravel(), minlength=rows * size).reshape(rows, size)


def _values(
    strata: Sequence[_Stratum], times: Sequence[IntArray], metrics: Mapping[str, Metric], columns: int, num_classes: int
) -> dict[str, FloatArray]:
    """The metrics ``(rows, columns)`` if resample r contains outcome u of stratum k ``times[k][r, u]`` times."""
    rows = len(times[0]) if times else 1
    tallies: dict[bytes, Tally] = {}
    for name, metric in metrics.items():
        if metric.merge is not None and len(metric.merge) != num_classes:
            raise ArgumentError(f"metric {name!r} must be of {num_classes} classes; got {len(metric.merge)}")
        size = num_classes if metric.merge is None else max(2, int(metric.merge.max(initial=0)) + 1)
        tallies.setdefault(_key(metric), Tally(*(np.zeros((rows, columns, size)) for _ in range(3))))
    merges = {_key(metric): metric.merge for metric in metrics.values()}
    for (label, outcomes, _), number in zip(strata, times, strict=True):
        classes, sums = _sums(outcomes, number)
        for key, merge in merges.items():
            _add(tallies[key], label, number.sum(axis=1), classes, sums, merge)
    return {name: metric.value(tallies[_key(metric)]) for name, metric in metrics.items()}


def _key(metric: Metric) -> bytes:
    return b"" if metric.merge is None else metric.merge.tobytes()


def _sums(outcomes: IntArray, times: IntArray) -> tuple[IntArray, FloatArray]:
    """The predicted classes ``(m,)``, and the images predicted so per resample and column ``(rows, columns, m)``."""
    classes, where = np.unique(outcomes, return_inverse=True)
    one_hot = where.reshape(outcomes.shape).T[:, :, None] == np.arange(len(classes))
    sums = times.astype(np.float64) @ one_hot.reshape(len(one_hot), -1).astype(np.float64)
    return classes, sums.reshape(len(times), len(outcomes), len(classes))


def _add(t: Tally, label: int, images: IntArray, classes: IntArray, sums: FloatArray, merge: IntArray | None) -> None:
    """Add the images of one label, ``images`` per resample, predicted as ``classes``, to a tally."""
    if merge is not None:
        label = int(merge[label])
        classes, where = np.unique(merge[classes], return_inverse=True)
        sums = sums @ (where[:, None] == np.arange(len(classes))).astype(np.float64)
    t.support[..., label] += images[:, None]
    t.predicted[..., classes] += sums
    t.true_positives[..., label] += sums[..., classes == label].sum(axis=-1)


def _difference(
    observed: FloatArray, resampled: FloatArray, seeds_a: int, confidence: float, rng: np.random.Generator
) -> Bootstrap:
    """The difference of the means over seeds and its interval, from the values of all columns, a's seeds first."""
    a, b = observed[0, :seeds_a], observed[0, seeds_a:]
    paired = len(a) == len(b)
    two_levels = min(len(a), len(b)) >= SEEDS_FOR_TWO_LEVELS
    a_values, b_values = resampled[:, :seeds_a], resampled[:, seeds_a:]
    if two_levels:
        which_a = rng.integers(len(a), size=a_values.shape)
        which_b = which_a if paired else rng.integers(len(b), size=b_values.shape)
        a_values, b_values = (np.take_along_axis(x, w, axis=1) for x, w in ((a_values, which_a), (b_values, which_b)))
    differences = a_values.mean(axis=1) - b_values.mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Bootstrap(
        estimate=float(a.mean() - b.mean()),
        low=float(low),
        high=float(high),
        seed_sd=float(np.std(a - b, ddof=1)) if paired and len(a) > 1 else float("nan"),
        method="images-and-seeds" if two_levels else "images",
        confidence=confidence,
        resamples=len(resampled),
    )
