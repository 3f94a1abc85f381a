"""Repeat factors: the formula, stochastic rounding, lengths, priors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from counterpoise.core.errors import CounterpoiseError
from counterpoise.samplers import RepeatFactorSampler

RNG = np.random.default_rng(0)
TARGETS = (RNG.random((600, 4)) < [0.8, 0.2, 0.03, 0.008]).astype(np.int64)
TARGETS[:2] = [[0, 0, 0, 0], [1, 0, 0, 1]]  # one image without a class, one with the rarest
LISTS = [np.flatnonzero(row).tolist() for row in TARGETS]


def test_the_factors_are_those_of_the_paper() -> None:
    sampler = RepeatFactorSampler(LISTS, repeat_thresh=0.3)
    frequency = TARGETS.mean(0)
    of_class = np.maximum(1.0, np.sqrt(0.3 / frequency))
    np.testing.assert_allclose(sampler.class_repeat_factors, of_class)
    of_image = np.array([max([1.0, *of_class[row]]) for row in LISTS])
    np.testing.assert_allclose(sampler.repeat_factors, of_image)
    assert sampler.repeat_factors[0] == 1.0
    np.testing.assert_allclose(sampler.prior, (TARGETS * of_image[:, None]).sum(0) / of_image.sum())


def test_each_image_comes_as_often_as_its_factor_says_over_many_epochs() -> None:
    sampler, epochs = RepeatFactorSampler(LISTS, repeat_thresh=0.3, seed=1), 1000
    factors = sampler.repeat_factors
    times, shares = np.zeros(len(LISTS)), np.zeros(4)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        items = np.concatenate(list(sampler.batches(1000)))
        assert len(items) == len(sampler)
        assert abs(len(items) - factors.sum()) < 1
        now = np.bincount(items, minlength=len(LISTS))
        assert (now >= np.floor(factors)).all()
        assert (now <= np.ceil(factors)).all()
        times += now
        shares += TARGETS[items].mean(0)
    extra = times - epochs * np.floor(factors)
    chance = factors - np.floor(factors)
    low, high = binom.interval(1 - 1e-6, epochs, chance)
    assert ((extra >= low) & (extra <= high)).all()
    np.testing.assert_allclose(shares / epochs, sampler.prior, atol=3e-4)


def test_arrays_lists_and_class_ids_say_the_same() -> None:
    assert list(RepeatFactorSampler(LISTS, repeat_thresh=0.3)) == list(RepeatFactorSampler(TARGETS, repeat_thresh=0.3))
    doubled = [row + row for row in LISTS]  # a class counts once an image
    assert list(RepeatFactorSampler(doubled, repeat_thresh=0.3)) == list(RepeatFactorSampler(LISTS, repeat_thresh=0.3))
    single = np.repeat([0, 1], [90, 10])
    sampler = RepeatFactorSampler(single, repeat_thresh=0.4)
    np.testing.assert_allclose(sampler.class_repeat_factors, [1.0, 2.0])
    assert np.bincount(list(sampler)).tolist() == [1] * 90 + [2] * 10
    np.testing.assert_allclose(sampler.prior, [90 / 110, 20 / 110])


def test_a_single_fraction_is_rounded_up_as_often_as_it_says() -> None:
    sampler = RepeatFactorSampler([[0]] * 9 + [[1]], repeat_thresh=0.169, seed=1)  # 1.3 times
    lengths = []
    for epoch in range(4000):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert set(lengths) == {10, 11}
    assert binomtest(lengths.count(11), 4000, 0.3).pvalue > 1e-4


def test_power_one_brings_a_rare_class_up_to_the_threshold() -> None:
    sampler = RepeatFactorSampler(np.repeat([0, 1], [96, 4]), repeat_thresh=0.1, power=1.0)
    assert sampler.class_repeat_factors.tolist() == [1.0, 2.5]


def test_a_threshold_that_repeats_nothing_warns() -> None:
    with pytest.warns(UserWarning, match=r"rarest class is in 0.1 of the images.*repeat_thresh=0.001") as caught:
        sampler = RepeatFactorSampler(np.repeat([0, 1], [90, 10]))
    assert caught[0].filename == __file__
    assert sorted(sampler) == list(range(100))


@pytest.mark.fault("S2")
@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([], {}, "`classes_per_image` must have at least one item"),
        ([[], []], {}, "`classes_per_image` give no item a class"),
        ([[0], [-1]], {}, "`classes_per_image` must be at least 0; row 1 has -1"),
        ([[0], [0.5]], {}, "`classes_per_image` .* row 1 is 0.5"),
        ([[0], [1]], {"repeat_thresh": 0.0}, "`repeat_thresh` must be above 0.*; got 0"),
        ([[0], [1]], {"repeat_thresh": 1.5}, "`repeat_thresh` must be above 0 and at most 1; got 1.5"),
        ([[0], [1]], {"repeat_thresh": float("nan")}, "`repeat_thresh` .* nan"),
        ([[0], [1]], {"power": -1.0}, "`power` must be at least 0; got -1"),
    ],
)
def test_what_cannot_be_is_refused(classes: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        RepeatFactorSampler(classes, **options)  # type: ignore[arg-type]
