"""Host side of the softmax equation in Triton: denominator, choice of kernel and tile, and kernel arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoise.kernels.autograd import Recomputed, fused_loss
from counterpoise.kernels.reduction import Batch, accumulation_dtype
from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.kernels.triton import launch
from counterpoise.kernels.triton.launch import Denominator, LogitsView, Tile
from counterpoise.kernels.triton.math import soft_mass_kernel
from counterpoise.kernels.triton.softmax_kernels import hard_kernel, soft_kernel

# Up to so many rows every program of the loss sums the denominator itself, because launches dominate the time.
_OWN_ROWS = 1024


def softmax_triton(
    logits: Tensor,
    params: SoftmaxParameters,
    batch: Batch,
    *,
    inplace: bool = False,
    recomputed: Recomputed | None = None,
) -> Tensor:
    """The loss: a scalar, or (N, …) for "none"."""
    multiply, arguments = launch.multiplied, (*batch, *params)
    return fused_loss(logits, _loss_and_gradient, *arguments, multiply=multiply, inplace=inplace, recomputed=recomputed)


def rows_and_gradient(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    *,
    ignore_index: int,
    want_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """coefficient · ℓ of each row, (N,), and the gradient of their sum for logits (N, C), outside of autograd."""
    memory = torch.empty_like(logits) if want_gradient else None
    batch = Batch(target, coefficient, ignore_index, "none")
    rows, gradient, _ = _loss_and_gradient(logits, memory, *batch, *params)
    if gradient is not None and coefficient is not None and logits.dtype == torch.float16:
        gradient = (gradient * coefficient.unsqueeze(1)).to(logits.dtype)  # the kernel leaves it out for float16
    return rows, gradient if want_gradient else None


def _computed(logits: Tensor, batch: Batch, vectors: Any, numbers: Any, memory: Tensor | None) -> tuple[Tensor, Tensor]:
    view = LogitsView.over(logits)
    denominator = launch.given_denominator(batch)
    if denominator[1] is None:
        denominator = _summed_denominator(batch, view, vectors.weight, logits)
    rows = torch.empty(view.rows, dtype=accumulation_dtype(logits), device=logits.device)
    inverse = rows.new_empty(())
    results = (rows, memory, inverse)
    kernel, programs, arguments, tile = launch_plan(view, logits, batch, denominator, vectors, numbers, results)
    launch.start(kernel, programs, logits.device, arguments, warps=tile.warps)
    loss = rows.reshape(logits.shape[0], *logits.shape[2:])
    return loss if batch.reduction == "none" else loss.sum(), inverse


def _empty_loss(logits: Tensor) -> Tensor:
    dtype = accumulation_dtype(logits)
    return torch.empty((logits.shape[0], *logits.shape[2:]), dtype=dtype, device=logits.device)


softmax_forward, _loss_and_gradient = launch.fused_operator(
    "softmax_forward", _computed, _empty_loss, SoftmaxParameters
)


def _summed_denominator(batch: Batch, view: LogitsView, weight: Tensor | None, logits: Tensor) -> Denominator:
    """Σ W_i for "mean", the number of rows for "batchmean"; both None: the programs of the loss sum it themselves."""
    dense, by_rows = batch.target.is_floating_point(), batch.reduction == "batchmean"
    if dense and by_rows:
        return None, 1.0 / max(1, view.rows)
    if view.rows == 0:
        return None, 0.0
    if not dense and view.rows <= _OWN_ROWS:
        return None, None
    if dense:
        return _soft_mass(batch, view, weight, logits), 1.0
    return launch.index_mass(batch, view, *((None, None) if by_rows else (weight, batch.sample_weight)), logits), 1.0


def _soft_mass(batch: Batch, view: LogitsView, weight: Tensor | None, logits: Tensor) -> Tensor:
    """Σ u Σ_c w_c t_c as partial sums."""
    arguments = launch.class_blocks(batch.target, view)
    totals = launch.partial_sums(arguments["programs"], logits)
    u = None if batch.sample_weight is None else view.of_rows(batch.sample_weight)
    arguments |= {"sample_weight": u, "weight": weight, "totals": totals, **launch.row_strides(u=u), "C": view.classes}
    launch.start(soft_mass_kernel, totals.numel(), logits.device, {**arguments, "ACC": launch.accumulation(logits)})
    return totals


def launch_plan(
    view: LogitsView,
    logits: Tensor,
    batch: Batch,
    denominator: Denominator,
    vectors: Any,
    numbers: Any,
    results: tuple[Tensor, Tensor | None, Tensor],
) -> tuple[Any, int, dict[str, Any], Tile]:
    """The kernel, the number of its programs, its arguments, and the tile of a program.

    ``results`` is the memory for the loss of the rows, the gradient (or None), and the reciprocal of the denominator.
    """
    rows, gradient, inverse = results
    totals, factor = denominator
    dense = batch.target.is_floating_point()
    smooth = vectors.label_smoothing is not None or numbers.label_smoothing > 0.0
    z, g = view.of_classes(logits), None if gradient is None else view.of_classes(gradient)
    t, y = (view.of_classes(batch.target), None) if dense else (None, view.of_rows(batch.target))
    u = None if batch.sample_weight is None else view.of_rows(batch.sample_weight)
    soft = dense or smooth
    tile = launch.tile_for(view, soft=soft, double=logits.dtype == torch.float64, pixels=z.stride(1) != 1)
    blocks = -(-view.inner // tile.rows)
    arguments: dict[str, Any] = {
        "logits": z, "target": t if dense else y, "sample_weight": u, "gradient": g, "rows": rows, "inverse": inverse,
        "weight": vectors.weight, "offset": vectors.offset, "class_scale": vectors.class_scale,
        "margins": vectors.margin, "gammas": vectors.gamma, "totals": totals, "scale": numbers.scale,
        "margin": numbers.margin, "gamma": numbers.gamma, "poly": numbers.poly,
        "factor": 1.0 if factor is None else factor, "ignore_index": batch.ignore_index,
        "blocks": blocks, "number": view.rows, **launch.class_strides(view, z=z, g=g, **({"t": t} if soft else {})),
        **launch.row_strides(y=y, u=u), "C": view.classes, **launch.totals_arguments(totals),
        "OWN": launch.power_of_2(view.rows) if factor is None else 0,
        "BY_ROWS": batch.reduction == "batchmean", "POLY": numbers.poly != 0.0,
        "GAMMA": -1 if vectors.gamma is not None else launch.whole_exponent(numbers.gamma),
        "LATE": logits.dtype == torch.float16, "ROWS": tile.rows, "CLASSES": tile.classes, "WHOLE": tile.whole,
        "WIDE": launch.wide(tile, z, g, t), "ACC": launch.accumulation(logits),
    }  # fmt: skip
    if soft:
        arguments |= {"smoothings": vectors.label_smoothing, "smoothing": numbers.label_smoothing}
        arguments |= {"SMOOTH": smooth, "DENSE": dense}
    return soft_kernel if soft else hard_kernel, view.outer * blocks, arguments, tile
