"""The one definition of a mean: what the sum of a loss is divided by, here, over ranks and over micro-batches.

W_i = u_i · Σ_c w_c t_ic     over the rows that count (t before smoothing)
"mean"      Σ ℓ_i / Σ W_i    torch's weighted mean for index targets
"batchmean" Σ ℓ_i / N        N the rows that count
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Reduction", "across_ranks", "denominator", "kept", "reduced", "row_mass", "safe_divide", "valid_rows"]

Reduction = Literal["none", "mean", "batchmean", "sum"]


def valid_rows(target: Tensor, ignore_index: int) -> Tensor:
    """Which rows count: those whose index is not ``ignore_index``; every row of probabilities."""
    if target.is_floating_point():
        return torch.ones_like(target.select(1, 0), dtype=torch.bool)
    return target != ignore_index


def kept(target: Tensor, ignore_index: int) -> Tensor:
    """target != ignore_index; uint8 would wrap a negative index around, and holds none."""
    if target.dtype == torch.uint8 and not 0 <= ignore_index <= 255:
        return torch.ones_like(target, dtype=torch.bool)
    return target != ignore_index


def denominator(
    target: Tensor,
    valid: Tensor,
    reduction: Reduction,
    weight: Tensor | None,
    sample_weight: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Σ W_i for "mean", the number of rows for "batchmean": a scalar of ``dtype``."""
    if reduction == "batchmean":
        return valid.sum(dtype=dtype)
    return row_mass(target, valid, weight, sample_weight, dtype).sum()


def row_mass(
    target: Tensor, valid: Tensor, weight: Tensor | None, sample_weight: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """W_i: target (N, …) int64 or (N, C, …) probabilities → (N, …); 0 for rows that do not count."""
    if weight is None:
        mass = torch.ones(valid.shape, dtype=dtype, device=valid.device)
        if target.is_floating_point():
            mass = target.to(dtype).sum(1)
    elif target.is_floating_point():
        mass = (target.to(dtype) * weight.to(dtype).reshape(-1, *[1] * (target.dim() - 2))).sum(1)
    else:
        # Rows that do not count, and wrong indices, may point anywhere: they read class 0 and are zeroed below.
        inside = (target >= 0) & (target < weight.shape[0])
        mass = weight.to(dtype)[torch.where(inside, target, 0)]
    mass = mass if sample_weight is None else mass * sample_weight
    return torch.where(valid, mass, 0.0)


def safe_divide(total: Tensor, denominator: Tensor | float) -> Tensor:
    """total / denominator, and 0 with a live graph where the denominator is 0: nothing to learn, nothing to break."""
    if not isinstance(denominator, Tensor):
        return total / denominator if denominator != 0 else total * 0.0
    denominator = denominator.to(total.dtype)
    empty = denominator == 0
    return total * torch.where(empty, 0.0, 1.0 / torch.where(empty, 1.0, denominator))


def reduced(rows: Tensor, reduction: Reduction, denominator: Tensor | float | None) -> Tensor:
    """Rows → "none" as they are, otherwise their sum over the denominator (None: 1)."""
    if reduction == "none":
        return rows
    total = rows.sum()
    return total if denominator is None else safe_divide(total, denominator)


def across_ranks(total: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum over the ranks of ``group`` divided by their number; ``total`` itself without torch.distributed.

    Hosts average gradients over ranks: dividing by the number here makes that average the sum it should be.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return total
    total = total.clone()
    dist.all_reduce(total, group=group)
    return total / dist.get_world_size(group)
