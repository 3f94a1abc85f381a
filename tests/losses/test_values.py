"""Values: against torch's and torchvision's own losses, and by hand with the arithmetic written out."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contracts.loss_specs import FORMS as IMPLS
from tests.contracts.loss_specs import placed_losses as losses
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from counterpoise.weights import class_weights

D = torch.float64


def rows(n=12, c=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, generator=generator, dtype=D) * 3, torch.randint(c, (n,), generator=generator)


def close(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs(impl, reduction, weighted):
    z, y = rows()
    y[3] = -100
    w = torch.tensor([1.0, 2.0, 0.0, 4.0, 0.5], dtype=D) if weighted else None
    close(
        losses.cross_entropy(z, y, weight=w, reduction=reduction, impl=impl),
        F.cross_entropy(z, y, w, reduction=reduction),
    )


@pytest.mark.parametrize("impl", IMPLS)
def test_smoothing_and_soft_targets_are_torchs(impl):
    z, y = rows()
    for share in (0.2, 1.0):
        smoothed = losses.cross_entropy(z, y, label_smoothing=share, impl=impl)
        close(smoothed, F.cross_entropy(z, y, label_smoothing=share))
    soft = torch.softmax(rows(seed=1)[0], 1)
    close(losses.cross_entropy(z, soft, impl=impl), F.cross_entropy(z, soft))
    w = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.5], dtype=D)
    # Weighted soft targets: torch divides by N, which is "batchmean" here; "mean" divides by Σ W, as for indices.
    close(losses.cross_entropy(z, soft, weight=w, reduction="batchmean", impl=impl), F.cross_entropy(z, soft, w))
    mass = (soft * w).sum()
    close(losses.cross_entropy(z, soft, weight=w, impl=impl), F.cross_entropy(z, soft, w) * len(z) / mass)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_smoothing_with_ignored_rows_is_torchs(ignore_index, impl):
    z, y = rows()
    y[0] = ignore_index
    options = {"label_smoothing": 0.15, "ignore_index": ignore_index}
    ours, theirs = losses.cross_entropy(z, y, **options, impl=impl), F.cross_entropy(z, y, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("impl", IMPLS)
def test_dense_prediction_is_torchs(impl):
    z = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=D)
    y = torch.randint(4, (2, 3, 5), generator=torch.Generator().manual_seed(1))
    y[0, 0] = 255
    w = torch.tensor([1.0, 5.0, 0.1, 2.0], dtype=D)
    ours = losses.cross_entropy(z, y, weight=w, ignore_index=255, impl=impl)
    close(ours, F.cross_entropy(z, y, w, ignore_index=255))


@pytest.mark.parametrize("impl", IMPLS)
def test_focal_by_hand(impl):
    # z = (2, 0), y = 0: p = e²/(e²+1) = 0.880797; (1−p)² (−log p) = 0.119203² · 0.126928 = 0.0018036
    p = math.exp(2) / (math.exp(2) + 1)
    z = torch.tensor([[2.0, 0.0]], dtype=D)
    close(losses.focal_loss(z, torch.tensor([0]), impl=impl), (1 - p) ** 2 * -math.log(p))
    assert losses.focal_loss(z, torch.tensor([0]), impl=impl).item() == pytest.approx(0.0018036, rel=1e-4)
    # α per class is a weight, and the mean divides by it: two rows, α = (1, 3)
    both = losses.focal_loss(z.repeat(2, 1), torch.tensor([0, 1]), alpha=[1.0, 3.0], impl=impl)
    q = 1 - p
    close(both, (q**2 * -math.log(p) + 3 * p**2 * -math.log(q)) / 4)


@pytest.mark.parametrize("impl", IMPLS)
def test_class_balanced_by_hand(impl):
    # The worked example: effective numbers 3934.85 and 99.507, so weights 39.54 : 1 in favour of the rare class.
    z, y = torch.zeros(2, 2, dtype=D), torch.tensor([0, 1])
    e = [(1 - 0.9999**n) / (1 - 0.9999) for n in (5000, 100)]
    w = [2 / e[i] / (1 / e[0] + 1 / e[1]) for i in (0, 1)]
    assert w[1] / w[0] == pytest.approx(39.54, rel=1e-3)
    out = losses.class_balanced_loss(z, y, class_counts=[5000, 100], reduction="none", impl=impl)
    close(out, [w[0] * math.log(2), w[1] * math.log(2)])
    weights = class_weights([5000, 100], "effective_number")
    z, y = rows(c=2)
    mine = losses.class_balanced_loss(z, y, class_counts=[5000, 100], gamma=1.5, impl=impl)
    close(mine, losses.focal_loss(z, y, gamma=1.5, weight=weights, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
def test_logit_adjustment_adds_the_log_prior_in_training(impl):
    z, y = rows()
    n = torch.tensor([500, 100, 50, 10, 3])
    prior = n.double() / n.sum()
    close(losses.logit_adjusted_loss(z, y, prior=prior, tau=1.5, impl=impl), F.cross_entropy(z + 1.5 * prior.log(), y))
    close(losses.balanced_softmax_loss(z, y, class_counts=n, impl=impl), F.cross_entropy(z + n.double().log(), y))
    close(
        losses.balanced_softmax_loss(z, y, class_counts=n, impl=impl),
        losses.logit_adjusted_loss(z, y, prior=prior, impl=impl),
    )


@pytest.mark.parametrize("impl", IMPLS)
def test_vector_scaling_and_its_two_ends(impl):
    z, y = rows()
    n = torch.tensor([500, 100, 50, 10, 3])
    prior, ratio = n.double() / n.sum(), n.double() / 500
    vs = losses.vector_scaling_loss
    expected = F.cross_entropy(z * ratio**0.3 + 2 * prior.log(), y)
    close(vs(z, y, class_counts=n, gamma=0.3, tau=2.0, impl=impl), expected)
    close(vs(z, y, class_counts=n, gamma=0.0, impl=impl), losses.logit_adjusted_loss(z, y, prior=prior, impl=impl))
    close(vs(z, y, class_counts=n, gamma=0.3, tau=0.0, impl=impl), F.cross_entropy(z * ratio**0.3, y))


@pytest.mark.parametrize("impl", IMPLS)
def test_ldam_takes_the_margin_before_the_scale(impl):
    # n = (16, 1): margins 0.5 · (1/16)^¼ = 0.25 and 0.5
    z, y = torch.tensor([[0.9, 0.1], [0.2, 0.4]], dtype=D), torch.tensor([0, 1])
    shifted = torch.tensor([[0.9 - 0.25, 0.1], [0.2, 0.4 - 0.5]], dtype=D)
    close(losses.ldam_loss(z, y, class_counts=[16, 1], scale=30.0, impl=impl), F.cross_entropy(30 * shifted, y))


@pytest.mark.parametrize("impl", IMPLS)
def test_poly_adds_one_minus_p(impl):
    z, y = rows()
    p = torch.softmax(z, 1)[torch.arange(len(y)), y]
    close(losses.poly_loss(z, y, epsilon=2.0, impl=impl), F.cross_entropy(z, y) + 2 * (1 - p).mean())


@pytest.mark.parametrize("impl", IMPLS)
def test_label_aware_smoothing_runs_from_tail_to_head(impl):
    # n = (101, 51, 1): ε = 0.1 + 0.3 · sin(π/2 · (n − 1)/100) = 0.4, 0.1 + 0.3 · sin(π/4), 0.1
    z, y = rows(n=3, c=3)
    y = torch.tensor([0, 1, 2])
    eps = [0.4, 0.1 + 0.3 * math.sin(math.pi / 4), 0.1]
    expected = [F.cross_entropy(z[i : i + 1], y[i : i + 1], label_smoothing=eps[i]).item() for i in range(3)]
    out = losses.label_aware_smoothing_loss(
        z, y, class_counts=[101, 51, 1], head=0.4, tail=0.1, reduction="none", impl=impl
    )
    close(out, expected)
    same = losses.label_aware_smoothing_loss(z, y, class_counts=[7, 7, 7], head=0.4, tail=0.1, impl=impl)
    close(same, F.cross_entropy(z, y, label_smoothing=0.4))  # equal counts: ε of the head, not 0/0


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy_is_torchs(impl, reduction):
    z, _ = rows()
    t = (rows(seed=2)[0] > 0).double()
    v = torch.tensor([1.0, 9.0, 2.0, 0.5, 3.0], dtype=D)
    expected = F.binary_cross_entropy_with_logits(z, t, pos_weight=v, reduction=reduction)
    close(losses.binary_cross_entropy(z, t, pos_weight=v, reduction=reduction, impl=impl), expected)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 1.0), (0.5, 0.0)])
def test_sigmoid_focal_is_torchvisions(impl, alpha, gamma):
    z, _ = rows()
    t = (rows(seed=2)[0] > 0).double()
    ours = losses.sigmoid_focal_loss(z, t, alpha=alpha, gamma=gamma, reduction="none", impl=impl)
    torch.testing.assert_close(ours, torchvision_focal(z, t, alpha, gamma, reduction="none"), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("impl", IMPLS)
def test_asymmetric_by_hand(impl):
    # A negative at z = 0: p = ½, with the margin 0.45; 0.45⁴ · −log(0.55). A positive at z = 0: ½¹ · log 2.
    # A negative at z = −4: p = 0.018 < 0.05, so it counts for nothing.
    z, t = torch.tensor([[0.0, 0.0, -4.0]], dtype=D), torch.tensor([[0.0, 1.0, 0.0]], dtype=D)
    out = losses.asymmetric_loss(z, t, reduction="none", impl=impl)
    close(out, [[0.45**4 * -math.log(0.55), 0.5 * math.log(2), 0.0]])


@pytest.mark.parametrize("impl", IMPLS)
def test_class_balanced_sigmoid_weighs_the_row_by_the_targets_class(impl):
    z, y = rows(c=3)
    w = torch.from_numpy(class_weights([90, 9, 1], "effective_number", beta=0.9))
    one_hot = F.one_hot(y, 3).double()
    bce = F.binary_cross_entropy_with_logits(z, one_hot, reduction="none").sum(1)
    out = losses.class_balanced_sigmoid_loss(z, y, class_counts=[90, 9, 1], beta=0.9, reduction="batchmean", impl=impl)
    close(out, (w[y] * bce).mean())


def test_tversky_by_hand():
    # Two pixels, two classes, p = (¾, ¼) twice, targets 0 and 1. Class 0: TP ¾, FP ¾, FN ¼; class 1: TP ¼, FP ¼, FN ¾.
    z = torch.log(torch.tensor([0.75, 0.25], dtype=D)).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    y = torch.tensor([[[0, 1]]])
    ti = [0.75 / (0.75 + 0.3 * 0.75 + 0.7 * 0.25), 0.25 / (0.25 + 0.3 * 0.25 + 0.7 * 0.75)]
    out = losses.tversky_loss(z, y, alpha=0.3, beta=0.7, gamma=2.0, smooth=0.0)
    close(out, ((1 - ti[0]) ** 2 + (1 - ti[1]) ** 2) / 2)
    dice = [2 * 0.75 / (2 * 0.75 + 0.75 + 0.25), 2 * 0.25 / (2 * 0.25 + 0.25 + 0.75)]
    close(losses.dice_loss(z, y, smooth=0.0), 1 - sum(dice) / 2)
    options = losses.FocalTverskyLoss().keywords
    assert options["gamma"] == 0.75  # Abraham & Khan 2019: 1/γ of their γ = 4/3
    close(losses.focal_tversky_loss(z, y, smooth=0.0), losses.tversky_loss(z, y, **{**options, "smooth": 0.0}))


def test_false_positives_are_alphas_and_misses_are_betas():
    # Everything is called class 1: class 1 has only false positives, class 0 only misses.
    z = torch.tensor([-50.0, 50.0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    y = torch.tensor([[[0, 0, 1, 1]]])
    none = {"smooth": 0.0, "reduction": "none"}
    close(losses.tversky_loss(z, y, alpha=1.0, beta=0.0, **none)[1], 1 - 2 / (2 + 2))
    close(losses.tversky_loss(z, y, alpha=0.0, beta=1.0, **none)[1], 0.0)


@pytest.mark.parametrize("impl", IMPLS)
def test_presets_combine_in_one_call(impl):
    """Class-balanced, focal, logit-adjusted, smoothed, mixup's soft targets, an ignored row: by the formula."""
    z, y = rows(n=6, c=3)
    n = torch.tensor([90.0, 9.0, 1.0], dtype=D)
    lam = 0.3
    soft = lam * F.one_hot(y, 3).double() + (1 - lam) * F.one_hot(y.flip(0), 3).double()
    w = torch.from_numpy(class_weights([90, 9, 1], "effective_number", beta=0.99))
    offset = (n / n.sum()).log()
    out = losses.class_balanced_loss(
        z, soft, class_counts=[90, 9, 1], beta=0.99, gamma=2.0, offset=offset, label_smoothing=0.1, impl=impl
    )
    log_p = torch.log_softmax(z + offset, 1)
    q = 0.9 * soft + 0.1 / 3
    each = (w * q * (1 - log_p.exp()) ** 2 * -log_p).sum(1)
    close(out, each.sum() / (soft * w).sum())


FACTORS = torch.tensor([1.0, 0.7, 0.55, 0.33, 0.1])  # of dtype float32, so that both computations have the same
LARGE = {
    "offset": (losses.logit_adjusted_loss, {"prior": [0.5, 0.25, 0.2, 0.04, 0.01]}),
    "scale, margin": (losses.ldam_loss, {"class_counts": [90, 50, 9, 4, 1], "scale": 2.0}),
    "class_scale, offset": (losses.softmax_loss, {"class_scale": FACTORS, "offset": [0.1, -0.7, 0.3, 1.0, 2.0]}),
    "masked": (losses.softmax_loss, {"offset": [0.1, -0.7, 0.3, -math.inf, 2.0]}),
    "smoothed": (losses.softmax_loss, {"offset": [0.1, -0.7, 0.3, 1.0, 2.0], "label_smoothing": 0.1}),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("impl", ["reference", "closed_form"])
def test_logits_of_10000_keep_the_digits_of_what_is_added_to_them(name, impl):
    """z + b in float32 has an error of 5e-4 there; the maximum of z is subtracted before b is added."""
    generator = torch.Generator().manual_seed(0)
    z = (torch.randn(200, 5, generator=generator) * 3 + 1e4 * torch.randn(200, 1, generator=generator).sign()).float()
    y = torch.randint(3, (200,), generator=generator)
    loss, options = LARGE[name]
    if "class_scale" in options:
        z = z / FACTORS  # so that no class is the largest in every row
    outcomes = []
    for logits in (z, z.double()):
        leaf = logits.clone().requires_grad_()
        rows = loss(leaf, y, reduction="none", impl=impl, **options)
        rows.sum().backward()
        outcomes.append((rows.detach().double(), leaf.grad.double()))
    (rows, gradient), (right, slope) = outcomes
    assert right.median() > 0.01
    assert ((rows - right).abs() / right.clamp(min=1.0)).max() <= 2e-6
    assert (gradient - slope).abs().max() <= 2e-6


@pytest.mark.parametrize("impl", IMPLS)
def test_no_clip_is_a_clip_of_zero(impl):
    z, y = rows()
    close(losses.asymmetric_loss(z, y, clip=None, impl=impl), losses.asymmetric_loss(z, y, clip=0.0, impl=impl))
