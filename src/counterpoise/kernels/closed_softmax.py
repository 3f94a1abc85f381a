"""The softmax equation in closed form: loss and gradient together, with one tensor of the logits' size.

The logits are processed in blocks of shape (n, C) or (n, C, l), which keeps the temporary tensors small. On a CPU,
`softmax_cpu_blocks` computes those that it can.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoise.kernels.autograd import Fold, Recomputed, blocks, fused_loss, is_traced
from counterpoise.kernels.reduction import accumulation_dtype
from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.kernels.softmax_blocks import hard_block, soft_block
from counterpoise.kernels.softmax_cpu_blocks import index_blocks

# Elements per block. Index targets need at most one float32 copy of a block (none for float32 logits), so their blocks
# are large enough to occupy all threads; probability targets need about eight copies.
_HARD_BLOCK, _SOFT_BLOCK = 1 << 20, 1 << 17
# Elements per block and thread of `softmax_cpu_blocks`.
_CPU_BLOCK = 1 << 18


def softmax_closed(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor,
    params: SoftmaxParameters,
    ignore_index: int,
    *,
    total: bool,
    inplace: bool = False,
    recomputed: Recomputed | None = None,
) -> Tensor:
    """Σ_i coefficient_i · ℓ_i (``total``), or the terms of that sum; coefficient is (N, …) or a scalar."""
    arguments = (target, coefficient, ignore_index, total, *params)
    return fused_loss(logits, _loss_and_gradient, *arguments, inplace=inplace, recomputed=recomputed)


def _loss_and_gradient(
    logits: Tensor,
    memory: Tensor | None,
    target: Tensor,
    coefficient: Tensor,
    ignore_index: int,
    total: bool,
    *params: Any,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    # float16 cannot hold the gradient of a mean over many rows: it holds that of the sum, divided in the backward.
    late = logits.dtype == torch.float16
    factor = None if late else coefficient
    rows = closed_rows(logits, target, SoftmaxParameters(*params), ignore_index, memory, factor) * coefficient
    return rows.sum() if total else rows, memory, [coefficient] if late else []


def closed_rows(
    logits: Tensor,
    target: Tensor,
    params: SoftmaxParameters,
    ignore_index: int,
    gradient: Tensor | None,
    coefficient: Tensor | None,
) -> Tensor:
    """ℓ of each row, (N, …); writes its derivative, times the coefficient of the row, to ``gradient``."""
    rows = torch.empty((logits.shape[0], *logits.shape[2:]), dtype=accumulation_dtype(logits), device=logits.device)
    smooth = isinstance(params.label_smoothing, Tensor) or params.label_smoothing > 0.0
    hard = not smooth and not target.is_floating_point()
    block, size = (hard_block, _HARD_BLOCK) if hard else (soft_block, _SOFT_BLOCK)
    fold = Fold.of(logits)
    z, g = fold.classes(logits), None if gradient is None else fold.classes(gradient)
    y = fold.classes(target) if target.is_floating_point() else fold.rows(target)
    c = None if coefficient is None else fold.rows(coefficient.expand(rows.shape)).unsqueeze(1)
    folded = torch.empty(fold.rows(rows).shape, dtype=rows.dtype, device=rows.device)
    on_cpu = None
    if not target.is_floating_point() and z.device.type == "cpu" and z.numel() and not is_traced(z):
        by_row = fold.rows(coefficient) if coefficient is not None and coefficient.dim() else coefficient
        on_cpu = index_blocks(z, y, by_row, params, ignore_index)
        size = size if on_cpu is None else _CPU_BLOCK * torch.get_num_threads()
    for n, at in blocks(z, size):
        labels = y[at if y.dim() == z.dim() else n]
        out, factor = None if g is None else g[at], None if c is None else c[at]
        found = None if on_cpu is None else on_cpu.rows(n, z[at], out)
        folded[n] = block(z[at], labels, factor, params, ignore_index, out) if found is None else found
    return folded.reshape(rows.shape)
