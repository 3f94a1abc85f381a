"""Class weights and metrics against those of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from counterpoise import ClassCounts, metrics, weights

# Labels and predictions: each pair is one situation of scikit-learn's tests of classification metrics.
BATCHES = {
    "binary": ([0, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0]),
    "all right": ([0, 1, 2, 2], [0, 1, 2, 2]),
    "all wrong": ([0, 0, 1, 1, 2, 2], [1, 2, 2, 0, 0, 1]),
    "several classes": ([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]),
    "a class is never predicted": ([0, 0, 1, 1, 2], [0, 0, 1, 1, 0]),
    "a class is only predicted": ([0, 0, 1, 1], [0, 2, 1, 1]),
    "one label": ([1, 1, 1], [1, 1, 1]),
    "imbalanced": ([0] * 30 + [1] * 4 + [2], [0] * 28 + [1] * 2 + [1] * 3 + [0] + [2]),
}
RANDOM = [
    (np.random.default_rng(s).integers(0, 5, 60), np.random.default_rng(s + 9).integers(0, 5, 60)) for s in (0, 1)
]
every_batch = pytest.mark.parametrize(
    ("labels", "predictions"), [*BATCHES.values(), *RANDOM], ids=[*BATCHES, "random 0", "random 1"]
)


@pytest.fixture
def quiet():
    """Scikit-learn warns of ratios without a denominator; ours returns NaN for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", message="A single label was found")
        yield


@pytest.mark.parametrize("labels", [[0, 0, 1, 0, 0, 2], [0, 1, 2], [0] * 90 + [1] * 9 + [2], [1, 1, 0]])
def test_balanced_class_weights(labels):
    counts = ClassCounts.from_labels(labels)
    wanted = compute_class_weight("balanced", classes=np.unique(labels), y=np.asarray(labels))
    np.testing.assert_allclose(weights.class_weights(counts, "balanced"), wanted)
    np.testing.assert_allclose(
        weights.sample_weights(labels, weights.class_weights(counts, "balanced")),
        compute_sample_weight("balanced", labels),
    )


@pytest.mark.parametrize("given", [{"cat": 1.0, "dog": 2.0}, {"dog": 0.5, "cat": 0.0}])
def test_class_weights_by_name(given):
    names = np.array(["cat", "dog"])
    counts = ClassCounts([3, 1], names=names.tolist())
    wanted = compute_class_weight(given, classes=names, y=np.array(["cat"] * 3 + ["dog"]))
    np.testing.assert_allclose(weights.class_weights(counts, given, normalize=None), wanted)


@every_batch
def test_confusion_matrix(labels, predictions, quiet):
    present = np.unique([*labels, *predictions])
    ours = metrics.confusion_matrix(labels, predictions)
    assert ours[np.ix_(present, present)].tolist() == theirs.confusion_matrix(labels, predictions).tolist()
    size = len(ours)
    assert ours.tolist() == theirs.confusion_matrix(labels, predictions, labels=range(size)).tolist()


@every_batch
def test_accuracy_and_balanced_accuracy(labels, predictions, quiet):
    assert metrics.accuracy(labels, predictions) == pytest.approx(theirs.accuracy_score(labels, predictions))
    assert metrics.balanced_accuracy(labels, predictions) == pytest.approx(
        theirs.balanced_accuracy_score(labels, predictions)
    )


@every_batch
def test_recall_precision_and_f1_of_each_class(labels, predictions, quiet):
    size = max(*labels, *predictions) + 1
    options = {"average": None, "labels": range(size), "zero_division": np.nan}
    recall = metrics.per_class_recall(labels, predictions).estimate
    precision = metrics.per_class_precision(labels, predictions).estimate
    np.testing.assert_allclose(recall, theirs.recall_score(labels, predictions, **options))
    np.testing.assert_allclose(precision, theirs.precision_score(labels, predictions, **options))
    present = np.bincount(labels, minlength=size) > 0
    f1 = metrics.per_class_f1(labels, predictions)
    np.testing.assert_allclose(f1[present], theirs.f1_score(labels, predictions, **options)[present])


@every_batch
def test_macro_f1_over_the_classes_with_labels(labels, predictions, quiet):
    wanted = theirs.f1_score(labels, predictions, average="macro", labels=np.unique(labels), zero_division=0)
    assert metrics.macro_f1(labels, predictions) == pytest.approx(wanted)


ZERO_DIVISION = pytest.mark.parametrize("zero_division", [0, 1, np.nan])


@every_batch
@ZERO_DIVISION
def test_zero_division_of_each_class(labels, predictions, zero_division):
    size = max(*labels, *predictions) + 2  # the last class occurs nowhere
    options = {"average": None, "labels": range(size), "zero_division": zero_division}
    ours = {"num_classes": size, "zero_division": zero_division}
    for rate, score in (
        (metrics.per_class_precision(labels, predictions, **ours).estimate, theirs.precision_score),
        (metrics.per_class_recall(labels, predictions, **ours).estimate, theirs.recall_score),
        (metrics.per_class_f1(labels, predictions, **ours), theirs.f1_score),
    ):
        np.testing.assert_allclose(rate, score(labels, predictions, **options))


@every_batch
@ZERO_DIVISION
@pytest.mark.parametrize("classes", ["union", [0], [0, 1, 2]])
def test_macro_f1_over_given_classes(labels, predictions, classes, zero_division):
    chosen = None if classes == "union" else classes
    wanted = theirs.f1_score(labels, predictions, labels=chosen, average="macro", zero_division=zero_division)
    ours = metrics.macro_f1(labels, predictions, classes=classes, zero_division=zero_division)
    assert ours == pytest.approx(wanted, nan_ok=True)


RANKINGS = {
    "scikit-learn's example": ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]),
    "ties": ([0, 1, 1, 0, 1], [0.5, 0.5, 0.5, 0.1, 0.9]),
    "perfect": ([0, 0, 1], [0.0, 0.1, 0.9]),
    "reversed": ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]),
    "all positive": ([1, 1], [0.2, 0.1]),
}


@pytest.mark.parametrize("name", RANKINGS)
def test_average_precision(name):
    labels, scores = RANKINGS[name]
    wanted = theirs.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(wanted)


def test_average_precision_of_several_labels():
    g = np.random.default_rng(0)
    labels, scores = g.integers(0, 2, (40, 4)), g.normal(size=(40, 4))
    assert metrics.average_precision(labels, scores) == pytest.approx(theirs.average_precision_score(labels, scores))
    np.testing.assert_allclose(
        metrics.average_precision(labels, scores, average=None),
        theirs.average_precision_score(labels, scores, average=None),
    )
