"""Known values of the loss tests of OpenMMLab's mmpretrain and mmdetection, each derived again by hand or by formula.

The libraries are not installed. "mean" of mmpretrain divides by the rows for classes, and by rows × classes for labels.
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.peers import decisions
from tests.peers.conftest import AS_THE_PEER

from counterpoise import losses
from counterpoise.core.errors import CounterpoiseError

SCORES = torch.tensor([[5.0, -5.0, 0.0], [5.0, -5.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([[1, 0, 1], [0, 1, 0]])
HALVES = torch.tensor([0.5, 0.5])


def asymmetric_by_formula(clip):
    """Σ −t (1−p)^1 log p − (1−t) p_m^4 log(1−p_m), p_m = max(p − clip, 0), over the six elements."""
    total = 0.0
    for z, t in zip(SCORES.flatten().tolist(), LABELS.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        shifted = max(p - clip, 0.0)
        total += -(1 - p) * math.log(p) if t else -(shifted**4) * math.log(1 - shifted)
    return total


@pytest.mark.parametrize(("clip", "published"), [(0.05, 3.80845 / 3), (None, 5.1186 / 3)])
def test_asymmetric_loss(clip, published):
    loss = losses.AsymmetricLoss(gamma_pos=1.0, gamma_neg=4.0, clip=clip)(SCORES, LABELS)
    assert loss.item() == pytest.approx(asymmetric_by_formula(clip or 0.0) / 6, rel=1e-9)
    assert loss.item() == pytest.approx(published, rel=1e-5)


def test_asymmetric_loss_with_a_weight_per_image():
    loss = losses.asymmetric_loss(SCORES, LABELS, sample_weight=HALVES)
    assert loss.item() == pytest.approx(3.80845 / 6, rel=1e-5)


def focal_by_formula(labels):
    """α = 0.25, γ = 2, the mean of the six elements."""
    total = 0.0
    for z, t in zip(SCORES.flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        total += -0.25 * (1 - p) ** 2 * math.log(p) if t else -0.75 * p**2 * math.log(1 - p)
    return total / 6


@pytest.mark.parametrize(
    ("target", "published"), [(LABELS, 0.8522), (torch.tensor([0, 1]), 0.86664125)], ids=["labels", "class indices"]
)
def test_focal_loss(target, published, cases):
    labels = target if target.dim() == 2 else torch.nn.functional.one_hot(target, 3)
    loss = losses.sigmoid_focal_loss(SCORES, target, gamma=2.0, alpha=0.25)
    assert loss.item() == pytest.approx(focal_by_formula(labels), rel=1e-9)
    assert loss.item() == pytest.approx(published, rel=1e-4)
    half = losses.sigmoid_focal_loss(SCORES, target, gamma=2.0, alpha=0.25, sample_weight=HALVES)
    assert half.item() == pytest.approx(published / 2, rel=1e-4)
    cases[AS_THE_PEER] += 2


# A logit difference of 2000 and of 200, both on the wrong side: the losses of the two rows.
ROWS = torch.tensor([[-1000.0, 1000.0], [100.0, -100.0]])
CLASS_WEIGHT = [0.3, 0.7]
SAMPLE_WEIGHT = [0.6, 0.4]


@pytest.mark.parametrize("target", [torch.tensor([0, 1]), torch.eye(2)], ids=["class indices", "probabilities"])
@pytest.mark.parametrize(
    ("given", "by_hand"),
    [
        ({}, (2000 + 200) / 2),
        ({"sample_weight": SAMPLE_WEIGHT}, (0.6 * 2000 + 0.4 * 200) / 2),
        ({"weight": CLASS_WEIGHT}, (0.3 * 2000 + 0.7 * 200) / 2),
        ({"weight": CLASS_WEIGHT, "sample_weight": SAMPLE_WEIGHT}, (0.3 * 0.6 * 2000 + 0.7 * 0.4 * 200) / 2),
    ],
    ids=["plain", "sample weight", "class weight", "both"],
)
def test_cross_entropy(target, given, by_hand, cases):
    loss = losses.cross_entropy(ROWS, target, **given, reduction="batchmean")
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)
    cases["weighted means"] += bool(given)
    cases[AS_THE_PEER] += not given


BINARY = torch.tensor([[-200.0, 100.0], [500.0, -1000.0], [300.0, -300.0]])
BINARY_LABELS = torch.tensor([[1, 0], [0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("given", "by_hand"),
    [
        ({}, (200 + 100 + 500 + 1000) / 6),
        ({"sample_weight": [0.6, 0.4, 0.5]}, (0.6 * 300 + 0.4 * 1500) / 6),
        ({"weight": [0.1, 0.9]}, (0.1 * 700 + 0.9 * 1100) / 6),
        (
            {"weight": [0.1, 0.9], "sample_weight": [0.6, 0.4, 0.5]},
            (0.6 * (20 + 90) + 0.4 * (50 + 900)) / 6,
        ),
        ({"pos_weight": [0.1, 0.2]}, (0.1 * 200 + 100 + 500 + 0.2 * 1000) / 6),
    ],
    ids=["plain", "sample weight", "class weight", "both", "pos_weight"],
)
def test_binary_cross_entropy(given, by_hand):
    assert losses.binary_cross_entropy(BINARY, BINARY_LABELS, **given).item() == pytest.approx(by_hand, rel=1e-6)


def test_label_smoothing(cases):
    """ε = 0.1 of two classes and z = (1, −1): log(1 + e^−2) + 0.05 · 2; ClassyVision spreads ε/(1 + ε)."""
    z, y = torch.tensor([[1.0, -1.0]]), torch.tensor([0])
    original = losses.cross_entropy(z, y, label_smoothing=0.1).item()
    assert original == pytest.approx(math.log1p(math.exp(-2)) + 0.1)
    assert original == pytest.approx(0.2269, abs=1e-4)
    spread = 0.1 / (1 + 0.1)  # (t + ε/C)/(1 + ε): the share ε/(1 + ε)
    assert losses.cross_entropy(z, y, label_smoothing=spread).item() == pytest.approx(0.2178, abs=1e-4)
    labels = torch.tensor([[1.0, 0.0]]) * 0.9 + 0.05
    assert losses.binary_cross_entropy(z, labels).item() == pytest.approx(0.3633, abs=1e-4)
    cases[AS_THE_PEER] += 3


def test_label_smoothing_of_mixed_targets_is_the_mixture_of_the_smoothed():
    z, t = torch.tensor([[1.0, -1.0, 0.0]]), torch.tensor([[0.6, 0.0, 0.4]])
    by_hand = -(torch.log_softmax(z, 1) * (0.9 * t + 0.1 / 3)).sum()
    torch.testing.assert_close(losses.cross_entropy(z, t, label_smoothing=0.1), by_hand)


@pytest.mark.parametrize(
    "wrong", [{"label_smoothing": 1.5}, {"label_smoothing": "str"}, {"reduction": "unknown"}, {"reduction": True}]
)
def test_what_they_refuse_is_refused(wrong):
    with pytest.raises(CounterpoiseError, match=next(iter(wrong))):
        losses.CrossEntropyLoss(**wrong)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.sigmoid_focal_loss])
@pytest.mark.parametrize("shape", [(10, 5), (0, 5)])
def test_a_denominator_of_the_caller(loss, shape, cases):
    """mmdetection's `avg_factor`, which "sum" and "none" refuse; and batches without rows."""
    g = torch.Generator().manual_seed(0)
    z, y = torch.rand(shape, generator=g), torch.randint(0, 5, shape[:1], generator=g)
    torch.testing.assert_close(loss(z, y, normalizer=10.0), loss(z, y, reduction="sum") / 10)
    with pytest.raises(CounterpoiseError, match="`normalizer`"):
        loss(z, y, normalizer=10.0, reduction="sum")
    cases[AS_THE_PEER] += 2


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.binary_cross_entropy])
def test_ignored_rows_are_as_rows_that_are_not_there(loss, reduction, cases):
    g = torch.Generator().manual_seed(0)
    z, y = torch.rand(10, 5, generator=g), torch.randint(0, 5, (10,), generator=g)
    y[[2, 7]] = 255
    kept = y != 255
    ours = loss(z, y, ignore_index=255, reduction=reduction)
    torch.testing.assert_close(ours, loss(z[kept], y[kept], reduction=reduction))
    assert loss(z, torch.full((10,), 255), ignore_index=255, reduction=reduction).item() == 0
    cases[AS_THE_PEER] += 2


def test_asymmetric_loss_on_a_softmax(cases):
    """Rows of one class as indices and as probabilities, weighted or not: another loss than ours."""
    decisions.asymmetric_loss_of_probabilities()
    cases["asymmetric loss on a softmax"] += 4
