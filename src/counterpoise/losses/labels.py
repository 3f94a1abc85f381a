"""Targets of the sigmoid family: labels of the logits' shape, or class indices for one-vs-rest."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.kernels.reduction import accumulation_dtype, row_mass, valid_rows
from counterpoise.losses.arguments import check_sums, checked_index_target, checked_tensor, row_shape, values_readable

__all__ = ["checked_labels", "class_mass", "labelled"]


def labelled(logits: Tensor, target: Tensor) -> tuple[torch.Size, Tensor, Tensor]:
    """The shape given, and both as (N, C, …): logits (N,) are one class."""
    checked_tensor("logits", logits)
    checked_tensor("target", target)
    if logits.dim() == 1:
        return logits.shape, logits.unsqueeze(1), target.unsqueeze(1) if target.shape == logits.shape else target
    return logits.shape, logits, target


def checked_labels(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """Labels of the logits' shape as they are; class indices as int64."""
    checked_tensor("target", target)
    if target.shape != logits.shape:
        return _checked_indices(target, logits, ignore_index)
    if target.device != logits.device:
        raise ArgumentError(f"`target` must be on the logits' device {logits.device}; it is on {target.device}")
    if values_readable(target) and target.numel():
        _check_labels(target.detach(), ignore_index)
    return target


def _checked_indices(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    rows = row_shape(logits)
    if target.shape != rows:
        raise ArgumentError(
            f"`target` must have the logits' shape {tuple(logits.shape)} (labels), or {rows} (class indices); "
            f"got {tuple(target.shape)}"
        )
    if target.is_floating_point():
        raise ArgumentTypeError(
            f"`target` of class indices must have an integer dtype; got {target.dtype}. Pass "
            + ("target.long(), or " if logits.shape[1] > 1 else "")
            + f"labels of the logits' shape {tuple(logits.shape)}"
        )
    return checked_index_target(target, logits, ignore_index)


def _check_labels(target: Tensor, ignore_index: int) -> None:
    low, high = target.aminmax() if target.dtype != torch.bool else (torch.tensor(0), torch.tensor(1))
    if low >= 0 and high <= 1:
        return
    wrong = ~((target >= 0) & (target <= 1)) & (target != ignore_index)
    if wrong.any():
        where = tuple(torch.nonzero(wrong)[0].tolist())
        raise ArgumentError(
            f"`target` of labels must be in [0, 1] or {ignore_index} (`ignore_index`); the label at {where} is "
            f"{target[where].item():g}"
        )


def class_mass(target: Tensor, logits: Tensor, weight: Tensor, ignore_index: int) -> Tensor:
    """Σ_c w_c t_ic of each row: the weight of the class it belongs to, (N, …)."""
    target = checked_labels(target, logits, ignore_index)
    dtype = accumulation_dtype(logits)
    if target.dim() < logits.dim():
        return row_mass(target, valid_rows(target, ignore_index), weight, None, dtype)
    labels = target.to(dtype)
    if values_readable(labels):
        check_sums(labels)
    return row_mass(labels, valid_rows(labels, ignore_index), weight, None, dtype)
