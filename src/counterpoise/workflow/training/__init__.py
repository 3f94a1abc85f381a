"""From a strategy and a dataset to a trained model and its predictions: `train`."""

from counterpoise.workflow.training.environment import processes
from counterpoise.workflow.training.fit import fit, recorded, rescore
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.job import Job, check_strategy
from counterpoise.workflow.training.run import train
from counterpoise.workflow.training.settings import Resolved, Settings

__all__ = [
    "Job",
    "Resolved",
    "RunFolder",
    "Settings",
    "check_strategy",
    "fit",
    "processes",
    "recorded",
    "rescore",
    "train",
]
