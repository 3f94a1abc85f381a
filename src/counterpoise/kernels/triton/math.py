# ruff: noqa: PLR0913  kernels have one argument per hyperparameter and stride
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator, type-arg, operator"
"""Device functions and kernels that both equations use: powers, logarithms, denominators, the upstream gradient."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


@triton.jit
def log1p(x):
    """log(1 + x) for x ≥ 0 to full precision: the quotient undoes the rounding of 1 + x (Kahan)."""
    u = 1.0 + x
    d = u - 1.0
    flat = d == 0.0
    return tl.where(flat, x, tl.log(u) * (x / tl.where(flat, 1.0, d)))


@triton.jit
def power(base, exponent, EXPONENT: tl.constexpr):
    """base^exponent for base ≥ 0 with 0^0 = 1; EXPONENT is a whole exponent of at least 0, or −1 for any exponent."""
    if EXPONENT == 0:
        result = tl.full(base.shape, 1.0, base.dtype)
    elif EXPONENT == 1:
        result = base
    elif EXPONENT == 2:
        result = base * base
    elif EXPONENT == 3:
        result = base * base * base
    elif EXPONENT == 4:
        square = base * base
        result = square * square
    else:
        positive = base > 0.0
        raised = tl.exp(exponent * tl.log(tl.where(positive, base, 1.0)))
        result = tl.where(positive, raised, tl.where(exponent == 0.0, 1.0, base))
    return result


@triton.jit
def of_class(vector, at, mask, neutral: tl.constexpr, ACC: tl.constexpr):
    """The entries of a (C,) vector for the given classes."""
    return tl.load(vector + at, mask=mask, other=neutral).to(ACC)


@triton.jit
def reciprocal(total, factor):
    """factor/total, and 0 where the total is 0."""
    empty = total == 0.0
    return tl.where(empty, 0.0, factor / tl.where(empty, 1.0, total))


@triton.jit
def reciprocal_total(totals, factor, TOTALS: tl.constexpr, PADDED: tl.constexpr, ACC: tl.constexpr):
    """factor/Σ totals; the factor itself without totals."""
    result = tl.full((), factor, ACC)
    if totals is not None:
        j = tl.arange(0, PADDED)
        result = reciprocal(tl.sum(tl.load(totals + j, mask=j < TOTALS, other=0.0).to(ACC), 0), result)
    return result


@triton.jit
def scale_kernel(source, target, factor, size, INPLACE: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """target = source · factor for ``size`` contiguous elements; returns immediately for a factor of 1 in place."""
    by = tl.load(factor).to(ACC)
    unit = by == 1.0
    if not (INPLACE and unit):
        start = tl.program_id(0).to(tl.int64) * BLOCK
        step = tl.num_programs(0) * BLOCK
        for first in range(start, size, step):
            at = first + tl.arange(0, BLOCK)
            mask = at < size
            tl.store(target + at, tl.load(source + at, mask=mask).to(ACC) * by, mask=mask)


@triton.jit
def _index_mass(row, rows, C: tl.constexpr, ACC: tl.constexpr):
    """u w_y of the rows with these numbers, 0 for ignored ones."""
    target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index = rows
    there = row < number
    o = row // inner
    i = row % inner
    y = tl.load(target + o * y_o + i * y_i, mask=there, other=0).to(tl.int64)
    mass = tl.where(there & (y != ignore_index), 1.0, 0.0).to(ACC)
    if weight is not None:
        mass *= of_class(weight, tl.where((y >= 0) & (y < C), y, 0), there, 0.0, ACC)
    if sample_weight is not None:
        mass *= tl.load(sample_weight + o * u_o + i * u_i, mask=there, other=0.0).to(ACC)
    return mass


@triton.jit
def share_of_total(
    totals, factor, rows, C: tl.constexpr, TOTALS: tl.constexpr, PADDED: tl.constexpr, OWN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """1/denominator: from the totals, or, for at most OWN rows, summed here, which saves the launch of a kernel."""
    if OWN == 0:
        share = reciprocal_total(totals, factor, TOTALS, PADDED, ACC)
    else:
        mass = _index_mass(tl.arange(0, OWN).to(tl.int64), rows, C, ACC)
        share = reciprocal(tl.sum(mass, 0), tl.full((), factor, ACC))
    return share


@triton.jit
def index_mass_kernel(
    target, sample_weight, weight, totals, number, inner, y_o, y_i, u_o, u_i, ignore_index,
    C: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Σ u w_y over the rows that are not ignored, as one partial sum per program."""
    rows = (target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index)
    total = tl.full((BLOCK,), 0.0, ACC)
    for first in range(tl.program_id(0).to(tl.int64) * BLOCK, number, tl.num_programs(0) * BLOCK):
        total += _index_mass(first + tl.arange(0, BLOCK).to(tl.int64), rows, C, ACC)
    tl.store(totals + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def soft_mass_kernel(
    target, sample_weight, weight, totals, inner, blocks, programs, t_o, t_i, t_c, u_o, u_i,
    C: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Σ u Σ_c w_c t_c, as one partial sum per program."""
    total = tl.full((ROWS, CLASSES), 0.0, ACC)
    for block in range(tl.program_id(0).to(tl.int64), programs, tl.num_programs(0)):
        o = block // blocks
        i = (block % blocks) * ROWS + tl.arange(0, ROWS).to(tl.int64)[:, None]
        mass = tl.full((ROWS, CLASSES), 0.0, ACC)
        for start in range(0, C, CLASSES):
            c = start + tl.arange(0, CLASSES).to(tl.int64)[None, :]
            there = (i < inner) & (c < C)
            t = tl.load(target + o * t_o + i * t_i + c * t_c, mask=there, other=0.0).to(ACC)
            if weight is not None:
                t *= of_class(weight, c, c < C, 0.0, ACC)
            mass += t
        if sample_weight is not None:
            mass *= tl.load(sample_weight + o * u_o + i * u_i, mask=i < inner, other=0.0).to(ACC)
        total += mass
    tl.store(totals + tl.program_id(0), tl.sum(tl.sum(total, 1), 0))


@triton.jit
def valid_elements_kernel(target, totals, size, ignore_index, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """The number of elements that are not ignored, as one partial sum per program."""
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
    """The number of rows with an element that is not ignored, as one partial sum per program."""
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
