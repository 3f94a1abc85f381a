"""Over- and undersampling: exact counts, cycles, fresh draws, priors."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoise.core.errors import CounterpoiseError
from counterpoise.samplers import ResampleSampler

COUNTS = np.array([700, 200, 40, 9])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("over", [700, 700, 700, 700]),
        ("under", [9, 9, 9, 9]),
        (0.1, [700, 200, 70, 70]),
        (1.0, [700, 700, 700, 700]),
        ({3: 100, 0: 50}, [50, 200, 40, 100]),
        ({"1": 0}, [700, 0, 40, 9]),
    ],
)
def test_every_class_gives_exactly_its_count(strategy: object, expected: list[int]) -> None:
    sampler = ResampleSampler(LABELS, sampling_strategy=strategy, seed=1)  # type: ignore[arg-type]
    items = np.array(list(sampler))
    assert np.bincount(LABELS[items], minlength=4).tolist() == expected
    assert len(sampler) == sum(expected)
    np.testing.assert_allclose(sampler.prior, np.array(expected) / sum(expected))
    times = np.bincount(items, minlength=len(LABELS))
    for c in range(4):  # no item a second time before all were there
        assert np.ptp(times[np.equal(LABELS, c)]) <= 1


def test_the_float_is_imbalanced_learns_ratio_for_two_classes() -> None:
    # RandomOverSampler(sampling_strategy=0.5) on 700 and 40 gives 700 and 350
    labels = np.repeat([0, 1], [700, 40])
    items = list(ResampleSampler(labels, sampling_strategy=0.5))
    assert np.bincount(labels[items]).tolist() == [700, 350]


def test_repeats_come_after_everything_else_also_in_time() -> None:
    items = np.array(list(ResampleSampler(LABELS, sampling_strategy="over", seed=2)))
    for c, size in enumerate(COUNTS):
        mine = items[LABELS[items] == c]
        for start in range(0, len(mine), size):
            assert len(np.unique(mine[start : start + size])) == len(mine[start : start + size])


def test_undersampling_draws_afresh_each_epoch_and_reaches_everything() -> None:
    sampler = ResampleSampler(LABELS, sampling_strategy="under", seed=3)
    epochs = []
    for epoch in range(300):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert all(len(set(items)) == 36 for items in epochs)
    times = np.bincount(np.concatenate(epochs), minlength=len(LABELS))
    assert (times[LABELS == 3] == 300).all()
    assert (times[LABELS == 1] > 0).all()  # each is drawn 13.5 times on average


def test_the_classes_are_shuffled_through_the_epoch() -> None:
    items = np.array(list(ResampleSampler(LABELS, sampling_strategy="over", seed=4)))
    halves = [np.bincount(LABELS[half], minlength=4) for half in np.split(items, 2)]
    assert all(280 < count < 420 for half in halves for count in half)


@pytest.mark.fault("S7")
def test_a_class_without_items_is_left_out_and_one_with_one_item_repeats_it() -> None:
    over = ResampleSampler([0, 0, 0, 2], sampling_strategy="over", num_classes=4)
    assert sorted(over) == [0, 1, 2, 3, 3, 3]
    assert over.prior.tolist() == [0.5, 0.0, 0.5, 0.0]
    assert len(ResampleSampler([0, 0, 0, 2], sampling_strategy="under", num_classes=4)) == 2
    assert sorted(ResampleSampler([0, 2], sampling_strategy={2: 5})) == [0, 1, 1, 1, 1, 1]


@pytest.mark.fault("S3")
def test_items_of_a_class_without_any_cannot_be_had() -> None:
    with pytest.raises(CounterpoiseError, match="asks for 5 items of class 1, which has none"):
        ResampleSampler([0, 0, 2], sampling_strategy={1: 5})


@pytest.mark.fault("S2")
@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("all", "`sampling_strategy` must be one of 'over', 'under'; got 'all'"),
        (0.0, "`sampling_strategy` must be above 0 and at most 1; got 0"),
        (1.5, "got 1.5"),
        (float("nan"), "got nan"),
        (True, "must be a number; got bool"),
        (None, "must be a number; got NoneType"),
        ({7: 5}, r"`sampling_strategy` names \[7\], which are not among the classes"),
        ({1: -5}, r"`sampling_strategy\[1\]` must be at least 0; got -5"),
        ({1: 2.5}, r"`sampling_strategy\[1\]` must be a whole number; got 2.5"),
        ({0: 0, 1: 0, 2: 0, 3: 0}, "leaves no items"),
    ],
)
def test_what_cannot_be_is_refused(strategy: object, message: str) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        ResampleSampler(LABELS, sampling_strategy=strategy)  # type: ignore[arg-type]


def test_one_hot_targets_are_one_class_per_item() -> None:
    one_hot = np.eye(4, dtype=int)[LABELS]
    assert list(ResampleSampler(one_hot, seed=1)) == list(ResampleSampler(LABELS, seed=1))


def test_items_of_several_classes_are_sent_elsewhere() -> None:
    with pytest.raises(CounterpoiseError, match="RepeatFactorSampler"):
        ResampleSampler(np.array([[1, 1, 0], [0, 1, 1]]))
