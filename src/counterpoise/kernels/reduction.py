"""Weighted sums and means of a loss: the weight of each row, the denominator, and its sum over distributed ranks.

W_i = u_i · Σ_c w_c t_ic     for every row i that is not ignored (t before label smoothing)
"mean"      Σ ℓ_i / Σ W_i    the weighted mean of torch for index targets
"batchmean" Σ ℓ_i / N        N is the number of rows that are not ignored
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

Reduction = Literal["none", "mean", "batchmean", "sum"]


class Batch(NamedTuple):
    """The targets of a batch, and how the losses of its rows are weighted and reduced.

    ``target`` is (N, …) int64 or (N, C, …); ``sample_weight`` is (N, …). ``denominator`` divides the sum of "mean" and
    "batchmean"; None: the denominator that the equation defines for these targets.
    """

    target: Tensor
    sample_weight: Tensor | None
    ignore_index: int
    reduction: Reduction
    denominator: Tensor | float | None = None


def accumulation_dtype(logits: Tensor) -> torch.dtype:
    """The dtype of sums: float64 for float64 logits, otherwise float32; half precision would lose rare classes."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def class_view(vector: Tensor | float, ndim: int) -> Tensor | float:
    """A (C,) vector reshaped to broadcast over (N, C, …); numbers are returned unchanged."""
    return vector.reshape(-1, *[1] * (ndim - 2)) if isinstance(vector, Tensor) and vector.dim() == 1 else vector


def valid_rows(target: Tensor, ignore_index: int) -> Tensor:
    """Mask of the rows that are not ignored: index targets other than ``ignore_index``, all rows of probabilities."""
    if target.is_floating_point():
        return torch.ones_like(target.select(1, 0), dtype=torch.bool)
    return target != ignore_index


def kept(target: Tensor, ignore_index: int) -> Tensor:
    """Mask of the elements other than ``ignore_index``; a negative index would wrap around in uint8."""
    if target.dtype == torch.uint8 and not 0 <= ignore_index <= 255:
        return torch.ones_like(target, dtype=torch.bool)
    return target != ignore_index


def all_kept(target: Tensor, ignore_index: int) -> bool:
    """Whether no element is ``ignore_index``; where the extremes decide it, which is faster than a comparison."""
    if target.numel() == 0 or target.dtype == torch.bool:
        return bool(kept(target, ignore_index).all())
    low, high = target.aminmax()
    return not bool(low <= ignore_index) or not bool(high >= ignore_index) or bool(kept(target, ignore_index).all())


def denominator(
    target: Tensor,
    valid: Tensor,
    reduction: Reduction,
    weight: Tensor | None,
    sample_weight: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Σ W_i for "mean", the number of valid rows for "batchmean": a scalar of ``dtype``."""
    if reduction == "batchmean":
        return valid.sum(dtype=dtype)
    return row_mass(target, valid, weight, sample_weight, dtype).sum()


def row_mass(
    target: Tensor, valid: Tensor, weight: Tensor | None, sample_weight: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """W_i of shape (N, …) for int64 targets (N, …) or probabilities (N, C, …); 0 for ignored rows."""
    if weight is None:
        mass = torch.ones(valid.shape, dtype=dtype, device=valid.device)
        if target.is_floating_point():
            mass = target.to(dtype).sum(1)
    elif target.is_floating_point():
        mass = (target.to(dtype) * class_view(weight.to(dtype), target.dim())).sum(1)
    else:
        # Ignored rows and invalid indices may have any value: they read class 0 and are set to 0 below.
        inside = (target >= 0) & (target < weight.shape[0])
        mass = weight.to(dtype)[torch.where(inside, target, 0)]
    mass = mass if sample_weight is None else mass * sample_weight
    return torch.where(valid, mass, 0.0)


def safe_divide(total: Tensor, denominator: Tensor | float) -> Tensor:
    """total / denominator, and 0 (with gradient 0) where the denominator is 0."""
    if not isinstance(denominator, Tensor):
        return total / denominator if denominator != 0 else total * 0.0
    denominator = denominator.to(total.dtype)
    empty = denominator == 0
    return total * torch.where(empty, 0.0, 1.0 / torch.where(empty, 1.0, denominator))


def reduced(rows: Tensor, reduction: Reduction, denominator: Tensor | float | None) -> Tensor:
    """The rows for "none", otherwise their sum over the denominator (None: 1)."""
    if reduction == "none":
        return rows
    total = rows.sum()
    return total if denominator is None else safe_divide(total, denominator)


def across_ranks(total: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The mean of ``total`` over the ranks of ``group``; ``total`` itself without torch.distributed.

    Distributed training averages gradients over ranks, so dividing the loss of each rank by the mean denominator gives
    the gradient of the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return total
    total = total.clone()
    dist.all_reduce(total, group=group)
    return total / dist.get_world_size(group)
