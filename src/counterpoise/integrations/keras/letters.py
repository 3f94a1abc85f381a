"""Keywords of a Keras loss to the letters of its equation: checked once, when the loss is made, and plain to save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import numpy as np
from torch import Tensor

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.losses.arguments import SIGMOID, SOFTMAX, Vector, checked_parameter

__all__ = [
    "FreeSoftmaxKeywords",
    "HostKeywords",
    "KerasReduction",
    "ScaledKeywords",
    "SigmoidKeywords",
    "SigmoidPresetKeywords",
    "SoftmaxKeywords",
    "SoftmaxPresetKeywords",
    "checked_letters",
    "plain",
]

KerasReduction = Literal["sum_over_batch_size", "mean_with_sample_weight", "weighted_mean", "sum", "none"]


class HostKeywords(TypedDict, total=False):
    """What every Keras loss takes besides the letters of its equation."""

    from_logits: bool
    ignore_index: int
    reduction: KerasReduction | None
    name: str | None
    dtype: str | None


class FreeSoftmaxKeywords(HostKeywords, total=False):
    """Letters of the softmax equation that no preset owns."""

    weight: Vector | None
    offset: Vector | None
    class_scale: Vector | None
    margin: float | Vector | None
    poly: float
    label_smoothing: float | Vector


class SoftmaxPresetKeywords(FreeSoftmaxKeywords, total=False):
    """For presets that have a ``gamma`` of their own."""

    scale: float


class ScaledKeywords(FreeSoftmaxKeywords, total=False):
    """For presets that have a ``scale`` of their own."""

    gamma: float | Vector


class SoftmaxKeywords(SoftmaxPresetKeywords, total=False):
    """All letters of the softmax equation."""

    gamma: float | Vector


class SigmoidPresetKeywords(HostKeywords, total=False):
    """Letters of the sigmoid equation that its presets take besides their own."""

    weight: Vector | None
    pos_weight: float | Vector | None
    neg_weight: float | Vector | None


class SigmoidKeywords(SigmoidPresetKeywords, total=False):
    """All letters of the sigmoid equation."""

    gamma_pos: float
    gamma_neg: float
    clip: float
    detach_focus: bool


def checked_letters(options: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Numbers, and float64 ``(C,)`` arrays, under the bounds of `softmax_loss` and `sigmoid_loss`; and C, if any says.

    Raises:
        ArgumentError: a value out of its bounds, or vectors of different lengths.
    """
    letters = {name: _letter(name, value) for name, value in options.items() if value is not None}
    lengths = {name: len(value) for name, value in letters.items() if isinstance(value, np.ndarray)}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(f"the vectors of a loss must have one value per class each; got lengths {lengths}")
    return letters, next(iter(lengths.values()), None)


def _letter(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        raise ArgumentTypeError(f"`{name}` must be a vector in the order of the classes; got a mapping")
    checked = checked_parameter(name, value, {**SOFTMAX, **SIGMOID})
    return checked.detach().cpu().double().numpy() if isinstance(checked, Tensor) else checked


def plain(value: Any) -> Any:
    """Numbers, strings and lists of them: what a saved model can hold."""
    if isinstance(value, ClassCounts):
        return value.counts.tolist()
    if isinstance(value, Mapping):
        return [plain(item) for item in value.values()]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
