"""Predictions in, an Evaluation out; and corrections that are fitted on validation."""

from counterpoise.workflow.evaluation.evaluate import PredictionsLike, as_predictions, evaluate
from counterpoise.workflow.evaluation.tuning import Fit, Fitted, Tuned, TuningKind, cross_fitted, tune

__all__ = [
    "Fit",
    "Fitted",
    "PredictionsLike",
    "Tuned",
    "TuningKind",
    "as_predictions",
    "cross_fitted",
    "evaluate",
    "tune",
]
