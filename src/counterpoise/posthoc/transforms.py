"""The steps from the output of a model to its final logits, as data: a name and numbers that JSON can hold.

A run records its steps, so that a saved model gives the scores that were evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import LogitTransform
from counterpoise.core.errors import ArgumentError
from counterpoise.core.names import did_you_mean
from counterpoise.hierarchy import ClassTree, leaf_log_probabilities
from counterpoise.metrics import softmax
from counterpoise.posthoc.adjustment import adjust_logits
from counterpoise.posthoc.temperature import apply_temperature
from counterpoise.posthoc.thresholds import apply_thresholds

Logits = NDArray[np.floating[Any]]


def apply_transforms(logits: Logits, transforms: Sequence[LogitTransform]) -> Logits:
    """Apply the steps of a run one after another.

    Args:
        logits: float32 or float64 ``(N, C)``, or ``(N, E)`` edge logits if the first step is
            "leaf_log_probabilities".
        transforms: the steps, as `counterpoise.core.artifacts.Run.transforms`.

    Returns:
        The final logits ``(N, C)``; -inf for a class that is never predicted.

    Raises:
        ArgumentError: an unknown step, or parameters that do not fit it or the logits.

    Example:
        >>> steps = [LogitTransform("scale_logits", {"scale": 2.0}), LogitTransform("exclude", {"classes": [0]})]
        >>> apply_transforms(np.array([[1.0, 2.0]]), steps)
        array([[-inf,   4.]])
    """
    for step in transforms:
        if step.method not in TRANSFORMS:
            raise ArgumentError(f"`transforms` has {step.method!r}; {did_you_mean(step.method, TRANSFORMS)}")
        try:
            logits = TRANSFORMS[step.method](logits, **step.parameters)
        except TypeError as error:
            raise ArgumentError(f"`transforms` {step.method!r} has other parameters: {error}") from error
    return logits


def _log_sigmoid(z: Logits) -> Logits:
    """log σ(z): its softmax divides the probabilities of the classes by their sum, so that calibration is defined."""
    logits: Logits = -np.logaddexp(0, -z)
    return logits


def _leaf_log_probabilities(z: Logits, *, tree: Mapping[str, Any], empty: Sequence[int]) -> Logits:
    """Log-probabilities of the classes from edge logits; ``empty`` edges, without training images, get 0."""
    edges = z.copy()
    edges[:, list(empty)] = -np.inf
    return leaf_log_probabilities(edges, ClassTree.from_dict(tree)).astype(np.float32)


def _exclude(z: Logits, *, classes: Sequence[int]) -> Logits:
    logits = z.copy()
    logits[:, list(classes)] = -np.inf
    return logits


def _adjust(z: Logits, *, prior: Any, tau: float, target_prior: Any = None) -> Logits:
    return adjust_logits(z, prior, tau=tau, target_prior=target_prior, empty="exclude")


def _scale(z: Logits, *, scale: float) -> Logits:
    return z * np.float32(scale)


def _thresholds(z: Logits, *, thresholds: Sequence[float]) -> Logits:
    return apply_thresholds(softmax(z), thresholds).astype(z.dtype)


def _temperature(z: Logits, *, temperature: Any) -> Logits:
    return apply_temperature(z, np.asarray(temperature))


def _normalize_head(z: Logits, *, tau: float, norm: Sequence[float], bias: Sequence[float]) -> Logits:
    """The logits of a linear head whose weights, of these norms, are divided by ``norm ** tau``, without bias."""
    normalized: Logits = ((z - np.asarray(bias)) / np.asarray(norm) ** tau).astype(z.dtype)
    return normalized


TRANSFORMS: dict[str, Callable[..., Logits]] = {
    "log_sigmoid": _log_sigmoid,
    "leaf_log_probabilities": _leaf_log_probabilities,
    "exclude": _exclude,
    "adjust_logits": _adjust,
    "scale_logits": _scale,
    "tau_normalize": _normalize_head,
    "tune_thresholds": _thresholds,
    "temperature": _temperature,
}
"""The steps by name; each takes logits and its parameters by keyword."""
