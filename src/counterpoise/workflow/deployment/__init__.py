"""Deployment: a trained model from its run folder, its predictions on new images, and its export."""

from counterpoise.workflow.deployment.model import TrainedModel, load_model
from counterpoise.workflow.deployment.result import ImagePredictions

__all__ = ["ImagePredictions", "TrainedModel", "load_model"]
