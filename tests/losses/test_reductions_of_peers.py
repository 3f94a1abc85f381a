"""The lines in docstrings and in the guide that reproduce other implementations, run against these implementations."""

from __future__ import annotations

import inspect
from pathlib import Path

import kornia.losses as kornia
import pytest
import segmentation_models_pytorch.losses as smp
import timm.loss as timm
import torch
import torchvision
from tests.contracts.loss_specs import value_and_gradient
from torch.nn import functional as F

from counterpoise import losses

GUIDE = (Path(__file__).parents[2] / "docs" / "losses.md").read_text("utf-8")
G = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(64, 5, generator=G, dtype=torch.float64)
ROWS = torch.randint(5, (64,), generator=G)
SOFT = torch.softmax(torch.randn(64, 5, generator=G, dtype=torch.float64), 1)
LABELS = (torch.rand(64, 5, generator=G) < 0.3).double()
DENSE = 2 * torch.randn(3, 4, 8, 8, generator=G, dtype=torch.float64)
MASKS = torch.randint(2, (3, 8, 8), generator=G)


def authors_asymmetric(x, y):
    """The loss that the authors of ASL publish, with γ⁺ = 1: a sum, the focus weight outside the graph."""
    p = torch.sigmoid(x)
    rest = (1 - p + 0.05).clamp(max=1)
    value = y * p.clamp(min=1e-8).log() + (1 - y) * rest.clamp(min=1e-8).log()
    with torch.no_grad():
        focus = (1 - p * y - rest * (1 - y)) ** (y + 4 * (1 - y))
    return -(value * focus).sum()


def monai_dice(z, y):
    """MONAI's DiceLoss(softmax=True, to_onehot_y=True)."""
    p, t = torch.softmax(z, 1), F.one_hot(y, z.shape[1]).movedim(-1, 1)
    return (1 - (2 * (p * t).sum((2, 3)) + 1e-5) / ((p + t).sum((2, 3)) + 1e-5)).mean()


SUM_CLASSES = timm.BinaryCrossEntropy(smoothing=0.0, sum_classes=True)
CASES = [
    ("cross_entropy(…, label_smoothing=0.1)", timm.LabelSmoothingCrossEntropy(), LOGITS, ROWS),
    ('cross_entropy(…, reduction="batchmean")', timm.SoftTargetCrossEntropy(), LOGITS, SOFT),
    ('binary_cross_entropy(…, reduction="batchmean")', SUM_CLASSES, LOGITS, LABELS),
    ('sigmoid_focal_loss(…, reduction="none")', torchvision.ops.sigmoid_focal_loss, LOGITS, LABELS),
    (
        'sigmoid_focal_loss(…, reduction="none")',
        lambda z, t: kornia.binary_focal_loss_with_logits(z, t, alpha=0.25),
        LOGITS,
        LABELS,
    ),
    (
        "sigmoid_focal_loss(…, normalizer=target.sum().clamp(min=1))",
        lambda z, t: torchvision.ops.sigmoid_focal_loss(z, t, reduction="sum") / max(1, t.sum()),
        LOGITS,
        LABELS,
    ),
    (
        "focal_loss(…, normalizer=logits.numel())",
        lambda z, t: kornia.focal_loss(z, t, alpha=None, gamma=2.0, reduction="mean"),
        LOGITS,
        ROWS,
    ),
    (
        'asymmetric_loss(…, reduction="batchmean", detach_focus=False)',
        timm.AsymmetricLossMultiLabel(),
        LOGITS.float(),
        LABELS,
    ),
    ('asymmetric_loss(…, reduction="sum")', authors_asymmetric, LOGITS, LABELS),
    ("asymmetric_softmax_loss(…)", timm.AsymmetricLossSingleLabel(), LOGITS, ROWS),
    ('dice_loss(…, smooth=0.0, reduction="none").mean()', smp.DiceLoss("multiclass"), DENSE, MASKS),
    ('dice_loss(…, average="micro", batch=False, smooth=0.0)', kornia.dice_loss, DENSE, MASKS),
    ("dice_loss(…, batch=False, smooth=5e-6)", monai_dice, DENSE[:, :2], MASKS),
]


@pytest.mark.parametrize(("line", "peer", "logits", "target"), CASES, ids=[case[0] for case in CASES])
def test_the_line_reproduces_the_implementation(line, peer, logits, target):
    def ours(logits, target):
        return eval(line.replace("…", "logits, target"), {**vars(losses), "logits": logits, "target": target})

    torch.testing.assert_close(
        value_and_gradient(ours, logits, target), value_and_gradient(peer, logits, target), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("line", sorted({case[0] for case in CASES}))
def test_guide_and_docstring_have_the_line(line):
    assert f"`{line}`" in GUIDE
    function = getattr(losses, line.partition("(")[0])
    text = " ".join(inspect.getdoc(function).split())
    assert line.partition("(…, ")[2].removesuffix(")") in text


def test_the_means_of_other_packages_are_over_the_elements():
    want = losses.sigmoid_focal_loss(LOGITS, LABELS)
    peers = (
        torchvision.ops.sigmoid_focal_loss(LOGITS, LABELS, reduction="mean"),
        kornia.binary_focal_loss_with_logits(LOGITS, LABELS, alpha=0.25, reduction="mean"),
        smp.FocalLoss("multilabel", alpha=0.25)(LOGITS, LABELS),
    )
    for peer in peers:
        torch.testing.assert_close(want, peer)
    torch.testing.assert_close(
        losses.binary_cross_entropy(LOGITS, LABELS), timm.BinaryCrossEntropy(smoothing=0.0)(LOGITS, LABELS)
    )
