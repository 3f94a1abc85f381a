"""`zero_division`, `classes` and `correction`, with scikit-learn and imbalanced-learn as oracles."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.metrics import geometric_mean_score
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, precision_score, recall_score

from counterpoise import metrics
from counterpoise.core.errors import ArgumentError, ArgumentTypeError

C = 6
ROWS = st.lists(st.tuples(st.integers(0, C - 2), st.integers(0, C - 2)), min_size=1, max_size=12)
SUBSET = st.lists(st.integers(0, C - 1), min_size=1, max_size=C, unique=True)
VALUES = st.sampled_from([0, 1, 0.0, 1.0, math.nan])


def equal(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12, equal_nan=True)


@settings(max_examples=150, deadline=None)
@given(ROWS, VALUES)
def test_the_values_per_class_are_those_of_scikit_learn(rows, value):
    labels, predictions = np.array(rows).T
    options = {"labels": range(C), "average": None, "zero_division": value}
    ours = {"num_classes": C, "zero_division": value}
    precision = metrics.per_class_precision(labels, predictions, **ours)
    recall = metrics.per_class_recall(labels, predictions, **ours)
    equal(precision.estimate, precision_score(labels, predictions, **options))
    equal(recall.estimate, recall_score(labels, predictions, **options))
    equal(metrics.per_class_f1(labels, predictions, **ours), f1_score(labels, predictions, **options))
    for rates, counted in ((precision, predictions), (recall, labels)):
        assert np.array_equal(np.isnan(rates.low), np.bincount(counted, minlength=C) == 0)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.none() | SUBSET, VALUES)
def test_macro_f1_over_any_classes_is_that_of_scikit_learn(rows, classes, value):
    labels, predictions = np.array(rows).T
    ours = metrics.macro_f1(labels, predictions, classes="union" if classes is None else classes, zero_division=value)
    equal(ours, f1_score(labels, predictions, labels=classes, average="macro", zero_division=value))
    present = np.unique(labels)
    assert metrics.macro_f1(labels, predictions) == metrics.macro_f1(labels, predictions, classes=present)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.none() | SUBSET, st.sampled_from([0.0, 0.001, 0.5, 1.0]))
def test_the_geometric_mean_is_that_of_imbalanced_learn(rows, classes, correction):
    labels, predictions = np.array(rows).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # of a class without images, whose recall it takes as 0
        want = geometric_mean_score(labels, predictions, labels=classes, correction=correction)
    got = metrics.geometric_mean(
        labels, predictions, correction=correction, classes="union" if classes is None else classes
    )
    equal(got, want)


def test_warn_is_0_with_a_warning_that_names_the_classes():
    labels, predictions = [0, 0, 1], [0, 0, 0]
    cases = (
        (
            metrics.per_class_precision,
            {"num_classes": 4},
            "precision is undefined for classes 1, 2, 3, which are never",
        ),
        (metrics.per_class_recall, {"num_classes": 4}, "recall is undefined for classes 2, 3, which do not occur in"),
        (metrics.per_class_f1, {"num_classes": 3}, "F1 is undefined for classes 2, which occur nowhere"),
        (metrics.macro_f1, {"classes": [0, 1, 2]}, "F1 is undefined for classes 2, which occur nowhere"),
    )
    for function, options, message in cases:
        with pytest.warns(UserWarning, match=message + ".*set to 0; pass `zero_division=0`") as caught:
            got = function(labels, predictions, **options, zero_division="warn")
        assert [w.filename for w in caught] == [__file__]
        want = function(labels, predictions, **options, zero_division=0)
        equal(got[0] if isinstance(got, tuple) else got, want[0] if isinstance(want, tuple) else want)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.macro_f1(labels, predictions, classes="union") == f1_score(labels, predictions, average="macro")
        assert math.isnan(metrics.macro_f1([], []))
        assert math.isnan(metrics.geometric_mean([], [], correction=0.5))


def test_wrong_arguments_are_named():
    for value in ("0", 0.5, None, 2):
        with pytest.raises(ArgumentError, match="`zero_division` must be 0, 1, NaN or 'warn'; got"):
            metrics.macro_f1([0, 1], [0, 1], zero_division=value)
    with pytest.raises(ArgumentError, match="`zero_division` must be"):
        metrics.per_class_precision([0, 1], [0, 1], zero_division=0.5)
    with pytest.raises(ArgumentError, match="`classes` must be one of 'present', 'union'; got 'all'"):
        metrics.macro_f1([0, 1], [0, 1], classes="all")
    for classes in ([], [1, 1], [[0, 1]]):
        with pytest.raises(ArgumentError, match="`classes` must be distinct class indices, at least one; got"):
            metrics.geometric_mean([0, 1], [0, 1], classes=classes)
    with pytest.raises(ArgumentTypeError, match="`classes` must be class indices"):
        metrics.macro_f1([0, 1], [0, 1], classes=["a"])
    with pytest.raises(ArgumentError, match="`correction` must be at least 0 and at most 1; got -1"):
        metrics.geometric_mean([0, 1], [0, 1], correction=-1)
