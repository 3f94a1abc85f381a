"""Weights of samples, and of positives against negatives."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.weights import class_weights, pos_weight, sample_weights


def test_sample_weights_are_scikit_learns_balanced() -> None:
    labels = np.repeat(np.arange(3), [5, 2, 9])
    ours = sample_weights(labels, class_weights(ClassCounts.from_labels(labels), "balanced"))
    np.testing.assert_allclose(ours, compute_sample_weight("balanced", labels))
    assert ours.mean() == pytest.approx(1.0)


def test_labels_and_weights_by_name() -> None:
    assert sample_weights(np.array(["b", "a", "b"]), {"a": 1.0, "b": 2.0}).tolist() == [2.0, 1.0, 2.0]
    assert sample_weights([1, 0], {0: 1.0, 1: 2.0}).tolist() == [2.0, 1.0]
    assert sample_weights(torch.tensor([1, 0]), np.array([0.5, 1.5])).tolist() == [1.5, 0.5]
    assert sample_weights([], [1.0]).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        ([0, 2], [1.0, 1.0], "row 1 is 2"),
        ([0, -1], [1.0, 1.0], "row 1 is -1"),
        (["a", "z"], {"a": 1.0}, "no weight for `labels` row 1, z"),
        ([0, 1], [1.0, float("inf")], "class 1 has inf"),
        ([[0], [1]], [1.0, 1.0], r"shape \(N,\)"),
    ],
)
def test_a_label_without_a_weight_is_named(labels: object, weights: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        sample_weights(labels, weights)  # type: ignore[arg-type]


def test_labels_of_a_wrong_kind_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="dtype float64"):
        sample_weights([0.0, 1.0], [1.0, 1.0])
    with pytest.raises(ArgumentTypeError, match="are strings"):
        sample_weights(["a"], [1.0])


def test_pos_weight_makes_both_sides_weigh_the_same() -> None:
    targets = np.random.default_rng(0).random((200, 4)) < [0.5, 0.1, 0.02, 0.9]
    targets[0] = True
    weights = pos_weight(ClassCounts.from_multilabel(targets.astype(int)))
    np.testing.assert_allclose(weights * targets.sum(0), (~targets).sum(0))
    assert pos_weight([50, 10], total=100, max_weight=4.0).tolist() == [1.0, 4.0]
    assert pos_weight([30, 10]).tolist() == [1 / 3, 3.0]


@pytest.mark.fault("W1")
def test_a_class_without_positives_is_named() -> None:
    with pytest.raises(ArgumentError, match="'dog'"):
        pos_weight({"cat": 3, "dog": 0}, total=10)
    assert pos_weight({"cat": 5, "dog": 0}, total=10, empty="exclude").tolist() == [1.0, 0.0]
    with pytest.raises(ArgumentError, match="'cat' has 11 of 10"):
        pos_weight({"cat": 11, "dog": 1}, total=10)


def test_weights_import_no_torch() -> None:
    code = "import sys, counterpoise.weights; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
