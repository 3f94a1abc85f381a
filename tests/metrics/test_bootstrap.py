"""The bootstrap against drawing images one by one, a closed form, and its laws."""

from __future__ import annotations

import time

import numpy as np
import pytest

from counterpoise import metrics
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics import (
    METRICS,
    bootstrap_differences,
    confusion_matrix,
    group_false_positives,
    group_recall,
    paired_bootstrap,
    tally,
)

FEW = np.array([False, False, False, True, True])
ALL = {**METRICS, "few": group_recall(FEW), "few_false_positives": group_false_positives(FEW)}


def draw(seed=0, seeds=1, sizes=(120, 80, 40, 20, 9), quality=(0.7, 0.6)):
    """Labels, and the predictions of two arms that err on the same hard images."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    hard = rng.random(len(labels))
    arms = [
        np.stack(
            [
                np.where(hard + rng.normal(0, 0.1, len(labels)) < q, labels, rng.integers(len(sizes), size=len(labels)))
                for _ in range(seeds)
            ]
        )
        for q in quality
    ]
    return arms[0], arms[1], labels


def by_images(a, b, labels, metric, resamples, seed=0):
    """The slow way: draw images within each class, compute the metric from scratch."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    out = []
    for _ in range(resamples):
        i = np.concatenate([rng.choice(g, len(g)) for g in groups])
        means = [np.mean([metric(labels[i], said[i]) for said in arm]) for arm in (a, b)]
        out.append(means[0] - means[1])
    return np.array(out)


def few_false_positives(labels, said):
    return (FEW[said] & ~FEW[labels]).sum() / (~FEW[labels]).sum()


SLOW = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "geometric_mean": metrics.geometric_mean,
    "worst_recall": lambda y, p: np.nanmin(metrics.per_class_recall(y, p).estimate),
    "few": lambda y, p: metrics.balanced_accuracy(y[y > 2], p[y > 2]),
    "few_false_positives": few_false_positives,
}


@pytest.mark.parametrize("name", list(ALL))
def test_the_distribution_is_that_of_drawing_images(name):
    a, b, labels = draw(seeds=2)
    slow = by_images(a, b, labels, SLOW[name], resamples=600)
    fast = bootstrap_differences(a, b, labels, metrics={name: ALL[name]}, resamples=4000)[name]
    observed = np.mean([SLOW[name](labels, p) for p in a]) - np.mean([SLOW[name](labels, p) for p in b])
    assert fast.estimate == pytest.approx(observed, abs=1e-12)
    # 600 draws know the ends of the interval to about 0.13 of a standard deviation (one sigma).
    assert [fast.low, fast.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.45 * slow.std())


@pytest.mark.parametrize("hard", [(0.5, 0.5), (0.97, 0.02)], ids=["every-outcome-its-own", "few-outcomes"])
def test_the_interval_of_balanced_accuracy_is_the_normal_one_for_many_images(hard):
    """Var(difference) = mean over classes of Var(hit_a - hit_b) / n_c / C: exact for a stratified bootstrap."""
    rng = np.random.default_rng(3)
    sizes = np.array([4000, 1000, 3000])
    labels = np.repeat(np.arange(3), sizes)
    a = np.where(rng.random(8000) < hard[0], labels, (labels + 1) % 3)
    b = np.where(rng.random(8000) < hard[1], labels, (labels + 2) % 3)
    d = (a == labels) * 1.0 - (b == labels)
    sd = np.sqrt(sum(d[labels == c].var() / n for c, n in enumerate(sizes))) / 3
    result = paired_bootstrap(a, b, labels, resamples=8000)
    wanted = result.estimate + np.array([-1.96, 1.96]) * sd
    assert [result.low, result.high] == pytest.approx(wanted, abs=0.1 * sd)


def test_both_ways_of_drawing_outcomes_have_the_multinomial_moments():
    from counterpoise.metrics.bootstrap import _draw

    for repeats in (np.array([50, 30, 20]), np.array([2, 1, 1, 1, 3])):
        n, p = repeats.sum(), repeats / repeats.sum()
        drawn = _draw(repeats, 40_000, np.random.default_rng(0))
        assert (drawn.sum(axis=1) == n).all()
        assert drawn.mean(axis=0) == pytest.approx(n * p, rel=0.02)
        assert np.cov(drawn.T) == pytest.approx(n * (np.diag(p) - np.outer(p, p)), abs=0.03 * n * p.max())


def test_pairing_images_across_seeds_and_arms_matters():
    """Seeds that agree are not more images: three copies of a seed have the interval of one."""
    a, b, labels = draw()
    one = paired_bootstrap(a, b, labels)
    three = paired_bootstrap(np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0), labels)
    assert [three.estimate, three.low, three.high] == pytest.approx([one.estimate, one.low, one.high], abs=1e-12)
    assert three.seed_sd == 0.0
    same = paired_bootstrap(a, a, labels)
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)


def test_swapping_the_arms_turns_the_sign_and_the_seed_decides():
    a, b, labels = draw(seeds=2)
    there, back = paired_bootstrap(a, b, labels), paired_bootstrap(b, a, labels)
    assert there.estimate == -back.estimate
    assert [there.low, there.high] == pytest.approx([-back.high, -back.low], abs=0.01)
    assert paired_bootstrap(a, b, labels) == there
    assert paired_bootstrap(a, b, labels, seed=1) != there
    value = metrics.balanced_accuracy
    paired = [value(labels, x) - value(labels, y) for x, y in zip(a, b, strict=True)]
    assert there.seed_sd == pytest.approx(np.std(paired, ddof=1))


def test_more_confidence_is_a_wider_interval_around_the_same_estimate():
    a, b, labels = draw()
    wide, narrow = (paired_bootstrap(a, b, labels, confidence=c) for c in (0.99, 0.5))
    assert wide.low < narrow.low < wide.estimate == narrow.estimate < narrow.high < wide.high


def test_from_five_seeds_on_the_seeds_are_resampled_too():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000)
    # Seeds differ far more than images do: each seed has its own share of hits.
    arm = [
        np.stack([np.where(rng.random(4000) < q, labels, 1 - labels) for q in shares])
        for shares in ((0.5, 0.6, 0.7, 0.8, 0.9, 0.95), (0.5, 0.5, 0.5, 0.5, 0.5, 0.5))
    ]
    four = paired_bootstrap(arm[0][:4], arm[1][:4], labels)
    six = paired_bootstrap(arm[0], arm[1], labels)
    assert (four.method, six.method) == ("images", "images-and-seeds")
    per_seed = (arm[0] == labels).mean(1) - (arm[1] == labels).mean(1)
    assert six.estimate == pytest.approx(per_seed.mean())
    # A bootstrap of k values has the standard deviation sd(ddof=0) / sqrt(k); images add little.
    width = 2 * 1.96 * np.std(per_seed) / np.sqrt(6)
    assert six.high - six.low == pytest.approx(width, rel=0.12)
    assert four.high - four.low < 0.3 * width


def test_seeds_stay_paired_between_the_arms():
    """A seed that is lucky for both arms says nothing about their difference."""
    rng = np.random.default_rng(0)
    labels, luck = np.repeat([0, 1], 2000), rng.random(4000)
    shares = (0.5, 0.6, 0.7, 0.8, 0.9)
    a, b = (np.stack([np.where(luck < q + gain, labels, 1 - labels) for q in shares]) for gain in (0.05, 0.0))
    result = paired_bootstrap(a, b, labels)
    assert result.method == "images-and-seeds"
    assert 0.035 < result.low < result.estimate < result.high < 0.065


def test_what_is_not_defined_stays_undefined():
    a, b, labels = draw()
    nobody, everybody = np.zeros(5, bool), np.ones(5, bool)
    for metric in (group_recall(nobody), group_false_positives(nobody), group_false_positives(everybody)):
        result = paired_bootstrap(a, b, labels, metric=metric)
        assert np.isnan([result.estimate, result.low, result.high, result.seed_sd]).all()
    assert np.isnan(paired_bootstrap([], [], []).estimate)
    absent, plain = paired_bootstrap(a, b, labels, num_classes=9), paired_bootstrap(a, b, labels)
    assert [absent.low, absent.high] == pytest.approx([plain.low, plain.high], abs=1e-12)


def test_chunks_cover_all_resamples(monkeypatch):
    a, b, labels = draw()
    whole = paired_bootstrap(a, b, labels, resamples=1000)
    monkeypatch.setattr("counterpoise.metrics.bootstrap._CHUNK", 300)
    chunked = paired_bootstrap(a, b, labels, resamples=1000)
    assert chunked.estimate == whole.estimate
    assert chunked != whole
    assert [chunked.low, chunked.high] == pytest.approx([whole.low, whole.high], abs=0.02)


def test_ten_thousand_images_take_little_time():
    a, b, labels = draw(seeds=2, sizes=(1000,) * 10)
    few = np.arange(10) > 6
    wanted = {**METRICS, "few": group_recall(few), "few_false_positives": group_false_positives(few)}
    start = time.perf_counter()
    bootstrap_differences(a, b, labels, metrics=wanted)
    assert time.perf_counter() - start < 5  # 0.3 s alone on one core; drawing images one by one takes minutes


def test_wrong_arguments_are_named():
    with pytest.raises(ArgumentError, match=r"`metric` must be one of \['accuracy', .*got 'f1'"):
        paired_bootstrap([0], [0], [0], metric="f1")
    with pytest.raises(ArgumentError, match=r"`b` must have shape \(N,\) or \(seeds, N\).*got \(1, 3\)"):
        paired_bootstrap([0, 1], [0, 1, 1], [0, 1])
    with pytest.raises(ArgumentError, match="`resamples` must be at least 1; got 0"):
        paired_bootstrap([0], [0], [0], resamples=0)
    with pytest.raises(ArgumentError, match="must be of 2 classes; got 5"):
        paired_bootstrap([0, 1], [0, 1], [0, 1], metric=group_false_positives(FEW))
    with pytest.raises(ArgumentError, match="`members` must be booleans"):
        group_recall([0, 1])


@pytest.mark.parametrize("name", ALL)
def test_a_metric_of_a_confusion_matrix_is_that_of_the_images(name):
    rng = np.random.default_rng(3)
    labels, predictions = rng.integers(0, len(FEW), (2, 200))
    metric = ALL[name]
    a, b = (values if metric.merge is None else metric.merge[values] for values in (labels, predictions))
    expected = float(metric.value(tally(a, b, num_classes=2 if metric.merge is not None else len(FEW))))
    dense = confusion_matrix(labels, predictions, num_classes=len(FEW))
    assert metric.of_confusion(dense) == metric.of_confusion(dense.tolist()) == expected
    assert metric.of_confusion(ConfusionMatrix.from_dense(dense)) == expected
