"""Metrics of hard predictions against scikit-learn and SciPy, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, gmean
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from counterpoise import metrics
from counterpoise.core.errors import ArgumentError, ArgumentTypeError


def draw(seed, n=300, c=7, absent=()):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.setdiff1d(np.arange(c), absent), size=n)
    predictions = np.where(rng.random(n) < 0.6, labels, rng.integers(c, size=n))
    return labels, predictions


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [(), (2,), (0, 6)], ids=["all", "one-absent", "ends-absent"])
def test_averages_are_those_of_scikit_learn_over_the_classes_that_occur(seed, absent):
    labels, predictions = draw(seed, absent=absent)
    present = np.unique(labels)
    recalls = recall_score(labels, predictions, labels=present, average=None)
    expected = {
        "accuracy": accuracy_score(labels, predictions),
        "balanced_accuracy": recalls.mean(),
        "macro_f1": f1_score(labels, predictions, labels=present, average="macro"),
        "geometric_mean": gmean(recalls),
    }
    if not absent:
        assert expected["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predictions), abs=1e-12)
    got = {name: getattr(metrics, name)(labels, predictions) for name in expected}
    assert got == pytest.approx(expected, abs=1e-12)
    counted = metrics.tally(labels, predictions, num_classes=8)  # classes without images do not count
    assert float(metrics.METRICS["worst_recall"].value(counted)) == pytest.approx(min(recalls), abs=1e-12)
    assert np.isnan(metrics.METRICS["worst_recall"].value(metrics.tally([], [], num_classes=3)))
    assert np.array_equal(metrics.confusion_matrix(labels, predictions), confusion_matrix(labels, predictions))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_rates_per_class_with_intervals_are_those_of_scipy(confidence):
    labels, predictions = draw(1, n=40, absent=(2,))
    predictions[predictions == 3] = 4  # class 3 is never predicted
    recall = metrics.per_class_recall(labels, predictions, num_classes=8, confidence=confidence)
    precision = metrics.per_class_precision(labels, predictions, num_classes=8, confidence=confidence)
    for c in range(8):
        hits = int(((labels == c) & (predictions == c)).sum())
        for rates, trials in ((recall, (labels == c).sum()), (precision, (predictions == c).sum())):
            got = [float(x[c]) for x in rates]
            if not trials:
                assert np.isnan(got).all()
                continue
            ci = binomtest(hits, int(trials)).proportion_ci(confidence, method="wilson")
            assert got == pytest.approx([hits / trials, ci.low, ci.high], abs=1e-12)
    kept = [0, 1, 4, 5, 6]
    wanted = precision_score(labels, predictions, labels=kept, average=None)
    assert precision.estimate[kept] == pytest.approx(wanted, abs=1e-12)
    f1 = metrics.per_class_f1(labels, predictions, num_classes=8)
    assert f1[[0, 1, 3]] == pytest.approx(f1_score(labels, predictions, labels=[0, 1, 3], average=None), abs=1e-12)
    assert np.isnan(f1[[2, 7]]).all()


@pytest.mark.fault("C14")
def test_a_class_that_is_only_predicted_has_no_recall():
    # torchmetrics 1.9 gives 0.5 here: it counts class 2 as recall 0.
    assert metrics.balanced_accuracy([0, 0, 1, 1], [0, 0, 1, 2]) == 0.75
    assert metrics.geometric_mean([0, 0, 1, 1], [0, 0, 2, 2]) == 0.0
    assert metrics.macro_f1([0, 0, 1, 1], [0, 0, 2, 2]) == 0.5
    assert np.isnan(metrics.balanced_accuracy([], []))
    assert np.isnan(metrics.accuracy([], []))


def test_geometric_mean_of_a_thousand_classes_does_not_underflow():
    labels = np.repeat(np.arange(1000), 10)
    predictions = np.where(np.arange(10000) % 10 < 3, labels, (labels + 1) % 1000)
    assert metrics.geometric_mean(labels, predictions) == pytest.approx(0.3, abs=1e-12)


def test_shot_accuracy_by_hand():
    labels, predictions = [0, 0, 1, 1, 2, 2, 3, 4], [0, 0, 1, 0, 2, 2, 0, 4]
    counts = [101, 100, 20, 19, 0]
    assert metrics.shot_accuracy(labels, predictions, counts) == {"many": 1.0, "medium": 0.75, "few": 0.5}
    moved = metrics.shot_accuracy(labels, predictions, counts, many=1000, few=0)
    assert np.isnan(moved["many"])
    assert np.isnan(moved["few"])
    assert moved["medium"] == metrics.balanced_accuracy(labels, predictions)
    assert np.isnan(metrics.shot_accuracy([0], [0], counts)["few"])  # the group has classes, but no images here


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40), st.permutations(range(5)))
def test_renaming_the_classes_and_shuffling_the_rows_change_nothing(rows, order):
    labels, predictions = np.array(rows).T
    new = np.array(order)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "geometric_mean"):
        metric = getattr(metrics, name)
        value = metric(labels, predictions)
        assert value == pytest.approx(metric(new[labels], new[predictions]), abs=1e-12)
        assert value == pytest.approx(metric(np.tile(labels, 3)[::-1], np.tile(predictions, 3)[::-1]), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(0.01, 0.9999))
def test_wilson_holds_its_estimate_and_stays_inside_0_and_1(n, share, confidence):
    k = round(share * n)
    rate = metrics.wilson_interval(k, n, confidence=confidence)
    assert 0.0 <= rate.low <= k / n + 1e-15
    assert k / n - 1e-15 <= rate.high <= 1.0
    assert (rate.low == 0.0) == (k == 0)
    assert (rate.high == 1.0) == (k == n)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((80, 5)) < 0.2).astype(int)
    labels[0] = 1
    scores = rng.normal(size=(80, 5)).round(seed % 3)  # rounding makes ties
    wanted = average_precision_score(labels, scores, average=None)
    assert metrics.average_precision(labels, scores, average=None) == pytest.approx(wanted, abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(wanted.mean(), abs=1e-12)
    assert metrics.average_precision(labels[:, 0], scores[:, 0]) == pytest.approx(wanted[0], abs=1e-12)
    indices = rng.integers(4, size=80)  # class 4 does not occur
    per_class = metrics.average_precision(indices, scores, average=None)
    assert np.isnan(per_class[4])
    one_hot = average_precision_score(np.eye(5)[indices][:, :4], scores[:, :4], average="macro")
    assert metrics.average_precision(indices, scores) == pytest.approx(one_hot, abs=1e-12)


def test_wrong_arguments_are_named():
    with pytest.raises(ArgumentTypeError, match=r"`labels` must be class indices.*float64"):
        metrics.balanced_accuracy([0.0, 1.0], [0, 1])
    with pytest.raises(ArgumentTypeError, match=r"`predictions` must be class indices.*<U1"):
        metrics.macro_f1([0, 1], ["a", "b"])
    with pytest.raises(ArgumentError, match=r"`labels` must be at least 0; row 1 is -100"):
        metrics.accuracy([0, -100], [0, 1])
    with pytest.raises(ArgumentError, match=r"shape \(N,\); got \(2,\) and \(3,\)"):
        metrics.accuracy([0, 1], [0, 1, 1])
    with pytest.raises(ArgumentError, match="`num_classes` must be at least 6, as class 5 occurs; got 2"):
        metrics.per_class_recall([0, 5], [0, 1], num_classes=2)
    with pytest.raises(ArgumentError, match="`confidence` must be above 0 and below 1"):
        metrics.per_class_recall([0], [0], confidence=1.0)
    with pytest.raises(ArgumentError, match="element 1 is 5 of 4"):
        metrics.wilson_interval([1, 5], [4, 4])
    with pytest.raises(ArgumentError, match="row 1 has NaN"):
        metrics.average_precision([0, 1], [0.1, np.nan])
    with pytest.raises(ArgumentError, match="`labels` must be 0 or 1"):
        metrics.average_precision([0, 2], [0.1, 0.3])
    with pytest.raises(ArgumentError, match=r"`labels` must have the shape of `scores`, \(2,\), .*got \(3,\)"):
        metrics.average_precision([0, 1, 1], [0.1, 0.3])


@pytest.mark.parametrize(
    ("metric", "instead"),
    [
        (metrics.macro_f1, "pass `classes=`"),
        (metrics.geometric_mean, "pass `classes=`"),
        (metrics.per_class_recall, "pass `"),
        (metrics.confusion_matrix, "pass `num_classes=`"),
    ],
)
def test_the_labels_of_scikit_learn_are_the_classes_here(metric, instead):
    with pytest.raises(
        TypeError, match=f"`labels` of {metric.__name__} are the true classes, given first; .*{instead}"
    ):
        metric([0, 1], [0, 1], labels=[0, 1])
    np.testing.assert_array_equal(metric(labels=[0, 1], predictions=[0, 1]), metric([0, 1], [0, 1]))
