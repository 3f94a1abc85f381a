# ruff: noqa: PLR0913  a letter, a stride: an argument; a branch is the compiler's
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator, type-arg, operator"
"""The denominator of a weighted mean, Σ W_i, in Triton: in a kernel of its own, or inside that of the loss."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from counterpoise.kernels.triton.math import of_class, reciprocal, reciprocal_total

__all__ = ["index_mass_kernel", "share_of_total", "soft_mass_kernel"]


@triton.jit
def _index_mass(
    row, target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index, C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """u w_y of the rows with these numbers that count, 0 for the others."""
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
    target, sample_weight, weight, totals, factor, number, inner, y_o, y_i, u_o, u_i, ignore_index, C: tl.constexpr,
    TOTALS: tl.constexpr, PADDED: tl.constexpr, OWN: tl.constexpr, BY_ROWS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """1/denominator: from the totals given, or (OWN rows at most) added up here, which saves starting a kernel."""
    if OWN == 0:
        share = reciprocal_total(totals, factor, TOTALS, PADDED, ACC)
    else:
        row = tl.arange(0, OWN).to(tl.int64)
        if BY_ROWS:
            mass = _index_mass(row, target, None, None, number, inner, y_o, y_i, u_o, u_i, ignore_index, C, ACC)
        else:
            mass = _index_mass(
                row, target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index, C, ACC
            )  # fmt: skip
        share = reciprocal(tl.sum(mass, 0), tl.full((), factor, ACC))
    return share


@triton.jit
def index_mass_kernel(
    target, sample_weight, weight, totals, number, inner, y_o, y_i, u_o, u_i, ignore_index,
    C: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Σ u w_y over the rows that count, in as many parts as there are programs."""
    total = tl.full((BLOCK,), 0.0, ACC)
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    step = tl.num_programs(0) * BLOCK
    for first in range(begin, number, step):
        row = first + tl.arange(0, BLOCK).to(tl.int64)
        total += _index_mass(
            row, target, sample_weight, weight, number, inner, y_o, y_i, u_o, u_i, ignore_index, C, ACC
        )  # fmt: skip
    tl.store(totals + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def soft_mass_kernel(
    target, sample_weight, weight, totals, inner, blocks, programs, t_o, t_i, t_c, u_o, u_i,
    C: tl.constexpr, ROWS: tl.constexpr, CLASSES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Σ u Σ_c w_c t_c, likewise: every probability is read once more than the loss needs."""
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
