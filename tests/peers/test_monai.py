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


def test_focal_loss_on_a_softmax():
    """The softmax is uniform: (2/3)² log 3 in each pixel, and MONAI's mean divides by 3 classes as well."""
    ours = losses.focal_loss(LOGITS, MASK, normalizer=LOGITS.numel())
    assert ours.item() == pytest.approx(0.16276, abs=1e-5)
    assert ours.item() == pytest.approx((2 / 3) ** 2 * torch.tensor(3.0, dtype=D).log().item() / 3)


def test_focal_loss_on_a_softmax_with_alpha():
    """α for every class but the background, whose weight is 1 − α: pixels of the classes 0, 1, 2, 0."""
    ours = losses.focal_loss(LOGITS, MASK, alpha=[0.2, 0.8, 0.8], normalizer=LOGITS.numel())
    assert ours.item() == pytest.approx(0.08138, abs=1e-5)


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
