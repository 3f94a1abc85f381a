"""Training: from a strategy and a dataset to a trained model and its predictions, by `train`.

Names load on first use, because `Settings` needs no torch and the others do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterpoise.workflow.training.api import run_posthoc, run_training, train
    from counterpoise.workflow.training.devices import check_device, checked_device, distributed_state, used_device
    from counterpoise.workflow.training.frozen.setup import prepared
    from counterpoise.workflow.training.posthoc import fitted_on_validation
    from counterpoise.workflow.training.progress import ProgressReport, WorkPlan
    from counterpoise.workflow.training.run_folder import RunFolder, open_run
    from counterpoise.workflow.training.settings import ResolvedSettings, Settings
    from counterpoise.workflow.training.setup import TrainingSetup, build_class_tree, check_strategy
    from counterpoise.workflow.training.tracking import check_tracker

__all__ = ["ResolvedSettings", "RunFolder", "Settings", "TrainingSetup", "build_class_tree", "check_device"]
__all__ += ["check_strategy", "checked_device", "distributed_state", "fitted_on_validation", "open_run", "prepared"]
__all__ += ["ProgressReport", "WorkPlan", "check_tracker", "run_posthoc", "run_training", "train", "used_device"]

_MODULES = {"ResolvedSettings": "settings", "Settings": "settings", "RunFolder": "run_folder", "open_run": "run_folder"}
_MODULES |= {"fitted_on_validation": "posthoc", "check_tracker": "tracking"}
_MODULES |= {"prepared": "frozen.setup"}
_MODULES |= dict.fromkeys(("ProgressReport", "WorkPlan"), "progress")
_MODULES |= dict.fromkeys(("TrainingSetup", "build_class_tree", "check_strategy"), "setup")
_MODULES |= dict.fromkeys(("check_device", "checked_device", "distributed_state", "used_device"), "devices")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'api')}"), name)
    globals()[name] = value
    return value
