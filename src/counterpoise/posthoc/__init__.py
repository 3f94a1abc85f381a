"""Corrections of saved logits that need no training: NumPy arrays or torch tensors in, the same out."""

from counterpoise.posthoc.adjustment import (
    adjust_logits,
    estimate_prior,
    prior_after_adjustment,
    tau_normalize,
    tune_tau,
)
from counterpoise.posthoc.temperature import apply_temperature, fit_temperature
from counterpoise.posthoc.thresholds import apply_thresholds, tune_thresholds
from counterpoise.posthoc.transforms import TRANSFORMS, apply_transforms

__all__ = [
    "TRANSFORMS",
    "adjust_logits",
    "apply_temperature",
    "apply_thresholds",
    "apply_transforms",
    "estimate_prior",
    "fit_temperature",
    "prior_after_adjustment",
    "tau_normalize",
    "tune_tau",
    "tune_thresholds",
]
