# ruff: noqa: PLR0913, PLR0915, C901, SIM102, SIM108  one argument per hyperparameter and stride, compile-time branches
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator"
"""The sigmoid equation in Triton, host side and kernel: one pass over the elements for loss and gradient.

The mathematics is that of `closed_sigmoid`. Positives and negatives share one exponential and one logarithm: with
e = exp(−|z|), both −log σ(±z) are log(1 + e) plus a maximum, and both σ(±z) are a quotient of 1 + e.
"""

from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from counterpoise.kernels.autograd import Fold, Recomputed, empty_gradient, fused_loss
from counterpoise.kernels.reduction import Batch, accumulation_dtype
from counterpoise.kernels.reference import SigmoidParameters
from counterpoise.kernels.triton import launch
from counterpoise.kernels.triton.launch import Denominator, LogitsView, Tile
from counterpoise.kernels.triton.math import (
    log1p,
    of_class,
    power,
    reciprocal_total,
    valid_elements_kernel,
    valid_rows_kernel,
)

# Elements per tile: 8 per thread of 4 warps, which is 16 bytes of half precision.
_TILE = 1 << 10
_COUNT_BLOCK = 4096


def sigmoid_triton(
    logits: Tensor,
    params: SigmoidParameters,
    batch: Batch,
    *,
    inplace: bool = False,
    recomputed: Recomputed | None = None,
) -> Tensor:
    """The loss: a scalar, or (N, C, …) for "none"."""
    multiply, arguments = launch.multiplied, (*batch, *params)
    return fused_loss(logits, _loss_and_gradient, *arguments, multiply=multiply, inplace=inplace, recomputed=recomputed)


def _computed(logits: Tensor, batch: Batch, vectors: Any, numbers: Any, memory: Tensor | None) -> tuple[Tensor, Tensor]:
    if batch.target.dtype == torch.bool:
        batch = batch._replace(target=batch.target.view(torch.uint8))
    denominator = launch.given_denominator(batch)
    if denominator[1] is None:
        denominator = _counted_denominator(batch, LogitsView.over(logits), logits)
    view, tile, programs = tiling(logits, batch, vectors)
    inverse = torch.empty((), dtype=accumulation_dtype(logits), device=logits.device)
    loss = _empty_loss(logits) if batch.reduction == "none" else inverse.new_empty(programs)
    results = (loss, memory, inverse)
    arguments = kernel_arguments(view, tile, logits, batch, denominator, vectors, numbers, results)
    launch.start(sigmoid_kernel, programs, logits.device, arguments)
    return loss if batch.reduction == "none" else loss.sum(), inverse


def _empty_loss(logits: Tensor) -> Tensor:
    return empty_gradient(logits, accumulation_dtype(logits))


sigmoid_forward, _loss_and_gradient = launch.fused_operator(
    "sigmoid_forward", _computed, _empty_loss, SigmoidParameters
)


def _counted_denominator(batch: Batch, view: LogitsView, logits: Tensor) -> Denominator:
    """The number of elements ("mean") or rows ("batchmean") that are not ignored, counted on the device."""
    target, by_rows = batch.target, batch.reduction == "batchmean"
    if target.dim() < logits.dim():
        each = 1.0 if by_rows or view.rows == 0 else 1.0 / view.classes
        return launch.index_mass(batch, view, None, None, logits) if view.rows else None, each
    if view.rows == 0 or (target.dtype == torch.uint8 and not 0 <= batch.ignore_index <= 255):
        return None, 1.0 / max(1, view.rows if by_rows else target.numel())
    return (_count_rows if by_rows else _count_elements)(batch, view, logits), 1.0


def _count_elements(batch: Batch, view: LogitsView, logits: Tensor) -> Tensor:
    t = view.fold.classes(batch.target).contiguous()
    totals = launch.partial_sums(-(-t.numel() // _COUNT_BLOCK), logits)
    arguments = {
        "target": t, "totals": totals, "size": t.numel(), "ignore_index": batch.ignore_index, "BLOCK": _COUNT_BLOCK,
        "ACC": launch.accumulation(logits),
    }  # fmt: skip
    launch.start(valid_elements_kernel, totals.numel(), logits.device, arguments, warps=8)
    return totals


def _count_rows(batch: Batch, view: LogitsView, logits: Tensor) -> Tensor:
    arguments = launch.class_blocks(batch.target, view)
    totals = launch.partial_sums(arguments["programs"], logits)
    arguments |= {"totals": totals, "many": view.classes, "ignore_index": batch.ignore_index}
    launch.start(valid_rows_kernel, totals.numel(), logits.device, {**arguments, "ACC": launch.accumulation(logits)})
    return totals


def tiling(logits: Tensor, batch: Batch, vectors: Any) -> tuple[LogitsView, Tile, int]:
    """The view of the logits, the tile of a program, and the number of programs.

    Where nothing depends on the class or row of an element, the memory is one long row, so that no shape is slow.
    """
    view = LogitsView.over(logits)
    dense = batch.target.dim() == logits.dim()
    flat = dense and batch.sample_weight is None and all(vector is None for vector in vectors)
    if flat and all(view.fold.classes(x).is_contiguous() for x in (logits, batch.target)):
        view = LogitsView(Fold(view.fold.last), 1, logits.numel(), 1)
    pixels = view.of_classes(logits).stride(1) != 1 if view.rows != 1 else False
    rows = min(launch.power_of_2(max(1, view.inner)), 128 if pixels else _TILE)
    classes = min(launch.power_of_2(max(1, view.classes)), max(1, _TILE // rows) if pixels else _TILE)
    tile = Tile(rows if pixels else min(rows, max(1, _TILE // classes)), classes, False, 4)
    return view, tile, view.outer * -(-view.inner // tile.rows) * -(-view.classes // tile.classes)


def kernel_arguments(
    view: LogitsView,
    tile: Tile,
    logits: Tensor,
    batch: Batch,
    denominator: Denominator,
    vectors: Any,
    numbers: Any,
    results: tuple[Tensor, Tensor | None, Tensor],
) -> dict[str, Any]:
    """The arguments of `sigmoid_kernel`.

    ``results`` is the memory for the loss, the gradient (or None), and the reciprocal of the denominator.
    """
    loss, gradient, inverse = results
    total, dense = batch.reduction != "none", batch.target.dim() == logits.dim()

    def viewed(tensor: Tensor) -> Tensor:
        if view.rows == 1:  # one long row
            return view.fold.classes(tensor).reshape(1, -1, 1)
        return view.of_classes(tensor)

    z = viewed(logits)
    g = None if gradient is None or not gradient.numel() else viewed(gradient)
    f = None if total else viewed(loss)
    t, y = (viewed(batch.target), None) if dense else (None, view.of_rows(batch.target))
    u = None if batch.sample_weight is None else view.of_rows(batch.sample_weight)
    strides = launch.class_strides(view, z=z, g=g if g is not None else f, t=t)  # loss and gradient have the same
    class_step = strides["STEP_O"] if strides["STEP_I"] == strides["STEP_O"] else 1
    return {
        "logits": z, "target": t if dense else y, "sample_weight": u, "gradient": g, "losses": loss if total else f,
        "inverse": inverse, "weight": vectors.weight, "positives": vectors.pos_weight, "negatives": vectors.neg_weight,
        "totals": denominator[0], "positive": numbers.pos_weight, "negative": numbers.neg_weight,
        "gamma_pos": numbers.gamma_pos, "gamma_neg": numbers.gamma_neg, "clip": numbers.clip, "factor": denominator[1],
        "ignore_index": batch.ignore_index, "class_steps": view.classes // class_step,
        "blocks": -(-view.inner // tile.rows), "chunks": -(-view.classes // tile.classes),
        **strides, **launch.row_strides(y=y, u=u), **launch.totals_arguments(denominator[0]),
        "GAMMA_POS": launch.whole_exponent(numbers.gamma_pos), "GAMMA_NEG": launch.whole_exponent(numbers.gamma_neg),
        "CLIP": numbers.clip > 0.0, "DETACH": bool(numbers.detach_focus), "DENSE": dense, "TOTAL": total,
        "LATE": logits.dtype == torch.float16, "STEP_K": class_step, "ROWS": tile.rows, "CLASSES": tile.classes,
        "WIDE": launch.wide(tile, z, g, t), "ACC": launch.accumulation(logits),
    }  # fmt: skip


@triton.jit
def _positive(nll, p, rest, gamma, GAMMA: tl.constexpr, DETACH: tl.constexpr):
    """f = (1 − p)^γ (−log p) and ∂f/∂z."""
    if GAMMA == 0:
        loss = nll
        slope = -rest
    else:
        focus = power(rest, gamma, GAMMA)
        loss = focus * nll
        if DETACH:
            slope = -focus * rest
        else:
            slope = -focus * (rest + gamma * p * nll)
    return loss, slope


@triton.jit
def _negative(nll, p, rest, gamma, clip, GAMMA: tl.constexpr, CLIP: tl.constexpr, DETACH: tl.constexpr):
    """g = q^γ (−log(1 − q)), q = max(p − m, 0), and ∂g/∂z; with a margin everything from 1 − p = σ(−z)."""
    if CLIP:
        keep = tl.minimum(rest + clip, 1.0)
        q = 1.0 - keep
        nll = -tl.log(keep)
        if GAMMA == 0:
            focus = tl.where(q > 0.0, 1.0, 0.0).to(q.dtype)
        else:
            focus = power(q, gamma, GAMMA)
        slope = p * rest * focus
        if GAMMA == 0 or DETACH:
            slope = slope / keep
        else:
            slope *= gamma * tl.where(q > 0.0, nll / tl.where(q > 0.0, q, 1.0), 0.0) + 1.0 / keep
        loss = focus * nll
    else:
        if GAMMA == 0:
            loss = nll
            slope = p
        else:
            focus = power(p, gamma, GAMMA)
            loss = focus * nll
            if DETACH:
                slope = focus * p
            else:
                slope = focus * (p + gamma * rest * nll)
    return loss, slope


@triton.jit
def sigmoid_kernel(
    logits, target, sample_weight, gradient, losses, inverse, weight, positives, negatives, totals,
    positive: tl.float64, negative: tl.float64, gamma_pos: tl.float64, gamma_neg: tl.float64, clip: tl.float64,
    factor: tl.float64,
    ignore_index, inner_steps, class_steps, blocks, chunks,
    z_o, z_i, z_c, g_o, g_i, g_c, t_o, t_i, t_c, y_o, y_i, u_o, u_i,
    TOTALS: tl.constexpr, PADDED: tl.constexpr, GAMMA_POS: tl.constexpr, GAMMA_NEG: tl.constexpr,
    CLIP: tl.constexpr, DETACH: tl.constexpr, DENSE: tl.constexpr, TOTAL: tl.constexpr, LATE: tl.constexpr,
    STEP_O: tl.constexpr, STEP_I: tl.constexpr, STEP_C: tl.constexpr, STEP_N: tl.constexpr, STEP_K: tl.constexpr,
    ROWS: tl.constexpr, CLASSES: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A tile of rows and classes; its loss is one number (TOTAL) or stays where the logits were, (N, C, …)."""
    gamma_pos, gamma_neg, clip = tl.full((), gamma_pos, ACC), tl.full((), gamma_neg, ACC), tl.full((), clip, ACC)
    pos, neg = tl.full((), positive, ACC), tl.full((), negative, ACC)
    inner = tl.cast(inner_steps, tl.int64) * STEP_N
    many = tl.cast(class_steps, tl.int64) * STEP_K
    program = tl.program_id(0).to(tl.int64)
    start = (program % chunks) * CLASSES
    o = program // chunks // blocks
    first = (program // chunks % blocks) * ROWS
    i = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, CLASSES)[None, :]
    if WIDE:
        i = i.to(tl.int64)
        c = c.to(tl.int64)
    at = first + tl.arange(0, ROWS)
    there = at < inner
    inside = (first + i < inner) & (start + c < many)

    coefficient = tl.full((ROWS,), 1.0, ACC) * reciprocal_total(totals, factor, TOTALS, PADDED, ACC)
    if LATE:
        if program == 0:
            tl.store(inverse, reciprocal_total(totals, factor, TOTALS, PADDED, ACC))
    if sample_weight is not None:
        coefficient *= tl.load(sample_weight + o * u_o + at * u_i, mask=there, other=0.0).to(ACC)
    coefficient = coefficient[:, None]

    if DENSE:
        place = o * t_o * STEP_O + first * t_i * STEP_I + start * t_c * STEP_C
        t = tl.load(target + place + i * t_i * STEP_I + c * t_c * STEP_C, mask=inside, other=0).to(ACC)
        valid = inside & (t != ignore_index)
        wrong = inside & (start < 0)
    else:
        y = tl.load(target + o * y_o + at * y_i, mask=there, other=0).to(tl.int64)[:, None]
        valid = inside & (y != ignore_index)
        wrong = valid & ((y < 0) | (y >= many))
        t = tl.where(start + c == y, 1.0, 0.0).to(ACC)
    t = tl.where(valid, t, 0.0)
    place = o * z_o * STEP_O + first * z_i * STEP_I + start * z_c * STEP_C
    z = tl.load(logits + place + i * z_i * STEP_I + c * z_c * STEP_C, mask=inside, other=0.0).to(ACC)
    z = tl.where(valid, z, 0.0)  # whatever it holds

    e = tl.exp(-tl.abs(z))
    near = 1.0 / (1.0 + e)
    far = e / (1.0 + e)
    p = tl.where(z >= 0.0, near, far)
    rest = tl.where(z >= 0.0, far, near)
    log = log1p(e)
    # A NaN must show: `maximum` may drop it, the addition of z − z does not.
    loss, slope = _positive(log + tl.where(z < 0.0, -z, 0.0) + (z - z), p, rest, gamma_pos, GAMMA_POS, DETACH)
    lost, fall = _negative(
        log + tl.where(z > 0.0, z, 0.0) + (z - z), p, rest, gamma_neg, clip, GAMMA_NEG, CLIP, DETACH
    )  # fmt: skip
    if positives is not None:
        pos = of_class(positives, start + c, start + c < many, 0.0, ACC)
    if negatives is not None:
        neg = of_class(negatives, start + c, start + c < many, 0.0, ACC)
    share = t * pos
    remainder = (1.0 - t) * neg
    loss = tl.where(t == 0.0, 0.0, share * loss) + tl.where(t == 1.0, 0.0, remainder * lost)
    slope = tl.where(t == 0.0, 0.0, share * slope) + tl.where(t == 1.0, 0.0, remainder * fall)
    if weight is not None:
        w = of_class(weight, start + c, start + c < many, 0.0, ACC)
        loss *= w
        slope *= w
    loss = tl.where(wrong, float("nan"), tl.where(valid, loss * coefficient, 0.0))

    place = o * g_o * STEP_O + first * g_i * STEP_I + start * g_c * STEP_C
    sink = place + i * g_i * STEP_I + c * g_c * STEP_C
    if TOTAL:
        tl.store(losses + program, tl.sum(tl.sum(loss, 1), 0))
    else:
        tl.store(losses + sink, loss, mask=inside)
    if gradient is not None:
        if not LATE:
            slope *= coefficient
        tl.store(gradient + sink, tl.where(wrong, float("nan"), tl.where(valid, slope, 0.0)), mask=inside)
