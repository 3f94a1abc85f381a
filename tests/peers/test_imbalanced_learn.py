"""Metrics and resampled class counts against those of imbalanced-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from tests.peers.test_scikit_learn import every_batch

from counterpoise import metrics
from counterpoise.samplers import ResampleSampler

theirs = pytest.importorskip("imblearn.metrics")
over_sampling = pytest.importorskip("imblearn.over_sampling")
under_sampling = pytest.importorskip("imblearn.under_sampling")


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@every_batch
def test_geometric_mean(labels, predictions, quiet):
    wanted = theirs.geometric_mean_score(labels, predictions, labels=np.unique(labels))
    assert metrics.geometric_mean(labels, predictions) == pytest.approx(wanted, abs=1e-12)


@every_batch
def test_sensitivity_and_specificity_of_each_class(labels, predictions, quiet):
    size = max(*labels, *predictions) + 1
    every = np.arange(size)
    present = np.bincount(labels, minlength=size) > 0
    sensitivity = theirs.sensitivity_score(labels, predictions, labels=every, average=None)
    np.testing.assert_allclose(metrics.per_class_recall(labels, predictions).estimate[present], sensitivity[present])
    specificity = theirs.specificity_score(labels, predictions, labels=every, average=None)
    others = np.bincount(labels, minlength=size) < len(labels)
    false_positives = [
        metrics.group_false_positives(every == c).of_confusion(metrics.confusion_matrix(labels, predictions))
        for c in every[others]
    ]
    np.testing.assert_allclose(1 - np.array(false_positives), specificity[others])


LABELS = {
    "two classes": [0] * 12 + [1] * 5,
    "three classes": [0] * 20 + [1] * 7 + [2] * 3,
    "equal": [0] * 4 + [1] * 4,
    "names": ["cat"] * 9 + ["dog"] * 2 + ["emu"] * 4,
}
OVER = ["minority", "not minority", "not majority", "all", "auto"]


def counts_of_peer(sampler, labels, strategy):
    x = np.arange(len(labels))[:, None]
    _, resampled = sampler(sampling_strategy=strategy, random_state=0).fit_resample(x, np.asarray(labels))
    names, counts = np.unique(resampled, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def counts_of_ours(labels, strategy):
    drawn = np.asarray(labels)[list(ResampleSampler(labels, sampling_strategy=strategy))]
    names, counts = np.unique(drawn, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_over_and_under(labels, quiet):
    assert counts_of_ours(labels, "over") == counts_of_peer(over_sampling.RandomOverSampler, labels, "auto")
    assert counts_of_ours(labels, "under") == counts_of_peer(under_sampling.RandomUnderSampler, labels, "auto")


@pytest.mark.parametrize("ratio", [0.5, 0.75, 1.0])
def test_a_ratio_for_two_classes(ratio, quiet):
    labels = LABELS["two classes"]
    assert counts_of_ours(labels, ratio) == counts_of_peer(over_sampling.RandomOverSampler, labels, ratio)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("two classes", {1: 9}), ("three classes", {1: 9, 2: 5}), ("names", {"dog": 6, "emu": 4})],
)
def test_counts_by_class(name, wanted, quiet):
    labels = LABELS[name]
    assert counts_of_ours(labels, wanted) == counts_of_peer(over_sampling.RandomOverSampler, labels, wanted)


@pytest.mark.parametrize("wanted", [{0: 6}, {0: 5, 1: 2}])
def test_fewer_by_class(wanted, quiet):
    labels = LABELS["three classes"]
    assert counts_of_ours(labels, wanted) == counts_of_peer(under_sampling.RandomUnderSampler, labels, wanted)


def test_oversampling_keeps_every_item():
    """As imbalanced-learn: the items themselves, and repetitions of the rare ones."""
    labels = LABELS["three classes"]
    assert set(ResampleSampler(labels, sampling_strategy="over")) == set(range(len(labels)))


def test_undersampling_repeats_no_item():
    drawn = list(ResampleSampler(LABELS["three classes"], sampling_strategy="under"))
    assert len(set(drawn)) == len(drawn)
