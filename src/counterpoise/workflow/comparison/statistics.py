"""Means over seeds, and bootstrap intervals of differences between strategies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Arm, Difference, Evaluation, Predictions, Spread
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics import (
    METRICS,
    Bootstrap,
    Metric,
    bootstrap_calibration,
    bootstrap_differences,
    group_false_positives,
    group_recall,
)

CALIBRATION = "expected_calibration_error"
Group = Literal["many", "medium", "few"]
GROUPS: tuple[Group, ...] = ("many", "medium", "few")
RARE_GROUPS: tuple[Group, ...] = ("few", "medium")


def _recall_of(group: Group) -> Callable[[Evaluation], float | None]:
    return lambda e: next((g.accuracy for g in e.groups if g.group == group), None)


def _false_positives_on(group: Group) -> Callable[[Evaluation], float | None]:
    """Share of the images of other classes that are predicted as a class of the group."""

    def share(e: Evaluation) -> float | None:
        members = np.array([c.group == group for c in e.classes])
        value = group_false_positives(members).of_confusion(e.confusion)
        return None if math.isnan(value) else value

    return share


SCORES: dict[str, Callable[[Evaluation], float | None]] = {
    "accuracy": lambda e: e.accuracy,
    "balanced_accuracy": lambda e: e.balanced_accuracy,
    "macro_f1": lambda e: e.macro_f1,
    "geometric_mean": lambda e: e.geometric_mean,
    "worst_recall": lambda e: e.worst_recall,
    CALIBRATION: lambda e: e.expected_calibration_error,
    **{group: _recall_of(group) for group in GROUPS},
    **{f"{group}_false_positives": _false_positives_on(group) for group in RARE_GROUPS},
}
"""Metrics of a strategy. Higher is better, except for the calibration error and the false positives.

many, medium, few: mean recall of the group's classes. few_false_positives: images wrongly given to the few-shot
classes, as a share of all images of the other classes; medium_false_positives: the same for medium-shot classes. A
metric of an empty group is None.
"""


def spread(evaluations: Sequence[Evaluation], metric: str) -> Spread:
    """One metric over the seeds: mean, sample standard deviation and each value; undefined values do not count.

    Example:
        >>> from counterpoise.workflow.evaluation import evaluate
        >>> runs = [evaluate(([[1.0, 0.0], [1.0, 0.0]], labels)) for labels in ([0, 0], [0, 1])]
        >>> spread(runs, "accuracy")
        Spread(mean=0.75, sd=0.3535533905932738, values=(1.0, 0.5))
    """
    values = tuple(SCORES[metric](e) for e in evaluations)
    defined = [value for value in values if value is not None]
    return Spread(
        mean=statistics.fmean(defined) if defined else None,
        sd=statistics.stdev(defined) if len(defined) > 1 else None,
        values=values,
    )


def arm_scores(validation: Sequence[Evaluation], test: Sequence[Evaluation]) -> dict[str, dict[str, Spread]]:
    """``scores[split][metric]`` of an arm, for the splits "val" and "test" and all `SCORES`."""
    return {
        split: {metric: spread(evaluations, metric) for metric in SCORES}
        for split, evaluations in (("val", validation), ("test", test))
    }


def best_on_validation(arms: Iterable[Arm], metric: str) -> str | None:
    """The finished strategy with the highest mean on validation, the first of equals; None where none has a value."""
    means = {arm.strategy.name: arm.scores["val"][metric].mean for arm in arms if arm.status == "done"}
    defined = {name: mean for name, mean in means.items() if mean is not None}
    return max(defined, key=lambda name: defined[name]) if defined else None


def accuracy_drops(arms: Iterable[Arm], *, baseline: str, most: float | None) -> dict[str, float]:
    """The strategies whose validation accuracy is more than ``most`` points below the baseline's, with their drops.

    A drop is a share in [0, 1]. Nothing is left out without a limit, or without an accuracy of the baseline.
    """
    if most is None:
        return {}
    means = {arm.strategy.name: arm.scores["val"]["accuracy"].mean for arm in arms if arm.status == "done"}
    reference = means.get(baseline)
    if reference is None:
        return {}
    drops = {name: reference - mean for name, mean in means.items() if mean is not None}
    return {name: drop for name, drop in drops.items() if 100 * drop > most + 1e-9}


def differences(  # noqa: PLR0913  the choices of a comparison and of its bootstrap
    arms: Sequence[Arm],
    predictions: Mapping[str, Mapping[str, Sequence[Predictions]]],
    *,
    baseline: str,
    metric: str = "balanced_accuracy",
    excluded: Collection[str] = (),
    train_counts: ClassCounts,
    units: Mapping[str, int] | None = None,
    folds: int = 1,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Difference]:
    """Differences from the baseline on test in each metric, and from the best strategy on validation in ``metric``.

    The second kind shows which strategies do not differ significantly from the best. Failed strategies are left out;
    without a baseline there are no differences of the first kind.

    Args:
        arms: the strategies with their scores.
        predictions: ``predictions[split][strategy]`` has one `Predictions` per seed, for "val" and "test"; on test one
            per seed and fold, those of a seed one after another.
        baseline: name of the strategy that the others are compared with.
        metric: the metric to choose by on validation.
        excluded: strategies that are not chosen, however good; they are compared all the same.
        train_counts: images per class in the training split; they define the groups.
        units: ``{path: number}`` of validation images that depend on each other, equal for those of one unit, such as
            copies of one image; None where each image is one.
        folds: the number of folds, each with a model of its own.
        resamples: number of bootstrap resamples.
        confidence: level of the intervals.
        seed: seed of the bootstrap.

    Raises:
        ArgumentError: the strategies were not evaluated on the same images; the first that differs is named.
    """
    best = best_on_validation([arm for arm in arms if arm.strategy.name not in excluded], metric)
    found = []
    for split, against, metrics in (("test", baseline, list(SCORES)), ("val", best, [metric])):
        runs = predictions[split]
        if against is None or against not in runs:
            continue
        for name in (arm.strategy.name for arm in arms if arm.strategy.name in runs and arm.strategy.name != against):
            results = paired_differences(
                runs[name],
                runs[against],
                metrics=metrics,
                train_counts=train_counts,
                units=units if split == "val" else None,
                models_per_seed=1 if split == "val" else folds,
                resamples=resamples,
                confidence=confidence,
                seed=seed,
            )
            found += [_named(result, name, against, split, key) for key, result in results.items()]
    return found


def paired_differences(  # noqa: PLR0913  the data and the choices of the bootstrap
    arm: Sequence[Predictions],
    baseline: Sequence[Predictions],
    *,
    metrics: Sequence[str],
    train_counts: ClassCounts,
    units: Mapping[str, int] | None = None,
    models_per_seed: int = 1,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Bootstrap]:
    """Differences of the seed means of two strategies, on the same resamples for all metrics; images pair by path.

    Resampling changes the recall of a class with few images very little, so that a bootstrap interval alone is too
    narrow. For means of recalls the interval is therefore widened as if each class had two more images (Agresti and
    Min, Statistics in Medicine 2005); from about a hundred images per class on, the widening is negligible. Other
    metrics whose resamples are all equal although the predictions differ have no interval (NaN). ``units`` and
    ``models_per_seed`` are those of `differences` and `counterpoise.metrics.bootstrap_differences`.

    Raises:
        ArgumentError: classes, labels or paths of the two differ; the first path that does is named.

    Example:
        >>> truth, names = np.repeat([0, 1], 50), np.array(["a", "b"])
        >>> paths = np.arange(100).astype(str)
        >>> good, bad = (Predictions(np.eye(2)[predicted], truth, paths, names) for predicted in (truth, 0 * truth))
        >>> counts = ClassCounts([500, 10], ["a", "b"])
        >>> result = paired_differences([good], [bad], metrics=["balanced_accuracy", "few"], train_counts=counts)
        >>> result["balanced_accuracy"].estimate, result["few"].estimate
        (0.5, 1.0)
    """
    first = arm[0]
    logits = [_aligned(p, first) for p in (*arm, *baseline)]
    predicted = [z.argmax(axis=1) if len(z) else first.labels for z in logits]
    ours, theirs = np.stack(predicted[: len(arm)]), np.stack(predicted[len(arm) :])
    unit_of = None if units is None else np.array([units[path] for path in first.paths.tolist()])
    options: dict[str, Any] = {"models_per_seed": models_per_seed, "resamples": resamples, "confidence": confidence}
    options["seed"] = seed
    results = bootstrap_differences(
        ours,
        theirs,
        first.labels,
        metrics=_tally_metrics([name for name in metrics if name != CALIBRATION], train_counts, first),
        num_classes=len(first.classes),
        units=unit_of,
        **options,
    )
    same = all((row == ours[0]).all() for row in (*ours, *theirs))
    gain = (ours == first.labels).mean(0) - (theirs == first.labels).mean(0)
    groups = _members(train_counts, first)
    for name, result in results.items():
        if name in groups:
            results[name] = _widened(result, gain, first.labels, groups[name], unit_of)
        elif not same:
            results[name] = _with_width(result)
    if CALIBRATION in metrics:
        results[CALIBRATION] = bootstrap_calibration(logits[: len(arm)], logits[len(arm) :], first.labels, **options)
    return {name: results[name] for name in metrics}


def _widened(
    result: Bootstrap,
    gain: NDArray[np.float64],
    labels: NDArray[np.int64],
    inside: NDArray[np.bool_],
    units: NDArray[np.int64] | None = None,
) -> Bootstrap:
    """Widen an interval by the variance that Agresti and Min's half observation per cell adds to the observed one.

    An observation is an image, or the mean over the images of a unit.
    """
    variances = []
    for c in np.flatnonzero(inside):
        d = gain[labels == c]
        if units is not None:
            _, unit = np.unique(units[labels == c], return_inverse=True)
            d = np.bincount(unit, weights=d) / np.bincount(unit)
        if n := len(d):
            smoothed = ((d @ d) + 1) / (n + 2) - (d.sum() / (n + 2)) ** 2
            variances.append(max(0.0, (smoothed - d.var()) / n))
    if not variances:
        return result
    more = NormalDist().inv_cdf(0.5 + result.confidence / 2) ** 2 * sum(variances) / len(variances) ** 2
    down, up = max(0.0, result.estimate - result.low), max(0.0, result.high - result.estimate)
    low, high = result.estimate - math.sqrt(down**2 + more), result.estimate + math.sqrt(up**2 + more)
    return replace(result, low=max(low, -1.0), high=min(high, 1.0))


def _with_width(result: Bootstrap) -> Bootstrap:
    return result if result.high - result.low > 1e-12 else replace(result, low=math.nan, high=math.nan)


def _members(train_counts: ClassCounts, predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
    """For each metric that is a mean of recalls: which classes of the predictions belong to it."""
    names = [str(name) for name in predictions.classes]
    inside = {g: {train_counts.names[i] for i in ids} for g, ids in train_counts.groups().items()}
    members = {"balanced_accuracy": np.ones(len(names), dtype=bool)}
    for group in GROUPS:
        members[group] = np.array([name in inside[group] for name in names])
    return members


def _tally_metrics(metrics: Sequence[str], train_counts: ClassCounts, predictions: Predictions) -> dict[str, Metric]:
    names = [str(name) for name in predictions.classes]
    if set(names) != set(train_counts.names):
        raise ArgumentError(
            f"`train_counts` has the classes {list(train_counts.names[:10])}, but the predictions have {names[:10]}; "
            "give the counts of the training split of the same dataset"
        )
    inside = _members(train_counts, predictions)
    available: dict[str, Metric] = {
        **METRICS,
        **{group: group_recall(inside[group]) for group in GROUPS},
        **{f"{group}_false_positives": group_false_positives(inside[group]) for group in RARE_GROUPS},
    }
    return {metric: available[metric] for metric in metrics}


def _aligned(predictions: Predictions, to: Predictions) -> NDArray[np.floating]:
    """The logits, in the order of the images of ``to``."""
    if predictions.classes.tolist() != to.classes.tolist():
        raise ArgumentError(
            f"two runs have different classes, {predictions.classes.tolist()[:10]} and {to.classes.tolist()[:10]}; "
            "compare runs of one dataset"
        )
    logits, labels = predictions.logits, predictions.labels
    if not np.array_equal(predictions.paths, to.paths):
        row = {path: i for i, path in enumerate(predictions.paths.tolist())}
        odd = sorted(set(row) ^ set(to.paths.tolist()))
        if odd or len(row) != len(predictions.paths) or len(row) != len(to.paths):
            about = f"{odd[0]!r} is in only one of them" if odd else "a path occurs twice"
            raise ArgumentError(f"two runs were not evaluated on the same images and cannot be paired: {about}")
        order = np.array([row[path] for path in to.paths.tolist()])
        logits, labels = logits[order], labels[order]
    if not np.array_equal(labels, to.labels):
        i = int(np.argmax(labels != to.labels))
        raise ArgumentError(f"two runs have different labels for {str(to.paths[i])!r}, {labels[i]} and {to.labels[i]}")
    return logits


def _named(result: Bootstrap, strategy: str, baseline: str, split: str, metric: str) -> Difference:
    estimate, low, high, seed_sd = (
        None if math.isnan(value) else value for value in (result.estimate, result.low, result.high, result.seed_sd)
    )
    return Difference(
        strategy=strategy,
        baseline=baseline,
        split=split,
        metric=metric,
        estimate=estimate,
        low=low,
        high=high,
        seed_sd=seed_sd,
        method=result.method,
        confidence=result.confidence,
        resamples=result.resamples,
    )
