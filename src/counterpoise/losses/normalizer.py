"""The denominator of a mean over several ranks and over the micro-batches of one optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoise.core.checks import checked_choice, checked_count
from counterpoise.core.errors import ArgumentError
from counterpoise.kernels.reduction import Reduction, across_ranks, denominator, kept, valid_rows
from counterpoise.losses.arguments import Vector, check_ignore_index, check_values, values_readable, vector_tensor
from counterpoise.losses.targets import check_tensor


def global_normalizer(
    targets: Tensor | Sequence[Tensor],
    *,
    weight: Vector | None = None,
    sample_weight: Vector | Sequence[Tensor] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    group: dist.ProcessGroup | None = None,
    family: Literal["softmax", "sigmoid"] = "softmax",
    num_classes: int | None = None,
) -> Tensor:
    """Denominator with which one process, several ranks and accumulated micro-batches give the same gradient.

    Pass the result as ``normalizer`` to every loss of the step. The "mean" of a weighted loss divides by the summed
    weight of the rows of *its* batch: a rare class of weight 100, alone in a rank's four rows, then weighs no more than
    any other class there. This function sums over all ranks (one all-reduce) and divides by their number, because DDP
    averages gradients over ranks.

    Args:
        targets: the ``target`` of the loss; for accumulated micro-batches the list of the whole window.
        weight: ``(C,)`` class weights of the loss, at least 0; of a named loss its ``weight`` attribute.
        sample_weight: as the loss takes it; a list if ``targets`` is one.
        ignore_index: targets with this value are left out.
        reduction: "mean" or "batchmean", as the loss has it.
        group: process group; None is all ranks, or this process alone without torch.distributed.
        family: "softmax" counts rows; "sigmoid" counts elements ("mean") or rows ("batchmean") of ``(N, C, …)`` labels,
            or of class indices if ``num_classes`` is given.
        num_classes: C of a sigmoid loss whose targets are class indices ``(N, …)``, each of which stands for C
            elements; 1 for labels ``(N,)`` of one class.

    Returns:
        A float64 scalar on the targets' device (float32 where the device has no float64).

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> window = [torch.tensor([0, 0, 1]), torch.tensor([0, -100])]
        >>> global_normalizer(window, weight=[1.0, 10.0]).item()  # 1 + 1 + 10, and 1
        13.0
    """
    checked_choice("reduction", reduction, ("mean", "batchmean"))
    checked_choice("family", family, ("softmax", "sigmoid"))
    check_ignore_index(ignore_index)
    if num_classes is not None:
        num_classes = checked_count("num_classes", num_classes)
    window = [targets] if isinstance(targets, Tensor) else list(targets)
    if not window:
        raise ArgumentError("`targets` must hold at least one tensor; got an empty list")
    for target in window:
        check_tensor("targets", target)
    dtype = torch.float32 if window[0].device.type == "mps" else torch.float64
    counts = [
        _count_labels(target, ignore_index, reduction, num_classes, dtype)
        if family == "sigmoid"
        else _count_rows(target, weight, u, ignore_index, reduction, dtype)
        for target, u in zip(window, _weights_of(sample_weight, window), strict=True)
    ]
    return across_ranks(torch.stack(counts).sum(), group)


def _weights_of(sample_weight: Vector | Sequence[Tensor] | None, window: list[Tensor]) -> list[Tensor | None]:
    if sample_weight is None:
        return [None] * len(window)
    listed = isinstance(sample_weight, (list, tuple)) and isinstance(sample_weight[0], Tensor)
    given: list[Any] = list(sample_weight) if listed else [sample_weight]
    if len(given) != len(window):
        raise ArgumentError(
            f"`sample_weight` must have one tensor for each of the {len(window)} targets; got {len(given)}"
        )
    return [vector_tensor(u, "sample_weight") for u in given]


def _count_rows(
    target: Tensor,
    weight: Vector | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    dtype: torch.dtype,
) -> Tensor:
    target = target if target.is_floating_point() else target.to(torch.int64)
    w = None if weight is None else vector_tensor(weight, "weight").to(target.device, dtype)
    if w is not None and values_readable(w):
        check_values(w, "weight", minimum=0.0)
    valid = valid_rows(target, ignore_index)
    u = None if sample_weight is None else sample_weight.to(target.device, dtype)
    if u is not None:
        u = u.reshape(u.shape + (1,) * (valid.dim() - u.dim()))
    return denominator(target, valid, reduction, w, u, dtype)


def _count_labels(
    target: Tensor, ignore_index: int, reduction: Reduction, num_classes: int | None, dtype: torch.dtype
) -> Tensor:
    """The elements ("mean") or rows that are not ignored, of labels or, with ``num_classes``, of class indices."""
    if target.dim() < 2 and num_classes is None and reduction == "mean":
        raise ArgumentError(
            f'`targets` of family="sigmoid" must have shape (N, C, ...); got {tuple(target.shape)}. Pass num_classes=C '
            "for class indices, or num_classes=1 for labels of one class"
        )
    valid = kept(target, ignore_index)
    if target.dim() < 2 or num_classes is not None:
        return valid.sum(dtype=dtype) * (num_classes if num_classes and reduction == "mean" else 1)
    return (valid.any(1) if reduction == "batchmean" else valid).sum(dtype=dtype)
