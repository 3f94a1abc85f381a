"""The softmax equation in Triton, seen from the host: which kernel of `softmax_kernel`, which tiles, which letters.

Imported on the first use of `impl="triton"`: it imports Triton.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.autograd import gradient_room, overwritten, refuse_double_backward
from counterpoise.kernels.layout import accumulation_dtype
from counterpoise.kernels.reduction import Reduction
from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.kernels.triton.denominators import index_mass_kernel, soft_mass_kernel
from counterpoise.kernels.triton.launch import (
    accumulation,
    applied,
    class_strides,
    launch,
    row_strides,
    totals_arguments,
    whole_exponent,
)
from counterpoise.kernels.triton.softmax_kernels import hard_kernel, soft_kernel
from counterpoise.kernels.triton.tiles import Tile, Walk, power_of_2, steps, tile_for, wide

__all__ = ["rows_and_gradient", "softmax_triton"]

# Programs that add up the denominator, each over blocks of so many rows: every program of the loss adds their sums.
_MASS_PROGRAMS, _MASS_BLOCK = 128, 1024
# Up to so many rows every program of the loss adds up the denominator itself: launches decide there, not bytes.
_OWN_ROWS = 1024


class Batch(NamedTuple):
    """What a call has besides the letters: all of it may change from batch to batch."""

    target: Tensor
    sample_weight: Tensor | None
    denominator: Tensor | None
    factor: float | None
    ignore_index: int
    reduction: Reduction


def softmax_triton(
    logits: Tensor,
    target: Tensor,
    params: SoftmaxParameters,
    *,
    sample_weight: Tensor | None,
    denominator: Tensor | float | None,
    ignore_index: int,
    reduction: Reduction,
    inplace: bool = False,
) -> Tensor:
    """The loss: a scalar, or (N, …) for "none". Without ``denominator`` "mean" and "batchmean" find their own."""
    factor: float | None = None
    if not isinstance(denominator, Tensor):
        if denominator is not None:
            factor, denominator = (1.0 / denominator if denominator else 0.0), None
        elif reduction in ("none", "sum"):
            factor = 1.0
    batch = Batch(target, sample_weight, denominator, factor, ignore_index, reduction)
    if torch.is_grad_enabled() and logits.requires_grad:
        loss: Tensor = _SoftmaxTriton.apply(logits, inplace, *batch, *params)
        return loss
    return _run(logits, batch, params, want_gradient=False)[0]


def rows_and_gradient(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    *,
    ignore_index: int,
    want_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """coefficient · ℓ of each row, (N,), and the gradient of their sum for logits (N, C), without a graph."""
    batch = Batch(target, coefficient, None, 1.0, ignore_index, "none")
    rows, gradient, _ = _run(logits, batch, params, want_gradient=want_gradient)
    if want_gradient and coefficient is not None and logits.dtype == torch.float16:
        gradient = (gradient * coefficient.unsqueeze(1)).to(logits.dtype)  # float16 keeps it apart
    return rows, gradient if want_gradient else None


class _SoftmaxTriton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, inplace: bool, *rest: Any) -> Tensor:
        count = len(Batch._fields)
        batch, params = Batch(*rest[:count]), SoftmaxParameters(*rest[count:])
        loss, gradient, inverse = _run(logits, batch, params, want_gradient=True, inplace=inplace)
        overwritten(logits, gradient)
        # float16 cannot hold the gradient of a mean over many rows: it keeps that of the sum and divides in backward.
        late = [x for x in (inverse, batch.sample_weight) if x is not None] if logits.dtype == torch.float16 else []
        ctx.save_for_backward(gradient, *late)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        gradient, *late = ctx.saved_tensors
        for coefficient in late:
            upstream = upstream * coefficient
        factor = upstream.unsqueeze(1) if upstream.dim() else upstream.reshape([1] * gradient.dim())
        return applied(gradient, factor), *[None] * (1 + len(Batch._fields) + len(SoftmaxParameters._fields))


def _run(
    logits: Tensor, batch: Batch, params: SoftmaxParameters, *, want_gradient: bool, inplace: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient, and 1/denominator (float16 alone needs it), as an operator that a compiler can hold on to."""
    if not torch.compiler.is_compiling():
        return _computed(logits, batch, params, _room(logits, want_gradient, inplace))
    tensors, numbers = _split(params)
    result: tuple[Tensor, Tensor, Tensor] = softmax_forward(logits, *batch, *tensors, *numbers, want_gradient)
    return result


def _split(params: SoftmaxParameters) -> tuple[list[Tensor | None], list[float]]:
    """Vectors (weight, offset, class_scale, margin, γ, ε) and numbers (scale, margin, γ, κ, ε); vectors rule."""
    either = (params.margin, params.gamma, params.label_smoothing)
    vectors = [x if isinstance(x, Tensor) else None for x in either]
    m, g, e = (0.0 if x is None or isinstance(x, Tensor) else x for x in either)
    return [params.weight, params.offset, params.class_scale, *vectors], [
        params.scale,
        m,
        g,
        params.poly,
        e,
    ]


def _forward(  # noqa: PLR0913  an operator takes tensors and numbers, not tuples of them
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    denominator: Tensor | None,
    factor: float | None,
    ignore_index: int,
    reduction: Reduction,
    weight: Tensor | None,
    offset: Tensor | None,
    class_scale: Tensor | None,
    margins: Tensor | None,
    gammas: Tensor | None,
    smoothings: Tensor | None,
    scale: float,
    margin: float,
    gamma: float,
    poly: float,
    smoothing: float,
    want_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    params = SoftmaxParameters(
        weight, offset, class_scale, scale, _either(margins, margin), _either(gammas, gamma), poly,
        _either(smoothings, smoothing),
    )  # fmt: skip
    batch = Batch(target, sample_weight, denominator, factor, ignore_index, reduction)
    return _computed(logits, batch, params, _room(logits, want_gradient))


def _computed(
    logits: Tensor, batch: Batch, params: SoftmaxParameters, room: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    loss, gradient, inverse = room
    walk = Walk.over(logits)
    if batch.factor is None and batch.denominator is None:
        batch = _with_denominator(batch, walk, params, logits)
    kernel, programs, arguments, tile = arranged(walk, logits, batch, params, room)
    launch(kernel, programs, logits.device, arguments, warps=tile.warps)
    loss = loss.reshape(logits.shape[0], *logits.shape[2:])
    return loss if batch.reduction == "none" else loss.sum(), gradient, inverse


def _either(vector: Tensor | None, number: float) -> Tensor | float:
    return number if vector is None else vector


def _room(logits: Tensor, want_gradient: bool, inplace: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    dtype = accumulation_dtype(logits)
    loss = torch.empty(logits.numel() // logits.shape[1], dtype=dtype, device=logits.device)
    gradient = gradient_room(logits, inplace) if want_gradient else logits.new_empty(0)
    return loss, gradient, loss.new_empty(())


def _with_denominator(batch: Batch, walk: Walk, params: SoftmaxParameters, logits: Tensor) -> Batch:
    """Σ W_i for "mean", the number of rows for "batchmean", added up in parts on the device."""
    dense, by_rows = batch.target.is_floating_point(), batch.reduction == "batchmean"
    if dense and by_rows:
        return batch._replace(factor=1.0 / max(1, walk.rows))
    if walk.rows == 0:
        return batch._replace(factor=0.0)
    weighed = params._replace(weight=None) if by_rows else params
    u = None if by_rows else batch.sample_weight
    if not dense and walk.rows <= _OWN_ROWS:
        return batch  # the loss's own programs add it up
    return batch._replace(denominator=(_soft_mass if dense else _index_mass)(batch, walk, weighed, u, logits))


def _index_mass(batch: Batch, walk: Walk, params: SoftmaxParameters, u: Tensor | None, logits: Tensor) -> Tensor:
    programs = min(_MASS_PROGRAMS, -(-walk.rows // _MASS_BLOCK))
    totals = torch.empty(programs, dtype=accumulation_dtype(logits), device=logits.device)
    y = walk.of_rows(batch.target)
    arguments = {
        "target": y, "sample_weight": u, "weight": params.weight, "totals": totals, "number": walk.rows,
        "inner": walk.inner, **row_strides("y", y), **row_strides("u", None if u is None else walk.of_rows(u)),
        "ignore_index": batch.ignore_index, "C": walk.classes, "ACC": accumulation(logits),
        "BLOCK": min(_MASS_BLOCK, power_of_2(walk.rows)),
    }  # fmt: skip
    if u is not None:
        arguments["sample_weight"] = walk.of_rows(u)
    launch(index_mass_kernel, programs, logits.device, arguments)
    return totals


def _soft_mass(batch: Batch, walk: Walk, params: SoftmaxParameters, u: Tensor | None, logits: Tensor) -> Tensor:
    t = walk.of_classes(batch.target)
    classes = min(power_of_2(walk.classes), _MASS_BLOCK)
    rows = min(power_of_2(walk.inner), max(1, _MASS_BLOCK // classes))
    blocks = -(-walk.inner // rows)
    programs = min(_MASS_PROGRAMS, walk.outer * blocks)
    totals = torch.empty(programs, dtype=accumulation_dtype(logits), device=logits.device)
    u = None if u is None else walk.of_rows(u)
    arguments = {
        "target": t, "sample_weight": u, "weight": params.weight, "totals": totals, "inner": walk.inner,
        "blocks": blocks, "programs": walk.outer * blocks, "t_o": t.stride(0), "t_i": t.stride(2), "t_c": t.stride(1),
        **row_strides("u", u), "C": walk.classes, "ROWS": rows, "CLASSES": classes, "ACC": accumulation(logits),
    }  # fmt: skip
    launch(soft_mass_kernel, programs, logits.device, arguments)
    return totals


def arranged(
    walk: Walk, logits: Tensor, batch: Batch, params: SoftmaxParameters, results: tuple[Tensor, Tensor, Tensor]
) -> tuple[Any, int, dict[str, Any], Tile]:
    """The kernel, how many programs of it, its arguments, and the tile they say."""
    rows, gradient, inverse = results
    tensors, (scale, margin, gamma, poly, smoothing) = _split(params)
    weight, offset, class_scale, margins, gammas, smoothings = tensors
    dense, smooth = batch.target.is_floating_point(), smoothings is not None or smoothing > 0.0
    z = walk.of_classes(logits)
    g = walk.of_classes(gradient) if gradient.numel() or not logits.numel() else None
    t = walk.of_classes(batch.target) if dense else None
    y = None if dense else walk.of_rows(batch.target)
    u = None if batch.sample_weight is None else walk.of_rows(batch.sample_weight)
    by = steps(walk, z, g, t)
    soft = dense or smooth
    tile = tile_for(walk, soft=soft, double=logits.dtype == torch.float64, pixels=z.stride(1) != 1)
    blocks = -(-walk.inner // tile.rows)
    arguments: dict[str, Any] = {
        "logits": z, "target": t if dense else y, "sample_weight": u, "gradient": g, "rows": rows, "inverse": inverse,
        "weight": weight, "offset": offset, "class_scale": class_scale, "margins": margins, "gammas": gammas,
        "totals": batch.denominator, "scale": scale, "margin": margin, "gamma": gamma, "poly": poly,
        "factor": 1.0 if batch.factor is None else batch.factor, "ignore_index": batch.ignore_index,
        "inner_steps": by.inner_extent, "blocks": blocks, "number": walk.rows,
        **class_strides("z", by.strides[0]), **class_strides("g", by.strides[1]),
        **row_strides("y", y), **row_strides("u", u), "C": walk.classes, **totals_arguments(batch.denominator),
        "OWN": power_of_2(walk.rows) if batch.denominator is None and batch.factor is None else 0,
        "BY_ROWS": batch.reduction == "batchmean", "POLY": poly != 0.0,
        "GAMMA": -1 if gammas is not None else whole_exponent(gamma),
        "LATE": logits.dtype == torch.float16, "STEP_O": by.outer, "STEP_I": by.inner, "STEP_C": by.classes,
        "STEP_N": by.extent_step, "ROWS": tile.rows, "CLASSES": tile.classes, "WHOLE": tile.whole,
        "WIDE": wide(tile, z, g, t), "ACC": accumulation(logits),
    }  # fmt: skip
    if soft:
        arguments |= {"smoothings": smoothings, "smoothing": smoothing, "SMOOTH": smooth, "DENSE": dense}
        arguments |= class_strides("t", by.strides[2])
    return soft_kernel if soft else hard_kernel, walk.outer * blocks, arguments, tile


softmax_forward = torch.library.custom_op(
    "counterpoise::softmax_forward",
    _forward,
    mutates_args=(),
    schema=(
        "(Tensor logits, Tensor target, Tensor? sample_weight, Tensor? denominator, float? factor, int ignore_index, "
        "str reduction, Tensor? weight, Tensor? offset, Tensor? class_scale, Tensor? margins, Tensor? gammas, "
        "Tensor? smoothings, float scale, float margin, float gamma, float poly, float smoothing, bool want_gradient)"
        " -> (Tensor, Tensor, Tensor)"
    ),
)


@softmax_forward.register_fake
def _fake(logits: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    reduction, want_gradient = rest[5], rest[-1]
    loss, gradient, inverse = _room(logits, want_gradient)
    loss = loss.reshape(logits.shape[0], *logits.shape[2:])
    return loss if reduction == "none" else loss.sum(), gradient, inverse
