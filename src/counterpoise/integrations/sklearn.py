"""scikit-learn: class weights by our schemes, and a classifier that corrects the class prior of any other."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, check_cv, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, assert_all_finite, column_or_1d, get_tags
from sklearn.utils.class_weight import compute_class_weight as _theirs
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter, validate_data

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.posthoc import adjust_logits, apply_thresholds, estimate_prior, tune_thresholds
from counterpoise.weights import class_weights, effective_prior, sample_weights

__all__ = ["PriorAdjustedClassifier", "class_weight_dict", "compute_class_weight", "compute_sample_weight"]

FloatArray = NDArray[np.float64]
ThresholdMetric = Literal["f1", "balanced_accuracy"]


def compute_class_weight(
    class_weight: str | Mapping[Any, float] | None, *, classes: ArrayLike, y: ArrayLike, **options: Any
) -> FloatArray:
    """`sklearn.utils.class_weight.compute_class_weight`, with our schemes as well.

    Args:
        class_weight: "inverse", "inverse_sqrt", "effective_number" or another scheme of `counterpoise.weights`;
            "balanced", a dict and None are scikit-learn's own.
        classes: the classes in the order wanted, ``np.unique(y)``.
        y: ``(N,)`` labels.
        **options: of `counterpoise.weights.class_weights`, such as ``beta`` or ``max_weight``; ``sample_weight`` for
            "balanced".

    Returns:
        float64 ``(C,)``.

    Raises:
        ArgumentError: a class that ``y`` does not have.

    Example:
        >>> compute_class_weight("inverse_sqrt", classes=["cat", "lynx"], y=["cat"] * 9 + ["lynx"])
        array([0.5, 1.5])
    """
    if class_weight is None or class_weight == "balanced" or isinstance(class_weight, Mapping):
        unknown = options.keys() - {"sample_weight"}
        if unknown:
            raise ArgumentError(
                f"`{min(unknown)}` is no option of {class_weight!r}, which is scikit-learn's own; it belongs to "
                "schemes like 'effective_number'"
            )
        ours: FloatArray = _theirs(class_weight, classes=np.asarray(classes), y=np.asarray(y), **options)
        return ours
    names, labels = np.asarray(classes), np.asarray(y)
    counts = ClassCounts([int((labels == c).sum()) for c in names], names=[str(c) for c in names])
    scheme: Any = class_weight
    return class_weights(counts, scheme, **options)


def class_weight_dict(y: ArrayLike, class_weight: str = "inverse", **options: Any) -> dict[Any, float]:
    """Weights as the ``class_weight`` argument of scikit-learn's estimators takes them.

    Args:
        y: ``(N,)`` labels, not counts.
        class_weight: as for `compute_class_weight`.
        **options: likewise.

    Raises:
        ArgumentError: labels none of which occurs twice.

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


def compute_sample_weight(class_weight: str | Mapping[Any, float] | None, y: ArrayLike, **options: Any) -> FloatArray:
    """The weight of each sample, for estimators that take ``sample_weight`` but no ``class_weight``.

    Example:
        >>> compute_sample_weight("inverse", ["cat", "cat", "cat", "lynx"]).round(1)
        array([0.5, 0.5, 0.5, 1.5])
    """
    labels = np.asarray(y)
    classes, index = np.unique(labels, return_inverse=True)
    return sample_weights(index, compute_class_weight(class_weight, classes=classes, y=labels, **options))


class PriorAdjustedClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose probabilities are those of other class shares than the training data had.

    ``log p(c|x) − τ (log π_c − log q_c)``, normalised: Bayes' rule for data whose classes come as in q, exactly so for
    calibrated probabilities and τ = 1. Menon et al., ICLR 2021; Saerens et al., 2002. Thresholds, if asked for, are
    tuned on out-of-fold probabilities of the training data, never on those the model was fitted to.

    Args:
        estimator: anything with ``predict_proba``; default ``LogisticRegression()``. A ``class_weight`` or ``priors``
            of its own, or of the last step of a pipeline or the best of a search, is part of the prior that is taken
            out; further inside (one against the rest, votes) it is refused.
        target_prior: q: "uniform", "train" (no correction), ``(C,)`` shares in the order of ``np.unique(y)``, or
            ``{class: share}``. `adapt` estimates it from unlabelled data instead.
        tau: strength of the correction.
        thresholds: None, "f1" or "balanced_accuracy": per-class thresholds that tell each class best from the others,
            at the shares of ``target_prior`` ("train": those of the data).
        shrinkage: of the thresholds towards a common one, in images.
        cv: folds for the thresholds: a number, a splitter or splits, as `sklearn.model_selection.check_cv` takes them.

    Attributes:
        estimator_: the fitted one.
        classes_: ``(C,)`` labels.
        train_prior_: ``(C,)``, π: shares of the training data, times ``sample_weight`` and ``class_weight``.
        target_prior_: ``(C,)``, q.
        thresholds_: ``(C,)``, or None.

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
        """Fit a clone of the estimator, note the prior it has seen, and tune the thresholds if asked for.

        Raises:
            ArgumentError: a target prior or a metric that does not fit, an estimator without ``predict_proba``, or one
                with class weights where their effect cannot be told.
        """
        if self.thresholds is not None and self.thresholds not in get_args(ThresholdMetric):
            raise ArgumentError(f"`thresholds` must be None, 'f1' or 'balanced_accuracy'; got {self.thresholds!r}")
        validate_data(self, X, y, skip_check_array=True)
        base = LogisticRegression() if self.estimator is None else self.estimator
        X, column, weight = _present(X, _column(y), sample_weight)
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
        self.train_prior_ = self._seen_prior(labels, weight)
        self.target_prior_ = self._checked_target()
        self._held_out = self._out_of_fold(base, X, column, passed, weight) if self.thresholds else None
        self.thresholds_ = self._tuned(as_they_are=isinstance(self.target_prior, str) and self.target_prior == "train")
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities ``(N, C)`` for data whose classes come as in ``target_prior_``."""
        check_is_fitted(self)
        return self._adjusted(self.estimator_.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class; with thresholds, the one furthest above its own."""
        p = self.predict_proba(X)
        scores = p if self.thresholds_ is None else apply_thresholds(p, self.thresholds_)
        said: NDArray[Any] = self.classes_[scores.argmax(1)]
        return said

    def adapt(self, X: Any) -> PriorAdjustedClassifier:
        """Estimate the target prior from unlabelled data by expectation maximisation; probabilities must be calibrated.

        Thresholds, where there are any, are tuned again for it.

        A method and not an option of `predict`, whose answers would else depend on which rows are asked about together.
        """
        check_is_fitted(self)
        seen = self.train_prior_ > 0
        p = self.estimator_.predict_proba(X)[:, seen]
        self.target_prior_ = np.zeros(len(seen))
        self.target_prior_[seen] = estimate_prior(p / p.sum(1, keepdims=True), self.train_prior_[seen])
        self.thresholds_ = self._tuned()
        return self

    def _seen_prior(self, labels: NDArray[np.int64], weight: FloatArray | None) -> FloatArray:
        shares = np.bincount(labels, weights=weight, minlength=len(self.classes_)).astype(np.float64)
        inner = _deciding(self.estimator_)
        _refuse_hidden(inner)
        told = getattr(inner, "priors", None) if hasattr(inner, "priors") else getattr(inner, "class_prior", None)
        if told is not None:
            return effective_prior(np.asarray(told, dtype=np.float64))
        if getattr(inner, "fit_prior", True) is False:  # naive Bayes on counts: uniform
            return effective_prior(np.ones(len(self.classes_)))
        given = getattr(inner, "class_weight", None)
        if given is None:
            return effective_prior(shares)
        # A forest balances each of its bootstrap samples.
        given = "balanced" if given == "balanced_subsample" else given
        # Where scikit-learn balances the weighted counts, so must we.
        counted = weight is not None and given == "balanced" and "sample_weight" in signature(_theirs).parameters
        passed = {"sample_weight": weight} if counted else {}
        by_class = _theirs(given, classes=self.classes_, y=self.classes_[labels], **passed)
        return effective_prior(shares, weight=by_class)

    def _checked_target(self) -> FloatArray:
        if isinstance(self.target_prior, str):
            known = {"uniform": np.ones(len(self.classes_)), "train": self.train_prior_}
            if self.target_prior not in known:
                raise ArgumentError(
                    f"`target_prior` must be 'uniform', 'train', shares or a dict; got {self.target_prior!r}"
                )
            return effective_prior(known[self.target_prior])
        if isinstance(self.target_prior, Mapping):
            missing = [c for c in self.classes_.tolist() if c not in self.target_prior]
            if missing:
                raise ArgumentError(f"`target_prior` lacks the class {missing[0]!r}")
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
        e = np.exp(z - z.max(axis=1, keepdims=True))
        adjusted: FloatArray = e / e.sum(axis=1, keepdims=True)
        return adjusted

    def _out_of_fold(
        self, base: Any, X: Any, y: NDArray[Any], passed: dict[str, Any], weight: FloatArray | None
    ) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
        """Probabilities, labels and weights of the training data, each row by a model that was not fitted to it."""
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
            raise ArgumentError(f"`thresholds` need at least two samples of every class; {str(rarest)!r} has one")
        return StratifiedKFold(folds, shuffle=True, random_state=0)

    def _tuned(self, *, as_they_are: bool = False) -> FloatArray | None:
        """Thresholds for the target's shares: a row counts as often as its class will come for each time it is here."""
        if self._held_out is None:
            return None
        p, labels, weight = self._held_out
        if not as_they_are:
            here = np.bincount(labels, weights=weight, minlength=len(self.classes_))
            weight = weight * (self.target_prior_ * weight.sum() / np.maximum(here, np.finfo(np.float64).tiny))[labels]
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


def _deciding(estimator: Any) -> Any:
    """The classifier inside whose prior comes out: a pipeline's last step, a search's best, a stack's last."""
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, StackingClassifier):
            estimator = estimator.final_estimator_
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _refuse_hidden(estimator: Any) -> None:
    """Class weights further inside (one against the rest, votes) leave a prior that nobody can tell."""
    if isinstance(estimator, CalibratedClassifierCV):  # learns the prior of the data again
        return
    for name, value in estimator.get_params(deep=True).items():
        if "__" in name and name.rpartition("__")[2] in ("class_weight", "priors", "class_prior") and value is not None:
            raise ArgumentError(
                f"`estimator`: {name}={value!r} inside {type(estimator).__name__} leaves a prior that cannot be told, "
                "and would be corrected twice; leave it out"
            )


def _weight_argument(estimator: Any) -> str:
    """The keyword of ``fit`` under which sample weights reach the classifier."""
    if isinstance(estimator, Pipeline) and has_fit_parameter(estimator.steps[-1][1], "sample_weight"):
        return f"{estimator.steps[-1][0]}__sample_weight"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    name = type(estimator).__name__
    raise ArgumentError(f"`sample_weight`: {name}.fit takes none; put PriorAdjustedClassifier inside the {name}")


def _column(y: Any) -> NDArray[Any]:
    column: NDArray[Any] = column_or_1d(y, warn=True)
    assert_all_finite(column, input_name="y")
    check_classification_targets(column)
    return column


def _present(X: Any, y: NDArray[Any], sample_weight: Any) -> tuple[Any, NDArray[Any], FloatArray | None]:
    """Rows of weight 0 are rows that are not there, for the estimator, the prior and the folds alike."""
    if sample_weight is None:
        return X, y, None
    weight: FloatArray = _check_sample_weight(sample_weight, X)
    rows = np.flatnonzero(weight)
    if len(rows) == len(weight):
        return X, y, weight
    return _safe_indexing(X, rows), y[rows], weight[rows]
