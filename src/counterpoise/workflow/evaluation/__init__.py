"""Predictions in, an Evaluation out."""

from counterpoise.workflow.evaluation.evaluate import PredictionsLike, as_predictions, evaluate

__all__ = ["PredictionsLike", "as_predictions", "evaluate"]
