"""The letters of the two equations, and in which precision they are added up."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SigmoidTerms", "SoftmaxTerms", "accumulation_dtype", "class_view"]


class SoftmaxTerms(NamedTuple):
    """The letters of the softmax equation. Tensors are (C,) in the dtype of accumulation; None is neutral."""

    weight: Tensor | None = None  # w
    offset: Tensor | None = None  # b
    class_scale: Tensor | None = None  # a
    scale: float = 1.0  # s
    margin: float | Tensor | None = None  # m
    gamma: float | Tensor = 0.0  # γ
    poly: float = 0.0  # κ
    label_smoothing: float | Tensor = 0.0  # ε


class SigmoidTerms(NamedTuple):
    """The letters of the sigmoid equation. Tensors are (C,) in the dtype of accumulation."""

    weight: Tensor | None = None  # w
    pos_weight: float | Tensor = 1.0  # α⁺
    neg_weight: float | Tensor = 1.0  # α⁻
    gamma_pos: float = 0.0  # γ⁺
    gamma_neg: float = 0.0  # γ⁻
    clip: float = 0.0  # m
    detach_focus: bool = False


def accumulation_dtype(logits: Tensor) -> torch.dtype:
    """fp64 for fp64, fp32 for everything else: half precision would lose small classes in the sums."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def class_view(vector: Tensor | float, ndim: int) -> Tensor | float:
    """(C,) shaped to broadcast over (N, C, …); numbers pass."""
    return vector.reshape(-1, *[1] * (ndim - 2)) if isinstance(vector, Tensor) and vector.dim() == 1 else vector
