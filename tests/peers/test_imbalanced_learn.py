"""Metrics and resampled class counts against those of imbalanced-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from tests.peers.test_scikit_learn import every_batch

from counterpoise import metrics
from counterpoise.core.errors import CounterpoiseError
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


@every_batch
@pytest.mark.parametrize("correction", [0.0, 0.001, 0.5])
def test_geometric_mean_over_all_labels_with_a_correction(labels, predictions, correction, quiet):
    wanted = theirs.geometric_mean_score(labels, predictions, correction=correction)
    ours = metrics.geometric_mean(labels, predictions, classes="union", correction=correction)
    assert ours == pytest.approx(wanted, abs=1e-12)


LABELS = {
    "two classes": [0] * 12 + [1] * 5,
    "three classes": [0] * 20 + [1] * 7 + [2] * 3,
    "equal": [0] * 4 + [1] * 4,
    "two of the smallest": [0] * 9 + [1] * 2 + [2] * 2,
    "names": ["cat"] * 9 + ["dog"] * 2 + ["emu"] * 4,
}
SAMPLERS = {"over": over_sampling.RandomOverSampler, "under": under_sampling.RandomUnderSampler}
every_sampler = pytest.mark.parametrize("kind", SAMPLERS)
every_labels = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)


def counts_of_peer(kind, labels, strategy):
    x = np.arange(len(labels))[:, None]
    _, resampled = SAMPLERS[kind](sampling_strategy=strategy, random_state=0).fit_resample(x, np.asarray(labels))
    names, counts = np.unique(resampled, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def counts_of_ours(kind, labels, strategy):
    sampler = ResampleSampler(labels, sampling_strategy=strategy, sampling_type=kind)
    names, counts = np.unique(np.asarray(labels)[list(sampler)], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@every_labels
@every_sampler
@pytest.mark.parametrize("strategy", ["minority", "not minority", "not majority", "majority", "all", "auto"])
def test_strategies_by_name(kind, labels, strategy, quiet):
    if strategy == {"over": "majority", "under": "minority"}[kind]:
        with pytest.raises(ValueError):
            counts_of_peer(kind, labels, strategy)
        with pytest.raises(CounterpoiseError, match="`sampling_strategy="):
            counts_of_ours(kind, labels, strategy)
    else:
        assert counts_of_ours(kind, labels, strategy) == counts_of_peer(kind, labels, strategy)


@every_labels
@every_sampler
def test_the_short_names_are_auto(kind, labels, quiet):
    assert counts_of_ours(None, labels, kind) == counts_of_peer(kind, labels, "auto")


@every_sampler
@pytest.mark.parametrize("ratio", [0.5, 0.75, 1.0])
def test_a_ratio_for_two_classes(kind, ratio, quiet):
    labels = LABELS["two classes"]
    assert counts_of_ours(kind, labels, ratio) == counts_of_peer(kind, labels, ratio)


@every_sampler
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("three classes", 0.5),  # a ratio needs two classes
        ("two classes", 1.5),
        ("two classes", 0.0),
        ("two classes", "unknown"),
        ("two classes", {7: 3}),
        ("two classes", {0: -1}),
    ],
)
def test_what_imbalanced_learn_refuses_is_refused(kind, name, strategy, quiet):
    with pytest.raises(ValueError):
        counts_of_peer(kind, LABELS[name], strategy)
    with pytest.raises(CounterpoiseError, match="`sampling_strategy"):
        counts_of_ours(kind, LABELS[name], strategy)


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("over", "two classes", {1: 9}),
        ("over", "three classes", {1: 9, 2: 5}),
        ("over", "names", {"dog": 6, "emu": 4}),
        ("under", "three classes", {0: 6}),
        ("under", "three classes", {0: 5, 1: 2}),
    ],
)
@pytest.mark.parametrize("function", [False, True])
def test_counts_by_class(kind, name, wanted, function, quiet):
    strategy = (lambda labels: wanted) if function else wanted
    labels = LABELS[name]
    assert counts_of_ours(kind, labels, strategy) == counts_of_peer(kind, labels, strategy)


@pytest.mark.parametrize(("kind", "wanted"), [("over", {0: 3}), ("under", {1: 30})])
def test_oversampling_does_not_remove_and_undersampling_does_not_add(kind, wanted, quiet):
    labels = LABELS["three classes"]
    with pytest.raises(ValueError):
        counts_of_peer(kind, labels, wanted)
    with pytest.raises(CounterpoiseError, match="`sampling_strategy"):
        counts_of_ours(kind, labels, wanted)


def test_oversampling_keeps_every_item():
    """As imbalanced-learn: the items themselves, and repetitions of the rare ones."""
    labels = LABELS["three classes"]
    assert set(ResampleSampler(labels, sampling_strategy="over")) == set(range(len(labels)))


def test_undersampling_repeats_no_item():
    drawn = list(ResampleSampler(LABELS["three classes"], sampling_strategy="under"))
    assert len(set(drawn)) == len(drawn)
