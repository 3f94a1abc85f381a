"""The keywords of the two equations, typed: what a preset takes besides its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, get_args

from numpy.typing import NDArray
from torch import Tensor

from counterpoise.kernels.dispatch import Impl
from counterpoise.kernels.reduction import Reduction

__all__ = [
    "IMPLS",
    "REDUCTIONS",
    "OverlapOptions",
    "ScaledOptions",
    "SigmoidOptions",
    "SigmoidPresetOptions",
    "SoftmaxOptions",
    "SoftmaxPresetOptions",
    "Vector",
]

IMPLS = get_args(Impl)
REDUCTIONS = get_args(Reduction)
Vector = Tensor | NDArray[Any] | Sequence[float]


class _Common(TypedDict, total=False):
    weight: Vector | None
    sample_weight: Vector | None
    ignore_index: int
    reduction: Reduction
    normalizer: float | Tensor | None
    impl: Impl
    inplace: bool


class _SoftmaxCommon(_Common, total=False):
    offset: Vector | None
    class_scale: Vector | None
    margin: float | Vector | None
    poly: float
    label_smoothing: float | Vector


class SoftmaxPresetOptions(_SoftmaxCommon, total=False):
    """The keywords of `softmax_loss` for presets that have a ``gamma`` of their own."""

    scale: float


class ScaledOptions(_SoftmaxCommon, total=False):
    """The keywords of `softmax_loss` for presets that have a ``scale`` of their own."""

    gamma: float | Vector


class SoftmaxOptions(SoftmaxPresetOptions, total=False):
    """All keywords of `softmax_loss`."""

    gamma: float | Vector


class SigmoidPresetOptions(_Common, total=False):
    """The keywords of `sigmoid_loss` that its presets take besides their own."""

    pos_weight: float | Vector | None
    neg_weight: float | Vector | None


class SigmoidOptions(SigmoidPresetOptions, total=False):
    """All keywords of `sigmoid_loss`."""

    gamma_pos: float
    gamma_neg: float
    clip: float
    detach_focus: bool


class OverlapOptions(TypedDict, total=False):
    """The keywords of `tversky_loss` that its presets take besides their own."""

    weight: Vector | None
    sample_weight: Vector | None
    ignore_index: int
    reduction: Reduction
    smooth: float
