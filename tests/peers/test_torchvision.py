"""Sigmoid focal loss against `torchvision.ops.sigmoid_focal_loss`; the cases follow torchvision's test_ops.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.peers.comparing import assert_agree

from counterpoise import losses
from counterpoise.core.errors import CounterpoiseError

theirs = pytest.importorskip("torchvision").ops.sigmoid_focal_loss

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(), (4,), (3, 1), (2, 3, 4, 4)]


def diverse(shape, dtype):
    """Confident and doubtful logits of both labels, right and wrong."""
    g = torch.Generator().manual_seed(len(shape))
    z = torch.randn(shape, generator=g, dtype=torch.float64) * torch.tensor(4.0)
    return z.to(dtype), (torch.rand(shape, generator=g) > 0.5).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.58, 1.0])
@pytest.mark.parametrize("gamma", [0, 1, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_value_and_gradient(dtype, alpha, gamma, reduction):
    agrees(diverse((5, 2), dtype), alpha, gamma, reduction)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_every_shape(shape, reduction):
    agrees(diverse(shape, torch.float64), 0.25, 2, reduction)


def agrees(batch, alpha, gamma, reduction):
    """Compare both functions, α and γ given positionally."""
    z, y = batch
    # The peer forms 1 − p, which rounds in float32; its terms are exact to about 1e-6 of the largest.
    atol = 2e-6 * z.numel() if z.dtype == torch.float32 else 1e-7

    def ours(z, y):
        return losses.sigmoid_focal_loss(z, y, alpha, gamma, reduction)

    assert_agree(ours, lambda z, y: theirs(z, y, alpha, gamma, reduction), z, y, atol=atol)


def test_torchvisions_names():
    z, y = diverse((5, 2), torch.float64)
    given = {"inputs": z, "targets": y, "alpha": 0.3, "gamma": 1.5, "reduction": "sum"}
    torch.testing.assert_close(losses.sigmoid_focal_loss(**given), theirs(**given))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_alpha_and_gamma_it_is_binary_cross_entropy(reduction):
    z, y = diverse((5, 2), torch.float64)
    assert_agree(
        lambda z, y: losses.sigmoid_focal_loss(z, y, alpha=None, gamma=0, reduction=reduction),
        lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction=reduction),
        z,
        y,
    )


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_ratio_to_cross_entropy_is_the_modulating_factor(alpha, gamma):
    z, y = diverse((5, 2), torch.float64)
    p = torch.where(y == 1, z.sigmoid(), (-z).sigmoid())
    ratio = losses.sigmoid_focal_loss(
        z, y, alpha=alpha, gamma=gamma, reduction="none"
    ) / F.binary_cross_entropy_with_logits(z, y, reduction="none")
    torch.testing.assert_close(ratio, torch.where(y == 1, alpha, 1 - alpha) * (1 - p) ** gamma)


@pytest.mark.parametrize("wrong", [{"alpha": -0.2}, {"alpha": 1.05}, {"reduction": "xyz"}])
def test_what_torchvision_refuses_is_refused(wrong):
    z, y = diverse((5, 2), torch.float32)
    with pytest.raises(ValueError):
        theirs(z, y, **wrong)
    with pytest.raises(CounterpoiseError, match=next(iter(wrong))):
        losses.sigmoid_focal_loss(z, y, **wrong)
