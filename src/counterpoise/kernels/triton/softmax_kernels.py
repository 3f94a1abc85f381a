# ruff: noqa: PLR0913, PLR0915, C901, SIM102, SIM108  one argument per hyperparameter and stride, compile-time branches
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator, type-arg, operator"
"""The softmax equation as Triton kernels: one pass per row for loss and gradient, as in `closed_softmax`.

A program takes a tile of ROWS rows and CLASSES classes. Where a tile holds all classes (WHOLE), a row is read once and
stays in registers; longer rows are read in chunks, twice (three times for probability targets), with online sums.
Pointers that are None and neutral hyperparameters leave no code: each combination is compiled separately.
"""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from counterpoise.kernels.triton.math import log1p, of_class, power, share_of_total


@triton.jit
def _position(inner_steps, blocks, STEP_N: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr, WIDE: tl.constexpr):
    """The rows of this program: extent, outer index, first row, and offsets (ROWS, 1) and (1, CLASSES) in the tile."""
    inner = tl.cast(inner_steps, tl.int64) * STEP_N
    o = tl.program_id(0).to(tl.int64) // blocks
    first = (tl.program_id(0).to(tl.int64) % blocks) * ROWS
    i = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, CLASSES)[None, :]
    if WIDE:
        i = i.to(tl.int64)
        c = c.to(tl.int64)
    return inner, o, first, i, c


@triton.jit
def _index(target, there, ignore_index, C: tl.constexpr):
    """Index targets, and whether they are valid and whether they are out of range; these are replaced by 0."""
    y = tl.load(target, mask=there, other=0).to(tl.int64)
    valid = there & (y != ignore_index)
    inside = (y >= 0) & (y < C)
    return tl.where(valid & inside, y, 0), valid, valid & (inside == 0)


@triton.jit
def _coefficient(
    rows, totals, factor, inverse, o, at, there, C: tl.constexpr, TOTALS: tl.constexpr, PADDED: tl.constexpr,
    OWN: tl.constexpr, BY_ROWS: tl.constexpr, LATE: tl.constexpr, ROWS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sample weight of each row divided by the denominator."""
    target, sample_weight, _weight, number, inner, y_o, y_i, u_o, u_i, ignore_index = rows
    if BY_ROWS:
        counted = (target, None, None, number, inner, y_o, y_i, u_o, u_i, ignore_index)
        share = share_of_total(totals, factor, counted, C, TOTALS, PADDED, OWN, ACC)
    else:
        share = share_of_total(totals, factor, rows, C, TOTALS, PADDED, OWN, ACC)
    coefficient = tl.full((ROWS,), 1.0, ACC) * share
    if LATE:
        if tl.program_id(0) == 0:
            tl.store(inverse, share)
    if sample_weight is not None:
        coefficient *= tl.load(sample_weight + o * u_o + at * u_i, mask=there, other=0.0).to(ACC)
    return coefficient


@triton.jit
def _logits(
    source, start, c, z_c, stored, inside, t, affine, C: tl.constexpr, STEP_C: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """z' = s · a · (z − m·t) + b of the classes ``start + c``; −inf where there is no class."""
    offset, class_scale, margins, margin, scale = affine
    at = start + c
    place = source + tl.cast(start, tl.int64) * z_c * STEP_C + c * z_c * STEP_C
    z = tl.load(place, mask=stored & (at < C), other=0.0).to(ACC)
    z = tl.where(inside, z, 0.0)  # not as the mask of the load, which would prevent joined loads of pixels
    if margins is not None:
        z = z - of_class(margins, at, at < C, 0.0, ACC) * t
    else:
        z = z - margin * t
    factor = scale
    if class_scale is not None:
        factor = scale * of_class(class_scale, at, at < C, 1.0, ACC)
    z = z * factor
    if offset is not None:
        z = z + of_class(offset, at, at < C, 0.0, ACC)
    return tl.where(inside, z, float("-inf"))


@triton.jit
def _loss_and_slope(nll, r, p, gamma, poly, GAMMA: tl.constexpr, POLY: tl.constexpr):
    """f = r^γ (−log p) + κ r^(γ+1) and A = r^γ [1 + γ p (−log p)/r + κ (γ+1) p]."""
    if GAMMA == 0:
        loss = nll
        slope = tl.full(nll.shape, 1.0, nll.dtype)
        if POLY:
            loss = nll + poly * r
            slope = 1.0 + poly * p
    else:
        focus = power(r, gamma, GAMMA)
        ratio = tl.where(r == 0.0, 1.0, nll / tl.where(r == 0.0, 1.0, r))
        loss = focus * nll
        slope = 1.0 + gamma * p * ratio
        if POLY:
            loss += focus * poly * r
            slope += poly * (gamma + 1.0) * p
        slope = focus * slope
    return loss, slope


@triton.jit
def hard_kernel(
    logits, target, sample_weight, gradient, rows, inverse,
    weight, offset, class_scale, margins, gammas, totals,
    scale: tl.float64, margin: tl.float64, gamma: tl.float64, poly: tl.float64, factor: tl.float64,
    ignore_index, inner_steps, blocks, number,
    z_o, z_i, z_c, g_o, g_i, g_c, y_o, y_i, u_o, u_i,
    C: tl.constexpr, TOTALS: tl.constexpr, PADDED: tl.constexpr, OWN: tl.constexpr, BY_ROWS: tl.constexpr,
    GAMMA: tl.constexpr, POLY: tl.constexpr, LATE: tl.constexpr,
    STEP_O: tl.constexpr, STEP_I: tl.constexpr, STEP_C: tl.constexpr, STEP_N: tl.constexpr,
    ROWS: tl.constexpr, CLASSES: tl.constexpr, WHOLE: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Index targets without label smoothing: only the term of c = y remains, one number per row."""
    scale, margin, gamma, poly = (
        tl.full((), scale, ACC), tl.full((), margin, ACC), tl.full((), gamma, ACC), tl.full((), poly, ACC)
    )  # fmt: skip
    inner, o, first, i, c = _position(inner_steps, blocks, STEP_N, ROWS, CLASSES, WIDE)
    at = first + tl.arange(0, ROWS)
    there = at < inner
    y, valid, wrong = _index(target + o * y_o + at * y_i, there, ignore_index, C)
    all_rows = (target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index)
    coefficient = _coefficient(
        all_rows, totals, factor, inverse, o, at, there, C, TOTALS, PADDED, OWN, BY_ROWS, LATE, ROWS, ACC
    )  # fmt: skip

    source = logits + o * z_o * STEP_O + first * z_i * STEP_I + i * z_i * STEP_I
    stored = first + i < inner
    rows_inside = stored & (valid[:, None])  # ignored rows are treated as masked, whatever they hold
    affine = (offset, class_scale, margins, margin, scale)
    if WHOLE:
        hit = c == y[:, None]
        one = tl.where(hit, 1.0, 0.0).to(ACC)
        z = _logits(source, 0, c, z_c, stored, rows_inside & (c < C), one, affine, C, STEP_C, ACC)
        top = tl.max(z, 1)
        top = tl.where(top == float("-inf"), 0.0, top)
        own = tl.sum(tl.where(hit, z, 0.0), 1)
        e = tl.exp(z - top[:, None])
        rest = tl.sum(tl.where(hit, 0.0, e), 1)
    else:
        top = tl.full((ROWS,), float("-inf"), ACC)
        own = tl.full((ROWS,), 0.0, ACC)
        rest = tl.full((ROWS,), 0.0, ACC)
        for start in range(0, C, CLASSES):
            hit = start + c == y[:, None]
            one = tl.where(hit, 1.0, 0.0).to(ACC)
            z = _logits(source, start, c, z_c, stored, rows_inside & (start + c < C), one, affine, C, STEP_C, ACC)
            own += tl.sum(tl.where(hit, z, 0.0), 1)
            peak = tl.maximum(top, tl.max(z, 1))
            base = tl.where(peak == float("-inf"), 0.0, peak)
            rest = rest * tl.exp(top - base) + tl.sum(tl.where(hit, 0.0, tl.exp(z - base[:, None])), 1)
            top = peak
        top = tl.where(top == float("-inf"), 0.0, top)

    hidden = valid & (own == float("-inf"))  # the target is a masked class: loss inf, gradient 0; NaN stays visible
    counts = valid & (own != float("-inf"))
    own = own - top
    mine = tl.exp(own)
    whole = tl.where(counts, rest + mine, 1.0)
    # log Σ exp − z_y. If y is the largest class, mine − 1 is 0 and log1p keeps the digits that log(1 + rest) loses.
    nll = tl.where(counts, log1p(tl.where(counts, rest + (mine - 1.0), 0.0)) - tl.where(counts, own, 0.0), 0.0)
    r = rest / whole
    exponent = tl.full((ROWS,), 1.0, ACC) * gamma
    if gammas is not None:
        exponent = of_class(gammas, y, there, 0.0, ACC)
    loss, slope = _loss_and_slope(nll, r, mine / whole, exponent, poly, GAMMA, POLY)
    if weight is not None:
        w = of_class(weight, y, there, 0.0, ACC)
        loss = w * loss
        slope = w * slope
    loss = tl.where(hidden, float("inf"), loss)
    loss = tl.where(wrong, float("nan"), tl.where(valid, loss * coefficient, 0.0))
    tl.store(rows + o * inner + at, loss, mask=there)

    if gradient is not None:
        slope = tl.where(wrong, float("nan"), slope * scale)
        if not LATE:
            slope *= coefficient
        others = (slope / whole)[:, None]
        mine = (-slope * r)[:, None]
        shown = (counts | wrong)[:, None]
        sink = gradient + o * g_o * STEP_O + first * g_i * STEP_I + i * g_i * STEP_I
        if WHOLE:
            g = tl.where(shown, tl.where(hit, mine, e * others), 0.0)
            if class_scale is not None:
                g *= of_class(class_scale, c, c < C, 0.0, ACC)
            tl.store(sink + c * g_c * STEP_C, g, mask=stored & (c < C))
        else:
            for start in range(0, C, CLASSES):
                hit = start + c == y[:, None]
                one = tl.where(hit, 1.0, 0.0).to(ACC)
                z = _logits(source, start, c, z_c, stored, rows_inside & (start + c < C), one, affine, C, STEP_C, ACC)
                g = tl.where(shown, tl.where(hit, mine, tl.exp(z - top[:, None]) * others), 0.0)
                if class_scale is not None:
                    g *= of_class(class_scale, start + c, start + c < C, 0.0, ACC)
                place = sink + tl.cast(start, tl.int64) * g_c * STEP_C + c * g_c * STEP_C
                tl.store(place, g, mask=stored & (start + c < C))


@triton.jit
def _inputs(
    target, source, start, c, t_c, z_c, stored, inside, y, affine,
    C: tl.constexpr, DENSE: tl.constexpr, STEP_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """t of the classes ``start + c``, read or the one-hot of the index, and z'."""
    if DENSE:
        place = target + tl.cast(start, tl.int64) * t_c * STEP_C + c * t_c * STEP_C
        t = tl.load(place, mask=inside, other=0.0).to(ACC)
    else:
        t = tl.where(start + c == y, 1.0, 0.0).to(ACC)
    return t, _logits(source, start, c, z_c, stored, inside, t, affine, C, STEP_C, ACC)


@triton.jit
def _soft_tile(
    z, t, c, inside, sums, params,
    C: tl.constexpr, GAMMA: tl.constexpr, POLY: tl.constexpr, SMOOTH: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """p, r, h = w q A and w q f of every class of a tile, from the sums over the row."""
    top, peak, rest, share = sums
    weight, gammas, smoothings, gamma, poly, smoothing = params
    d = z - peak
    masked = z == float("-inf")
    largest = c == top
    p = tl.where(largest, 1.0, tl.exp(d)) / (1.0 + rest)
    r = tl.where(largest, rest / (1.0 + rest), 1.0 - p)
    nll = tl.where(masked, 0.0, log1p(rest) - tl.where(masked, 0.0, d))
    g = tl.full(z.shape, 1.0, ACC) * gamma
    if gammas is not None:
        g = tl.full(z.shape, 1.0, ACC) * of_class(gammas, c, c < C, 0.0, ACC)
    loss, slope = _loss_and_slope(nll, r, p, g, poly, GAMMA, POLY)
    q = t
    if SMOOTH:
        if smoothings is not None:
            smoothing = of_class(smoothings, c, c < C, 0.0, ACC)
        q = (1.0 - smoothing) * t + share
    q = tl.where(masked & inside, 0.0, tl.where(inside, q, 0.0))
    if weight is not None:
        q *= of_class(weight, c, c < C, 0.0, ACC)
    return p, r, q * slope, q * loss


@triton.jit
def soft_kernel(
    logits, target, sample_weight, gradient, rows, inverse,
    weight, offset, class_scale, margins, gammas, smoothings, totals,
    scale: tl.float64, margin: tl.float64, gamma: tl.float64, poly: tl.float64, smoothing: tl.float64,
    factor: tl.float64,
    ignore_index, inner_steps, blocks, number,
    z_o, z_i, z_c, g_o, g_i, g_c, t_o, t_i, t_c, y_o, y_i, u_o, u_i,
    C: tl.constexpr, TOTALS: tl.constexpr, PADDED: tl.constexpr, OWN: tl.constexpr, BY_ROWS: tl.constexpr,
    GAMMA: tl.constexpr, POLY: tl.constexpr, SMOOTH: tl.constexpr, DENSE: tl.constexpr, LATE: tl.constexpr,
    STEP_O: tl.constexpr, STEP_I: tl.constexpr, STEP_C: tl.constexpr, STEP_N: tl.constexpr,
    ROWS: tl.constexpr, CLASSES: tl.constexpr, WHOLE: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Probability targets (DENSE) or smoothed indices: every class of the row contributes."""
    scale, margin, gamma, poly, smoothing = (
        tl.full((), scale, ACC), tl.full((), margin, ACC), tl.full((), gamma, ACC), tl.full((), poly, ACC),
        tl.full((), smoothing, ACC),
    )  # fmt: skip
    inner, o, first, i, c = _position(inner_steps, blocks, STEP_N, ROWS, CLASSES, WIDE)
    at = first + tl.arange(0, ROWS)
    there = at < inner
    if DENSE:
        y = tl.full((ROWS,), 0, tl.int64)
        valid = there
        wrong = there & (at < 0)
    else:
        y, valid, wrong = _index(target + o * y_o + at * y_i, there, ignore_index, C)
    y = y[:, None]
    all_rows = (target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index)
    coefficient = _coefficient(
        all_rows, totals, factor, inverse, o, at, there, C, TOTALS, PADDED, OWN, BY_ROWS, LATE, ROWS, ACC
    )  # fmt: skip

    source = logits + o * z_o * STEP_O + first * z_i * STEP_I + i * z_i * STEP_I
    labels = target + o * t_o * STEP_O + first * t_i * STEP_I + i * t_i * STEP_I
    stored = first + i < inner
    rows_inside = stored & (valid[:, None])
    affine = (offset, class_scale, margins, margin, scale)
    params = (weight, gammas, smoothings, gamma, poly, smoothing)
    share = tl.full((ROWS,), 0.0, ACC)
    unmasked = tl.full((ROWS,), 0.0, ACC)
    hidden = tl.full((ROWS,), 0, tl.int32)  # 1 where the target has mass on a masked class: loss inf, gradient 0
    if WHOLE:
        inside = rows_inside & (c < C)
        t, z = _inputs(labels, source, 0, c, t_c, z_c, stored, inside, y, affine, C, DENSE, STEP_C, ACC)
        hidden = tl.max(tl.where(inside & (t > 0.0) & (z == float("-inf")), 1, 0), 1)
        peak, top = tl.max(z, 1, return_indices=True)
        base = tl.where(peak == float("-inf"), 0.0, peak)
        rest = tl.sum(tl.where(c == top[:, None], 0.0, tl.exp(z - base[:, None])), 1)
        if SMOOTH:
            unmasked = tl.sum(tl.where(inside & (z != float("-inf")), 1.0, 0.0).to(ACC), 1)
            if smoothings is not None:
                share = tl.sum(t * of_class(smoothings, c, c < C, 0.0, ACC), 1)
            else:
                share = tl.sum(t, 1) * smoothing
    else:
        peak = tl.full((ROWS,), float("-inf"), ACC)
        top = tl.full((ROWS,), 0, tl.int32)
        rest = tl.full((ROWS,), 0.0, ACC)
        for start in range(0, C, CLASSES):
            inside = rows_inside & (start + c < C)
            t, z = _inputs(labels, source, start, c, t_c, z_c, stored, inside, y, affine, C, DENSE, STEP_C, ACC)
            hidden = tl.maximum(hidden, tl.max(tl.where(inside & (t > 0.0) & (z == float("-inf")), 1, 0), 1))
            highest, where = tl.max(z, 1, return_indices=True)
            new = tl.maximum(peak, highest)
            base = tl.where(new == float("-inf"), 0.0, new)
            e = tl.exp(z - base[:, None])
            ahead = highest > peak
            # `rest` leaves out the largest class so far; once another one is larger, it is included.
            added = tl.where(ahead[:, None] & (c == where[:, None]), 0.0, e)
            before = tl.where(ahead & (peak != float("-inf")), rest + 1.0, rest)
            rest = before * tl.exp(peak - base) + tl.sum(added, 1)
            top = tl.where(ahead, start + where, top)
            peak = new
            if SMOOTH:
                unmasked += tl.sum(tl.where(inside & (z != float("-inf")), 1.0, 0.0).to(ACC), 1)
                if smoothings is not None:
                    share += tl.sum(t * of_class(smoothings, start + c, start + c < C, 0.0, ACC), 1)
                else:
                    share += tl.sum(t, 1) * smoothing
    peak = tl.where(peak == float("-inf"), 0.0, peak)[:, None]
    share = (share / tl.maximum(unmasked, 1.0))[:, None]
    sums = (top[:, None], peak, rest[:, None], share)

    if WHOLE:
        p, r, h, f = _soft_tile(z, t, c, inside, sums, params, C, GAMMA, POLY, SMOOTH, ACC)
        total = tl.sum(h, 1)
        loss = tl.sum(f, 1)
    else:
        total = tl.full((ROWS,), 0.0, ACC)
        loss = tl.full((ROWS,), 0.0, ACC)
        for start in range(0, C, CLASSES):
            inside = rows_inside & (start + c < C)
            t, z = _inputs(labels, source, start, c, t_c, z_c, stored, inside, y, affine, C, DENSE, STEP_C, ACC)
            p, r, h, f = _soft_tile(z, t, start + c, inside, sums, params, C, GAMMA, POLY, SMOOTH, ACC)
            total += tl.sum(h, 1)
            loss += tl.sum(f, 1)
    loss = tl.where(hidden > 0, float("inf"), loss)
    loss = tl.where(wrong, float("nan"), tl.where(valid, loss * coefficient, 0.0))
    tl.store(rows + o * inner + at, loss, mask=there)

    if gradient is not None:
        by = tl.full((ROWS,), 1.0, ACC) * scale
        if not LATE:
            by = scale * coefficient
        by = tl.where(wrong, float("nan"), by)[:, None]
        total = total[:, None]
        shown = (valid & ((hidden == 0) | wrong))[:, None]
        sink = gradient + o * g_o * STEP_O + first * g_i * STEP_I + i * g_i * STEP_I
        for start in range(0, C, CLASSES):
            if not WHOLE:  # otherwise everything is still in registers
                inside = rows_inside & (start + c < C)
                t, z = _inputs(labels, source, start, c, t_c, z_c, stored, inside, y, affine, C, DENSE, STEP_C, ACC)
                p, r, h, f = _soft_tile(z, t, start + c, inside, sums, params, C, GAMMA, POLY, SMOOTH, ACC)
            g = (p * (total - h) - h * r) * by
            if class_scale is not None:
                g *= of_class(class_scale, start + c, start + c < C, 0.0, ACC)
            g = tl.where(shown, g, 0.0)
            place = sink + tl.cast(start, tl.int64) * g_c * STEP_C + c * g_c * STEP_C
            tl.store(place, g, mask=stored & (start + c < C))
