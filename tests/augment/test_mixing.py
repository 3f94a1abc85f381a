"""Mixing: hand-made batches, the papers' rules, and soft targets that reach every softmax loss."""

import numpy as np
import pytest
import torch

from counterpoise import losses
from counterpoise.augment import cmo, cutmix, mixup, remix
from counterpoise.core.errors import CounterpoiseError

LABELS = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(n=8, size=4):
    """Image i is i everywhere, so that a mixture shows its shares."""
    return torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, size, size).clone()


def test_mixup_is_one_share_of_each_of_two_images_and_of_their_labels():
    lams = []
    for seed in range(300):
        images, target = mixup(flat(), LABELS, num_classes=3, generator=generator(seed))
        own = torch.arange(8.0)
        value = images[:, 0, 0, 0]
        assert (images == value.view(8, 1, 1, 1)).all()
        soft = torch.nn.functional.one_hot(LABELS, 3).float()
        # x = λ i + (1-λ) j for one λ and a permutation j: their sum is that of the images
        assert value.sum().item() == pytest.approx(own.sum().item(), rel=1e-5)
        torch.testing.assert_close(target.sum(0), soft.sum(0))
        lams.append(target.max(1).values.min().item())
    assert target.dtype == torch.float32


def test_the_share_is_beta_distributed():
    shares = []
    for seed in range(2000):
        _, target = mixup(flat(2), torch.tensor([0, 1]), num_classes=2, alpha=0.5, generator=generator(seed))
        if target[0, 0] != 1:
            shares.append(target[0, 0].item())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.5 + 1)), abs=0.01)  # of Beta(α, α)


def test_mixing_with_itself_changes_nothing():
    one = flat(1) + 3
    for mix in (mixup, cutmix):
        images, target = mix(one, torch.tensor([1]), num_classes=2, generator=generator())
        torch.testing.assert_close(images, one)
        assert target.tolist() == [[0.0, 1.0]]


def test_cutmix_shares_are_the_areas():
    seen = set()
    for seed in range(100):
        images, target = cutmix(flat(8, 16), torch.arange(8), num_classes=8, generator=generator(seed))
        for i in range(8):
            for j in range(8):
                area = (images[i] == j).float().mean().item()
                assert target[i, j].item() == pytest.approx(area, abs=1e-6)
        seen.add(round(target.max().item(), 3))
    assert len(seen) > 15


def test_remix_gives_the_label_to_the_rarer_class_where_the_paper_says():
    counts = [600, 300, 10]
    rules = {"to the rare": 0, "shared": 0}
    for seed in range(300):
        images, target = remix(flat(), LABELS, class_counts=counts, generator=generator(seed))
        plain, soft = mixup(flat(), LABELS, num_classes=3, generator=generator(seed))
        torch.testing.assert_close(images, plain)
        torch.manual_seed(0)
        other = partner(seed)
        lam = share(seed)
        for i, j in enumerate(other):
            a, b = LABELS[i].item(), LABELS[j].item()
            n_a, n_b = counts[a], counts[b]
            if n_a / n_b >= 3 and lam < 0.5:
                expected, rule = torch.nn.functional.one_hot(LABELS[j], 3).float(), "to the rare"
            elif n_a / n_b <= 1 / 3 and 1 - lam < 0.5:
                expected, rule = torch.nn.functional.one_hot(LABELS[i], 3).float(), "to the rare"
            else:
                expected, rule = soft[i], "shared"
            torch.testing.assert_close(target[i], expected)
            rules[rule] += 1
    assert min(rules.values()) > 100


def share(seed):
    """λ of a seed, read off a batch of two that changes places."""
    _, target = mixup(flat(8), torch.arange(8), num_classes=8, generator=generator(seed))
    own = [target[i, i].item() for i, j in enumerate(partner(seed)) if i != j]
    return own[0]


def partner(seed):
    """The permutation of a seed: the class other than one's own, where each image is a class."""
    _, target = mixup(flat(8), torch.arange(8), num_classes=8, generator=generator(seed))
    found = []
    for i in range(8):
        others = [j for j in range(8) if j != i and target[i, j] > 0]
        found.append(others[0] if others else i)
    return found


def test_remix_on_even_counts_is_mixup():
    for seed in range(20):
        a = remix(flat(), LABELS, class_counts=[5, 5, 5], generator=generator(seed))
        b = mixup(flat(), LABELS, num_classes=3, generator=generator(seed))
        torch.testing.assert_close(a, b)


def test_cmo_pastes_the_foreground_and_counts_its_area():
    for seed in range(50):
        images, target = cmo(
            torch.zeros(4, 3, 16, 16),
            torch.tensor([0, 0, 1, 1]),
            torch.ones(4, 3, 16, 16),
            torch.tensor([2, 2, 2, 1]),
            num_classes=3,
            generator=generator(seed),
        )
        area = images.mean((1, 2, 3))
        torch.testing.assert_close(target[:3, 2], area[:3])
        assert target[3].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "loss",
    [
        losses.cross_entropy,
        losses.focal_loss,
        lambda z, t: losses.class_balanced_loss(z, t, class_counts=[90, 9, 1]),
        lambda z, t: losses.logit_adjusted_loss(z, t, prior=[0.9, 0.09, 0.01]),
        lambda z, t: losses.balanced_softmax_loss(z, t, class_counts=[90, 9, 1]),
        lambda z, t: losses.vector_scaling_loss(z, t, class_counts=[90, 9, 1]),
        lambda z, t: losses.ldam_loss(z, t, class_counts=[90, 9, 1]),
        losses.poly_loss,
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "batchmean"])
def test_every_softmax_loss_takes_the_mixed_targets(loss, reduction):
    z = torch.randn(8, 3, dtype=torch.float64, generator=generator(), requires_grad=True)
    _, target = mixup(flat(), LABELS, num_classes=3, generator=generator(3))
    value = loss(z, target.double())
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()
    if loss is losses.cross_entropy:
        torch.testing.assert_close(value, torch.nn.functional.cross_entropy(z, target.double()))


def test_the_same_generator_gives_the_same_batch_and_soft_targets_go_in_again():
    once = mixup(flat(), LABELS, num_classes=3, generator=generator(5))
    torch.testing.assert_close(once, mixup(flat(), LABELS, num_classes=3, generator=generator(5)))
    _, target = cutmix(*once, num_classes=3, generator=generator(6))
    torch.testing.assert_close(target.sum(1), torch.ones(8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mixup(flat().byte(), LABELS, num_classes=3, generator=generator()), "`images` must be floating point"),
        (lambda: mixup(flat(), LABELS, num_classes=2, generator=generator()), "`target` must be in 0 .. 1; got 0 .. 2"),
        (lambda: mixup(flat(), LABELS, num_classes=3, alpha=0, generator=generator()), "`alpha` must be .* got 0"),
        (lambda: cutmix(flat(), torch.ones(8, 2), num_classes=3, generator=generator()), r"`target` .*\(N, 3\)"),
        (
            lambda: remix(flat(), LABELS, class_counts=[1, 1, 1], kappa=0.5, generator=generator()),
            "`kappa` must be at least 1",
        ),
        (
            lambda: cmo(flat(), LABELS, flat(8, 5), LABELS, num_classes=3, generator=generator()),
            "`foreground` must have the shape",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(CounterpoiseError, match=message):
        call()
