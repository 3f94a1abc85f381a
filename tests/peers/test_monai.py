"""Known values of MONAI's loss tests, each compared with the formula computed again; MONAI is not installed.

MONAI's focal loss is a sigmoid per class. With ``use_softmax`` its mean also divides by the number of classes.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.peers.conftest import AS_THE_PEER

from counterpoise import losses
from counterpoise.core.errors import CounterpoiseError

D = torch.float64

# (1, 3, 2, 2): the three classes have the same logit in each of the four pixels; (1, 2, 2) class indices.
LOGITS = torch.tensor([[1.0, 1.0], [0.5, 0.0]], dtype=D).expand(1, 3, 2, 2)
MASK = torch.tensor([[[0, 1], [2, 0]]])
ONE_HOT = F.one_hot(MASK, 3).movedim(-1, 1)


def focal_by_formula(weight_positive=1.0, weight_negative=1.0):
    p, t = LOGITS.sigmoid(), ONE_HOT
    positive, negative = (1 - p) ** 2 * p.log(), p**2 * (1 - p).log()
    return -(weight_positive * t * positive + weight_negative * (1 - t) * negative)


@pytest.mark.parametrize("target", [MASK, ONE_HOT], ids=["class indices", "labels"])
@pytest.mark.parametrize(("alpha", "published"), [(None, 0.34959), (0.8, 0.08423)])
def test_focal_loss(target, alpha, published):
    ours = losses.sigmoid_focal_loss(LOGITS, target, alpha=alpha)
    assert ours.item() == pytest.approx(published, abs=1e-4)
    weights = () if alpha is None else (alpha, 1 - alpha)
    torch.testing.assert_close(ours, focal_by_formula(*weights).mean())


def test_focal_loss_without_the_background():
    ours = losses.sigmoid_focal_loss(LOGITS[:, 1:], ONE_HOT[:, 1:], alpha=None)
    assert ours.item() == pytest.approx(0.36498, abs=1e-4)
    torch.testing.assert_close(ours, focal_by_formula()[:, 1:].mean())


@pytest.mark.parametrize("weight", [None, [0.5, 0.1, 0.2]])
def test_focal_loss_of_each_element(weight):
    ours = losses.sigmoid_focal_loss(LOGITS, MASK, alpha=None, weight=weight, reduction="none")
    factors = torch.tensor([1.0] * 3 if weight is None else weight, dtype=D).reshape(1, 3, 1, 1)
    torch.testing.assert_close(ours, focal_by_formula() * factors)
    # The first pixel, of class 0: MONAI's table has 0.02266, 0.70187, 0.70187 before the weights.
    published = torch.tensor([0.02266, 0.70187, 0.70187], dtype=D) * factors.flatten()
    torch.testing.assert_close(ours[0, :, 0, 0], published, rtol=0, atol=1e-5)


def test_focal_loss_on_a_softmax(cases):
    """The softmax is uniform: (2/3)² log 3 in each pixel, and MONAI's mean divides by 3 classes as well."""
    ours = losses.focal_loss(LOGITS, MASK, normalizer=LOGITS.numel())
    assert ours.item() == pytest.approx(0.16276, abs=1e-5)
    assert ours.item() == pytest.approx((2 / 3) ** 2 * torch.tensor(3.0, dtype=D).log().item() / 3)
    cases["mean over rows and classes"] += 1


def test_focal_loss_on_a_softmax_with_alpha(cases):
    """α for every class but the background, whose weight is 1 − α: pixels of the classes 0, 1, 2, 0."""
    ours = losses.focal_loss(LOGITS, MASK, alpha=[0.2, 0.8, 0.8], normalizer=LOGITS.numel())
    assert ours.item() == pytest.approx(0.08138, abs=1e-5)
    cases["one alpha for a softmax"] += 1


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("shape", [(128, 10), (16, 10, 8, 4)])
@pytest.mark.parametrize("indices", [False, True])
def test_without_focusing_it_is_cross_entropy(shape, reduction, indices):
    g = torch.Generator().manual_seed(0)
    z = torch.rand(shape, generator=g)
    if indices:
        target = torch.randint(10, (shape[0], *shape[2:]), generator=g)
        labels = F.one_hot(target, 10).movedim(-1, 1).float()
    else:
        target = labels = torch.randint(2, shape, generator=g).float()
    ours = losses.sigmoid_focal_loss(z, target, alpha=None, gamma=0.0, reduction=reduction)
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(z, labels, reduction=reduction))
    focused = losses.sigmoid_focal_loss(z, target, alpha=None, gamma=0.1, reduction=reduction)
    assert (ours - focused).abs().max() > 1e-3


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("extra", [(), (4,)], ids=["2d", "3d"])
def test_a_right_and_confident_model_has_no_loss(alpha, softmax, classes, extra):
    mask = torch.zeros(1, *extra, 4, 4, dtype=torch.int64)
    mask[..., 1:3, 1:3] = torch.tensor([[1, 2], [3, 4]]) % classes
    z = 1000.0 * F.one_hot(mask, classes).movedim(-1, 1).float() - 500.0
    if softmax:
        loss = losses.focal_loss(z, mask, alpha=None if alpha is None else [alpha] * classes)
    else:
        loss = losses.sigmoid_focal_loss(z, mask, alpha=alpha)
    assert loss.item() == 0.0


def test_foreground(cases):
    """A background of ones and a foreground of zeros, with one pixel of the foreground in the middle."""
    z = torch.cat([torch.ones(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)], 1)
    y = z.clone()
    y[0, :, 2, 2] = torch.tensor([0.0, 1.0])
    assert losses.sigmoid_focal_loss(z, y, alpha=None).item() == pytest.approx(0.1116, abs=1e-3)
    assert losses.sigmoid_focal_loss(z[:, 1:], y[:, 1:], alpha=None).item() == pytest.approx(0.1733, abs=1e-4)
    cases[AS_THE_PEER] += 2


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 2, 3), {"reduction": "unknown"}, "`reduction`"),
        ((1, 3), {}, "`target`"),
        ((1, 2, 3), {"weight": [1.0, 1.0, 2.0]}, "`weight`"),
        ((1, 2, 3), {"weight": [1.0, -1.0]}, "`weight`"),
        ((1, 2, 3), {"pos_weight": [1.0] * 3}, "`pos_weight`"),
    ],
)
def test_what_monai_refuses_is_refused(shape, options, message):
    with pytest.raises(CounterpoiseError, match=message):
        losses.sigmoid_focal_loss(torch.ones(1, 2, 3), torch.ones(shape), **options)


# Logits and masks of the Dice and Tversky tests. MONAI's `smooth_nr` and `smooth_dr` of Dice are those of 2 TP, so that
# they are twice `smooth`; those of Tversky are `smooth`.
BINARY = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=D).reshape(1, 1, 2, 2)
BINARY_MASK = torch.tensor([[1, 0], [1, 1]]).reshape(1, 1, 2, 2)
TWO_MASKS = torch.tensor([[[1, 1], [1, 1]], [[1, 0], [1, 0]]]).reshape(2, 1, 2, 2)
CLASSES = torch.tensor([[[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], dtype=D)
CLASS_MASK = torch.tensor([[1, 0, 0], [1, 1, 0]])

OVERLAP = {
    "binary dice": (losses.dice_loss, BINARY, BINARY_MASK, {"smooth": 5e-7}, 0.307576),
    "two binary masks": (losses.dice_loss, BINARY.repeat(2, 1, 1, 1), TWO_MASKS, {"smooth": 5e-5}, 0.416657),
    "sigmoid of two classes": (losses.dice_loss, CLASSES, CLASS_MASK, {"smooth": 5e-5}, 0.435050),
    "its terms": (
        losses.dice_loss,
        CLASSES,
        CLASS_MASK,
        {"smooth": 5e-5, "reduction": "none"},
        [[0.296529, 0.415136], [0.599976, 0.428559]],
    ),
    "softmax": (losses.dice_loss, CLASSES, CLASS_MASK, {"smooth": 5e-5, "activation": "softmax"}, 0.383713),
    "sum of the terms": (
        losses.dice_loss,
        CLASSES,
        CLASS_MASK,
        {"smooth": 5e-5, "activation": "softmax", "reduction": "sum"},
        1.534853,
    ),
    "jaccard": (losses.jaccard_loss, BINARY, BINARY_MASK, {"smooth": 5e-6}, 0.470451),
    "tversky": (losses.tversky_loss, BINARY, BINARY_MASK, {"smooth": 1e-6}, 0.307576),
    "false negatives weigh more": (
        losses.tversky_loss,
        BINARY,
        BINARY_MASK,
        {"smooth": 1e-6, "alpha": 0.3, "beta": 0.7},
        0.3589,
    ),
    "false positives weigh more": (
        losses.tversky_loss,
        BINARY,
        BINARY_MASK,
        {"smooth": 1e-6, "alpha": 0.7, "beta": 0.3},
        0.247366,
    ),
    "counts of the batch": (losses.tversky_loss, CLASSES, CLASS_MASK, {"smooth": 1e-5, "batch": True}, 0.422979),
    "sum of sigmoids": (losses.tversky_loss, CLASSES, CLASS_MASK, {"smooth": 1e-4, "reduction": "sum"}, 1.74013),
    "tversky on a softmax": (
        losses.tversky_loss,
        CLASSES,
        CLASS_MASK,
        {"smooth": 1e-4, "activation": "softmax", "reduction": "none"},
        [[0.210961, 0.295339], [0.599952, 0.428547]],
    ),
}


def overlap_by_formula(function, z, mask, options):
    """1 − (TP + s)/(TP + α FP + β FN + s) per image and class, with sums over the batch for ``batch``."""
    sigmoid = options.get("activation", "sigmoid") == "sigmoid"
    p = z.sigmoid() if sigmoid else torch.softmax(z, 1)
    t = mask if mask.shape == z.shape else F.one_hot(mask, z.shape[1]).movedim(-1, 1)
    dims = [d for d in range(z.dim()) if d != 1 and (d or options.get("batch", False))]
    tp, fp, fn = (x.sum(dims) for x in (p * t, p * (1 - t), (1 - p) * t))
    even = 1.0 if function is losses.jaccard_loss else 0.5
    alpha, beta, s = options.get("alpha", even), options.get("beta", even), options["smooth"]
    terms = 1 - (tp + s) / (tp + alpha * fp + beta * fn + s)
    return {"mean": terms.mean(), "sum": terms.sum(), "none": terms}[options.get("reduction", "mean")]


@pytest.mark.parametrize("name", OVERLAP)
def test_overlap_losses(name):
    function, z, mask, options, published = OVERLAP[name]
    ours = function(z, mask, **{"activation": "sigmoid", "batch": False, **options})
    torch.testing.assert_close(ours, torch.tensor(published, dtype=D), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours, overlap_by_formula(function, z, mask, options))


@pytest.mark.parametrize("function", [losses.dice_loss, losses.tversky_loss, losses.jaccard_loss])
def test_a_foreground_that_is_right_has_no_loss(function):
    z = 100.0 * torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    mask = torch.tensor([[0, 0, 1], [0, 1, 0]])
    assert function(z, mask, include_background=False, batch=False, smooth=0.0).item() == pytest.approx(0, abs=1e-6)


def test_ignored_pixels_are_as_pixels_that_are_not_there(cases):
    z = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=D).requires_grad_()
    mask = torch.tensor([[[0, 1], [2, 2]]])
    ours = losses.dice_loss(z, mask, ignore_index=2, batch=False)
    torch.testing.assert_close(ours, losses.dice_loss(z[:, :, :1], mask[:, :1], batch=False))
    ours.backward()
    assert not z.grad[:, :, 1].any()
    assert z.grad[:, :, 0].any()
    cases[AS_THE_PEER] += 2


@pytest.mark.parametrize("function", [losses.dice_loss, losses.tversky_loss])
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 5, 6), {}, "`target`"),
        ((1, 3), {"reduction": "unknown"}, "`reduction`"),
        ((1, 3), {"reduction": None}, "`reduction`"),
    ],
)
def test_what_monai_refuses_of_overlap_losses_is_refused(function, shape, options, message):
    with pytest.raises(CounterpoiseError, match=message):
        function(torch.ones(1, 2, 3), torch.ones(shape, dtype=torch.int64), **options)
