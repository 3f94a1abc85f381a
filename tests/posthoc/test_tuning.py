"""τ, thresholds, temperatures and priors: against closed forms, other implementations and hand-computed numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, CounterpoiseError
from counterpoise.metrics import balanced_accuracy
from counterpoise.posthoc import (
    adjust_logits,
    apply_temperature,
    apply_thresholds,
    estimate_prior,
    fit_temperature,
    tau_normalize,
    tune_tau,
    tune_thresholds,
)

Floats = NDArray[np.float64]
MEANS = np.array([[0.0, 0.0], [1.8, 0.0], [0.0, 1.8]])
TRAIN = np.array([0.9, 0.08, 0.02])


def mixture(counts: list[int], seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Unit Gaussians around three means, and the label of each point."""
    labels = np.repeat(np.arange(3), counts)
    return np.random.default_rng(seed).normal(size=(len(labels), 2)) + MEANS[labels], labels


def log_posterior(x: Floats, prior: Floats) -> Floats:
    """The closed form of log p(c | x) under a class prior."""
    posterior: Floats = log_softmax(-0.5 * ((x[:, None] - MEANS) ** 2).sum(-1) + np.log(prior), axis=1)
    return posterior


# τ-normalisation


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_tau_normalisation_scales_every_norm_by_its_power(tau: float) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 8)) * np.arange(1, 6)[:, None]
    norms = np.linalg.norm(weight, axis=1)
    normalised = tau_normalize(weight, tau=tau)
    np.testing.assert_allclose(np.linalg.norm(normalised, axis=1), norms ** (1 - tau))
    np.testing.assert_allclose(normalised / weight, np.repeat((norms**-tau)[:, None], 8, axis=1))


def test_a_row_of_zeros_stays_one_and_tensors_stay_tensors() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float32)
    assert tau_normalize(weight).tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))
    assert tau_normalize(weight).dtype == torch.float32


def test_tau_normalisation_refuses_other_shapes() -> None:
    with pytest.raises(ArgumentError, match=r"`weight` must have shape \(C, D\); got \(3,\)"):
        tau_normalize(np.ones(3))
    with pytest.raises(ArgumentError, match="`tau` must be finite"):
        tau_normalize(np.ones((2, 2)), tau=np.nan)


# tuning τ


def test_tau_of_a_perfect_model_is_one() -> None:
    x, labels = mixture([40_000, 40_000, 40_000], seed=1)
    logits = log_posterior(x, TRAIN)
    tau = tune_tau(logits, labels, TRAIN)
    assert tau == pytest.approx(1.0, abs=0.15)
    gained = balanced_accuracy(labels, adjust_logits(logits, TRAIN, tau=tau).argmax(1))
    bayes = balanced_accuracy(labels, log_posterior(x, np.full(3, 1 / 3)).argmax(1))
    assert gained == pytest.approx(bayes, abs=1e-3)
    assert gained > balanced_accuracy(labels, logits.argmax(1)) + 0.1


def test_tau_is_the_best_of_those_tried_and_ties_go_to_one() -> None:
    x, labels = mixture([500, 60, 20], seed=2)
    logits, taus = log_posterior(x, TRAIN), np.linspace(0, 2, 21)
    found = tune_tau(logits, labels, TRAIN, taus=taus, metric="macro_f1")

    def score(tau: float) -> float:
        return float(f1_score(labels, adjust_logits(logits, TRAIN, tau=tau).argmax(1), average="macro"))

    assert score(found) == max(score(tau) for tau in taus)
    assert tune_tau(np.array([[5.0, 0.0], [0.0, 5.0]]), [0, 1], [0.6, 0.4]) == 1.0


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 3], {}, "`labels` must be in 0 .. 2; row 1 is 3"),
        ([0], {}, r"`labels` must have shape \(2,\)"),
        ([0, 1], {"taus": [-1.0]}, "`tau` must be at least 0; got -1"),
        ([0, 1], {"metric": "auc"}, "`metric` must be one of .*'auc'"),
        ([0, 1], {"taus": []}, "`taus` must hold at least one number"),
    ],
)
def test_tuning_tau_refuses_what_does_not_fit(labels: list[int], options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tune_tau(np.zeros((2, 3)), labels, TRAIN, **options)  # type: ignore[arg-type]


# thresholds


def best_by_trying(p: Floats, truth: NDArray[np.bool_], metric: str) -> float:
    """The best score of p >= t over every t that makes a difference, by scikit-learn."""
    score = f1_score if metric == "f1" else balanced_accuracy_score
    return max(float(score(truth, p >= t)) for t in np.unique(p))


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy"])
@pytest.mark.parametrize("digits", [2, 9])
def test_without_shrinkage_each_threshold_is_the_best_there_is(metric: str, digits: int) -> None:
    x, labels = mixture([150, 40, 15], seed=3)
    p = softmax(log_posterior(x, TRAIN), axis=1).round(digits)  # two digits: many ties
    thresholds = tune_thresholds(p, labels, metric=metric, shrinkage=0.0)  # type: ignore[arg-type]
    score = f1_score if metric == "f1" else balanced_accuracy_score
    for c in range(3):
        reached = score(labels == c, p[:, c] >= thresholds[c])
        assert reached == pytest.approx(best_by_trying(p[:, c], labels == c, metric))


@pytest.mark.parametrize(("metric", "labels"), [("f1", [0, 1, 1, 0]), ("balanced_accuracy", [0, 1, 0, 1])])
def test_of_equally_good_thresholds_the_highest_is_taken(metric: str, labels: list[int]) -> None:
    # Class 0: accepting the first image only, and accepting one or two more with one more right, score the same.
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]])
    assert tune_thresholds(p, labels, metric=metric, shrinkage=0.0)[0] == pytest.approx(0.75)  # type: ignore[arg-type]


def test_with_many_images_balanced_thresholds_are_the_prior() -> None:
    # p_c >= π_c is where a class is as likely as in general: Bayes' rule of balanced accuracy, one against the others
    x, labels = mixture([180_000, 16_000, 4_000], seed=4)
    p = np.exp(log_posterior(x, TRAIN))
    thresholds = tune_thresholds(p, labels, metric="balanced_accuracy", shrinkage=0.0)
    np.testing.assert_allclose(thresholds, TRAIN, rtol=0.3)


def test_shrinkage_moves_a_small_class_towards_the_common_threshold() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    labels = [0, 0, 0, 1]
    own, common = np.array([0.65, 0.35]), 0.35  # of the pairs at 0.35 and above 4 of 5 are right, and none is missed
    np.testing.assert_allclose(tune_thresholds(p, labels, shrinkage=0.0), own)
    np.testing.assert_allclose(tune_thresholds(p, labels, shrinkage=1e12), [common, common], rtol=1e-9)
    expected = [(3 * 0.65 + 2 * 0.35) / 5, (1 * 0.35 + 2 * 0.35) / 3]
    np.testing.assert_allclose(tune_thresholds(p, labels, shrinkage=2.0), expected)


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy"])
def test_a_weight_of_two_is_an_image_twice(metric: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    p = softmax(rng.normal(size=(60, 3)) + 2 * np.eye(3)[labels], axis=1)
    twice = rng.integers(0, 3, 60)
    rows = np.repeat(np.arange(60), twice)
    ours = tune_thresholds(p, labels, metric=metric, shrinkage=0.0, sample_weight=twice)
    np.testing.assert_allclose(ours, tune_thresholds(p[rows], labels[rows], metric=metric, shrinkage=0.0), atol=0.05)
    even = tune_thresholds(p, labels, metric=metric, sample_weight=np.full(60, 7.0))
    np.testing.assert_allclose(even, tune_thresholds(p, labels, metric=metric))
    with pytest.raises(ArgumentError, match=r"`sample_weight` must be \(60,\)"):
        tune_thresholds(p, labels, sample_weight=[1.0, -1.0])


def test_a_class_without_images_takes_the_common_threshold() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])
    for k in (0.0, 5.0):
        thresholds = tune_thresholds(p, [0, 0, 1], shrinkage=k)
        assert thresholds[2] == pytest.approx(0.45)  # above it all right, below it all wrong


def test_one_hot_targets_say_the_same_as_class_ids_and_several_classes_are_served() -> None:
    x, labels = mixture([60, 20, 10], seed=5)
    p = np.exp(log_posterior(x, TRAIN))
    np.testing.assert_array_equal(tune_thresholds(p, np.eye(3, dtype=int)[labels]), tune_thresholds(p, labels))
    rng = np.random.default_rng(6)
    targets = (rng.random((400, 3)) < [0.5, 0.2, 0.05]).astype(int)
    p = np.clip(targets * 0.2 + rng.random((400, 3)) * 0.5, 0, 1)
    thresholds = tune_thresholds(torch.from_numpy(p), torch.from_numpy(targets), shrinkage=0.0)
    predicted = apply_thresholds(p, thresholds) >= 0
    np.testing.assert_array_equal(predicted, p >= thresholds)
    ours, half = (f1_score(targets, said, average=None) for said in (predicted, p >= 0.5))
    assert (ours >= half).all()
    assert ours.mean() > half.mean() + 0.04


def test_applying_thresholds_is_the_log_ratio_in_both_worlds() -> None:
    p, t = np.array([[0.6, 0.4], [1.0, 0.0]]), [0.75, 0.25]
    expected = np.array([[np.log(0.6 / 0.75), np.log(0.4 / 0.25)], [np.log(1 / 0.75), -np.inf]])
    np.testing.assert_allclose(apply_thresholds(p, t), expected)
    np.testing.assert_allclose(apply_thresholds(torch.from_numpy(p), t).numpy(), expected)


@pytest.mark.parametrize(
    ("scores", "labels", "options", "message"),
    [
        ([[2.0, -1.0]], [0], {}, "`scores` must be probabilities .* row 0"),
        ([[0.5, np.nan]], [0], {}, "`scores` must be finite.* row 0"),
        ([[0.5, 0.5]], [2], {}, "`labels` must be in 0 .. 1; row 0 is 2"),
        ([[0.5, 0.5]], [[0, 2]], {}, "`labels` of two dimensions must be 0/1"),
        ([[0.5, 0.5]], [[0, 0]], {}, "`labels` must have at least one image"),
        ([[0.5, 0.5]], [0], {"metric": "accuracy"}, "`metric` must be one of"),
        ([[0.5, 0.5]], [0], {"shrinkage": -1.0}, "`shrinkage` must be at least 0; got -1"),
    ],
)
def test_thresholds_refuse_what_does_not_fit(
    scores: object, labels: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        tune_thresholds(scores, labels, **options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"class 1 has 0\.0"):
        apply_thresholds(np.ones((1, 2)), [0.5, 0.0])


# temperature


def test_the_temperature_that_was_put_in_comes_out() -> None:
    x, labels = mixture([3000, 2000, 1000], seed=7)
    honest = log_posterior(x, np.array([3, 2, 1]) / 6)
    own = fit_temperature(honest, labels)
    assert own == pytest.approx(1.0, abs=0.05)
    for temperature in (0.25, 3.0):
        assert fit_temperature(honest * temperature, labels) == pytest.approx(own * temperature, rel=1e-6)


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 5.0, 80.0])
def test_it_is_the_minimum_that_scipy_finds(scale: float) -> None:
    rng = np.random.default_rng(8)
    logits, labels = rng.normal(size=(300, 4)) * scale, rng.integers(0, 4, 300)
    logits[np.arange(300), labels] += 0.7 * scale

    def loss(log_t: float) -> float:
        return float(log_loss(labels, softmax(logits / np.exp(log_t), axis=1), labels=range(4)))

    found = fit_temperature(logits, labels)
    best = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100.0)), method="bounded", options={"xatol": 1e-9})
    assert loss(np.log(found)) <= best.fun + 1e-9
    assert found == pytest.approx(np.exp(best.x), rel=1e-3) or scale in (0.01, 80.0)  # flat near the bounds


def test_it_stays_within_its_bounds() -> None:
    assert fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 1]) == pytest.approx(0.01)
    assert fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), [1, 0]) == pytest.approx(100.0)
    assert fit_temperature(np.zeros((2, 2)), [0, 1]) > 0
    excluded = np.array([[2.0, 0.0, -np.inf], [2.0, 0.0, -np.inf], [2.0, 0.0, -np.inf], [0.0, 2.0, -np.inf]])
    assert fit_temperature(excluded, [0, 0, 1, 1]) == pytest.approx(2 / np.log(3))


def test_each_group_has_a_temperature_of_its_own() -> None:
    x, labels = mixture([4000, 3000, 2000], seed=9)
    honest = log_posterior(x, np.array([4, 3, 2]) / 9)
    skewed = honest * np.where(honest.argmax(1) == 2, 4.0, 0.5)[:, None]
    groups = ClassCounts([4000, 50, 10]).groups(many=100, few=20)
    groups = {"many": np.array([0, 1]), "few": groups["few"]}
    temperatures = fit_temperature(torch.from_numpy(skewed), torch.from_numpy(labels), groups=groups, shrinkage=0.0)
    np.testing.assert_allclose(temperatures, [0.5, 0.5, 4.0], rtol=0.1)
    again = apply_temperature(skewed, temperatures)
    np.testing.assert_array_equal(again.argmax(1), skewed.argmax(1))
    overall = skewed / fit_temperature(skewed, labels)
    assert log_loss(labels, softmax(again, axis=1)) < log_loss(labels, softmax(overall, axis=1))
    shrunk = fit_temperature(skewed, labels, groups=groups, shrinkage=1e12)
    np.testing.assert_allclose(shrunk, fit_temperature(skewed, labels), rtol=1e-6)
    tensor = apply_temperature(torch.from_numpy(skewed), temperatures)
    np.testing.assert_allclose(tensor.numpy(), again)


@pytest.mark.parametrize(
    ("logits", "labels", "options", "message"),
    [
        (np.zeros((0, 2)), [], {}, "at least one image"),
        ([[0.0, -np.inf]], [1], {}, "`logits` row 0 must be finite for its own label 1"),
        ([[-np.inf, -np.inf]], [1], {}, "`logits` must be finite, or -inf .* row 0"),
        ([[0.0, 1.0]], [1], {"groups": {"few": [2]}}, r"`groups\['few'\]` must be in 0 .. 1; row 0 is 2"),
        ([[0.0, 1.0]], [1], {"groups": {"many": [0], "few": [0]}}, "`groups` 'few' has class 0"),
        ([[0.0, 1.0]], [1], {"groups": {"few": [0]}, "shrinkage": np.nan}, "`shrinkage`"),
    ],
)
def test_temperatures_refuse_what_does_not_fit(
    logits: object, labels: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        fit_temperature(logits, labels, **options)  # type: ignore[call-overload]


def test_a_temperature_is_positive_and_fits() -> None:
    with pytest.raises(ArgumentError, match="`temperature` must be finite and above 0"):
        apply_temperature(np.zeros((1, 2)), 0.0)
    with pytest.raises(ArgumentError, match="`temperature` of shape"):
        apply_temperature(np.zeros((1, 2)), np.ones(3))


# the prior of unlabelled images


@pytest.mark.parametrize("counts", [[2000, 3000, 5000], [9000, 800, 200], [10_000, 0, 0]])
def test_the_prior_that_was_there_is_found(counts: list[int]) -> None:
    x, labels = mixture(counts, seed=10)
    probs = np.exp(log_posterior(x, TRAIN))  # calibrated for the training prior
    q = estimate_prior(probs, TRAIN)
    assert q.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(q, np.array(counts) / 10_000, atol=0.02)
    corrected = adjust_logits(np.log(probs), TRAIN, target_prior=q).argmax(1)
    bayes = log_posterior(x, np.maximum(counts, 1e-9) / 10_000).argmax(1)
    assert (corrected == labels).mean() >= (bayes == labels).mean() - 0.005


def test_it_is_the_most_likely_prior() -> None:
    # two classes: maximise Σ log(q L_1 + (1 - q) L_0) on a grid
    rng = np.random.default_rng(11)
    p = rng.beta(2, 2, size=400)
    probs = np.stack([1 - p, p], axis=1)
    q = estimate_prior(torch.from_numpy(probs), [0.7, 0.3], tolerance=1e-12)
    grid = np.linspace(1e-6, 1 - 1e-6, 20_001)
    ratio = probs / [0.7, 0.3]
    likelihood = np.array([np.log(grid * one + (1 - grid) * zero) for zero, one in ratio]).sum(0)
    assert q[1] == pytest.approx(grid[likelihood.argmax()], abs=1e-4)


def test_the_training_prior_is_a_fixed_point_and_an_unseen_class_stays_out() -> None:
    x, _ = mixture([9000, 800, 200], seed=12)
    probs = np.exp(log_posterior(x, TRAIN))
    np.testing.assert_allclose(estimate_prior(probs, TRAIN), TRAIN, atol=0.01)
    with_unseen = np.concatenate([probs, np.zeros((len(probs), 1))], axis=1)
    q = estimate_prior(with_unseen, [*TRAIN, 0.0])
    assert q[3] == 0.0
    np.testing.assert_allclose(q[:3], estimate_prior(probs, TRAIN))


def test_a_prior_that_has_not_converged_warns() -> None:
    p = np.random.default_rng(0).beta(2, 2, size=50)
    with pytest.warns(UserWarning, match="still changes by .* after 3 steps.* raise `max_iterations`"):
        estimate_prior(np.stack([p, 1 - p], axis=1), [0.7, 0.3], max_iterations=3)


@pytest.mark.parametrize(
    ("probs", "prior", "message"),
    [
        ([[0.5, 0.6]], [0.5, 0.5], "`probs` must be distributions; row 0 sums to 1.1"),
        ([[-0.5, 1.5]], [0.5, 0.5], "`probs` must be distributions; row 0"),
        (np.zeros((0, 2)), [0.5, 0.5], "`probs` must have at least one row"),
        ([[0.5, 0.5]], [1.0], "`train_prior` must have shape .*, one number per class"),
        ([[0.0, 1.0]], [1.0, 0.0], "`train_prior` is 0 for every class that `probs` row 0 allows"),
    ],
)
def test_estimating_refuses_what_does_not_fit(probs: object, prior: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        estimate_prior(probs, prior)
