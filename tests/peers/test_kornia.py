"""Losses against those of `kornia.losses`; the cases follow kornia's tests/losses."""

from __future__ import annotations

import pytest
import torch
from tests.peers.comparing import assert_agree

from counterpoise import losses

kornia = pytest.importorskip("kornia.losses")

D = torch.float64
DTYPES = [D, torch.float32, torch.bfloat16, torch.float16]


def labels(shape=(2, 3, 2), ignore=None):
    """Logits, and fractional labels of which some are ignored."""
    g = torch.Generator().manual_seed(0)
    z, t = 3 * torch.randn(shape, generator=g, dtype=D), torch.rand(shape, generator=g, dtype=D)
    if ignore is not None:
        t[torch.rand(shape, generator=g) > 0.6] = ignore
    return z, t


def masks(c=3, ignore=None, shape=(2, 3, 2)):
    """Dense logits and class indices; every class occurs in every image."""
    g = torch.Generator().manual_seed(1)
    z = 2 * torch.randn((shape[0], c, *shape[1:]), generator=g, dtype=D)
    y = torch.arange(shape[0] * shape[1] * shape[2]).reshape(shape) % c
    if ignore is not None:
        y[:, -1, 0] = ignore
    return z, y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("alpha", [None, 0.2, 0.5])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_binary_focal_loss(dtype, reduction, alpha, gamma):
    z, t = (x.to(dtype) for x in labels())
    assert_agree(
        lambda z, t: losses.sigmoid_focal_loss(z, t, alpha, gamma, reduction),
        lambda z, t: kornia.binary_focal_loss_with_logits(z, t, alpha, gamma, reduction),
        z,
        t,
        atol=1e-6,
    )


@pytest.mark.parametrize("pos_weight", [None, (1.0, 2.0, 5.0)])
@pytest.mark.parametrize("weight", [None, (0.2, 0.5, 0.8)])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_binary_focal_loss_with_weights(pos_weight, weight, reduction):
    v, w = (None if x is None else torch.tensor(x, dtype=D) for x in (pos_weight, weight))
    given = {"alpha": 0.8, "gamma": 0.5, "reduction": reduction, "pos_weight": v, "weight": w}
    assert_agree(
        lambda z, t: losses.sigmoid_focal_loss(z, t, **given),
        lambda z, t: kornia.binary_focal_loss_with_logits(z, t, **given),
        *labels(),
    )


@pytest.mark.parametrize("ignore_index", [-100, 255])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_binary_focal_loss_with_ignored_labels(ignore_index, reduction):
    given = {"alpha": 0.8, "gamma": 0.5, "reduction": reduction, "ignore_index": ignore_index}
    assert_agree(
        lambda z, t: losses.sigmoid_focal_loss(z, t, **given),
        lambda z, t: kornia.binary_focal_loss_with_logits(z, t, **given),
        *labels(ignore=ignore_index),
    )


def test_binary_focal_loss_at_large_logits():
    z, y = torch.tensor([[100.0, -100.0]]), torch.tensor([[1.0, 0.0]])
    assert losses.sigmoid_focal_loss(z, y, 0.25, 2.0, reduction="none").tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("ignore", [None, -100, 255])
def test_focal_loss_summed(dtype, gamma, ignore):
    z, y = masks(ignore=ignore)
    ignore_index = -100 if ignore is None else ignore
    assert_agree(
        lambda z: losses.focal_loss(z, y, None, gamma, "sum", ignore_index=ignore_index),
        lambda z: kornia.focal_loss(z, y, None, gamma, "sum", ignore_index=ignore_index),
        z.to(dtype),
    )


@pytest.mark.parametrize("weight", [(0.2, 0.5, 0.8), (0.0, 1.0, 1.0)])
def test_focal_loss_with_class_weights(weight):
    z, y = masks()
    w = torch.tensor(weight, dtype=D)
    assert_agree(
        lambda z: losses.focal_loss(z, y, gamma=0.5, weight=w, reduction="sum"),
        lambda z: kornia.focal_loss(z, y, None, 0.5, "sum", w),
        z,
    )


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), torch.finfo(torch.float32).max])
def test_focal_loss_of_an_ignored_row_does_not_depend_on_its_logits(value):
    y = torch.tensor([-100, 1])
    z = torch.tensor([[value, 0.0], [0.3, -0.2]], requires_grad=True)
    loss = losses.focal_loss(z, y, reduction="sum")
    loss.backward()
    safe = torch.tensor([[0.0, 0.0], [0.3, -0.2]])
    torch.testing.assert_close(loss.detach(), losses.focal_loss(safe, y, reduction="sum"))
    assert z.grad[0].tolist() == [0.0, 0.0]
    assert z.grad[1].abs().sum() > 0


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_focal_loss_of_an_ignored_class_equals_a_masked_extra_class(reduction):
    z, y = masks(ignore=255)
    wider = torch.cat([z, torch.full_like(z[:, :1], -torch.inf)], 1)
    torch.testing.assert_close(
        losses.focal_loss(z, y, ignore_index=255, reduction=reduction),
        losses.focal_loss(wider, y, ignore_index=255, reduction=reduction),
    )


W = torch.tensor([0.5, 1.0, 3.0], dtype=D)


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("weight", [None, W])
@pytest.mark.parametrize("ignore", [None, -100, 255])
def test_dice_loss(average, weight, ignore):
    z, y = masks(ignore=ignore)
    ignore_index = -100 if ignore is None else ignore
    # The peer's one-hot target has 1e-6 instead of 0.
    assert_agree(
        lambda z: losses.dice_loss(
            z, y, average=average, batch=False, weight=weight, ignore_index=ignore_index, smooth=0.0
        ),
        lambda z: kornia.dice_loss(z, y, average, 0.0, weight, ignore_index),
        z,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dice_loss_of_every_dtype(average, dtype):
    z, y = masks(c=2)
    assert_agree(
        lambda z: losses.DiceLoss(average=average, batch=False, smooth=0.0)(z, y),
        lambda z: kornia.DiceLoss(average, 0.0)(z, y),
        z.to(dtype),
        rtol=1e-4,
        atol=1e-5,
    )


def test_dice_loss_by_hand():
    """Four pixels of class 0: three with logits (10, 1), one with (1, 10); and weights that leave class 0 out."""
    z = torch.tensor([[10.0, 10, 10, 1], [1, 1, 1, 10]], dtype=D).reshape(1, 2, 4, 1)
    y = torch.zeros(1, 4, 1, dtype=torch.int64)
    p = torch.softmax(z, 1)[0, 0].sum()
    options = {"batch": False, "smooth": 0.0}
    torch.testing.assert_close(losses.dice_loss(z, y, average="micro", **options), 1 - 2 * p / 8)
    torch.testing.assert_close(losses.dice_loss(z, y, average="macro", **options), 1 - 2 * p / (4 + p))


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.7, 0.3), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("ignore", [None, -100, 255])
def test_tversky_loss(alpha, beta, ignore):
    z, y = masks(ignore=ignore)
    ignore_index = -100 if ignore is None else ignore
    assert_agree(
        lambda z: losses.tversky_loss(z, y, alpha=alpha, beta=beta, batch=False, ignore_index=ignore_index, smooth=0.0),
        lambda z: kornia.tversky_loss(z, y, alpha, beta, 0.0, ignore_index),
        z,
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.0, 1.0)])
def test_tversky_loss_of_images_that_lack_a_class(alpha, beta):
    """An image with the classes 0 and 1, and one with class 2: absent classes do not enter the mean of their image."""
    p = torch.tensor(
        [[[0.5, 0.25, 0.125, 0.5], [0.25, 0.5, 0.125, 0.25]], [[0.5, 0.25, 0.5, 0.25], [0.25, 0.5, 0.25, 0.5]]], dtype=D
    )
    z = torch.cat([p, 1 - p.sum(1, keepdim=True)], 1).log().reshape(2, 3, 1, 4)
    y = torch.tensor([[[0, 1, 1, 0]], [[2, 2, 2, 2]]])
    by_hand = [1 / (1 + 0.375 * alpha + beta), 0.625 / (0.625 + 0.5 * alpha + 1.375 * beta), 1 / (1 + 3 * beta)]
    expected = 1 - ((by_hand[0] + by_hand[1]) / 2 + by_hand[2]) / 2
    ours = losses.tversky_loss(z, y, alpha=alpha, beta=beta, batch=False, smooth=0.0)
    assert ours.item() == pytest.approx(expected)
    assert kornia.tversky_loss(z, y, alpha, beta, 0.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.0, 0.5), (0.0, 1.0)])
def test_a_class_without_a_right_prediction_has_loss_1(alpha, beta):
    z = torch.tensor([[[[100.0, 100.0]], [[-100.0, -100.0]], [[-100.0, -100.0]]]], requires_grad=True)
    y = torch.tensor([[[0, 1]]])
    loss = losses.tversky_loss(z, y, alpha=alpha, beta=beta, batch=False, smooth=1e-8)
    assert loss.item() == pytest.approx(1 - (1 / (1 + alpha)) / 2)
    loss.backward()
    assert z.grad.isfinite().all()


def test_a_rare_class_that_is_right_has_no_loss():
    y = torch.zeros(1, 64, 96, dtype=torch.int64)
    y[0, 0, 0] = 1
    z = torch.full((1, 3, 64, 96), -40.0).scatter_(1, y[:, None], 40.0)
    assert losses.tversky_loss(z, y, alpha=0.3, beta=0.7, smooth=0.0).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tversky_loss_of_large_images_in_half_precision(dtype):
    z = torch.full((1, 2, 256, 256), -2.0, dtype=dtype)
    z[:, 0] = 2.0
    y = torch.zeros(1, 256, 256, dtype=torch.int64)
    assert_agree(
        lambda z: losses.tversky_loss(z, y, smooth=0.0),
        lambda z: kornia.tversky_loss(z, y, 0.5, 0.5, 0.0),
        z,
        rtol=1e-4,
    )
