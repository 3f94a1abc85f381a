"""Over- and undersampling: exact counts, cycles, fresh draws, priors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler

from counterpoise.core.errors import ArgumentTypeError, CounterpoiseError
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


NAMES = ("auto", "all", "minority", "not minority", "not majority", "majority")
PEERS = {"over": RandomOverSampler, "under": RandomUnderSampler}


def counts_of(labels: np.ndarray, strategy: object, kind: str) -> tuple[list[int] | None, list[int] | None]:
    """The counts of imbalanced-learn's sampler and of ours, each None where the strategy is refused."""
    try:
        _, kept = PEERS[kind](sampling_strategy=strategy).fit_resample(np.zeros((len(labels), 1)), labels)
        peer = np.bincount(kept, minlength=5).tolist()
    except ValueError:
        peer = None
    try:
        sampler = ResampleSampler(labels, sampling_strategy=strategy, sampling_type=kind, num_classes=5)  # type: ignore[arg-type]
    except CounterpoiseError:
        return peer, None
    assert np.bincount(labels[list(sampler)], minlength=5).tolist() == sampler.counts.tolist()
    return peer, sampler.counts.tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(lambda n: np.count_nonzero(n) > 1),
    st.sampled_from(["over", "under"]),
    st.sampled_from(NAMES) | st.floats(0.01, 1.0) | st.dictionaries(st.integers(0, 4), st.integers(1, 12), min_size=1),
)
def test_each_strategy_means_what_it_means_in_imbalanced_learn(counts: list[int], kind: str, strategy: object) -> None:
    labels = np.repeat(np.arange(5), counts)
    peer, ours = counts_of(labels, strategy, kind)
    assert ours == peer
    if isinstance(strategy, dict):
        assert (
            counts_of(labels, lambda y: {c: n for c, n in strategy.items() if c in y}, kind)[0]
            == (counts_of(labels, {c: n for c, n in strategy.items() if c in labels}, kind)[1])
        )


@pytest.mark.parametrize("kind", ["over", "under"])
@pytest.mark.parametrize("counts", [[700, 40], [40, 700], [7, 3], [5, 5]])
def test_a_ratio_of_two_classes_is_imbalanced_learns(counts: list[int], kind: str) -> None:
    labels = np.repeat([1, 3], counts)
    agree = [counts_of(labels, ratio, kind) for ratio in (0.05, 0.1, 1 / 3, 3 / 7, 0.5, 0.9, 1.0)]
    assert all(ours == peer for peer, ours in agree)
    assert any(ours is not None for _, ours in agree) or counts == [5, 5]


def test_without_a_type_names_oversample_and_ratios_have_no_limits() -> None:
    counted = {name: ResampleSampler(LABELS, sampling_strategy=name).counts.tolist() for name in NAMES}  # type: ignore[arg-type]
    assert counted == {
        "auto": [700, 700, 700, 700],
        "all": [700, 700, 700, 700],
        "minority": [700, 200, 40, 700],
        "not minority": [700, 700, 700, 9],
        "not majority": [700, 700, 700, 700],
        "majority": [9, 200, 40, 9],
    }
    under = ResampleSampler(LABELS, sampling_strategy="auto", sampling_type="under")
    assert under.counts.tolist() == ResampleSampler(LABELS, sampling_strategy="under").counts.tolist()
    labels = np.repeat([0, 1], [700, 40])
    assert ResampleSampler(labels, sampling_strategy=0.01).counts.tolist() == [700, 40]
    assert ResampleSampler(labels, sampling_strategy=0.5).counts.tolist() == [700, 350]


def test_a_function_gets_the_labels_and_returns_counts() -> None:
    seen = []

    def half(y: np.ndarray) -> dict[str, int]:
        seen.append(y)
        names, counts = np.unique(y, return_counts=True)
        return dict(zip(names, counts // 2, strict=True))

    names = np.array(["car"] * 6 + ["bus"] * 4)
    assert ResampleSampler(names, sampling_strategy=half).counts.tolist() == [2, 3]  # bus, car
    assert seen[0].tolist() == names.tolist()
    assert ResampleSampler([0] * 6 + [1] * 4, sampling_strategy=half).counts.tolist() == [3, 2]
    with pytest.raises(ArgumentTypeError, match=r"`sampling_strategy` must return a dictionary .*; it returned list"):
        ResampleSampler(LABELS, sampling_strategy=lambda y: [1, 2])  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("strategy", "kind", "message"),
    [
        ("minority", "under", '`sampling_strategy="minority"` needs `sampling_type="over"`, or None; got "under"'),
        ("majority", "over", '`sampling_strategy="majority"` needs `sampling_type="under"`'),
        ("over", "under", '`sampling_strategy="over"` needs `sampling_type="over"`'),
        (0.5, "over", "of 0.5 with `sampling_type` needs two classes; there are 4. Give {class: count}, or leave"),
        ({1: 100}, "over", r"`sampling_strategy\[1\]` must be at least 200, the items of the class.*got 100. Leave"),
        ({1: 300}, "under", r"`sampling_strategy\[1\]` must be at most 200"),
        ("auto", "both", "`sampling_type` must be one of 'over', 'under'; got 'both'"),
    ],
)
def test_what_a_type_does_not_have_is_refused(strategy: object, kind: object, message: str) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        ResampleSampler(LABELS, sampling_strategy=strategy, sampling_type=kind)  # type: ignore[arg-type]


def test_a_ratio_that_the_classes_have_already_is_refused() -> None:
    for kind, message in (("over", "must be above 0.4, the ratio"), ("under", "must be at least 0.4, the ratio")):
        with pytest.raises(CounterpoiseError, match=f"`sampling_strategy` {message}"):
            ResampleSampler([0] * 5 + [1] * 2, sampling_strategy=0.3, sampling_type=kind)  # type: ignore[arg-type]


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
        ("most", "`sampling_strategy` must be one of 'over', 'under', 'auto', .*; got 'most'"),
        (0.0, "`sampling_strategy` must be above 0 and at most 1; got 0"),
        (1.5, "got 1.5"),
        (float("nan"), "got nan"),
        (True, "must be a name such as 'over', a number .*, a dictionary of class to count, or a function.*got bool"),
        (None, "must be a name such as 'over', a number .*, a dictionary of class to count, .*; got NoneType"),
        ([1, 2], "must be a name such as 'over', a number .*, a dictionary of class to count, .*; got list"),
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
