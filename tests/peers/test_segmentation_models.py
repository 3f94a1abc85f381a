"""Losses against those of segmentation-models-pytorch; the cases follow its tests/test_losses.py."""

from __future__ import annotations

import pytest
import torch
from tests.peers.comparing import assert_agree
from tests.peers.conftest import AS_THE_PEER

from counterpoise import losses

smp = pytest.importorskip("segmentation_models_pytorch").losses

D = torch.float64
DTYPES = [D, torch.float32, torch.bfloat16, torch.float16]

# Each overlap loss by both libraries: names, hyperparameters, and the modes of the peer as ours.
LOSSES = {
    "dice": (losses.dice_loss, smp.DiceLoss, {}),
    "jaccard": (losses.jaccard_loss, smp.JaccardLoss, {}),
    "tversky": (losses.tversky_loss, smp.TverskyLoss, {"alpha": 0.3, "beta": 0.7}),
    "tversky with its defaults": (losses.tversky_loss, smp.TverskyLoss, {}),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def batch(mode, dtype=D, ignore=None):
    """Logits and masks ``(3, C, 4, 5)``; in "multiclass" every class occurs."""
    g = torch.Generator().manual_seed(0)
    c = 1 if mode == "binary" else 3
    z = 2 * torch.randn(3, c, 4, 5, generator=g, dtype=D)
    if mode == "multiclass":
        y = torch.arange(60).reshape(3, 4, 5) % 3
    else:
        y = (torch.rand(3, c, 4, 5, generator=g) > 0.6).to(torch.int64)
    if ignore is not None:
        y[..., 0] = ignore
    return z.to(dtype), y


def activation(mode):
    return "softmax" if mode == "multiclass" else "sigmoid"


@every_loss
@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_overlap(name, mode, dtype):
    ours, theirs, given = LOSSES[name]
    z, y = batch(mode, dtype)
    assert_agree(
        lambda z: ours(z, y, activation=activation(mode), smooth=0.0, **given),
        lambda z: theirs(mode, **given)(z, y),
        z,
        atol=1e-6,
    )


@every_loss
@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("smooth", [0.0, 0.5])
@pytest.mark.parametrize("ignore", [None, 255])
def test_overlap_smoothed_and_with_ignored_pixels(name, mode, smooth, ignore):
    ours, theirs, given = LOSSES[name]
    z, y = batch(mode, ignore=ignore)
    ignore_index = -100 if ignore is None else ignore
    assert_agree(
        lambda z: ours(z, y, activation=activation(mode), smooth=smooth, ignore_index=ignore_index, **given),
        lambda z: theirs(mode, smooth=smooth, ignore_index=ignore, **given)(z, y),
        z,
    )


@every_loss
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("weight", [[1.0, 2.0, 0.5], [0.0, 1.0, 1.0]])
def test_class_weights(name, mode, weight):
    ours, theirs, given = LOSSES[name]
    z, y = batch(mode)
    assert_agree(
        lambda z: ours(z, y, activation=activation(mode), smooth=0.0, weight=weight, **given),
        lambda z: theirs(mode, class_weights=weight, **given)(z, y),
        z,
        rtol=1e-6,
    )


@every_loss
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"classes": [1, 2]}, {"include_background": False}),
        (
            {"classes": [1, 2], "class_weights": [1.0, 2.0, 5.0]},
            {"include_background": False, "weight": [1.0, 2.0, 5.0]},
        ),
        ({"classes": [0]}, {"weight": [1.0, 0.0, 0.0]}),
    ],
    ids=["no background", "weights without background", "one class"],
)
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_some_classes(name, mode, theirs, ours):
    function, peer, given = LOSSES[name]
    z, y = batch(mode)
    assert_agree(
        lambda z: function(z, y, activation=activation(mode), smooth=0.0, **ours, **given),
        lambda z: peer(mode, **theirs, **given)(z, y),
        z,
        rtol=1e-6,
    )


@pytest.mark.parametrize("gamma", [0.75, 1.0, 2.0])
def test_exponent_of_one_class(gamma):
    z, y = batch("binary")
    assert_agree(
        lambda z: losses.tversky_loss(z, y, activation="sigmoid", gamma=gamma, smooth=0.0),
        lambda z: smp.TverskyLoss("binary", gamma=gamma)(z, y),
        z,
    )


# Certain predictions: pairs of a predicted and a true mask, with the loss by hand.
CERTAIN = {
    "dice": [([1, 1, 1], [1, 1, 1], 0.0), ([1, 0, 1], [1, 0, 1], 0.0), ([1, 0, 1], [0, 1, 0], 1.0)],
    "jaccard": [([1], [1], 0.0), ([1, 0, 1], [1, 0, 1], 0.0), ([0, 0, 0], [1, 1, 1], 1.0)],
    "tversky with its defaults": [([1, 1, 0, 0], [1, 1, 1, 1], 1 / 3), ([0, 0, 0], [1, 1, 1], 1.0)],
}
ABSENT = [([0, 0, 0], [0, 0, 0], 0.0), ([1, 1, 1], [0, 0, 0], 0.0)]


@pytest.mark.parametrize("name", CERTAIN)
def test_certain_predictions(name, cases):
    ours, theirs, given = LOSSES[name]
    for predicted, true, by_hand in CERTAIN[name] + ABSENT:
        z = 200.0 * torch.tensor(predicted).reshape(1, 1, 1, -1) - 100.0
        y = torch.tensor(true).reshape(1, 1, 1, -1)
        assert ours(z, y, activation="sigmoid", **given).item() == pytest.approx(by_hand, abs=1e-5)
        assert theirs("binary", **given)(z, y).item() == pytest.approx(by_hand, abs=1e-5)
        cases[AS_THE_PEER] += 1


@pytest.mark.parametrize(("true", "by_hand"), [([0, 0, 1, 1], 0.0), ([1, 1, 0, 0], 1.0), ([0, 1, 0, 1], 2 / 3)])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_certain_predictions_of_two_classes(mode, true, by_hand):
    z = 200.0 * torch.tensor([[[1, 1, 0, 0], [0, 0, 1, 1]]]) - 100.0
    y = torch.tensor([true])
    target = y if mode == "multiclass" else torch.nn.functional.one_hot(y, 2).movedim(-1, 1)
    ours = losses.jaccard_loss(z, target, activation=activation(mode))
    assert ours.item() == pytest.approx(by_hand, abs=1e-5)
    assert smp.JaccardLoss(mode)(z, target).item() == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.75])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_focal_loss(mode, alpha, gamma):
    z, y = batch(mode)
    assert_agree(
        lambda z: losses.sigmoid_focal_loss(z, y, alpha=alpha, gamma=gamma),
        lambda z: smp.FocalLoss(mode, alpha=alpha, gamma=gamma)(z, y),
        z,
    )


def test_focal_loss_with_ignored_pixels():
    z, y = batch("binary", ignore=255)
    assert_agree(
        lambda z: losses.sigmoid_focal_loss(z, y, alpha=0.25, ignore_index=255),
        lambda z: smp.FocalLoss("binary", alpha=0.25, ignore_index=255)(z, y),
        z,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    z, y = batch("multiclass")
    assert_agree(
        lambda z: losses.cross_entropy(z, y, label_smoothing=smoothing),
        lambda z: smp.SoftCrossEntropyLoss(smooth_factor=smoothing)(z, y),
        z,
    )


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_binary_cross_entropy_with_ignored_labels(reduction):
    z, y = batch("multilabel", ignore=-100)
    assert_agree(
        lambda z: losses.binary_cross_entropy(z, y, reduction=reduction),
        lambda z: smp.SoftBCEWithLogitsLoss(reduction=reduction)(z, y.to(z.dtype)),
        z,
    )
