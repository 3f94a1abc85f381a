"""The post-hoc method of a strategy: built by name, fitted on validation and applied to the logits of every split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from counterpoise import metrics
from counterpoise.core.artifacts import LogitTransform, Predictions, Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import defaults
from counterpoise.core.images import Split
from counterpoise.workflow.evaluation import (
    FittedMethod,
    Fitter,
    best_norm,
    cross_fitted,
    fit_norm,
    fit_thresholds,
    norm_method,
)
from counterpoise.workflow.training.recipe import ClassPrior

HistoryRow = dict[str, float | None]
Logits = NDArray[np.floating[Any]]
LinearHead = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weight ``(C, D)`` and bias ``(C,)`` of a linear head."""
FITTED = ("tau_normalize", "tune_thresholds")
"""Post-hoc methods with parameters that are fitted on validation images."""


def fitted_on_validation(strategy: Strategy) -> str | None:
    """Name of the method of a strategy that is fitted on validation images; None if there is none."""
    if strategy.reweighting == "adaptive":
        return "reweighting 'adaptive'"
    return f"posthoc {strategy.posthoc!r}" if strategy.posthoc in FITTED else None


def build_posthoc(strategy: Strategy, prior: ClassPrior, head: LinearHead | None = None) -> Fitter:
    """The post-hoc method of a strategy, to be fitted on validation logits; most have nothing to fit."""
    if strategy.posthoc is None:
        return lambda logits, labels: FittedMethod()
    return POSTHOC[strategy.posthoc](prior, head, **strategy.posthoc_options)


def apply_posthoc(
    strategy: Strategy, prior: ClassPrior, raw: dict[Split, Predictions], head: LinearHead | None = None
) -> tuple[dict[Split, Predictions], FittedMethod]:
    """The final logits of each split, and what the post-hoc method of the strategy has fitted on validation.

    If it has fitted something, each validation image is transformed by a fit to the other folds (cross-fitting), so
    that numbers on validation are comparable with those of strategies that fit nothing there.
    """
    fit = build_posthoc(strategy, prior, head)
    val = raw.get("val")
    logits, labels = (np.empty((0, 0)), np.empty(0, np.int64)) if val is None else (val.logits, val.labels)
    fitted = fit(logits, labels)
    final = {split: replace(predictions, logits=fitted.apply(predictions.logits)) for split, predictions in raw.items()}
    if val is not None and strategy.posthoc in FITTED:
        final["val"] = replace(val, logits=cross_fitted(fit, logits, labels))
    return final, fitted


@dataclass(frozen=True)
class HeldOut:
    """Predictions of the model of one fold for its held-out images, before any post-hoc method, and its linear head."""

    predictions: Predictions
    head: LinearHead | None


def apply_over_folds(
    strategy: Strategy,
    prior: ClassPrior,
    raw: dict[Split, Predictions],
    held_out: Sequence[HeldOut],
    fold: int,
) -> tuple[dict[Split, Predictions], FittedMethod]:
    """As `apply_posthoc`, for the model of one of several folds and a method that fits something.

    The held-out images of the fold are transformed by a fit to those of the other folds, so that no image has a part in
    its own transform (cross-fitting), and few images of a rare class are enough. The other images are transformed by a
    fit to the held-out images of all folds.
    """
    fitted = _fit_over_folds(strategy, prior, held_out, held_out[fold].head)
    others = [part for i, part in enumerate(held_out) if i != fold]
    crossed = _fit_over_folds(strategy, prior, others, held_out[fold].head)
    final = {
        split: replace(part, logits=(crossed if split == "val" else fitted).apply(part.logits))
        for split, part in raw.items()
    }
    return final, fitted


def _fit_over_folds(
    strategy: Strategy, prior: ClassPrior, held_out: Sequence[HeldOut], head: LinearHead | None
) -> FittedMethod:
    """The method for the model with this head, fitted on the held-out images of several folds."""
    if strategy.posthoc == "tau_normalize":
        # The logits of each fold are normalised by the norms of the head that computed them.
        parts = [(p.predictions.logits, p.predictions.labels, *_linear(p.head)) for p in held_out]
        return norm_method(best_norm(parts), *_linear(head))
    logits = np.concatenate([p.predictions.logits for p in held_out])
    labels = np.concatenate([p.predictions.labels for p in held_out])
    return build_posthoc(strategy, prior, head)(logits, labels)


def final_logit_prior(strategy: Strategy, prior: ClassPrior) -> tuple[float, ...]:
    """The class prior that the final logits contain; empty if it is not defined."""
    if prior.logit_prior is None or strategy.posthoc not in (None, "adjust_logits"):
        return ()
    tau = 0.0
    if strategy.posthoc:
        tau = float({**defaults("posthoc", "adjust_logits", "tau"), **strategy.posthoc_options}["tau"])
    return tuple(prior.after_adjustment(tau).tolist())


def validation_metrics(predictions: Predictions | None, metric: str | None = None) -> HistoryRow:
    """The columns of history.csv on validation, with a further ``metric``; None without validation images.

    The loss is plain, unweighted cross-entropy of the final logits, so that strategies can be compared.
    """
    if predictions is None or not len(predictions.labels):
        return {"val_loss": None, "val_accuracy": None, "val_balanced_accuracy": None}
    logits, labels = predictions.logits, predictions.labels
    predicted = logits.argmax(1)
    matrix = metrics.confusion_matrix(labels, predicted, num_classes=logits.shape[1])
    more = {} if metric is None else {f"val_{metric}": metrics.METRICS[metric].of_confusion(matrix)}
    return {
        **more,
        "val_loss": F.cross_entropy(torch.from_numpy(logits).double(), torch.tensor(labels)).item(),
        "val_accuracy": float((predicted == labels).mean()),
        "val_balanced_accuracy": float(metrics.balanced_accuracy(labels, predicted)),
    }


def _adjust_logits(prior: ClassPrior, head: LinearHead | None, **options: Any) -> Fitter:
    logit_prior = prior.logit_prior
    if logit_prior is None:
        raise ArgumentError(
            "posthoc 'adjust_logits' needs a loss that leaves a known class prior in the logits, and focal loss, "
            'margins and sigmoid losses do not; use loss="cross_entropy", with class weights or without'
        )

    parameters = {**defaults("posthoc", "adjust_logits", "tau"), **options, "prior": logit_prior.tolist()}
    return _fixed("adjust_logits", parameters)


def _scale_logits(prior: ClassPrior, head: LinearHead | None, **options: Any) -> Fitter:
    return _fixed("scale_logits", {**defaults("posthoc", "scale_logits", "scale"), **options})


def _fixed(method: str, parameters: dict[str, Any]) -> Fitter:
    """A step with nothing to fit."""
    fitted = FittedMethod(transforms=(LogitTransform(method, parameters),))
    return lambda logits, labels: fitted


def _tune_thresholds(prior: ClassPrior, head: LinearHead | None, **options: Any) -> Fitter:
    return lambda logits, labels: fit_thresholds(logits, labels, **options)


def _tau_normalize(prior: ClassPrior, head: LinearHead | None) -> Fitter:
    weight, bias = _linear(head)
    return lambda logits, labels: fit_norm(logits, labels, weight=weight, bias=bias)


POSTHOC: dict[str, Callable[..., Fitter]] = {
    "adjust_logits": _adjust_logits,
    "scale_logits": _scale_logits,
    "tau_normalize": _tau_normalize,
    "tune_thresholds": _tune_thresholds,
}


def _linear(head: LinearHead | None) -> LinearHead:
    if head is None:
        raise ArgumentError("posthoc 'tau_normalize' needs a model with a linear head; use head=\"linear\"")
    return head
