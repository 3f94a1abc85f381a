"""Evaluation: every number about one set of predictions, and post-hoc methods that are fitted on validation."""

from counterpoise.workflow.evaluation.evaluate import PredictionsLike, as_predictions, evaluate
from counterpoise.workflow.evaluation.tuning import (
    FittedMethod,
    Fitter,
    Tuned,
    TuningKind,
    cross_fitted,
    fit_norm,
    fit_thresholds,
    tune,
)

__all__ = [
    "FittedMethod",
    "Fitter",
    "PredictionsLike",
    "Tuned",
    "TuningKind",
    "as_predictions",
    "cross_fitted",
    "evaluate",
    "fit_norm",
    "fit_thresholds",
    "tune",
]
