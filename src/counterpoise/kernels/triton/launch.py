"""Launching the Triton kernels: tiles of the logits, strides, the denominator, and operators for `torch.compile`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from counterpoise.kernels import autograd
from counterpoise.kernels.autograd import Fold, Forward, empty_gradient
from counterpoise.kernels.reduction import Batch, accumulation_dtype
from counterpoise.kernels.triton.math import index_mass_kernel, scale_kernel

# Triton decides when a kernel is defined whether it is compiled or interpreted (TRITON_INTERPRET=1).
_INTERPRETED = not isinstance(scale_kernel, triton.JITFunction)
_SCALE_BLOCK, _SCALE_PROGRAMS = 4096, 1024
# Programs that sum the denominator, and the elements each of them takes at a time.
_SUM_PROGRAMS, _MASS_BLOCK = 128, 1024
# Elements of a tile. An index target keeps one number per logit in registers, a probability target about six: with 512
# threads, 32 (8) logits each, they fit the 128 registers of a thread. Longer rows are read in chunks.
_HARD_TILE, _SOFT_TILE = 1 << 14, 1 << 12
_HARD_CHUNK, _SOFT_CHUNK = 1 << 12, 1 << 11
# A tile of few classes takes many rows, so that a program occupies its four warps.
_LEAST_TILE = 1 << 10
# Where pixels, not classes, are adjacent in memory: so many of them make whole cache lines.
_LEAST_PIXELS = 32

_SCHEMA = (
    "(Tensor logits, Tensor target, Tensor? sample_weight, int ignore_index, str reduction, Tensor? denominator, "
    "float? number, Tensor?[] vectors, float[] numbers, bool want_gradient) -> (Tensor, Tensor, Tensor)"
)
# The denominator: (partial) sums on the device or None, and a number by which their reciprocal is multiplied.
Denominator = tuple[Tensor | None, float | None]
Compute = Callable[[Tensor, Batch, Any, Any, Tensor | None], tuple[Tensor, Tensor]]


class LogitsView(NamedTuple):
    """The logits (N, C, …) as a view (outer, C, inner) without a copy.

    The rows of a tile lie along ``inner``: the batch for (N, C), the pixels of an image for (N, C, H, W).
    """

    fold: Fold
    outer: int
    classes: int
    inner: int

    @classmethod
    def over(cls, logits: Tensor) -> LogitsView:
        fold = Fold.of(logits)
        shape = fold.classes(logits).shape
        if len(shape) == 2:
            return cls(fold, 1, shape[1], shape[0])
        return cls(fold, shape[0], shape[1], shape[2])

    @property
    def rows(self) -> int:
        return self.outer * self.inner

    def of_classes(self, tensor: Tensor) -> Tensor:
        """(N, C, …) as a view (outer, C, inner); a copy only where no strides describe it."""
        folded = self.fold.classes(tensor)
        return folded.T.unsqueeze(0) if folded.dim() == 2 else folded

    def of_rows(self, tensor: Tensor) -> Tensor:
        """(N, …) as (outer, inner)."""
        folded = self.fold.rows(tensor)
        return folded.unsqueeze(0) if folded.dim() == 1 else folded


class Tile(NamedTuple):
    """Rows and classes of a tile (powers of 2), whether one tile holds all classes, and the warps of its program."""

    rows: int
    classes: int
    whole: bool
    warps: int


def tile_for(view: LogitsView, *, soft: bool, double: bool, pixels: bool) -> Tile:
    """The tile of a program of the softmax kernels; ``pixels``: neighbours in memory are rows, not classes."""
    most, chunk = (_SOFT_TILE, _SOFT_CHUNK) if soft else (_HARD_TILE, _HARD_CHUNK)
    most, chunk = (most // 2, chunk // 2) if double else (most, chunk)
    inner = power_of_2(max(1, view.inner))
    side = min(_LEAST_PIXELS, inner) if pixels else 1
    classes = power_of_2(view.classes)
    whole = classes * side <= most
    if not whole:
        classes = max(1, chunk // side)
    rows = max(side, min(inner, _LEAST_TILE // classes))
    warps = min(16, max(4, rows * classes // (256 if soft else 512)))
    return Tile(rows, classes, whole, warps)


def class_strides(view: LogitsView, **tensors: Tensor | None) -> dict[str, int]:
    """Strides of (outer, class, inner) views as kernel arguments, divided by a common factor known at compile time.

    The compiler joins loads into 16 bytes only where it knows that no row starts or ends inside of them. By itself it
    recognises multiples of 16 only, and would read 1000 classes of bfloat16 two bytes at a time.
    """
    given = [t for t in tensors.values() if t is not None]
    by_class = all(t.stride(1) == 1 for t in given)
    by_pixel = not by_class and all(t.stride(2) == 1 for t in given)
    common = (view.classes if by_class else view.inner) if by_class or by_pixel else 1
    for t in given:
        across = t.stride(2) if by_class else t.stride(1)
        common = math.gcd(16, common, across, t.stride(0) if view.outer > 1 else 0)
    inner, classes = common if by_class else 1, common if by_pixel else 1
    arguments = {"STEP_O": common, "STEP_I": inner, "STEP_C": classes, "STEP_N": classes}
    arguments["inner_steps"] = view.inner // classes
    for name, tensor in tensors.items():
        o, c, i = (0, 0, 0) if tensor is None else tensor.stride()
        o = o // common if view.outer > 1 else 0
        arguments |= {f"{name}_o": o, f"{name}_i": i // inner, f"{name}_c": c // classes}
    return arguments


def wide(tile: Tile, *tensors: Tensor | None) -> bool:
    """Whether offsets inside a tile need 64 bits; the offset of a tile always has them."""
    given = (t for t in tensors if t is not None)
    return any(tile.rows * t.stride(2) + tile.classes * t.stride(1) > torch.iinfo(torch.int32).max for t in given)


def power_of_2(number: int) -> int:
    """The smallest power of 2 that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def accumulation(logits: Tensor) -> Any:
    return tl.float64 if logits.dtype == torch.float64 else tl.float32


def whole_exponent(gamma: float | Tensor) -> int:
    """γ where multiplications compute the power (0 to 4), −1 where it takes a logarithm."""
    return int(gamma) if not isinstance(gamma, Tensor) and gamma in (0.0, 1.0, 2.0, 3.0, 4.0) else -1


def row_strides(**tensors: Tensor | None) -> dict[str, int]:
    """Strides of (outer, inner) views as kernel arguments."""
    strides = {name: (0, 0) if rows is None else rows.stride() for name, rows in tensors.items()}
    return {f"{name}_{axis}": stride for name, both in strides.items() for axis, stride in zip("oi", both, strict=True)}


def totals_arguments(totals: Tensor | None) -> dict[str, int]:
    count = 1 if totals is None else totals.numel()
    return {"TOTALS": count, "PADDED": power_of_2(count)}


def given_denominator(batch: Batch) -> Denominator:
    """The denominator of "none" and "sum", or the one that the caller gave; (None, None): it has to be summed."""
    if isinstance(batch.denominator, Tensor):
        return batch.denominator, 1.0
    if batch.denominator is not None:
        return None, 1.0 / batch.denominator if batch.denominator else 0.0
    return None, 1.0 if batch.reduction in ("none", "sum") else None


def partial_sums(programs: int, logits: Tensor) -> Tensor:
    """Memory for the sums of so many programs, at most `_SUM_PROGRAMS`; every program of the loss adds them up."""
    return torch.empty(min(_SUM_PROGRAMS, programs), dtype=accumulation_dtype(logits), device=logits.device)


def index_mass(
    batch: Batch, view: LogitsView, weight: Tensor | None, sample_weight: Tensor | None, logits: Tensor
) -> Tensor:
    """Σ u w_y over the rows that are not ignored, as partial sums."""
    totals = partial_sums(-(-view.rows // _MASS_BLOCK), logits)
    y, u = view.of_rows(batch.target), None if sample_weight is None else view.of_rows(sample_weight)
    arguments = {
        "target": y, "sample_weight": u, "weight": weight, "totals": totals, "number": view.rows, "inner": view.inner,
        **row_strides(y=y, u=u), "ignore_index": batch.ignore_index, "C": view.classes,
        "ACC": accumulation(logits), "BLOCK": min(_MASS_BLOCK, power_of_2(view.rows)),
    }  # fmt: skip
    start(index_mass_kernel, totals.numel(), logits.device, arguments)
    return totals


def class_blocks(target: Tensor, view: LogitsView) -> dict[str, Any]:
    """Arguments of a kernel that reads dense targets in blocks, one after another, to sum them."""
    t = view.of_classes(target)
    classes = min(power_of_2(view.classes), _MASS_BLOCK)
    rows = min(power_of_2(view.inner), max(1, _MASS_BLOCK // classes))
    blocks = -(-view.inner // rows)
    strides = {"t_o": t.stride(0), "t_i": t.stride(2), "t_c": t.stride(1)}
    sizes = {"inner": view.inner, "blocks": blocks, "programs": view.outer * blocks, "ROWS": rows, "CLASSES": classes}
    return {"target": t, **strides, **sizes}


def start(kernel: Any, programs: int, device: torch.device, arguments: dict[str, Any], *, warps: int = 4) -> None:
    """Start a kernel on the tensors' device; nothing for an empty batch."""
    if programs == 0:
        return
    # Triton's default for fused multiply-adds is about to change, so the choice is explicit.
    options = {} if _INTERPRETED else {"num_warps": warps, "enable_fp_fusion": True}
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[(programs,)](**arguments, **options)


def multiplied(gradient: Tensor, factor: Tensor) -> Tensor:
    """`autograd.multiplied`, where the device finds that a factor is 1, so that the host does not wait for it."""
    if torch.compiler.is_compiling() or factor.numel() != 1:
        return autograd.multiplied(gradient, factor)
    keep = autograd.keeps_graph()
    out = torch.empty_like(gradient) if keep else gradient
    arguments = {
        "source": gradient, "target": out, "factor": factor, "size": gradient.numel(), "INPLACE": not keep,
        "ACC": accumulation(gradient), "BLOCK": _SCALE_BLOCK,
    }  # fmt: skip
    start(scale_kernel, min(_SCALE_PROGRAMS, -(-gradient.numel() // _SCALE_BLOCK)), gradient.device, arguments)
    return out


def fused_operator(
    name: str, compute: Compute, empty_loss: Callable[[Tensor], Tensor], params_type: Any
) -> tuple[Any, Forward]:
    """An operator of torch that runs ``compute``, and the forward of `fused_loss` that calls it in `torch.compile`.

    The operator is opaque to the compiler; outside of `torch.compile` ``compute`` is called directly. Hyperparameters
    are given to both as vectors, with None for numbers, and as numbers, with 0 for vectors.

    Args:
        name: of the operator.
        compute: takes logits, batch, vectors, numbers, and memory for the gradient or None; writes the gradient, and
            returns the loss and the reciprocal of the denominator, which only float16 needs.
        empty_loss: the unreduced loss of logits, without values.
        params_type: the hyperparameters of the equation.
    """

    def run(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, target, weight, ignore_index, reduction, below, number, vectors, numbers, want_gradient = arguments
        batch = Batch(target, weight, ignore_index, reduction, number if below is None else below)
        memory = empty_gradient(logits) if want_gradient else None
        loss, inverse = compute(logits, batch, params_type(*vectors), params_type(*numbers), memory)
        return loss, logits.new_empty(0) if memory is None else memory, inverse

    def fake(logits: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        scalar = torch.empty((), dtype=accumulation_dtype(logits), device=logits.device)
        loss = empty_loss(logits) if arguments[3] == "none" else scalar.clone()
        return loss, empty_gradient(logits) if arguments[-1] else logits.new_empty(0), scalar

    operator = torch.library.custom_op(f"counterpoise::{name}", run, mutates_args=(), schema=_SCHEMA)
    operator.register_fake(fake)

    def forward(logits: Tensor, memory: Tensor | None, *arguments: Any) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        batch, params = Batch(*arguments[: len(Batch._fields)]), arguments[len(Batch._fields) :]
        vectors = [x if isinstance(x, Tensor) else None for x in params]
        numbers = [0.0 if x is None or isinstance(x, Tensor) else float(x) for x in params]
        if torch.compiler.is_compiling():
            below = (batch.denominator, None) if isinstance(batch.denominator, Tensor) else (None, batch.denominator)
            loss, memory, inverse = operator(logits, *batch[:-1], *below, vectors, numbers, memory is not None)
        else:
            loss, inverse = compute(logits, batch, params_type(*vectors), params_type(*numbers), memory)
        # float16 cannot hold the gradient of a mean over many rows: it holds that of the sum, divided in the backward.
        late = [inverse] if batch.sample_weight is None else [inverse, batch.sample_weight]
        return loss, memory, late if logits.dtype == torch.float16 else []

    return operator, forward
