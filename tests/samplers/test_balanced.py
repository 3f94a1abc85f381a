"""Class-balanced and progressive sampling: frequencies of classes and items, cycles, priors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from counterpoise.core.errors import ArgumentError, ArgumentTypeError, CounterpoiseError
from counterpoise.samplers import ClassBalancedSampler, OrderedSampler, ProgressiveSampler

COUNTS = np.array([700, 200, 40, 9, 1])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))


def drawn(sampler: OrderedSampler) -> np.ndarray:
    return np.concatenate(list(sampler.batches(4096)))


@pytest.mark.parametrize("within", ["cycle", "uniform"])
@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_classes_come_as_often_as_the_prior_says(within: str, power: float) -> None:
    sampler = ClassBalancedSampler(LABELS, power=power, num_samples=200_000, within=within, seed=1)  # type: ignore[arg-type]
    expected = np.where(COUNTS > 0, COUNTS.clip(1).astype(float) ** power, 0.0)
    np.testing.assert_allclose(sampler.prior, expected / expected.sum())
    held = np.bincount(LABELS[drawn(sampler)], minlength=5)
    assert chisquare(held, sampler.prior * 200_000).pvalue > 1e-4


def test_uniform_items_of_a_class_come_equally_often() -> None:
    items = drawn(ClassBalancedSampler(LABELS, num_samples=400_000, within="uniform", seed=2))
    times = np.bincount(items, minlength=len(LABELS))
    for c in range(4):
        assert chisquare(times[np.equal(LABELS, c)]).pvalue > 1e-4
    first_nine = items[LABELS[items] == 3][:9]
    assert len(set(first_nine.tolist())) < 9  # independent draws repeat early; a cycle would not


@pytest.mark.parametrize("num_samples", [950, 100_000])
def test_a_cycle_has_every_item_of_a_class_once_before_any_twice(num_samples: int) -> None:
    items = drawn(ClassBalancedSampler(LABELS, num_samples=num_samples, seed=3))
    for c, size in enumerate(COUNTS):
        mine = items[LABELS[items] == c]
        for start in range(0, len(mine), size):
            cycle = mine[start : start + size]
            assert len(np.unique(cycle)) == len(cycle)
    assert len(items) == num_samples


def test_every_order_of_a_small_cycle_is_equally_likely() -> None:
    # 24 orders of a class of four, 1/6 of them from each first item
    items = drawn(ClassBalancedSampler([0] * 4, num_samples=4 * 50_000, seed=4)).reshape(-1, 4)
    codes = np.unique(items @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(codes) == 24
    assert chisquare(codes).pvalue > 1e-4


@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 9, 64, 65])
def test_where_an_item_stands_in_its_cycle_is_uniform(size: int) -> None:
    cycles = 20_000
    items = drawn(ClassBalancedSampler([0] * size, num_samples=size * cycles, seed=5)).reshape(cycles, size)
    assert (np.sort(items, axis=1) == np.arange(size)).all()
    for place in {0, size // 2, size - 1}:
        assert chisquare(np.bincount(items[:, place], minlength=size)).pvalue > 1e-5
    followers = (items[:, 1] - items[:, 0]) % size
    assert size == 2 or chisquare(np.bincount(followers, minlength=size)[1:]).pvalue > 1e-5


def test_an_empty_class_is_never_drawn_whatever_the_power() -> None:
    for power in (0.0, 1.0):
        sampler = ClassBalancedSampler([0, 0, 3], power=power, num_samples=1000, num_classes=6)
        assert sampler.prior.shape == (6,)
        assert sampler.prior[[1, 2, 4, 5]].tolist() == [0.0] * 4
        assert set(drawn(sampler).tolist()) == {0, 1, 2}


def test_labels_may_be_names() -> None:
    sampler = ClassBalancedSampler(np.array(["dog", "cat", "dog", "dog"]), power=1.0, seed=6)
    assert sampler.classes == ("cat", "dog")
    assert sampler.prior.tolist() == [0.25, 0.75]


def test_items_of_several_classes_bring_their_other_classes_along() -> None:
    rng = np.random.default_rng(7)
    targets = (rng.random((400, 4)) < [0.7, 0.3, 0.05, 0.01]).astype(np.int64)
    targets[0] = [1, 0, 0, 1]
    sampler = ClassBalancedSampler(targets, num_samples=200_000, within="uniform", seed=8)
    items = drawn(sampler)
    shares = targets[items].mean(0)
    spread = np.sqrt(shares * (1 - shares) / len(items))
    assert (np.abs(shares - sampler.prior) < 5 * spread + 1e-12).all()
    assert sampler.prior.min() >= 0.25 - 1e-12  # each class is the one drawn for a quarter of the time
    assert targets[items].any(axis=1).all()  # an image without a class is never drawn
    lists = [np.flatnonzero(row).tolist() for row in targets]
    assert (
        drawn(ClassBalancedSampler(lists, num_samples=500, seed=9))
        == drawn(ClassBalancedSampler(targets, num_samples=500, seed=9))
    ).all()


def test_as_many_pairs_as_items_are_not_yet_one_class_each() -> None:
    sampler = ClassBalancedSampler(np.array([[1, 1], [0, 0], [1, 0]]), num_samples=50)
    assert set(drawn(sampler).tolist()) == {0, 2}
    np.testing.assert_allclose(sampler.prior, [1.0, 0.75])


def test_progress_goes_from_the_data_to_balance() -> None:
    sampler = ProgressiveSampler(LABELS, epochs=4, seed=1, num_samples=100_000)
    instance, balanced = COUNTS / COUNTS.sum(), np.full(5, 0.2)
    for epoch, share in [(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)]:
        sampler.set_epoch(epoch)
        np.testing.assert_allclose(sampler.prior, (1 - share) * instance + share * balanced)
        held = np.bincount(LABELS[drawn(sampler)], minlength=5)
        assert chisquare(held, sampler.prior * 100_000).pvalue > 1e-4


@pytest.mark.fault("S2")
@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "`labels` must have at least one item"),
        ([0.0, float("nan")], {}, "`labels` .* dtype float64; row 1 is nan"),
        ([0.0, 1.0], {}, "`labels` must be whole numbers or strings; got dtype float64"),
        ([True, False], {}, "`labels` .* dtype bool"),
        (np.zeros((2, 2, 2), dtype=int), {}, r"`labels` must have shape \(N,\).*\(2, 2, 2\)"),
        (np.array([[0, 1], [0, 2]]), {}, r"`labels` of shape \(N, C\) must hold only 0 and 1; row 1"),
        (np.zeros((3, 2), dtype=int), {}, "`labels` give no item a class"),
        ([0, 1], {"power": float("nan")}, "`power` must be finite"),
        ([0, 1], {"num_samples": 0}, "`num_samples` must be at least 1"),
        ([0, 1], {"num_samples": 1.5}, "`num_samples` must be a whole number; got 1.5"),
        ([0, 1], {"within": "class"}, "`within` .* 'class'"),
        ([0, 1], {"seed": -1}, "`seed` must be at least 0"),
        ([0, 1], {"num_classes": 1}, r"`labels` must be in 0 .. 0; row 1 has 1"),
    ],
)
def test_what_cannot_be_is_refused_by_its_argument(labels: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        ClassBalancedSampler(labels, **options)  # type: ignore[arg-type]


@pytest.mark.fault("S6")
def test_labels_without_a_class_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"`labels` must be at least 0; row 2 has -1 .*Subset"):
        ClassBalancedSampler([0, 1, -1])
    with pytest.raises(ArgumentError, match="row 1 has -100"):
        ClassBalancedSampler([[0], [-100, 1]])
    with pytest.raises(ArgumentTypeError, match="dtype object"):
        ClassBalancedSampler([0, None])
    with pytest.raises(ArgumentError, match="could be 0/1 targets"):
        ClassBalancedSampler([[1, 0], [0, 1]])


@pytest.mark.parametrize("epochs", [0, -1])
def test_progress_needs_epochs(epochs: int) -> None:
    with pytest.raises(ArgumentError, match="`epochs`"):
        ProgressiveSampler([0, 1], epochs=epochs)
