"""scikit-learn: its own checks, its own numbers, and the Bayes error where it is known."""

import inspect

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import class_weight as theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

from counterpoise.core.errors import ArgumentError
from counterpoise.integrations.sklearn import (
    PriorAdjustedClassifier,
    WeightOptions,
    class_weight_dict,
    compute_class_weight,
    compute_sample_weight,
)
from counterpoise.weights import class_weights

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 2.0]])
TRAIN = np.array([0.93, 0.05, 0.02])
NOT_WITH_THRESHOLDS = {
    "check_sample_weight_equivalence_on_dense_data": "a sample repeated may be in two folds, a weighted one is in one",
    "check_classifiers_train": "with thresholds the prediction is not the most probable class, on purpose",
}


@parametrize_with_checks(
    [
        PriorAdjustedClassifier(),
        PriorAdjustedClassifier(LogisticRegression(class_weight="balanced")),
        PriorAdjustedClassifier(GaussianNB(), thresholds="balanced_accuracy", cv=3),
    ],
    expected_failed_checks=lambda estimator: NOT_WITH_THRESHOLDS if estimator.thresholds else {},
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def gaussians(n, prior, seed):
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=n, p=prior)
    return MEANS[y] + rng.normal(size=(n, 2)), np.array(["a", "b", "c"])[y]


def bayes_error(prior):
    """1 − ∫ max_c q_c N(x; μ_c, 1) dx, on a grid."""
    axis = np.linspace(-7, 9, 801)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    density = [q * multivariate_normal(m, np.eye(2)).pdf(grid) for q, m in zip(prior, MEANS, strict=True)]
    return 1 - np.max(density, 0).sum() * (axis[1] - axis[0]) ** 2


@pytest.mark.parametrize("prior", [np.full(3, 1 / 3), np.array([0.1, 0.2, 0.7])], ids=["uniform", "shifted"])
def test_the_bayes_error_is_reached_where_the_prior_shifts(prior):
    X, y = gaussians(40_000, TRAIN, 0)
    new, truth = gaussians(100_000, prior, 1)
    least = bayes_error(prior)
    plain = LinearDiscriminantAnalysis().fit(X, y)
    assert (plain.predict(new) != truth).mean() > least + 0.1
    told = PriorAdjustedClassifier(LinearDiscriminantAnalysis(), target_prior=prior).fit(X, y)
    assert (told.predict(new) != truth).mean() < least + 0.005
    estimated = PriorAdjustedClassifier(LinearDiscriminantAnalysis()).fit(X, y).adapt(new)
    np.testing.assert_allclose(estimated.target_prior_, prior, atol=0.02)
    assert (estimated.predict(new) != truth).mean() < least + 0.005


def test_class_weights_inside_are_not_corrected_again():
    X, y = gaussians(40_000, TRAIN, 0)
    new, truth = gaussians(50_000, np.full(3, 1 / 3), 1)
    least = bayes_error(np.full(3, 1 / 3))
    for weighting in (None, "balanced", {"a": 1.0, "b": 3.0, "c": 10.0}):
        model = PriorAdjustedClassifier(LogisticRegression(class_weight=weighting)).fit(X, y)
        assert (model.predict(new) != truth).mean() < least + 0.005
    weight = compute_sample_weight("inverse_sqrt", y)
    model = PriorAdjustedClassifier(LogisticRegression()).fit(X, y, sample_weight=weight)
    assert (model.predict(new) != truth).mean() < least + 0.005


BALANCED = LogisticRegression(class_weight="balanced")


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), BALANCED),
        GridSearchCV(make_pipeline(StandardScaler(), BALANCED), {"logisticregression__C": [1.0, 10.0]}, cv=2),
        GridSearchCV(LogisticRegression(), {"class_weight": ["balanced"]}, cv=2),
        GaussianNB(priors=[1 / 3] * 3),
    ],
    ids=["pipeline", "search of a pipeline", "search", "priors"],
)
def test_class_weights_of_what_is_wrapped_are_found(estimator):
    X, y = gaussians(20_000, TRAIN, 0)
    new, truth = gaussians(30_000, np.full(3, 1 / 3), 1)
    model = PriorAdjustedClassifier(estimator).fit(X, y)
    assert (model.predict(new) != truth).mean() < bayes_error(np.full(3, 1 / 3)) + 0.01


@pytest.mark.parametrize(
    ("estimator", "prior"),
    [
        (RandomForestClassifier(5, class_weight="balanced_subsample", random_state=0), np.full(3, 1 / 3)),
        (StackingClassifier([("nb", GaussianNB())], BALANCED, cv=2), np.full(3, 1 / 3)),
        (StackingClassifier([("lr", BALANCED)], LogisticRegression(), cv=2), TRAIN),
        (CalibratedClassifierCV(BALANCED, cv=2), TRAIN),
        (BernoulliNB(class_prior=[0.2, 0.3, 0.5]), [0.2, 0.3, 0.5]),
        (BernoulliNB(fit_prior=False), np.full(3, 1 / 3)),
    ],
)
def test_the_prior_that_comes_out_of_what_is_wrapped(estimator, prior):
    X, y = gaussians(4_000, TRAIN, 0)
    np.testing.assert_allclose(PriorAdjustedClassifier(estimator).fit(X, y).train_prior_, prior, atol=0.01)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            OneVsRestClassifier(BALANCED),
            "estimator__class_weight='balanced' inside OneVsRestClassifier changes the prior",
        ),
        (VotingClassifier([("a", BALANCED)], voting="soft"), "a__class_weight='balanced' inside VotingClassifier"),
        (SVC(), "`estimator` SVC has no predict_proba; wrap it in CalibratedClassifierCV"),
    ],
)
def test_what_cannot_be_corrected_is_refused(estimator, message):
    X, y = gaussians(300, [0.6, 0.3, 0.1], 0)
    with pytest.raises(ArgumentError, match=message):
        PriorAdjustedClassifier(estimator).fit(X, y)


def test_sample_weights_reach_the_last_step_of_a_pipeline():
    X, y = gaussians(2_000, TRAIN, 0)
    weight = compute_sample_weight("inverse", y)
    X = (X - X.mean(0)) / X.std(0)
    plain = PriorAdjustedClassifier(LogisticRegression(), thresholds="f1").fit(X, y, sample_weight=weight)
    piped = make_pipeline(StandardScaler(with_mean=False, with_std=False), LogisticRegression())
    model = PriorAdjustedClassifier(piped, thresholds="f1").fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.train_prior_, 1 / 3)
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(model.thresholds_, plain.thresholds_, rtol=1e-6)


def test_the_train_prior_as_target_is_the_plain_model():
    X, y = gaussians(500, [0.6, 0.3, 0.1], 0)
    plain = LogisticRegression().fit(X, y)
    same = PriorAdjustedClassifier(LogisticRegression(), target_prior="train").fit(X, y)
    np.testing.assert_allclose(same.predict_proba(X), plain.predict_proba(X), rtol=1e-9)
    none = PriorAdjustedClassifier(LogisticRegression(), tau=0.0).fit(X, y)
    np.testing.assert_allclose(none.predict_proba(X), plain.predict_proba(X), rtol=1e-9)


def test_thresholds_are_tuned_on_what_the_model_was_not_fitted_to():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 2)), np.repeat([0, 1], [150, 50])  # pure noise, which 1-NN overfits completely
    model = PriorAdjustedClassifier(KNeighborsClassifier(1), thresholds="f1", target_prior="train").fit(X, y)
    assert model.estimator_.score(X, y) == 1.0
    overfitted = np.array([0.5, 0.5])  # the thresholds of its own probabilities, which are all 0 or 1
    assert not np.allclose(model.thresholds_, overfitted, atol=0.05)
    better = PriorAdjustedClassifier(GaussianNB(), thresholds="balanced_accuracy", target_prior="train")
    X, y = gaussians(20_000, TRAIN, 0)
    new, truth = gaussians(20_000, np.full(3, 1 / 3), 1)
    assert better.fit(X, y).score(new, truth) > GaussianNB().fit(X, y).score(new, truth) + 0.1


def macro_f1(y, predicted):
    return f1_score(y, predicted, average="macro")


def test_thresholds_are_tuned_for_the_shares_that_will_come():
    X, y = gaussians(20_000, TRAIN, 0)
    coming = np.array([0.2, 0.3, 0.5])
    field, truth = gaussians(20_000, coming, 1)
    scores = {}
    for thresholds in (None, "f1"):
        model = PriorAdjustedClassifier(GaussianNB(), target_prior=coming, thresholds=thresholds).fit(X, y)
        scores[thresholds] = macro_f1(truth, model.predict(field))
    assert scores["f1"] > scores[None] - 0.02
    adapted = PriorAdjustedClassifier(GaussianNB(), thresholds="f1").fit(X, y)
    before = adapted.thresholds_
    assert macro_f1(truth, adapted.adapt(field).predict(field)) == pytest.approx(scores["f1"], abs=0.01)
    assert not np.allclose(before, adapted.thresholds_)


def test_folds_come_as_scikit_learn_takes_them():
    X, y = gaussians(300, [0.6, 0.3, 0.1], 0)
    splitter = StratifiedKFold(3, shuffle=True, random_state=0)
    by_number = PriorAdjustedClassifier(thresholds="f1", cv=3).fit(X, y).thresholds_
    for cv in (splitter, list(splitter.split(X, y))):
        np.testing.assert_array_equal(PriorAdjustedClassifier(thresholds="f1", cv=cv).fit(X, y).thresholds_, by_number)
    assert PriorAdjustedClassifier(thresholds="f1", cv=None).fit(X, y).thresholds_.shape == (3,)
    with pytest.raises(ArgumentError, match="`cv` must be at least 2 folds; got 1"):
        PriorAdjustedClassifier(thresholds="f1", cv=1).fit(X, y)


def test_it_works_where_scikit_learn_users_put_it():
    X, y = gaussians(600, [0.7, 0.2, 0.1], 0)
    pipeline = make_pipeline(StandardScaler(), PriorAdjustedClassifier(LogisticRegression()))
    assert cross_val_score(pipeline, X, y, scoring="balanced_accuracy").min() > 0.6
    grid = GridSearchCV(
        PriorAdjustedClassifier(LogisticRegression()),
        {"tau": [0.0, 1.0], "estimator__C": [0.1, 1.0]},
        cv=3,
        scoring="balanced_accuracy",
    )
    assert grid.fit(X, y).best_params_["tau"] == 1.0
    calibrated = CalibratedClassifierCV(RandomForestClassifier(10, random_state=0), cv=3)
    assert PriorAdjustedClassifier(calibrated).fit(X, y).score(X, y) > 0.5


def test_class_weights_are_scikit_learns_where_it_has_them_and_ours_else():
    y = np.array(["cat"] * 90 + ["lynx"] * 10)
    classes = np.unique(y)
    for scheme in (None, "balanced", {"cat": 2.0, "lynx": 3.0}):
        expected = theirs.compute_class_weight(scheme, classes=classes, y=y)
        np.testing.assert_array_equal(compute_class_weight(scheme, classes=classes, y=y), expected)
        np.testing.assert_array_equal(compute_sample_weight(scheme, y), theirs.compute_sample_weight(scheme, y))
    for scheme in ("inverse", "inverse_sqrt", "effective_number"):
        got = compute_class_weight(scheme, classes=classes[::-1], y=y)
        np.testing.assert_allclose(got, class_weights([90, 10], scheme)[::-1])
    assert class_weight_dict(y, "effective_number", beta=0.999)["lynx"] > 1
    LogisticRegression(class_weight=class_weight_dict(y)).fit(np.arange(100.0)[:, None], y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"target_prior": "balanced"}, "`target_prior` must be 'uniform', .* got 'balanced'"),
        (lambda: {"target_prior": {"a": 0.5, "b": 0.5}}, "`target_prior` lacks the class 'c'"),
        (lambda: {"target_prior": dict.fromkeys("abcd", 0.25)}, "`target_prior` names 'd', which `y` does not have"),
        (lambda: {"target_prior": [0.5, 0.5]}, r"`target_prior` must have 3 shares; got shape \(2,\)"),
        (lambda: {"tau": -1.0}, "`tau` must be at least 0; got -1"),
        (lambda: {"shrinkage": -1.0}, "`shrinkage` must be at least 0; got -1"),
        (lambda: {"thresholds": "recall"}, "`thresholds` must be None, 'f1' or 'balanced_accuracy'; got 'recall'"),
    ],
)
def test_mistakes_are_named(make, message):
    X, y = gaussians(200, [0.6, 0.3, 0.1], 0)
    with pytest.raises(ArgumentError, match=message):
        PriorAdjustedClassifier(**make()).fit(X, y)


def test_options_are_those_of_class_weights():
    options = inspect.signature(class_weights).parameters.keys() - {"counts", "scheme", "pixels_in_images"}
    assert WeightOptions.__annotations__.keys() == options


def test_counts_and_options_in_the_wrong_place_are_named():
    with pytest.raises(ArgumentError, match=r"labels of all samples; in \[800, 150, 40\] none occurs twice"):
        class_weight_dict([800, 150, 40])
    with pytest.raises(ArgumentError, match="`beta` does not apply to 'balanced'"):
        class_weight_dict(["a", "a", "b"], "balanced", beta=0.9)


def test_a_lonely_sample_has_no_threshold():
    X, y = np.arange(10.0)[:, None], np.array([0] * 9 + [1])
    with pytest.raises(ArgumentError, match="at least two samples of every class; '1' has one"):
        PriorAdjustedClassifier(thresholds="f1").fit(X, y)


def test_sample_weights_that_the_estimator_cannot_take_are_refused():
    X, y = gaussians(100, [0.6, 0.3, 0.1], 0)
    with pytest.raises(
        ArgumentError, match=r"KNeighborsClassifier\.fit takes none; put PriorAdjustedClassifier inside"
    ):
        PriorAdjustedClassifier(KNeighborsClassifier()).fit(X, y, sample_weight=np.ones(100))
