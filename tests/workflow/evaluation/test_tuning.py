"""Corrections fitted on validation: known answers, and nothing ever fitted on what they are judged by."""

from types import SimpleNamespace

import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Predictions
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.evaluation import Tuned, cross_fitted, tune

PRIOR = np.array([0.9, 0.08, 0.02])


def posterior_logits(n, *, prior=PRIOR, seed=0, temperature=1.0):
    """Three Gaussians in the plane; exact log posteriors under ``prior`` (up to a constant), labels drawn uniformly."""
    rng = np.random.default_rng(seed)
    means = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    labels = rng.integers(3, size=n)
    x = means[labels] + rng.normal(size=(n, 2))
    log_p = -0.5 * ((x[:, None] - means) ** 2).sum(-1) + np.log(prior)
    return temperature * log_p, labels


def test_tau_finds_the_bayes_rule_of_balanced_data():
    val, test = posterior_logits(30_000), posterior_logits(30_000, seed=1)
    result = tune("tau", val, other=test, prior=PRIOR)
    assert result.parameters["tau"] == pytest.approx(1.0, abs=0.1)
    bayes = posterior_logits(30_000, seed=1, prior=np.ones(3))
    best = (bayes[0].argmax(1) == bayes[1]).mean()
    assert result.after.accuracy == pytest.approx(best, abs=0.005)
    assert result.before.balanced_accuracy < result.after.balanced_accuracy - 0.1
    assert not result.cross_fitted


def test_thresholds_come_near_the_bayes_rule():
    val, test = posterior_logits(30_000), posterior_logits(30_000, seed=1)
    result = tune("thresholds", val, other=test)
    bayes = posterior_logits(30_000, seed=1, prior=np.ones(3))
    best = (bayes[0].argmax(1) == bayes[1]).mean()
    assert best - 0.03 < result.after.balanced_accuracy <= best + 0.005


def test_temperature_is_found_and_changes_no_prediction():
    val, test = (posterior_logits(30_000, prior=np.ones(3), temperature=3.0, seed=s) for s in (0, 1))
    result = tune("temperature", val, other=test)
    assert result.parameters["temperature"] == pytest.approx(3.0, rel=0.03)
    assert result.after.accuracy == result.before.accuracy
    assert result.after.expected_calibration_error < 0.02 < 0.05 < result.before.expected_calibration_error


def test_temperature_of_each_shot_group():
    logits, labels = posterior_logits(30_000, prior=np.ones(3))
    hot = logits * np.where(logits.argmax(1) == 0, 4.0, 1.0)[:, None]
    counts = ClassCounts([900, 80, 60])
    result = tune("temperature", (hot, labels), train_counts=counts)
    assert result.parameters["temperature"]["many"] == pytest.approx(4.0, rel=0.1)
    assert result.parameters["temperature"]["medium"] == pytest.approx(1.0, rel=0.1)
    assert "few" not in result.parameters["temperature"]


def test_counts_are_matched_to_the_classes_by_name():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    logits = 3.0 * rng.normal(size=(400, 2)) + np.eye(2)[labels]
    given = Predictions(logits, labels, np.arange(400).astype(str), np.array(["rare", "common"]))
    ways = ({"rare": 5, "common": 500}, {"common": 500, "rare": 5}, ClassCounts([500, 5], ["common", "rare"]))
    first, *others = (tune("temperature", given, train_counts=counts).to_dict() for counts in ways)
    assert others == [first, first]


@pytest.mark.parametrize("kind", ["tau", "thresholds", "temperature"])
def test_nothing_is_fitted_on_the_split_that_is_judged(kind):
    (scores, labels), (other, truth) = posterior_logits(400), posterior_logits(400, seed=1)
    prior = PRIOR if kind == "tau" else None
    one = tune(kind, (scores, labels), other=(other, truth), prior=prior)
    two = tune(kind, (scores, labels), other=(other[::-1] + 1.0, truth), prior=prior)
    assert one.parameters == two.parameters


def test_validation_itself_is_corrected_out_of_fold():
    scores, labels = posterior_logits(60)
    seen = []

    def fit(z, y):
        seen.append(len(y))
        known = {tuple(row) for row in z.tolist()}
        return SimpleNamespace(
            apply=lambda new: np.array([[0.0 if tuple(row) in known else 1.0] for row in new.tolist()])
        )

    assert (cross_fitted(fit, scores[:, :1], labels) == 1.0).all()
    assert len(seen) == 5
    assert all(40 <= n < 60 for n in seen)
    whole = tune("thresholds", (scores, labels))
    assert whole.cross_fitted
    own = tune("thresholds", (scores, labels), other=(scores, labels), split="val")
    assert own.parameters == whole.parameters
    assert own.after.confusion != whole.after.confusion


def test_the_fit_that_is_worth_nothing_looks_so():
    def of_noise(seed, other):
        rng = np.random.default_rng(seed)
        noise, labels = (rng.normal(size=(80, 3)), np.repeat([0, 1, 2], [50, 20, 10]))
        return tune("tau", (noise, labels), other=(noise, labels) if other else None, prior=PRIOR)

    optimistic, honest = (np.mean([of_noise(s, o).after.balanced_accuracy for s in range(20)]) for o in (True, False))
    assert honest < 0.38
    assert optimistic > honest + 0.02


def test_a_result_goes_through_json():
    result = tune("thresholds", posterior_logits(50), train_counts=ClassCounts([500, 50, 5]))
    assert Tuned.from_dict(result.to_dict()) == result


def test_one_image_of_a_class_and_one_image_at_all():
    scores, labels = posterior_logits(30)
    labels = np.where(np.arange(30) == 7, 2, labels % 2)
    assert np.isfinite(tune("thresholds", (scores, labels)).after.accuracy)
    single = (scores[:1], labels[:1])
    np.testing.assert_array_equal(cross_fitted(lambda z, y: 1 / 0, *single), single[0])


def test_mistakes_are_named():
    good = posterior_logits(30)
    with pytest.raises(ArgumentError, match="`kind` must be one of 'tau', 'thresholds', 'temperature'; got 'bias'"):
        tune("bias", good)
    with pytest.raises(ArgumentError, match="`prior` is missing"):
        tune("tau", good)
    with pytest.raises(ArgumentError, match="`validation` has no images"):
        tune("thresholds", (np.empty((0, 3)), np.empty(0, int)))
    other = Predictions(good[0], good[1], np.arange(30).astype(str), np.array(["a", "b", "c"]))
    with pytest.raises(
        ArgumentError, match=r"`other` must have the classes of `validation`, \['0', '1', '2'\]; got \['a', 'b', 'c'\]"
    ):
        tune("thresholds", good, other=other)
