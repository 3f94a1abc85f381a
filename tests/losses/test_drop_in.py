"""One line changed in a plain PyTorch loop: a classifier, a multi-label classifier, a segmentation head."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.segmentation import fcn_resnet50

from counterpoise import ClassCounts, losses, weights


def trained(criterion, net, x, y, *, steps=60, rate=0.3):
    """The loop of any tutorial; `criterion` is the line that changes."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        criterion(net(x), y).backward()
        optimizer.step()
    return net


@pytest.fixture
def problem():
    """Two overlapping clouds, 190 and 10 points."""
    g = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * 190 + [1] * 10)
    x = torch.randn(200, 2, generator=g) + 1.5 * y[:, None]
    torch.manual_seed(0)
    return nn.Linear(2, 2), x, y


def same(a, b):
    return all(torch.allclose(p, q, rtol=1e-4, atol=1e-6) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_plain_cross_entropy_trains_the_same_classifier(problem):
    assert same(trained(nn.CrossEntropyLoss(), *problem), trained(losses.CrossEntropyLoss(), *problem))
    w = weights.class_weights([190, 10])
    torchs = nn.CrossEntropyLoss(weight=torch.from_numpy(w).float())
    assert same(trained(torchs, *problem), trained(losses.CrossEntropyLoss(weight=w), *problem))


@pytest.mark.parametrize(
    "criterion",
    [
        losses.CrossEntropyLoss(weight=weights.class_weights([190, 10])),
        losses.ClassBalancedLoss(class_counts=[190, 10], beta=0.999, gamma=1.0),
        losses.LogitAdjustedLoss(prior=ClassCounts([190, 10]).prior()),
        losses.BalancedSoftmaxLoss(class_counts=[190, 10]),
        losses.VectorScalingLoss(class_counts=[190, 10]),
    ],
    ids=lambda criterion: type(criterion).__name__,
)
def test_a_remedy_finds_more_of_the_rare_class(problem, criterion):
    _, x, y = problem

    def recall(trained_net):
        return (trained_net(x[y == 1]).argmax(1) == 1).float().mean().item()

    assert recall(trained(criterion, *problem)) >= recall(trained(nn.CrossEntropyLoss(), *problem)) + 0.3


def test_a_multi_label_classifier_changes_one_line():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(150, 3, generator=g)
    y = (x + torch.randn(150, 3, generator=g) > torch.tensor([0.0, 1.0, 2.5])).float()
    torch.manual_seed(0)
    net = nn.Linear(3, 3)
    plain = trained(nn.BCEWithLogitsLoss(), net, x, y)
    assert same(plain, trained(losses.BinaryCrossEntropyLoss(), net, x, y))
    v = weights.pos_weight(ClassCounts.from_multilabel(y.int().numpy()))
    torchs = nn.BCEWithLogitsLoss(pos_weight=torch.from_numpy(v).float())
    ours = trained(losses.BinaryCrossEntropyLoss(pos_weight=v), net, x, y)
    assert same(trained(torchs, net, x, y), ours)
    rare = y[:, 2] == 1
    assert (ours(x[rare])[:, 2] > 0).float().mean() > (plain(x[rare])[:, 2] > 0).float().mean()


def test_a_segmentation_head_learns_from_weighted_cross_entropy_and_dice():
    torch.manual_seed(0)
    net = fcn_resnet50(weights=None, weights_backbone=None, num_classes=3).classifier
    net = nn.Sequential(nn.Conv2d(3, 2048, 1), net).eval()
    x = torch.rand(2, 3, 6, 6)
    y = torch.zeros(2, 6, 6, dtype=torch.int64)
    y[0, 2, 3], y[1, 0, :2], y[0, 5] = 2, 1, 255
    counts = ClassCounts.from_labels(y.numpy(), num_classes=3, ignore_index=255)
    cross_entropy = losses.CrossEntropyLoss(weight=weights.class_weights(counts), ignore_index=255)
    dice = losses.DiceLoss(ignore_index=255)

    def criterion(logits, target):
        return cross_entropy(logits, target) + dice(logits, target)

    before = criterion(net(x), y).item()
    after = trained(criterion, net, x, y, steps=8, rate=0.01)
    assert criterion(after(x), y).item() < 0.8 * before
    plain = nn.CrossEntropyLoss(weight=cross_entropy.weight.float(), ignore_index=255)
    one, other = (trained(loss, net, x, y, steps=2, rate=0.01) for loss in (plain, cross_entropy))
    assert same(one, other)


def test_ldam_trains_in_float16_with_a_gradient_scaler():
    """A scale of 30, float16 cosines and a loss scale of 65536: no overflow, and no gradient that becomes 0."""
    generator = torch.Generator().manual_seed(0)
    rows, classes = 8192, 10
    cosines = (2 * torch.rand(rows, classes, generator=generator) - 1).half()
    target = torch.randint(classes, (rows,), generator=generator)
    criterion = losses.LDAMLoss(class_counts=[1000 // 2**c + 1 for c in range(classes)])
    leaf = cosines.clone().requires_grad_()
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    scaler.scale(criterion(leaf, target)).backward()
    assert leaf.grad.dtype == torch.float16
    exact = cosines.double().requires_grad_()
    criterion(exact, target).backward()
    assert exact.grad.abs().max() <= 30 / rows
    # What float16 holds after scaling (at least 6e-8) is there, and equal to the exact gradient.
    held = exact.grad.abs() * 65536.0 > 1e-4
    assert held.float().mean() > 0.3
    torch.testing.assert_close(leaf.grad[held].double() / 65536.0, exact.grad[held], rtol=4e-3, atol=0.0)
    without = cosines.clone().requires_grad_()
    criterion(without, target).backward()
    lost = held & (without.grad == 0)
    assert lost.any()  # which is what the scaler is for


@pytest.mark.parametrize(("rows", "skips"), [(256, False), (6, True)])
def test_the_gradient_scaler_of_ldam_skips_steps_of_small_batches_only(rows, skips):
    """The gradient is at most 30/N, which times 65536 is above 65504 for up to 30 rows: the scale is halved there."""
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(rows, 5, generator=generator), torch.arange(rows) % 3
    criterion = losses.LDAMLoss(class_counts=[100, 10, 1])
    torch.manual_seed(0)
    head = nn.Linear(5, 3, bias=False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        cosines = F.linear(F.normalize(features), F.normalize(head.weight)).half()
        value = criterion(cosines, target)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        values.append(value.item())
    assert (scaler.get_scale() < 65536.0) == skips
    assert scaler.get_scale() > 1000.0
    assert values[-1] < 0.9 * values[0]
