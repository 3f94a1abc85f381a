"""Losses against those of `timm.loss`."""

from __future__ import annotations

import inspect

import pytest
import torch
from tests.peers.comparing import assert_agree

from counterpoise import losses

timm = pytest.importorskip("timm.loss")

D = torch.float64
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def single(dtype=D, n=6, c=5):
    g = torch.Generator().manual_seed(0)
    return (2 * torch.randn(n, c, generator=g, dtype=D)).to(dtype), torch.randint(c, (n,), generator=g)


def multi(dtype=D, n=6, c=5):
    g = torch.Generator().manual_seed(1)
    return (2 * torch.randn(n, c, generator=g, dtype=D)).to(dtype), (torch.rand(n, c, generator=g) > 0.7).to(dtype)


def soft(dtype=D):
    z, _ = single()
    return z.to(dtype), torch.softmax(single(n=6)[0].flip(0), 1).to(dtype)


def accepts(loss, *names):
    """Skip where this timm's loss does not have the arguments yet."""
    missing = set(names) - set(inspect.signature(loss).parameters)
    if missing:
        pytest.skip(f"{loss.__name__} of this timm has no {', '.join(sorted(missing))}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4, 0.9])
def test_label_smoothing_cross_entropy(dtype, smoothing):
    assert_agree(
        lambda z, y: losses.cross_entropy(z, y, label_smoothing=smoothing),
        timm.LabelSmoothingCrossEntropy(smoothing=smoothing),
        *single(dtype),
    )


@pytest.mark.parametrize("dtype", [D, torch.float32])
def test_soft_target_cross_entropy(dtype):
    assert_agree(losses.CrossEntropyLoss(), timm.SoftTargetCrossEntropy(), *soft(dtype), atol=1e-6)


@pytest.mark.parametrize("dtype", [D, *DTYPES])
def test_soft_target_cross_entropy_that_also_learns_its_target(dtype, cases):
    """Probabilities of half precision do not sum to 1 exactly, and a mean over rows has another gradient of them."""
    ours = losses.CrossEntropyLoss(reduction="batchmean")
    assert_agree(ours, timm.SoftTargetCrossEntropy(), *soft(dtype), learn=(0, 1), atol=1e-6)
    cases["gradient of targets"] += 1


ASL = {
    "defaults": {},
    "positional": (2.0, 0.5, 0.1),
    "no clip": {"clip": 0.0},
    "no focus": {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0},
    "positives focused more": {"gamma_neg": 1.0, "gamma_pos": 3.0},
    "large clip": {"clip": 0.4},
}


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("name", ASL)
@pytest.mark.parametrize("reduction", ["batchmean", "sum", "mean", "none"])
def test_asymmetric_loss_of_labels(name, reduction, detach):
    accepts(timm.AsymmetricLossMultiLabel, "reduction")
    given = ASL[name]
    args, kwargs = (given, {}) if isinstance(given, tuple) else ((), given)
    z, y = multi(torch.float32)
    assert_agree(
        losses.AsymmetricLoss(*args, **kwargs, detach_focus=detach, reduction=reduction),
        timm.AsymmetricLossMultiLabel(*args, **kwargs, disable_torch_grad_focal_loss=detach, reduction=reduction),
        z,
        y,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("clip", [0.05, None])
def test_asymmetric_loss_with_weights(clip):
    accepts(timm.AsymmetricLossMultiLabel, "reduction", "weight", "pos_weight")
    w, v = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.0]), torch.tensor([4.0, 1.0, 0.5, 2.0, 1.5])
    assert_agree(
        losses.AsymmetricLoss(clip=clip, weight=w, pos_weight=v, reduction="sum"),
        timm.AsymmetricLossMultiLabel(
            clip=clip, weight=w, pos_weight=v, reduction="sum", disable_torch_grad_focal_loss=True
        ),
        *multi(torch.float32),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", [D, *DTYPES])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "smoothing"), [(1, 4, 0.1), (0, 4, 0.1), (2, 0, 0.3), (1.5, 0.5, 0.0), (0, 0, 0.0)]
)
def test_asymmetric_loss_of_one_class(gamma_pos, gamma_neg, smoothing, reduction, dtype):
    assert_agree(
        losses.AsymmetricSoftmaxLoss(gamma_pos, gamma_neg, smoothing, reduction=reduction),
        timm.AsymmetricLossSingleLabel(gamma_pos, gamma_neg, smoothing, reduction),
        *single(dtype),
        rtol=1e-4 if dtype != D else 1e-8,
        atol=2e-6,
    )


def test_asymmetric_loss_of_one_class_with_its_defaults():
    assert_agree(losses.AsymmetricSoftmaxLoss(), timm.AsymmetricLossSingleLabel(), *single(), rtol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_binary_cross_entropy_of_class_indices(smoothing):
    """One-vs-rest with smoothed one-hot targets; ours takes the smoothed labels."""
    z, y = single()
    labels = torch.nn.functional.one_hot(y, 5) * (1 - smoothing) + smoothing / 5
    assert_agree(
        lambda z: losses.binary_cross_entropy(z, y if smoothing == 0 else labels),
        lambda z: timm.BinaryCrossEntropy(smoothing=smoothing)(z, y),
        z,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_of_labels(reduction, weighted):
    z, y = multi()
    w = {"weight": torch.tensor([1.0, 2.0, 0.5, 3.0, 0.0], dtype=D), "pos_weight": torch.full((5,), 2.5, dtype=D)}
    given = w if weighted else {}
    assert_agree(
        losses.BinaryCrossEntropyLoss(**given, reduction=reduction),
        timm.BinaryCrossEntropy(smoothing=0.0, **given, reduction=reduction),
        z,
        y,
    )


def test_binary_cross_entropy_summed_over_classes_is_the_batchmean():
    accepts(timm.BinaryCrossEntropy, "sum_classes")
    z, y = multi()
    theirs = timm.BinaryCrossEntropy(smoothing=0.0, sum_classes=True)
    assert_agree(losses.BinaryCrossEntropyLoss(reduction="batchmean"), theirs, z, y)


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_binary_cross_entropy_above_a_threshold(threshold):
    z, t = soft()
    theirs = timm.BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold)
    assert_agree(lambda z: losses.binary_cross_entropy(z, t > threshold), lambda z: theirs(z, t), z)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("epsilon", [2.0, -0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_poly_cross_entropy(epsilon, reduction, smoothing):
    if not hasattr(timm, "PolyCrossEntropy"):
        pytest.skip("this timm has no PolyCrossEntropy")
    options = {"epsilon": epsilon, "reduction": reduction}
    ours = losses.PolyLoss(label_smoothing=smoothing, **options)
    theirs = timm.PolyCrossEntropy(smoothing=smoothing, **options)
    assert_agree(ours, theirs, *single(torch.float32), rtol=1e-4, atol=1e-6)
    z, t = soft(torch.float32)
    assert_agree(losses.PolyLoss(**options), timm.PolyCrossEntropy(**options), z, t, rtol=1e-4, atol=1e-6)
