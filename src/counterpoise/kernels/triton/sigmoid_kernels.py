# ruff: noqa: PLR0913, PLR0915, C901, SIM102, SIM108  a letter, a stride: an argument; a branch is the compiler's
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator, type-arg, operator"
"""The sigmoid equation in Triton: one pass over the elements, loss and gradient together, the loss summed on the way.

The mathematics is `sigmoid_closed`'s. Positives and negatives share one exponential and one logarithm: with
e = exp(−|z|), both −log σ(±z) are log(1 + e) plus a maximum, and both σ(±z) are a quotient of 1 + e.
"""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from counterpoise.kernels.triton.math import log1p, of_class, power, reciprocal_total

__all__ = ["sigmoid_kernel", "valid_elements_kernel", "valid_rows_kernel"]


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


@triton.jit
def valid_elements_kernel(target, totals, size, ignore_index, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """How many elements are not ignored, in as many parts as there are programs."""
    total = tl.full((BLOCK,), 0.0, ACC)
    for first in range(tl.program_id(0).to(tl.int64) * BLOCK, size, tl.num_programs(0) * BLOCK):
        at = first + tl.arange(0, BLOCK)
        t = tl.load(target + at, mask=at < size, other=0).to(ACC)
        total += tl.where((at < size) & (t != ignore_index), 1.0, 0.0).to(ACC)
    tl.store(totals + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def valid_rows_kernel(
    target, totals, inner, blocks, programs, many, t_o, t_i, t_c, ignore_index,
    ROWS: tl.constexpr, CLASSES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """How many rows have an element that is not ignored, likewise."""
    total = tl.full((ROWS,), 0.0, ACC)
    for block in range(tl.program_id(0).to(tl.int64), programs, tl.num_programs(0)):
        o = block // blocks
        i = (block % blocks) * ROWS + tl.arange(0, ROWS).to(tl.int64)[:, None]
        some = tl.full((ROWS, CLASSES), 0.0, ACC)
        for start in range(0, many, CLASSES):
            c = start + tl.arange(0, CLASSES).to(tl.int64)[None, :]
            there = (i < inner) & (c < many)
            t = tl.load(target + o * t_o + i * t_i + c * t_c, mask=there, other=0).to(ACC)
            some = tl.where(there & (t != ignore_index), 1.0, some)
        total += tl.max(some, 1)
    tl.store(totals + tl.program_id(0), tl.sum(total, 0))
