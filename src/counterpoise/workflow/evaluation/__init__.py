"""Evaluation: every number about one set of predictions, and post-hoc methods that are fitted on validation."""

from counterpoise.workflow.evaluation.evaluate import PredictionsLike, as_predictions, evaluate
from counterpoise.workflow.evaluation.tuning import (
    TUNING_FILE,
    FittedMethod,
    Fitter,
    Tuned,
    TuningKind,
    best_norm,
    cross_fitted,
    fit_norm,
    fit_thresholds,
    norm_method,
    read_tuning,
    save_tuning,
    tune,
)

__all__ = [
    "TUNING_FILE",
    "FittedMethod",
    "Fitter",
    "PredictionsLike",
    "Tuned",
    "TuningKind",
    "as_predictions",
    "best_norm",
    "cross_fitted",
    "evaluate",
    "fit_norm",
    "fit_thresholds",
    "norm_method",
    "read_tuning",
    "save_tuning",
    "tune",
]
