"""The sigmoid equation in Triton, seen from the host: the walk, the tiles, the letters, the count of what is ignored.

Imported on the first use of `impl="triton"`: it imports Triton.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.autograd import gradient_room, overwritten, refuse_double_backward
from counterpoise.kernels.layout import Fold, accumulation_dtype, empty_gradient
from counterpoise.kernels.reduction import Reduction
from counterpoise.kernels.reference import SigmoidParameters
from counterpoise.kernels.triton.denominators import index_mass_kernel
from counterpoise.kernels.triton.launch import (
    accumulation,
    applied,
    class_strides,
    launch,
    row_strides,
    totals_arguments,
    whole_exponent,
)
from counterpoise.kernels.triton.sigmoid_kernels import sigmoid_kernel, valid_elements_kernel, valid_rows_kernel
from counterpoise.kernels.triton.tiles import Tile, Walk, power_of_2, steps, wide

__all__ = ["sigmoid_triton"]

# Elements of a tile: 8 a thread of 4 warps, which is 16 bytes of half precision.
_TILE = 1 << 10
_COUNT_PROGRAMS, _COUNT_BLOCK = 128, 4096


class Batch(NamedTuple):
    """What a call has besides the letters."""

    target: Tensor
    sample_weight: Tensor | None
    denominator: Tensor | None
    factor: float | None
    ignore_index: int
    reduction: Reduction


def sigmoid_triton(
    logits: Tensor,
    target: Tensor,
    params: SigmoidParameters,
    *,
    sample_weight: Tensor | None,
    denominator: Tensor | float | None,
    ignore_index: int,
    reduction: Reduction,
    inplace: bool = False,
) -> Tensor:
    """The loss: a scalar, or (N, C, …) for "none". Without ``denominator`` "mean" and "batchmean" count for
    themselves."""
    factor: float | None = None
    if not isinstance(denominator, Tensor):
        if denominator is not None:
            factor, denominator = (1.0 / denominator if denominator else 0.0), None
        elif reduction in ("none", "sum"):
            factor = 1.0
    batch = Batch(target, sample_weight, denominator, factor, ignore_index, reduction)
    if torch.is_grad_enabled() and logits.requires_grad:
        loss: Tensor = _SigmoidTriton.apply(logits, inplace, *batch, *params)
        return loss
    return _run(logits, batch, params, want_gradient=False)[0]


class _SigmoidTriton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, inplace: bool, *rest: Any) -> Tensor:
        count = len(Batch._fields)
        batch = Batch(*rest[:count])
        loss, gradient, inverse = _run(
            logits, batch, SigmoidParameters(*rest[count:]), want_gradient=True, inplace=inplace
        )
        overwritten(logits, gradient)
        # float16 cannot hold the gradient of a mean over many elements: it keeps the sum's and divides in backward.
        late = [x for x in (inverse, batch.sample_weight) if x is not None] if logits.dtype == torch.float16 else []
        ctx.save_for_backward(gradient, *late)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        gradient, *late = ctx.saved_tensors
        factor = upstream if upstream.dim() else upstream.reshape([1] * gradient.dim())
        for coefficient in late:
            factor = factor * (coefficient.unsqueeze(1) if coefficient.dim() else coefficient)
        return applied(gradient, factor), *[None] * (1 + len(Batch._fields) + len(SigmoidParameters._fields))


def _run(
    logits: Tensor, batch: Batch, params: SigmoidParameters, *, want_gradient: bool, inplace: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient, and 1/denominator (float16 alone needs it), as an operator that a compiler can hold on to."""
    if not torch.compiler.is_compiling():
        return _computed(logits, batch, params, want_gradient, inplace)
    vectors = [x if isinstance(x, Tensor) else None for x in (params.pos_weight, params.neg_weight)]
    numbers = [1.0 if isinstance(x, Tensor) else x for x in (params.pos_weight, params.neg_weight)]
    result: tuple[Tensor, Tensor, Tensor] = sigmoid_forward(
        logits, *batch, params.weight, *vectors, *numbers, *params[3:], want_gradient
    )
    return result


def _forward(  # noqa: PLR0913  an operator takes tensors and numbers, not tuples of them
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    denominator: Tensor | None,
    factor: float | None,
    ignore_index: int,
    reduction: Reduction,
    weight: Tensor | None,
    positives: Tensor | None,
    negatives: Tensor | None,
    positive: float,
    negative: float,
    gamma_pos: float,
    gamma_neg: float,
    clip: float,
    detach_focus: bool,
    want_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    pos = positive if positives is None else positives
    neg = negative if negatives is None else negatives
    params = SigmoidParameters(weight, pos, neg, gamma_pos, gamma_neg, clip, detach_focus)
    batch = Batch(target, sample_weight, denominator, factor, ignore_index, reduction)
    return _computed(logits, batch, params, want_gradient, False)


def _computed(
    logits: Tensor, batch: Batch, params: SigmoidParameters, want_gradient: bool, inplace: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if batch.target.dtype == torch.bool:
        batch = batch._replace(target=batch.target.view(torch.uint8))
    if batch.factor is None and batch.denominator is None:
        batch = _counted(batch, logits)
    walk, tile, programs = plan(logits, batch, params)
    loss, gradient, inverse = _room(logits, batch.reduction, want_gradient, programs, inplace)
    arguments = arranged(walk, tile, logits, batch, params, (loss, gradient, inverse))
    launch(sigmoid_kernel, programs, logits.device, arguments)
    return loss if batch.reduction == "none" else loss.sum(), gradient, inverse


def _room(
    logits: Tensor, reduction: Reduction, want_gradient: bool, programs: int, inplace: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = accumulation_dtype(logits)
    inverse = torch.empty((), dtype=dtype, device=logits.device)
    loss = empty_gradient(logits, dtype) if reduction == "none" else inverse.new_empty(programs)
    return loss, gradient_room(logits, inplace) if want_gradient else logits.new_empty(0), inverse


def _counted(batch: Batch, logits: Tensor) -> Batch:
    """1/how many elements ("mean") or rows ("batchmean") are not ignored: counted on the device where it must be."""
    target, by_rows = batch.target, batch.reduction == "batchmean"
    walk = Walk.over(logits)
    if target.dim() < logits.dim():
        each = 1.0 if by_rows or walk.rows == 0 else 1.0 / walk.classes
        return batch._replace(factor=each, denominator=_count_indices(batch, walk, logits) if walk.rows else None)
    if walk.rows == 0 or (target.dtype == torch.uint8 and not 0 <= batch.ignore_index <= 255):
        return batch._replace(factor=1.0 / max(1, walk.rows if by_rows else target.numel()))
    counting = _count_rows if by_rows else _count_elements
    return batch._replace(factor=1.0, denominator=counting(batch, walk, logits))


def _parts(programs: int, logits: Tensor) -> Tensor:
    return torch.empty(programs, dtype=accumulation_dtype(logits), device=logits.device)


def _count_indices(batch: Batch, walk: Walk, logits: Tensor) -> Tensor:
    totals = _parts(min(_COUNT_PROGRAMS, -(-walk.rows // 1024)), logits)
    y = walk.of_rows(batch.target)
    arguments = {
        "target": y, "sample_weight": None, "weight": None, "totals": totals, "number": walk.rows, "inner": walk.inner,
        **row_strides("y", y), **row_strides("u", None), "ignore_index": batch.ignore_index, "C": 1,
        "ACC": accumulation(logits), "BLOCK": 1024,
    }  # fmt: skip
    launch(index_mass_kernel, totals.numel(), logits.device, arguments)
    return totals


def _count_elements(batch: Batch, walk: Walk, logits: Tensor) -> Tensor:
    t = walk.fold.classes(batch.target).contiguous()
    totals = _parts(min(_COUNT_PROGRAMS, -(-t.numel() // _COUNT_BLOCK)), logits)
    arguments = {
        "target": t, "totals": totals, "size": t.numel(), "ignore_index": batch.ignore_index, "BLOCK": _COUNT_BLOCK,
        "ACC": accumulation(logits),
    }  # fmt: skip
    launch(valid_elements_kernel, totals.numel(), logits.device, arguments, warps=8)
    return totals


def _count_rows(batch: Batch, walk: Walk, logits: Tensor) -> Tensor:
    t = walk.of_classes(batch.target)
    classes = min(power_of_2(walk.classes), 1024)
    rows = min(power_of_2(walk.inner), max(1, 1024 // classes))
    blocks = -(-walk.inner // rows)
    totals = _parts(min(_COUNT_PROGRAMS, walk.outer * blocks), logits)
    arguments = {
        "target": t, "totals": totals, "inner": walk.inner, "blocks": blocks, "programs": walk.outer * blocks,
        "many": walk.classes, **class_strides("t", (t.stride(0), t.stride(2), t.stride(1))),
        "ignore_index": batch.ignore_index, "ROWS": rows, "CLASSES": classes, "ACC": accumulation(logits),
    }  # fmt: skip
    launch(valid_rows_kernel, totals.numel(), logits.device, arguments)
    return totals


def plan(logits: Tensor, batch: Batch, params: SigmoidParameters) -> tuple[Walk, Tile, int]:
    """How the elements are walked over, by which tile, and how many programs that takes.

    Where an element need not know its class or row, memory is one long row: no shape of the logits is slow.
    """
    walk = Walk.over(logits)
    named = any(
        isinstance(x, Tensor) for x in (params.weight, params.pos_weight, params.neg_weight, batch.sample_weight)
    )
    dense = batch.target.dim() == logits.dim()
    if dense and not named and all(walk.fold.classes(x).is_contiguous() for x in (logits, batch.target)):
        walk = Walk(Fold(walk.fold.last), 1, logits.numel(), 1)
    pixels = walk.of_classes(logits).stride(1) != 1 if walk.rows != 1 else False
    rows = min(power_of_2(max(1, walk.inner)), 128 if pixels else _TILE)
    classes = min(power_of_2(max(1, walk.classes)), max(1, _TILE // rows) if pixels else _TILE)
    tile = Tile(rows if pixels else min(rows, max(1, _TILE // classes)), classes, False, 4)
    return walk, tile, walk.outer * -(-walk.inner // tile.rows) * -(-walk.classes // tile.classes)


def arranged(
    walk: Walk,
    tile: Tile,
    logits: Tensor,
    batch: Batch,
    params: SigmoidParameters,
    results: tuple[Tensor, Tensor, Tensor],
) -> dict[str, Any]:
    """The arguments of `sigmoid_kernel`."""
    loss, gradient, inverse = results
    total, dense = batch.reduction != "none", batch.target.dim() == logits.dim()

    def seen(tensor: Tensor) -> Tensor:
        if walk.rows == 1:  # one long row
            return walk.fold.classes(tensor).reshape(1, -1, 1)
        return walk.of_classes(tensor)

    z = seen(logits)
    g = seen(gradient) if gradient.numel() else None
    f = None if total else seen(loss)
    t = seen(batch.target) if dense else None
    y = None if dense else walk.of_rows(batch.target)
    u = None if batch.sample_weight is None else walk.of_rows(batch.sample_weight)
    # The loss of each element and the gradient lie alike.
    by = steps(walk, z, g if g is not None else f, t)
    class_step = by.outer if by.inner == by.outer else 1
    pos, neg = params.pos_weight, params.neg_weight
    return {
        "logits": z, "target": t if dense else y, "sample_weight": u, "gradient": g, "losses": loss if total else f,
        "inverse": inverse, "weight": params.weight, "positives": pos if isinstance(pos, Tensor) else None,
        "negatives": neg if isinstance(neg, Tensor) else None, "totals": batch.denominator,
        "positive": 1.0 if isinstance(pos, Tensor) else pos, "negative": 1.0 if isinstance(neg, Tensor) else neg,
        "gamma_pos": params.gamma_pos, "gamma_neg": params.gamma_neg, "clip": params.clip,
        "factor": 1.0 if batch.factor is None else batch.factor, "ignore_index": batch.ignore_index,
        "inner_steps": by.inner_extent, "class_steps": walk.classes // class_step,
        "blocks": -(-walk.inner // tile.rows), "chunks": -(-walk.classes // tile.classes),
        **class_strides("z", by.strides[0]), **class_strides("g", by.strides[1]), **class_strides("t", by.strides[2]),
        **row_strides("y", y), **row_strides("u", u), **totals_arguments(batch.denominator),
        "GAMMA_POS": whole_exponent(params.gamma_pos), "GAMMA_NEG": whole_exponent(params.gamma_neg),
        "CLIP": params.clip > 0.0, "DETACH": params.detach_focus, "DENSE": dense, "TOTAL": total,
        "LATE": logits.dtype == torch.float16, "STEP_O": by.outer, "STEP_I": by.inner, "STEP_C": by.classes,
        "STEP_N": by.extent_step, "STEP_K": class_step, "ROWS": tile.rows, "CLASSES": tile.classes,
        "WIDE": wide(tile, z, g, t), "ACC": accumulation(logits),
    }  # fmt: skip


sigmoid_forward = torch.library.custom_op(
    "counterpoise::sigmoid_forward",
    _forward,
    mutates_args=(),
    schema=(
        "(Tensor logits, Tensor target, Tensor? sample_weight, Tensor? denominator, float? factor, int ignore_index, "
        "str reduction, Tensor? weight, Tensor? positives, Tensor? negatives, float positive, float negative, "
        "float gamma_pos, float gamma_neg, float clip, bool detach_focus, bool want_gradient)"
        " -> (Tensor, Tensor, Tensor)"
    ),
)


@sigmoid_forward.register_fake
def _fake(logits: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    reduction, want_gradient = rest[5], rest[-1]
    loss, gradient, inverse = _room(logits, reduction, want_gradient, 1)
    return loss if reduction == "none" else loss.sum(), gradient, inverse
