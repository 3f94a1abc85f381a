"""Counterpoise: learning from imbalanced images.

Importing the package imports nothing else; each subpackage and each function loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from counterpoise import (
        augment,
        core,
        hierarchy,
        integrations,
        kernels,
        losses,
        metrics,
        models,
        posthoc,
        samplers,
        weights,
        workflow,
    )
    from counterpoise.core import errors
    from counterpoise.core.counts import ClassCounts
    from counterpoise.core.strategy import Strategy
    from counterpoise.workflow.audit import audit
    from counterpoise.workflow.comparison import compare
    from counterpoise.workflow.dataset import load
    from counterpoise.workflow.deployment import load_model
    from counterpoise.workflow.evaluation import evaluate
    from counterpoise.workflow.explain import explain
    from counterpoise.workflow.report import render
    from counterpoise.workflow.strategy import plan
    from counterpoise.workflow.training import train

_NAMES = {
    "ClassCounts": "core.counts",
    "Strategy": "core.strategy",
    "audit": "workflow.audit",
    "compare": "workflow.comparison",
    "evaluate": "workflow.evaluation",
    "explain": "workflow.explain",
    "load": "workflow.dataset",
    "load_model": "workflow.deployment",
    "plan": "workflow.strategy",
    "render": "workflow.report",
    "train": "workflow.training",
}
_MODULES = {
    "augment": "augment",
    "core": "core",
    "errors": "core.errors",
    "hierarchy": "hierarchy",
    "integrations": "integrations",
    "kernels": "kernels",
    "losses": "losses",
    "metrics": "metrics",
    "models": "models",
    "posthoc": "posthoc",
    "samplers": "samplers",
    "weights": "weights",
    "workflow": "workflow",
}

__all__ = [
    "ClassCounts",
    "Strategy",
    "audit",
    "augment",
    "compare",
    "core",
    "errors",
    "evaluate",
    "explain",
    "hierarchy",
    "integrations",
    "kernels",
    "load",
    "load_model",
    "losses",
    "metrics",
    "models",
    "plan",
    "posthoc",
    "render",
    "samplers",
    "train",
    "weights",
    "workflow",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
