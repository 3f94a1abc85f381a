"""The asymmetric loss on a softmax against its formula and timm."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.contracts.loss_specs import one_hot, sample, value_and_gradient
from timm.loss import AsymmetricLossSingleLabel
from torch.autograd import gradcheck, gradgradcheck

from counterpoise import losses
from counterpoise.core.errors import ArgumentError
from counterpoise.kernels import asymmetric_softmax as kernel

OPTIONS = [
    {},
    {"gamma_pos": 0.0},
    {"gamma_pos": 2.0, "gamma_neg": 1.0},
    {"gamma_pos": 0.5, "gamma_neg": 2.5, "label_smoothing": 0.3},
    {"gamma_pos": 0.0, "gamma_neg": 0.0},
    {"label_smoothing": 0.0},
]
W = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def by_hand(z, target, gamma_pos=1.0, gamma_neg=4.0, label_smoothing=0.1, weight=None):
    """ℓ of each row, class by class."""
    p, classes = torch.softmax(z, 1), z.shape[1]
    rows = []
    for i, y in enumerate(target.tolist()):
        terms = []
        for c in range(classes):
            q = label_smoothing / classes + (1 - label_smoothing if c == y else 0.0)
            focus = (1 - p[i, c]) ** gamma_pos if c == y else p[i, c] ** gamma_neg
            terms.append((1.0 if weight is None else weight[c]) * q * focus * -p[i, c].log())
        rows.append(sum(terms))
    return torch.stack(rows)


@every_option
@pytest.mark.parametrize("weight", [None, W])
def test_the_formula(options, weight):
    logits, target = sample((6, 4), scale=2.0)
    want = value_and_gradient(partial(by_hand, **options, weight=weight), logits, target)
    for y in (target, one_hot(target, 4)):
        loss = partial(losses.asymmetric_softmax_loss, weight=weight, **options)
        close(value_and_gradient(partial(loss, reduction="none"), logits, y), want)
        mass = 1.0 if weight is None else weight[target]
        total = torch.as_tensor(mass).expand(6).sum()
        close(value_and_gradient(loss, logits, y), tuple(x / total for x in (want[0].sum(), want[1])))
        close(loss(logits, y, reduction="batchmean"), want[0].mean())


@every_option
def test_timm_has_the_same_values(options):
    logits, target = sample((6, 4), scale=2.0)
    renamed = {{"label_smoothing": "eps"}.get(name, name): value for name, value in options.items()}
    peer = AsymmetricLossSingleLabel(**renamed)
    close(
        value_and_gradient(losses.AsymmetricSoftmaxLoss(**options), logits, target),
        value_and_gradient(peer, logits, target),
    )
    rows = AsymmetricLossSingleLabel(**renamed, reduction="none")(logits, target)
    close(losses.asymmetric_softmax_loss(logits, target, **options, reduction="none"), rows)


@every_option
def test_closed_form_and_reference_agree(options, monkeypatch):
    for shape in ((6, 4), (2, 4, 3, 5)):
        logits, target = sample(shape, scale=3.0)
        target.view(-1)[0] = -100
        soft = torch.softmax(sample(shape, seed=5)[0], 1)
        u = torch.linspace(0.5, 2.0, shape[0], dtype=torch.float64)
        for y in (target, soft):
            for reduction in ("mean", "batchmean", "none"):
                loss = partial(
                    losses.asymmetric_softmax_loss, reduction=reduction, weight=W, sample_weight=u, **options
                )
                with monkeypatch.context() as patch:
                    patch.setattr(kernel, "in_transform", lambda: True)
                    want = value_and_gradient(loss, logits, y)
                for size in (1, 7, 10**6):
                    monkeypatch.setattr(kernel, "_BLOCK", size)
                    for z in (logits, logits.mT.contiguous().mT):
                        close(value_and_gradient(loss, z, y), want)
    leaf = logits.clone().requires_grad_()
    assert gradcheck(lambda z: loss(z, soft), leaf, fast_mode=True)
    assert gradgradcheck(lambda z: loss(z, target), leaf, fast_mode=True)


def test_it_is_linear_in_soft_targets():
    logits, target = sample((6, 4))
    mixed = 0.3 * one_hot(target, 4) + 0.7 * one_hot(target.flip(0), 4)
    loss = partial(losses.asymmetric_softmax_loss, reduction="none")
    close(loss(logits, mixed), 0.3 * loss(logits, target) + 0.7 * loss(logits, target.flip(0)))


def test_without_smoothing_it_is_focal_loss():
    logits, target = sample((6, 4), scale=3.0)
    ours = partial(losses.asymmetric_softmax_loss, gamma_pos=2.0, label_smoothing=0.0, weight=W)
    close(
        value_and_gradient(ours, logits, target),
        value_and_gradient(partial(losses.focal_loss, weight=W), logits, target),
    )
    cross_entropy = partial(losses.cross_entropy, label_smoothing=0.2)
    ours = partial(losses.asymmetric_softmax_loss, gamma_pos=0.0, gamma_neg=0.0, label_smoothing=0.2)
    close(value_and_gradient(ours, logits, target), value_and_gradient(cross_entropy, logits, target))


def test_masked_classes_are_as_if_absent():
    logits, target = sample((6, 4))
    masked = torch.cat([logits, torch.full((6, 1), -torch.inf, dtype=torch.float64)], 1)
    want = value_and_gradient(losses.asymmetric_softmax_loss, logits, target)
    value, gradient = value_and_gradient(losses.asymmetric_softmax_loss, masked, target)
    close((value, gradient[:, :4]), want)
    assert not gradient[:, 4].any()
    with pytest.raises(ArgumentError, match="`target` must not be a class that is masked"):
        losses.asymmetric_softmax_loss(masked, torch.full_like(target, 4))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
def test_it_is_finite_at_saturation(gamma):
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for gap in (0.0, 1e-4, 15.0, 40.0, 100.0, 1e4):
            logits = torch.tensor([[gap, 0.0, 0.0], [-gap, 0.0, 0.0]]).to(dtype)
            loss = partial(losses.asymmetric_softmax_loss, gamma_pos=gamma, gamma_neg=gamma, reduction="none")
            for target in (torch.tensor([0, 0]), torch.tensor([[0.9, 0.1, 0.0]] * 2)):
                value, gradient = value_and_gradient(loss, logits, target)
                exact, slope = value_and_gradient(
                    loss, logits.double(), target.double() if target.dim() > 1 else target
                )
                torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(gradient.double(), slope, rtol=4 * torch.finfo(dtype).eps, atol=1e-5)
