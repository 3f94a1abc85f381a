"""Adaptive weights: the rule by hand, its laws and bounds, and what it does to a class over epochs."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoise.core.errors import CounterpoiseError
from counterpoise.weights import AdaptiveWeights, DeferredWeights, adapt_weights, class_weights

NAN = float("nan")


def test_the_rule_by_hand() -> None:
    # mean recall 0.6: lags 0.3, 0, -0.3; class 2 is 0.10 over the budget
    got = adapt_weights(
        np.array([1.0, 1.0, 1.0]),
        np.array([0.3, 0.6, 0.9]),
        np.array([0.0, 0.05, 0.15]),
        budget=0.05,
        eta=0.5,
        eta_fp=2.0,
    )
    raw = np.exp([0.15, 0.0, -0.15 - 0.2])
    np.testing.assert_allclose(got, raw / raw.mean())


def test_the_average_stays_one_and_classes_may_change_places() -> None:
    rng = np.random.default_rng(0)
    w, recall, fp = rng.uniform(0.2, 3, 6), rng.uniform(0, 1, 6), rng.uniform(0, 0.2, 6)
    got = adapt_weights(w, recall, fp)
    assert got.mean() == pytest.approx(1)
    order = rng.permutation(6)
    np.testing.assert_allclose(adapt_weights(w[order], recall[order], fp[order]), got[order])
    np.testing.assert_allclose(adapt_weights(7 * w, recall, fp), got)


def test_equal_recalls_within_the_budget_change_nothing() -> None:
    w = np.array([0.5, 1.0, 1.5])
    np.testing.assert_allclose(adapt_weights(w, np.full(3, 0.4), np.full(3, 0.05)), w)


def test_steps_and_ratios_are_bounded() -> None:
    once = adapt_weights(np.ones(2), np.array([0.0, 1.0]), np.array([0.0, 1.0]), eta=100.0, eta_fp=100.0)
    assert once[0] / once[1] == pytest.approx(4)  # one doubled, one halved
    w = np.ones(2)
    for _ in range(50):
        w = adapt_weights(w, np.array([0.0, 1.0]), np.zeros(2), max_ratio=9.0)
    assert w[0] / w[1] == pytest.approx(9)


def test_a_class_without_validation_images_is_moved_by_nothing_but_its_false_positives() -> None:
    calm = adapt_weights(np.ones(3), np.array([0.5, 0.5, NAN]), np.zeros(3))
    np.testing.assert_allclose(calm, 1)
    costly = adapt_weights(np.ones(3), np.array([0.5, 0.5, NAN]), np.array([0, 0, 0.5]))
    assert costly[2] < costly[0] == costly[1]
    np.testing.assert_allclose(adapt_weights(np.ones(2), np.array([NAN, NAN]), np.zeros(2)), 1)


def test_weight_zero_stays_zero() -> None:
    adaptive = AdaptiveWeights([50, 5, 0])
    assert adaptive.weight[2] == 0
    got = adaptive.update(np.array([0, 1]), np.array([0, 0]))
    assert got[2] == 0
    assert got[:2].mean() == pytest.approx(1)


def test_a_missed_class_rises_until_its_false_positives_pass_the_budget() -> None:
    adaptive = AdaptiveWeights([900, 100], start="uniform", smoothing=0.0, budget=0.05)
    labels = np.repeat([0, 1], [90, 10])
    ratio = []
    for _ in range(5):
        w = adaptive.update(labels, np.zeros(100, dtype=int))
        ratio.append(w[1] / w[0])
    assert ratio == sorted(ratio)
    assert ratio[-1] > ratio[0] > 1
    flooded = np.where(labels == 1, 1, np.arange(100) % 2)  # half of class 0 given to class 1
    after = adaptive.update(labels, flooded)
    assert after[1] / after[0] < ratio[-1]


def test_estimates_are_smoothed_over_epochs() -> None:
    adaptive = AdaptiveWeights([5, 5], smoothing=0.75)
    adaptive.update(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(adaptive.recall, [1.0, 0.5])
    np.testing.assert_allclose(adaptive.false_positives, [0.5, 0.0])
    adaptive.update(np.array([0, 0, 1, 1]), np.array([1, 1, 1, 1]))
    np.testing.assert_allclose(adaptive.recall, [0.75, 0.625])
    np.testing.assert_allclose(adaptive.false_positives, [0.375, 0.25])


def test_it_starts_from_a_scheme_and_goes_on_from_its_state() -> None:
    np.testing.assert_allclose(AdaptiveWeights([90, 10]).weight, class_weights([90, 10], "inverse_sqrt"))
    rng = np.random.default_rng(1)
    seen = [(rng.integers(0, 2, 30), rng.integers(0, 2, 30)) for _ in range(6)]
    whole, first = AdaptiveWeights([90, 10]), AdaptiveWeights([90, 10])
    for pair in seen:
        whole.update(*pair)
    for pair in seen[:3]:
        first.update(*pair)
    second = AdaptiveWeights([90, 10])
    second.load_state_dict({k: v.copy() for k, v in first.state_dict().items()})
    for pair in seen[3:]:
        second.update(*pair)
    np.testing.assert_array_equal(second.weight, whole.weight)
    with pytest.raises(CounterpoiseError, match=r"'weight' must have shape \(3,\); got \(2,\)"):
        AdaptiveWeights([1, 2, 3]).load_state_dict(second.state_dict())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdaptiveWeights([5, 5], smoothing=1.0), "`smoothing` must be at least 0 and below 1; got 1"),
        (lambda: AdaptiveWeights([5, 5], budget=-1), "`budget` must be .* got -1"),
        (lambda: adapt_weights(np.ones(2), np.ones(2), np.ones(2), max_ratio=0.5), "`max_ratio` must be .* got 0.5"),
        (
            lambda: AdaptiveWeights([5, 5]).update(np.array([0, 2]), np.array([0, 1])),
            "`labels` must be in 0 .. 1; row 1 is 2",
        ),
        (lambda: AdaptiveWeights([5, 5]).update(np.array([0, 1]), np.array([0])), r"`predicted` .*\(2,\).*\(1,\)"),
        (lambda: AdaptiveWeights([5, 5]).update(np.array([0.0]), np.array([0.0])), "`labels` must be class indices"),
    ],
)
def test_mistakes_are_named(call: object, message: str) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        call()  # type: ignore[operator]


def test_deferred_weights_start_at_their_share_of_the_epochs() -> None:
    deferred = DeferredWeights([900, 100, 0], start=0.8, beta=0.99, empty="exclude")
    expected = class_weights([900, 100, 0], "effective_number", beta=0.99, empty="exclude")
    for epoch in range(4):
        np.testing.assert_array_equal(deferred.weight_at(epoch, epochs=5), [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(deferred.weight_at(4, epochs=5), expected)
    np.testing.assert_array_equal(
        DeferredWeights([5, 1], start=0.0).weight_at(0, epochs=3), class_weights([5, 1], "effective_number")
    )
    assert not DeferredWeights([5, 1], start=1.0).has_started(2, epochs=3)
    with pytest.raises(CounterpoiseError, match=r"`start` must be at least 0 and at most 1; got 1.5"):
        DeferredWeights([5, 1], start=1.5)
