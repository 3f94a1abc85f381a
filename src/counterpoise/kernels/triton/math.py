# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator, type-arg, operator"
"""What the Triton kernels share, in Triton's language: powers, logarithms, where a row lies, what a sum is divided by.

Only modules that were themselves imported on the first use of `impl="triton"` import this one: it imports Triton.
"""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

__all__ = ["log1p", "of_class", "power", "reciprocal", "reciprocal_total", "scale_kernel"]


@triton.jit
def log1p(x):
    """log(1 + x) for x ≥ 0 to the last digits: the rounding of 1 + x is undone by the quotient (Kahan)."""
    u = 1.0 + x
    d = u - 1.0
    flat = d == 0.0
    return tl.where(flat, x, tl.log(u) * (x / tl.where(flat, 1.0, d)))


@triton.jit
def power(base, exponent, EXPONENT: tl.constexpr):
    """base^exponent for base ≥ 0 with 0^0 = 1; EXPONENT ≥ 0 is a whole exponent known to the compiler, −1 any."""
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
    """The entries of a (C,) vector at the classes given."""
    return tl.load(vector + at, mask=mask, other=neutral).to(ACC)


@triton.jit
def reciprocal(total, factor):
    """factor/total, and 0 where the total is 0: nothing to learn, nothing to break."""
    empty = total == 0.0
    return tl.where(empty, 0.0, factor / tl.where(empty, 1.0, total))


@triton.jit
def reciprocal_total(totals, factor, TOTALS: tl.constexpr, PADDED: tl.constexpr, ACC: tl.constexpr):
    """factor/Σ totals; without totals the factor itself."""
    result = tl.full((), factor, ACC)
    if totals is not None:
        j = tl.arange(0, PADDED)
        result = reciprocal(tl.sum(tl.load(totals + j, mask=j < TOTALS, other=0.0).to(ACC), 0), result)
    return result


@triton.jit
def scale_kernel(source, target, factor, size, INPLACE: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """target = source · factor over ``size`` elements of dense memory; in place a factor of 1 costs nothing."""
    by = tl.load(factor).to(ACC)
    unit = by == 1.0
    if not (INPLACE and unit):
        start = tl.program_id(0).to(tl.int64) * BLOCK
        step = tl.num_programs(0) * BLOCK
        for first in range(start, size, step):
            at = first + tl.arange(0, BLOCK)
            mask = at < size
            tl.store(target + at, tl.load(source + at, mask=mask).to(ACC) * by, mask=mask)
