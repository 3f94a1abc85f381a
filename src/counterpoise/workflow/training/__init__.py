"""Training: from a strategy and a dataset to a trained model and its predictions, by `train`.

Names load on first use, because `Settings` needs no torch and the others do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterpoise.workflow.training.api import run_posthoc, run_training, train
    from counterpoise.workflow.training.loop import processes
    from counterpoise.workflow.training.run_folder import RunFolder, open_run
    from counterpoise.workflow.training.settings import ResolvedSettings, Settings
    from counterpoise.workflow.training.setup import TrainingSetup, check_strategy

_MODULES = {
    "ResolvedSettings": "settings",
    "RunFolder": "run_folder",
    "Settings": "settings",
    "TrainingSetup": "setup",
    "check_strategy": "setup",
    "open_run": "run_folder",
    "processes": "loop",
    "run_posthoc": "api",
    "run_training": "api",
    "train": "api",
}

__all__ = [
    "ResolvedSettings",
    "RunFolder",
    "Settings",
    "TrainingSetup",
    "check_strategy",
    "open_run",
    "processes",
    "run_posthoc",
    "run_training",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
