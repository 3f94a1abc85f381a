"""scikit-learn: class weights of every scheme, and a meta-estimator that corrects the class prior of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from numbers import Integral
from typing import Any, Literal, TypedDict, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, check_cv, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, assert_all_finite, column_or_1d, get_tags
from sklearn.utils.class_weight import compute_class_weight as _sklearn_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter, validate_data
from typing_extensions import Unpack

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import hyperparameters
from counterpoise.posthoc import adjust_logits, apply_thresholds, estimate_prior, tune_thresholds
from counterpoise.weights import Scheme, class_weights, effective_prior, sample_weights

FloatArray = NDArray[np.float64]
ClassWeight = str | Mapping[Any, float] | None
ThresholdMetric = Literal["f1", "balanced_accuracy"]


class WeightOptions(TypedDict, total=False):
    """Keyword arguments of `counterpoise.weights.class_weights`, documented at `compute_class_weight`."""

    beta: float | Literal["auto"]
    power: float | None
    max_weight: float | None
    normalize: Literal["auto", "mean", "sample"] | None
    empty: Literal["error", "exclude"]


def compute_class_weight(
    class_weight: ClassWeight,
    *,
    classes: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    **options: Unpack[WeightOptions],
) -> FloatArray:
    """`sklearn.utils.class_weight.compute_class_weight` with the schemes of `counterpoise.weights` as well.

    Args:
        class_weight: "uniform", "inverse", "inverse_sqrt", "effective_number", "median_frequency" or an alias of one;
            "balanced", ``{class: weight}`` and None are computed by scikit-learn.
        classes: ``(C,)`` class labels in the order of the result.
        y: ``(N,)`` label of each sample.
        sample_weight: ``(N,)`` weight of each sample, for "balanced" (scikit-learn 1.7 and newer).
        **options: ``beta``, hyperparameter of "effective_number"; ``power``, exponent of "inverse"; ``max_weight``,
            the largest weight; ``normalize``, "mean" (average 1 over the classes), "sample" (over the samples) or
            None; ``empty``, "exclude" to give a class without samples the weight 0 instead of an error.

    Returns:
        float64 ``(C,)`` class weights.

    Raises:
        ArgumentError: ``y`` has no sample of a class, or an option does not apply to this ``class_weight``.

    Example:
        >>> compute_class_weight("inverse_sqrt", classes=["cat", "lynx"], y=["cat"] * 9 + ["lynx"])
        array([0.5, 1.5])
    """
    names, labels = np.asarray(classes), np.asarray(y)
    if class_weight is None or class_weight == "balanced" or isinstance(class_weight, Mapping):
        if options:
            raise ArgumentError(
                f"`{min(options)}` does not apply to {class_weight!r}, which scikit-learn computes; omit it, or choose "
                "another scheme, such as 'effective_number'"
            )
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        result: FloatArray = _sklearn_class_weight(class_weight, classes=names, y=labels, **weighted)
        return result
    if sample_weight is not None:
        raise ArgumentError(f"`sample_weight` applies to 'balanced' only; omit it for {class_weight!r}")
    counts = ClassCounts([int((labels == c).sum()) for c in names], names=[str(c) for c in names])
    return class_weights(counts, cast(Scheme, class_weight), **options)


def class_weight_dict(
    y: ArrayLike, class_weight: str = "inverse", **options: Unpack[WeightOptions]
) -> dict[Any, float]:
    """Class weights as ``{class: weight}``, for the argument ``class_weight`` of scikit-learn's estimators.

    Args:
        y: ``(N,)`` label of each sample; not counts.
        class_weight: scheme, as for `compute_class_weight`.
        **options: as for `compute_class_weight`.

    Example:
        >>> class_weight_dict(["cat"] * 9 + ["lynx"], "balanced")["lynx"]
        5.0
    """
    labels = np.asarray(y)
    classes = np.unique(labels)
    if 1 < len(classes) == len(labels):
        raise ArgumentError(f"`y` must be the labels of all samples; in {labels.tolist()!s:.60} none occurs twice")
    weights = compute_class_weight(class_weight, classes=classes, y=labels, **options)
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))


def compute_sample_weight(class_weight: ClassWeight, y: ArrayLike, **options: Unpack[WeightOptions]) -> FloatArray:
    """Sample weights, float64 ``(N,)``, for estimators that take ``sample_weight`` but no ``class_weight``.

    Args:
        class_weight: scheme, ``{class: weight}`` or None, as for `compute_class_weight`.
        y: ``(N,)`` label of each sample.
        **options: as for `compute_class_weight`.

    Example:
        >>> compute_sample_weight("inverse", ["cat", "cat", "cat", "lynx"]).round(1)
        array([0.5, 0.5, 0.5, 1.5])
    """
    labels = np.asarray(y)
    classes, index = np.unique(labels, return_inverse=True)
    return sample_weights(index, compute_class_weight(class_weight, classes=classes, y=labels, **options))


class PriorAdjustedClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Meta-estimator whose probabilities are those of a target prior instead of the prior of the training data.

    Computes ``log p(c|x) − τ (log π_c − log q_c)``, normalized over the classes: Bayes' rule for data whose classes
    have the prior q, which is exact for calibrated probabilities and τ = 1. Menon et al., ICLR 2021; Saerens et al.,
    2002. Thresholds are tuned on out-of-fold probabilities of the training data.

    Args:
        estimator: a classifier with ``predict_proba``; None is ``LogisticRegression()``. Its ``class_weight`` or
            ``priors``, also those of the last step of a pipeline or of the best estimator of a search, are part of
            the prior π that is corrected. Deeper inside (one-vs-rest, voting) they are refused.
        target_prior: q: "uniform", "train" (no correction), ``(C,)`` shares in the order of ``np.unique(y)``, or
            ``{class: share}``. `adapt` estimates it from unlabeled data instead.
        tau: strength of the correction τ, at least 0.
        thresholds: None, or the metric for which a threshold per class is tuned, with the classes weighted as in
            ``target_prior``.
        shrinkage: number of samples at which a class keeps half of its own threshold; the rest is common to all.
        cv: folds for the thresholds: a number, a splitter or an iterable of splits, as
            `sklearn.model_selection.check_cv` takes them.

    Attributes:
        estimator_: the fitted classifier.
        classes_: ``(C,)`` class labels.
        train_prior_: ``(C,)`` π: class shares of the training data, weighted by ``sample_weight`` and ``class_weight``.
        target_prior_: ``(C,)`` q.
        thresholds_: ``(C,)`` thresholds, or None.

    Example:
        >>> from sklearn.datasets import make_classification
        >>> X, y = make_classification(2000, weights=[0.95], class_sep=1.0, flip_y=0, random_state=0)
        >>> plain, adjusted = LogisticRegression().fit(X, y), PriorAdjustedClassifier(LogisticRegression()).fit(X, y)
        >>> rare = y == 1
        >>> bool((plain.predict(X) == y)[rare].mean() < (adjusted.predict(X) == y)[rare].mean())
        True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        target_prior: str | ArrayLike | Mapping[Any, float] = "uniform",
        tau: float = 1.0,
        thresholds: ThresholdMetric | None = None,
        shrinkage: float = 10.0,
        cv: Any = 5,
    ) -> None:
        self.estimator = estimator
        self.target_prior = target_prior
        self.tau = tau
        self.thresholds = thresholds
        self.shrinkage = shrinkage
        self.cv = cv

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PriorAdjustedClassifier:
        """Fit a clone of the estimator, compute the prior of its training data, and tune the thresholds.

        Args:
            X: ``(N, F)`` features.
            y: ``(N,)`` labels of at least two classes.
            sample_weight: ``(N,)`` weights; samples of weight 0 are ignored.

        Raises:
            ArgumentError: an invalid ``target_prior`` or ``thresholds``, an estimator without ``predict_proba``, or one
                with class weights whose effect on the prior cannot be determined.
        """
        if self.thresholds is not None and self.thresholds not in get_args(ThresholdMetric):
            raise ArgumentError(f"`thresholds` must be None, 'f1' or 'balanced_accuracy'; got {self.thresholds!r}")
        hyperparameters("posthoc", "adjust_logits")["tau"].check(self.tau)
        hyperparameters("posthoc", "tune_thresholds")["shrinkage"].check(self.shrinkage)
        validate_data(self, X, y, skip_check_array=True)
        base = LogisticRegression() if self.estimator is None else self.estimator
        X, column, weight = _without_zero_weights(X, _checked_labels(y), sample_weight)
        passed = {} if weight is None else {_weight_argument(base): weight}
        self.classes_, labels = np.unique(column, return_inverse=True)
        if len(self.classes_) < 2:
            found = "one class" if len(self.classes_) else "no sample"
            raise ArgumentError(f"`y` must have at least two classes; got {found}")
        self.estimator_ = clone(base).fit(X, column, **passed)
        if not hasattr(self.estimator_, "predict_proba"):
            raise ArgumentError(
                f"`estimator` {type(base).__name__} has no predict_proba; wrap it in CalibratedClassifierCV"
            )
        self.train_prior_ = self._training_prior(labels, weight)
        self.target_prior_ = self._checked_target()
        self._held_out = self._out_of_fold(base, X, column, passed, weight) if self.thresholds else None
        self.thresholds_ = self._tuned(
            reweighted=not (isinstance(self.target_prior, str) and self.target_prior == "train")
        )
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities ``(N, C)`` for data whose classes have the shares ``target_prior_``."""
        check_is_fitted(self)
        return self._adjusted(self.estimator_.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class; with thresholds, the class with the largest ratio of probability to threshold."""
        p = self.predict_proba(X)
        scores = p if self.thresholds_ is None else apply_thresholds(p, self.thresholds_)
        predicted: NDArray[Any] = self.classes_[scores.argmax(1)]
        return predicted

    def adapt(self, X: Any) -> PriorAdjustedClassifier:
        """Estimate the target prior from unlabeled data by expectation maximization, and tune the thresholds again.

        This is not an option of `predict`, because predictions would then depend on the other rows of ``X``.

        Args:
            X: ``(N, F)`` features of data with the target prior. The probabilities of the estimator must be calibrated.
        """
        check_is_fitted(self)
        seen = self.train_prior_ > 0
        p = self.estimator_.predict_proba(X)[:, seen]
        self.target_prior_ = np.zeros(len(seen))
        self.target_prior_[seen] = estimate_prior(p / p.sum(1, keepdims=True), self.train_prior_[seen])
        self.thresholds_ = self._tuned()
        return self

    def _training_prior(self, labels: NDArray[np.int64], weight: FloatArray | None) -> FloatArray:
        shares = np.bincount(labels, weights=weight, minlength=len(self.classes_)).astype(np.float64)
        inner = _final_classifier(self.estimator_)
        _refuse_nested_class_weights(inner)
        prior = getattr(inner, "priors", None) if hasattr(inner, "priors") else getattr(inner, "class_prior", None)
        if prior is not None:
            return effective_prior(np.asarray(prior, dtype=np.float64))
        if getattr(inner, "fit_prior", True) is False:  # naive Bayes with a uniform prior
            return effective_prior(np.ones(len(self.classes_)))
        class_weight = getattr(inner, "class_weight", None)
        if class_weight is None:
            return effective_prior(shares)
        # A forest balances each of its bootstrap samples.
        class_weight = "balanced" if class_weight == "balanced_subsample" else class_weight
        # Newer versions of scikit-learn balance the weighted counts.
        takes_weights = "sample_weight" in signature(_sklearn_class_weight).parameters
        weighted = weight is not None and class_weight == "balanced" and takes_weights
        passed = {"sample_weight": weight} if weighted else {}
        by_class = _sklearn_class_weight(class_weight, classes=self.classes_, y=self.classes_[labels], **passed)
        return effective_prior(shares, weight=by_class)

    def _checked_target(self) -> FloatArray:
        if isinstance(self.target_prior, str):
            named = {"uniform": np.ones(len(self.classes_)), "train": self.train_prior_}
            if self.target_prior not in named:
                raise ArgumentError(
                    f"`target_prior` must be 'uniform', 'train', shares or a dict; got {self.target_prior!r}"
                )
            return effective_prior(named[self.target_prior])
        if isinstance(self.target_prior, Mapping):
            missing = [c for c in self.classes_.tolist() if c not in self.target_prior]
            if missing:
                raise ArgumentError(f"`target_prior` lacks the class {missing[0]!r}; give every class a share")
            unknown = [c for c in self.target_prior if c not in self.classes_.tolist()]
            if unknown:
                raise ArgumentError(f"`target_prior` names {unknown[0]!r}, which `y` does not have")
            shares = np.array([self.target_prior[c] for c in self.classes_.tolist()], dtype=np.float64)
        else:
            shares = np.asarray(self.target_prior, dtype=np.float64)
        if shares.shape != self.classes_.shape:
            raise ArgumentError(f"`target_prior` must have {len(self.classes_)} shares; got shape {shares.shape}")
        return effective_prior(shares)

    def _adjusted(self, p: FloatArray) -> FloatArray:
        tiny = np.finfo(np.float64).tiny
        z = adjust_logits(
            np.log(np.maximum(p, tiny)),
            self.train_prior_,
            tau=self.tau,
            target_prior=np.maximum(self.target_prior_, tiny),
            empty="exclude",
        )
        adjusted: FloatArray = softmax(z, axis=1)
        return adjusted

    def _out_of_fold(
        self, base: Any, X: Any, y: NDArray[Any], passed: dict[str, Any], weight: FloatArray | None
    ) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
        """Out-of-fold probabilities of the training data, with their labels and weights."""
        labels = np.searchsorted(self.classes_, y)
        p = cross_val_predict(clone(base), X, y, cv=self._folds(labels, y), method="predict_proba", params=passed)
        return p, labels, np.ones(len(labels)) if weight is None else weight

    def _folds(self, labels: NDArray[np.int64], y: NDArray[Any]) -> Any:
        if not isinstance(self.cv, Integral):
            return check_cv(self.cv, y, classifier=True)
        if self.cv < 2:
            raise ArgumentError(f"`cv` must be at least 2 folds; got {self.cv}")
        folds = min(int(self.cv), int(np.bincount(labels).min()))
        if folds < 2:
            rarest = self.classes_[np.bincount(labels).argmin()]
            raise ArgumentError(
                f"`thresholds` need at least two samples of every class; {str(rarest)!r} has one. Give thresholds=None"
            )
        return StratifiedKFold(folds, shuffle=True, random_state=0)

    def _tuned(self, *, reweighted: bool = True) -> FloatArray | None:
        """Thresholds tuned on the out-of-fold probabilities, ``reweighted`` to the target prior."""
        if self._held_out is None:
            return None
        p, labels, weight = self._held_out
        if reweighted:
            mass = np.bincount(labels, weights=weight, minlength=len(self.classes_))
            weight = weight * (self.target_prior_ * weight.sum() / np.maximum(mass, np.finfo(np.float64).tiny))[labels]
        metric: Any = self.thresholds
        shrinkage = self.shrinkage
        return tune_thresholds(self._adjusted(p), labels, metric=metric, shrinkage=shrinkage, sample_weight=weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(LogisticRegression() if self.estimator is None else self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.classifier_tags.multi_class = inner.classifier_tags.multi_class
        return tags


def _final_classifier(estimator: Any) -> Any:
    """The classifier that determines the prior: inside a pipeline, a search or a stack, or the estimator itself."""
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, StackingClassifier):
            estimator = estimator.final_estimator_
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _refuse_nested_class_weights(estimator: Any) -> None:
    """Refuse class weights inside one-vs-rest and voting estimators, whose effect on the prior is not known."""
    if isinstance(estimator, CalibratedClassifierCV):  # calibration restores the prior of the data
        return
    for name, value in estimator.get_params(deep=True).items():
        if "__" in name and name.rpartition("__")[2] in ("class_weight", "priors", "class_prior") and value is not None:
            raise ArgumentError(
                f"`estimator`: {name}={value!r} inside {type(estimator).__name__} changes the prior in a way that "
                "cannot be determined, so that the prior would be corrected twice; remove it"
            )


def _weight_argument(estimator: Any) -> str:
    """The keyword of ``fit`` that passes sample weights to the classifier."""
    if isinstance(estimator, Pipeline) and has_fit_parameter(estimator.steps[-1][1], "sample_weight"):
        return f"{estimator.steps[-1][0]}__sample_weight"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    name = type(estimator).__name__
    raise ArgumentError(f"`sample_weight`: {name}.fit takes none; put PriorAdjustedClassifier inside the {name}")


def _checked_labels(y: Any) -> NDArray[Any]:
    column: NDArray[Any] = column_or_1d(y, warn=True)
    assert_all_finite(column, input_name="y")
    check_classification_targets(column)
    return column


def _without_zero_weights(X: Any, y: NDArray[Any], sample_weight: Any) -> tuple[Any, NDArray[Any], FloatArray | None]:
    """Drop samples of weight 0, so that the estimator, the prior and the folds ignore them."""
    if sample_weight is None:
        return X, y, None
    weight: FloatArray = _check_sample_weight(sample_weight, X)
    rows = np.flatnonzero(weight)
    if len(rows) == len(weight):
        return X, y, weight
    return _safe_indexing(X, rows), y[rows], weight[rows]
