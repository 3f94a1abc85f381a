"""Shapes as torch has them: logits without a batch dimension, scalars, and the weight of binary cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.contracts.loss_specs import EQUATIONS, form_id, one_hot, sample, value_and_gradient

from counterpoise import losses
from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy import from_paths

every_form = pytest.mark.parametrize(("spec", "impl"), EQUATIONS, ids=form_id)
same = torch.testing.assert_close


@every_form
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_logits_of_one_row_need_no_batch_dimension(spec, impl, reduction):
    logits, target = sample((5, 4))
    module = spec.module(**spec.options(4), weight=torch.arange(1.0, 5.0), impl=impl, reduction=reduction)
    for y in (target, one_hot(target, 4)):
        for options in ({}, {"sample_weight": 2.5}, {"sample_weight": torch.tensor([2.5])}):
            found = value_and_gradient(module, logits[1], y[1], **options)
            batch = {name: torch.tensor([2.5]) for name in options}
            want = value_and_gradient(module, logits[1:2], y[1:2], **batch)
            same(found[0], want[0].squeeze(0) if reduction == "none" else want[0])
            same(found[1], want[1].squeeze(0))


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_one_row_of_the_asymmetric_loss_on_a_softmax_needs_no_batch_dimension(reduction):
    logits, target = sample((5, 4))
    module = losses.AsymmetricSoftmaxLoss(weight=torch.arange(1.0, 5.0), reduction=reduction)
    for y in (target, one_hot(target, 4)):
        found, want = value_and_gradient(module, logits[1], y[1]), value_and_gradient(module, logits[1:2], y[1:2])
        same(found[0], want[0].squeeze(0) if reduction == "none" else want[0])
        same(found[1], want[1].squeeze(0))


def test_one_row_of_a_class_tree_needs_no_batch_dimension():
    module = losses.HierarchicalLoss(tree=from_paths(["a/x", "a/y", "b"]), reduction="none")
    logits, target = sample((2, 4))
    same(module(logits[0], target[0] % 3), module(logits[:1], target[:1] % 3)[0])


def test_one_row_of_cross_entropy_is_torchs():
    (logits, target), weight = sample((5, 4)), torch.arange(1.0, 5.0, dtype=torch.float64)
    for reduction in ("mean", "sum", "none"):
        for y in (target[2], torch.tensor(-100)):
            if reduction != "mean" or y != -100:  # there torch gives NaN
                want = F.cross_entropy(logits[2], y, weight, reduction=reduction)
                same(losses.cross_entropy(logits[2], y, weight, reduction=reduction), want)
    with pytest.raises(ArgumentError, match=r"`target` must be one class index of shape \(\), or probabilities"):
        losses.cross_entropy(logits[0], target[:1])


@pytest.mark.parametrize("impl", ["reference", "closed_form"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("shape", "weight"),
    [
        ((), ()), ((4,), ()), ((4,), (4,)), ((4,), (1,)),
        ((3, 4), ()), ((3, 4), (1,)), ((3, 4), (4,)), ((3, 4), (1, 4)), ((3, 4), (3, 1)), ((3, 4), (3, 4)),
        ((3, 4), (1, 1)),
        ((2, 4, 3, 5), ()), ((2, 4, 3, 5), (4, 1, 1)), ((2, 4, 3, 5), (3, 5)), ((2, 4, 3, 5), (2, 1, 3, 5)),
    ],
)  # fmt: skip
def test_the_weight_of_binary_cross_entropy_broadcasts_as_torchs(shape, weight, reduction, impl):
    generator = torch.Generator().manual_seed(0)
    logits, y, w = (torch.rand(size, generator=generator, dtype=torch.float64) for size in (shape, shape, weight))

    def ours(z, t):
        return losses.binary_cross_entropy(z, t, w, reduction=reduction, impl=impl)

    def torchs(z, t):
        return F.binary_cross_entropy_with_logits(z, t, w, reduction=reduction)

    want = value_and_gradient(torchs, logits, y)
    same(value_and_gradient(ours, logits, y), want)
    module = losses.BinaryCrossEntropyLoss(w, reduction=reduction, impl=impl)
    same(value_and_gradient(module, logits, y), want)
    assert "weight" in module.state_dict()


def test_weights_of_elements_leave_ignored_ones_out_of_the_mean_and_learn():
    logits, y = sample((3, 4))[0], torch.ones(3, 4)
    y[0, 1] = -100
    w = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    each = losses.binary_cross_entropy(logits, y, reduction="none")
    same(losses.binary_cross_entropy(logits, y, w), (each * w).sum() / 11)
    same(losses.binary_cross_entropy(logits, y, w, reduction="batchmean"), (each * w).sum() / 3)
    same(losses.binary_cross_entropy(logits, y, w, normalizer=5.0), (each * w).sum() / 5)
    (gradient,) = torch.autograd.grad(losses.binary_cross_entropy(logits, y, w, reduction="sum"), w)
    same(gradient, each)


def test_a_weight_of_elements_that_cannot_be_used_is_named():
    logits, y = torch.zeros(3, 4), torch.ones(3, 4)
    with pytest.raises(ArgumentError, match=r"`weight` .* broadcasts .*\(3, 4\).*\(3, 2\)"):
        losses.binary_cross_entropy(logits, y, torch.ones(3, 2))
    with pytest.raises(ArgumentError, match=r"`weight` must be finite and at least 0; the value at \(1, 0\) is -1"):
        losses.BinaryCrossEntropyLoss(torch.tensor([[1.0], [-1.0], [1.0]]))
    with pytest.raises(ArgumentError, match="one value for each of the 4 classes"):
        losses.binary_cross_entropy(logits, y, torch.ones(3))


@pytest.mark.parametrize("reduction", ["mean", "batchmean"])
def test_the_global_normalizer_of_class_indices_is_the_denominator_of_the_loss(reduction):
    logits, target = sample((6, 4))
    target[1] = -100
    whole = losses.global_normalizer([target[:3], target[3:]], family="sigmoid", num_classes=4, reduction=reduction)
    parts = sum(
        losses.binary_cross_entropy(z, y, normalizer=whole, reduction=reduction)
        for z, y in zip(logits.split(3), target.split(3), strict=True)
    )
    same(parts, losses.binary_cross_entropy(logits, target, reduction=reduction))
    labels = torch.tensor([1, 0, -100])
    one = losses.global_normalizer(labels, family="sigmoid", num_classes=1, reduction=reduction)
    assert one == 2
    if reduction == "mean":
        with pytest.raises(ArgumentError, match=r"Pass num_classes=C for class indices, or num_classes=1"):
            losses.global_normalizer(target, family="sigmoid")
