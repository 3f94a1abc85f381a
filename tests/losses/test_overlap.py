"""The overlap losses: every combination against plain formulas and the packages that compute the same."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import segmentation_models_pytorch.losses as smp
import torch
from kornia.losses import dice_loss as kornia_dice
from tests.contracts.loss_specs import sample, value_and_gradient
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from counterpoise import losses
from counterpoise.core.errors import ArgumentError
from counterpoise.kernels import overlap
from counterpoise.losses.overlap import OverlapLoss

SHAPE = (3, 4, 5, 6)
W = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
ALL = list(itertools.product(("macro", "micro"), (True, False), ("softmax", "sigmoid"), (True, False)))
every_combination = pytest.mark.parametrize(("average", "batch", "activation", "background"), ALL)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def masks(activation, *, ignored=False, seed=1):
    """Class indices in which image 0 lacks class 3 and nothing is class 2, or labels of which none is class 2."""
    generator = torch.Generator().manual_seed(seed)
    if activation == "sigmoid":
        target = (torch.rand(SHAPE, generator=generator) < 0.4).long()
        target[:, 2], target[0, 3] = 0, 0
    else:
        target = torch.randint(2, (SHAPE[0], *SHAPE[2:]), generator=generator)
        target[1:, 0, 1] = 3
    if ignored:
        target[1, ..., :2], target[2] = 255, 255
    return target


def by_hand(
    z, target, average, batch, activation, background, *, w=None, u=None, alpha=0.3, beta=0.7, gamma=1.5, s=0.1
):
    """The loss in the words of its documentation, image by image and class by class."""
    p = torch.softmax(z, 1) if activation == "softmax" else torch.sigmoid(z)
    keep = target != 255
    if activation == "softmax":
        t = F.one_hot(torch.where(keep, target, 0), z.shape[1]).movedim(-1, 1).double()
        keep = keep.unsqueeze(1).expand_as(z)
    else:
        t = torch.where(keep, target, 0).double()
    u = keep * (torch.ones(1) if u is None else u.unsqueeze(1))
    w = torch.ones(z.shape[1]).double() if w is None else w
    images = [slice(None)] if batch else [slice(i, i + 1) for i in range(len(z))]
    values = []
    for i in images:
        terms, weights, total = [], [], [0.0, 0.0, 0.0]
        for c in range(0 if background else 1, z.shape[1]):
            tp, fp, fn = ((u * x)[i, c].sum() for x in (t * p, (1 - t) * p, t * (1 - p)))
            total = [a + w[c] * b for a, b in zip(total, (tp, fp, fn), strict=True)]
            if average == "macro" and (u * t)[i, c].sum() > 0:
                terms.append((1 - (tp + s) / (tp + alpha * fp + beta * fn + s)) ** gamma)
                weights.append(w[c])
        if average == "micro" and u[i].sum() > 0:
            tp, fp, fn = total
            terms, weights = [(1 - (tp + s) / (tp + alpha * fp + beta * fn + s)) ** gamma], [1.0]
        if terms:
            values.append(sum(x * y for x, y in zip(terms, weights, strict=True)) / sum(weights))
    return sum(values) / len(values)


@every_combination
@pytest.mark.parametrize("ignored", [False, True])
def test_every_combination_by_hand(average, batch, activation, background, ignored):
    logits, _ = sample(SHAPE, scale=2.0)
    target = masks(activation, ignored=ignored)
    u = torch.rand(SHAPE[0], *SHAPE[2:], generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    options = {"average": average, "batch": batch, "activation": activation, "include_background": background}
    for extra, more in (({}, {}), ({"weight": W, "sample_weight": u}, {"w": W, "u": u})):
        loss = losses.TverskyLoss(
            alpha=0.3, beta=0.7, gamma=1.5, smooth=0.1, ignore_index=255, weight=extra.get("weight"), **options
        )
        found = value_and_gradient(loss, logits, target, **{k: x for k, x in extra.items() if k != "weight"})
        hand = partial(by_hand, average=average, batch=batch, activation=activation, background=background, **more)
        expected = value_and_gradient(hand, logits, target)
        close(found, expected)


@every_combination
def test_the_reference_and_the_closed_form_agree(average, batch, activation, background, monkeypatch):
    """In every layout, dtype and reduction, with blocks of any size; and first and second derivatives are exact."""
    options = {"average": average, "batch": batch, "activation": activation, "include_background": background}
    target = masks(activation, ignored=True)
    logits, _ = sample(SHAPE)
    for reduction in ("mean", "sum", "none"):
        loss = partial(losses.tversky_loss, gamma=0.75, ignore_index=255, reduction=reduction, **options)
        with monkeypatch.context() as patch:
            patch.setattr(overlap, "is_traced", lambda _: True)
            want = value_and_gradient(loss, logits, target)
        for size in (1, 7, 50, 10**6):
            monkeypatch.setattr(overlap, "_BLOCK", size)
            for z in (logits, logits.contiguous(memory_format=torch.channels_last), logits.mT.contiguous().mT):
                close(value_and_gradient(loss, z, target), want)
        assert gradcheck(lambda z, loss=loss: loss(z, target), logits.clone().requires_grad_(), fast_mode=True)
        assert gradgradcheck(lambda z, loss=loss: loss(z, target), logits.clone().requires_grad_(), fast_mode=True)
    half, gradient = value_and_gradient(loss, logits.half(), target)
    exact = value_and_gradient(loss, logits.half().double(), target)
    close((half.double(), gradient.double()), exact, 2e-3)
    assert gradient.dtype == torch.float16


def test_the_closed_form_runs_and_keeps_nothing_of_the_logits_size():
    for activation in ("softmax", "sigmoid"):
        target, saved = masks(activation), []
        leaf = sample(SHAPE)[0].requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t) or t, lambda t: t):
            losses.dice_loss(leaf, target, activation=activation)
        of_size = [t for t in saved if t.numel() >= leaf.numel()]
        assert {t.data_ptr() for t in of_size} <= {leaf.data_ptr(), target.data_ptr()}
        assert len(of_size) > 0


def test_a_confident_pixel_keeps_its_gradient():
    """1 − p by subtraction is 0 here in float32; so is the false negative of a pixel."""
    for activation, logits, target in (
        ("softmax", torch.tensor([[20.0, 0.0, 1.0], [0.0, 25.0, 0.0]]), torch.tensor([0, 1])),
        ("sigmoid", torch.tensor([[25.0, -22.0], [-30.0, 21.0]]), torch.eye(2).long()),
    ):
        loss = partial(losses.dice_loss, activation=activation, smooth=0.0)
        value, gradient = value_and_gradient(loss, logits, target)
        exact, slope = value_and_gradient(loss, logits.double(), target)
        assert 0 < exact < 1e-8
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=0.0)


def test_long_sums_keep_their_digits():
    """A running float32 sum of a million times 0.3 is off by 2 %."""
    logits, target = torch.zeros(1, 2, 1024, 1024), torch.zeros(1, 1024, 1024, dtype=torch.int64)
    logits[:, 1] = 0.85  # p = 0.3
    for options in ({}, {"sample_weight": torch.full((1, 1024, 1024), 0.1)}):
        value, gradient = value_and_gradient(losses.jaccard_loss, logits, target, **options)
        exact, slope = value_and_gradient(losses.jaccard_loss, logits.double(), target, **options)
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("function", [losses.dice_loss, losses.jaccard_loss, losses.tversky_loss])
def test_segmentation_models_pytorch_averages_over_all_classes(function):
    options = {"alpha": 0.3, "beta": 0.7} if function is losses.tversky_loss else {}
    peer = {losses.dice_loss: smp.DiceLoss, losses.jaccard_loss: smp.JaccardLoss, losses.tversky_loss: smp.TverskyLoss}
    logits, _ = sample(SHAPE, scale=2.0)
    target = masks("softmax")
    ours = function(logits, target, smooth=0.0, reduction="none", **options).mean()
    close(ours, peer[function]("multiclass", **options)(logits, target), 1e-9)
    labels = masks("sigmoid")
    ours = function(logits, labels, activation="sigmoid", smooth=0.0, reduction="none", **options).mean()
    close(ours, peer[function]("multilabel", **options)(logits, labels), 1e-9)
    one, mask = logits[:, :1], labels[:, :1]
    ours = function(one, mask, activation="sigmoid", smooth=0.0, reduction="none", **options).mean()
    close(ours, peer[function]("binary", **options)(one, mask), 1e-9)


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("weight", [None, W])
def test_kornia_averages_over_the_images(average, weight):
    logits, _ = sample(SHAPE, scale=2.0)
    target = masks("softmax")
    ours = losses.dice_loss(logits, target, average=average, batch=False, smooth=0.0, weight=weight)
    close(ours, kornia_dice(logits, target, average=average, weight=weight), 1e-8)


def test_monais_formula_where_every_image_has_every_class():
    logits, target = sample(SHAPE, scale=2.0)
    assert all(len(image.unique()) == SHAPE[1] for image in target)
    p, t = torch.softmax(logits, 1), F.one_hot(target, SHAPE[1]).movedim(-1, 1)
    intersection, both = (p * t).sum((2, 3)), (p + t).sum((2, 3))
    monai = (1 - (2 * intersection + 1e-5) / (both + 1e-5)).mean()
    close(losses.dice_loss(logits, target, batch=False, smooth=5e-6), monai)


def test_binary_masks_of_either_shape_and_any_dtype_are_labels():
    logits = sample((2, 1, 4, 5))[0]
    mask = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.3
    want = losses.dice_loss(logits, mask, activation="sigmoid")
    two = torch.cat([torch.zeros_like(logits), logits], 1)  # σ(z) is the softmax of (0, z)
    close(losses.dice_loss(two, mask.squeeze(1).long(), include_background=False), want)
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64):
        for shape in ((2, 1, 4, 5), (2, 4, 5)):
            close(losses.dice_loss(logits, mask.reshape(shape).to(dtype), activation="sigmoid"), want)
    soft = mask.squeeze(1).double() * 0.9
    close(
        losses.dice_loss(logits, soft, activation="sigmoid", smooth=0.0),
        1 - 2 * (soft * logits.squeeze(1).sigmoid()).sum() / (soft.sum() + logits.sigmoid().sum()),
    )


def test_class_indices_of_sigmoids_are_one_vs_rest():
    logits, target = sample(SHAPE)
    labels = F.one_hot(target, SHAPE[1]).movedim(-1, 1)
    by_index = value_and_gradient(partial(losses.dice_loss, activation="sigmoid"), logits, target)
    close(by_index, value_and_gradient(partial(losses.dice_loss, activation="sigmoid"), logits, labels))


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_images_without_rows_do_not_enter_the_mean(average):
    logits, target = sample(SHAPE)
    loss = partial(losses.dice_loss, average=average, batch=False, ignore_index=9)
    want = value_and_gradient(loss, logits[:2], target[:2])
    ignored = target.clone()
    ignored[2] = 9
    logits[2] = torch.nan
    value, gradient = value_and_gradient(loss, logits, ignored)
    close((value, gradient[:2]), want)
    assert not gradient[2].any()
    nothing = value_and_gradient(loss, logits, torch.full_like(target, 9))
    assert nothing[0] == 0
    assert not nothing[1].any()


def test_an_invalid_index_is_nan_where_values_are_not_checked():
    logits, target = sample(SHAPE)
    target[0, 0, 0] = 99
    with losses.checks("never"):
        assert losses.dice_loss(logits, target).isnan()
        assert losses.dice_loss(logits, target, reduction="none").isnan().all()


def test_the_terms_of_none():
    logits, target = sample(SHAPE)
    shapes = {("macro", True): (4,), ("macro", False): (3, 4), ("micro", True): (), ("micro", False): (3,)}
    for (average, batch), shape in shapes.items():
        terms = losses.dice_loss(logits, target, average=average, batch=batch, reduction="none")
        assert terms.shape == shape
        close(terms.sum(), losses.dice_loss(logits, target, average=average, batch=batch, reduction="sum"))
    without = losses.dice_loss(logits, target, include_background=False, reduction="none")
    close(without, losses.dice_loss(logits, target, reduction="none")[1:])


def test_jaccard_and_dice_of_the_same_counts():
    logits, target = sample(SHAPE)
    dice, jaccard = (
        1 - f(logits, target, smooth=0.0, reduction="none") for f in (losses.dice_loss, losses.jaccard_loss)
    )
    close(jaccard, dice / (2 - dice))


@pytest.mark.parametrize(
    "module", [x for x in vars(losses).values() if isinstance(x, type) and issubclass(x, OverlapLoss)]
)
def test_arguments_that_exclude_each_other_are_refused_when_the_module_is_made(module):
    one = torch.zeros(2, 1, 4, 4)
    for options, message in (
        ({}, r'`activation="softmax"` needs at least two classes.*one. Pass activation="sigmoid" for a binary mask'),
        (
            {"activation": "sigmoid", "include_background": False},
            "`include_background=False` leaves class 0 out, and there is no other; leave the argument out",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            module(weight=[1.0], **options)
        with pytest.raises(ArgumentError, match=message):
            module(**options)(one, torch.zeros(2, 4, 4, dtype=torch.int64))
    for name, value in (("average", "weighted"), ("activation", "tanh"), ("batch", 1), ("include_background", "no")):
        with pytest.raises((ArgumentError, TypeError), match=f"`{name}` must be"):
            module(**{name: value})
    loss = module(activation="sigmoid")
    assert "activation='sigmoid'" in repr(loss)
    assert loss(one, torch.ones(2, 4, 4)).item() > 0
    assert loss(one, torch.zeros(2, 4, 4)).item() == 0  # no class is present
    loss.average = "micro"
    assert loss(one, torch.zeros(2, 4, 4)).item() > 0.9  # only false positives


def test_repr_shows_what_a_class_sets_and_what_differs_from_its_own_defaults():
    jaccard = losses.JaccardLoss()
    assert repr(jaccard) == "JaccardLoss(alpha=1.0, beta=1.0)"
    jaccard.alpha = 0.5
    assert repr(jaccard) == "JaccardLoss(alpha=0.5, beta=1.0)"
    assert repr(losses.DiceLoss()) == "DiceLoss()"
    assert repr(losses.FocalLoss(gamma=0.0)) == "FocalLoss(gamma=0.0)"
