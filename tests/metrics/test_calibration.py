"""Calibration errors against a plain loop, and on probabilities whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from sklearn.calibration import calibration_curve

from counterpoise import metrics
from counterpoise.core.errors import ArgumentError


def draw(seed=0, n=500, c=6):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(n, c))
    return rng.integers(c, size=n), logits


def loop(confidence, right, bins):
    """The definition, word for word."""
    total = 0.0
    for b in range(bins):
        inside = [i for i, p in enumerate(confidence) if b / bins < p <= (b + 1) / bins or (b == 0 and p == 0)]
        if inside:
            total += len(inside) / len(confidence) * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_top_label_and_classwise_errors_by_the_definition(bins):
    labels, logits = draw()
    p = scipy.special.softmax(logits, axis=1)
    right = (p.argmax(1) == labels).astype(float)
    assert metrics.expected_calibration_error(labels, logits, bins=bins) == pytest.approx(
        loop(p.max(1), right, bins), abs=1e-12
    )
    wanted = [loop(p[:, c], (labels == c).astype(float), bins) for c in range(6)]
    got = metrics.classwise_calibration_error(labels, logits, bins=bins, average=None)
    assert got == pytest.approx(wanted, abs=1e-12)
    assert metrics.classwise_calibration_error(labels, logits, bins=bins) == pytest.approx(np.mean(wanted), abs=1e-12)


def test_the_diagram_is_that_of_scikit_learn():
    labels, logits = draw(3)
    table = metrics.reliability(labels, logits, bins=10)
    top, right = metrics.softmax(logits).max(1), logits.argmax(1) == labels
    accuracy, confidence = calibration_curve(right, top, n_bins=10)
    filled = table.count > 0
    assert table.accuracy[filled] == pytest.approx(accuracy, abs=1e-12)
    assert table.confidence[filled] == pytest.approx(confidence, abs=1e-12)
    assert table.count.sum() == len(labels)


def test_probabilities_that_are_frequencies_have_no_error():
    logits = np.log(np.tile([0.75, 0.25], (400, 1)))
    labels = np.repeat([0, 1], [300, 100])
    assert metrics.expected_calibration_error(labels, logits) == pytest.approx(0.0, abs=1e-12)
    assert metrics.classwise_calibration_error(labels, logits) == pytest.approx(0.0, abs=1e-12)
    assert metrics.expected_calibration_error(labels[::2] * 0, logits[::2]) == pytest.approx(0.25)


def test_a_probability_on_an_edge_belongs_to_the_bin_below():
    table = metrics.reliability([0, 0], [[0.0, 0.0], [9999.0, 0.0]], bins=2)
    assert table.count.tolist() == [1, 1]
    assert table.confidence.tolist() == [0.5, 1.0]


def test_huge_logits_and_excluded_classes_stay_finite():
    labels = np.array([0, 1, 0])
    logits = np.array([[1e4, -1e4, -np.inf], [-3e38, 3e38, 0], [0.0, 0.0, -np.inf]], dtype=np.float32)
    assert metrics.softmax(logits).tolist() == [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]
    assert metrics.expected_calibration_error(labels, logits) == pytest.approx(0.5 / 3)
    per_class = metrics.classwise_calibration_error(labels, logits, average=None)
    assert np.isnan(per_class[2])  # it does not occur
    assert per_class[:2] == pytest.approx([0.5 / 3, 0.5 / 3])


def test_a_constant_added_to_a_row_changes_nothing():
    labels, logits = draw(5)
    shifted = logits + np.arange(len(labels))[:, None]
    assert metrics.expected_calibration_error(labels, shifted) == pytest.approx(
        metrics.expected_calibration_error(labels, logits), abs=1e-9
    )


def test_no_rows_give_no_number_and_bad_scores_an_error():
    assert np.isnan(metrics.expected_calibration_error([], np.zeros((0, 3))))
    assert np.isnan(metrics.classwise_calibration_error([], np.zeros((0, 3))))
    for bad in ([np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]):
        with pytest.raises(ArgumentError, match="`logits` must be finite, or -inf for an excluded class; row 1 is"):
            metrics.expected_calibration_error([0, 0], [[0.0, 0.0], bad])
    with pytest.raises(ArgumentError, match=r"`labels` must have shape \(N,\) and `logits` \(N, C\)"):
        metrics.expected_calibration_error([0], [0.5])
    with pytest.raises(ArgumentError, match="`bins` must be at least 1"):
        metrics.classwise_calibration_error([0], [[0.5, 0.1]], bins=0)
    with pytest.raises(ArgumentError, match="`average` must be 'macro' or None"):
        metrics.classwise_calibration_error([0], [[0.5, 0.1]], average="weighted")
