"""Which form of an equation runs, and what the closed forms share.

This is the one place that knows what each form cannot do, and when "auto" takes which. Triton is imported only where
its form is about to run.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from counterpoise.core.errors import CounterpoiseError, UnsupportedError
from counterpoise.kernels.autograd import in_transform
from counterpoise.kernels.closed_sigmoid import sigmoid_closed
from counterpoise.kernels.closed_softmax import closed_rows, softmax_closed
from counterpoise.kernels.layout import accumulation_dtype
from counterpoise.kernels.reduction import Reduction, kept, reduced, safe_divide, valid_rows
from counterpoise.kernels.reduction import denominator as found
from counterpoise.kernels.reference import SigmoidParameters, SoftmaxParameters, sigmoid_elements, softmax_rows

__all__ = [
    "Impl",
    "Implementation",
    "chosen_implementation",
    "rows_and_gradient",
    "sigmoid_equation",
    "softmax_equation",
    "triton_obstacle",
    "trusted_softmax",
    "worth_triton",
]

Impl = Literal["auto", "reference", "closed_form", "triton"]


Implementation = Literal["reference", "closed_form", "triton"]

# "auto" takes Triton from so many logits on. Chosen without a measurement, where the kernels must win: below, launches
# and Triton's compilation weigh more than bytes.
_WORTH = 1 << 20
_INSTALLED = importlib.util.find_spec("triton") is not None


def chosen_implementation(impl: Impl, logits: Tensor, others: Iterable[Any]) -> Implementation:
    """The form that runs. "auto" takes the fastest that can be used, and falls back without a word; a form asked for
    by name runs or refuses.

    ``others`` are all arguments save the logits: only the reference has a gradient for them.
    """
    if impl == "reference":
        return "reference"
    reason = _obstacle(others)
    if impl == "auto":
        if reason is not None:
            return "reference"
        return "triton" if worth_triton(logits) and triton_obstacle(logits) is None else "closed_form"
    if reason is None and impl == "triton":
        reason = triton_obstacle(logits)
    if reason is not None:
        raise UnsupportedError(
            f'`impl="{impl}"` {reason}; use impl="reference", or "auto", which falls back to what can be used'
        )
    return impl


def triton_obstacle(logits: Tensor) -> str | None:
    """Why the Triton kernels cannot run on these logits, or None. TRITON_INTERPRET=1 runs them on a CPU, slowly."""
    if logits.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        return f"does not know logits of {logits.dtype}"
    if not _INSTALLED:
        return "needs Triton: pip install 'counterpoise[kernels]'"
    if logits.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"needs logits on a GPU (or TRITON_INTERPRET=1); they are on {logits.device}"
    return _failure


def worth_triton(logits: Tensor) -> bool:
    """Is Triton expected to be the fastest? Never on a CPU, in double precision, or inside `torch.compile`, which fuses
    the closed form with what is around it."""
    return (
        logits.device.type == "cuda"
        and logits.dtype != torch.float64
        and logits.numel() >= _WORTH
        and not torch.compiler.is_compiling()
        and torch.cuda.get_device_capability(logits.device) >= (8, 0)
    )


_failure: str | None = None
_trusted: set[tuple[Any, ...]] = set()

Equation = Callable[..., Tensor]
"""Logits, target, sample weight and form → the summed loss."""


def triton_or(
    impl: Impl, triton: Callable[[], Tensor], instead: Callable[[], Tensor], trusted: Callable[[], bool]
) -> Tensor:
    """What ``triton`` gives. Where "auto" chose it and it is not to be trusted here, ``instead``."""
    if impl != "auto":
        return triton()
    try:
        return triton() if trusted() else instead()
    except (CounterpoiseError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a missing compiler, a driver that is too old, a kernel the device has no room for …
        _given_up(error)
        return instead()


def trusted_triton(equation: Equation, logits: Tensor, target: Tensor, sample_weight: Tensor | None) -> bool:
    """Do the kernels give what the closed form gives on the first rows of this very batch? Asked once for every kind of
    batch (device, dtype, classes, dimensions, kind of target); it waits for the device, so never in a CUDA graph.

    After a kernel that does not start, or gives something else, there is one warning, and "auto" leaves them alone.
    """
    learning = not torch.is_inference_mode_enabled()  # where nothing has a gradient
    batch = (logits.device, logits.dtype, logits.shape[1:2], logits.dim(), target.dtype, target.dim())
    kind = (equation.__name__, learning, *batch)
    if kind in _trusted or (logits.device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return True
    few = slice(0, _ROWS)
    weight = None if sample_weight is None else sample_weight[few]

    def outcome(form: Implementation) -> tuple[Tensor, ...]:
        leaf = logits.detach()[few].clone().requires_grad_(learning)
        with torch.set_grad_enabled(learning):
            loss = equation(leaf, target[few], weight, form)
        return (loss.detach(), *(torch.autograd.grad(loss, leaf) if learning else ()))

    try:
        found = outcome("triton"), outcome("closed_form")
    except (CounterpoiseError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        _given_up(error)
        return False
    tolerance = _TOLERANCE[logits.dtype]
    for ours, theirs in zip(*found, strict=True):
        scale = float(theirs.nan_to_num().abs().max()) if theirs.numel() else 0.0
        if not torch.allclose(ours.float(), theirs.float(), rtol=tolerance, atol=tolerance * scale, equal_nan=True):
            _given_up(ArithmeticError("they give something else than the closed form on this device"))
            return False
    _trusted.add(kind)
    return True


_ROWS = 64
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def _given_up(error: Exception) -> None:
    global _failure
    _failure = f"failed before in this process ({type(error).__name__}: {error})"
    warnings.warn(
        f"the Triton kernels do not work here, the closed form runs instead: {type(error).__name__}: {error}",
        stacklevel=6,
    )


def _obstacle(others: Iterable[Any]) -> str | None:
    if in_transform():
        return "does not run inside torch.func transforms or forward-mode differentiation"
    if torch.is_grad_enabled() and any(isinstance(other, Tensor) and other.requires_grad for other in others):
        return "has a gradient for `logits` only, and another argument requires one"
    return None


def softmax_equation(  # noqa: PLR0913  what the equation and its caller have
    logits: Tensor,
    target: Tensor,
    params: SoftmaxParameters,
    *,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    denominator: Tensor | float | None,
    impl: Impl,
    inplace: bool = False,
) -> Tensor:
    """Logits (N, C, …) and int64 (N, …) or floating (N, C, …) targets to the loss: a scalar, or (N, …) for "none".

    ``sample_weight`` is (N, …); ``denominator`` divides the sum of "mean" and "batchmean"; None: what
    `reduction.denominator` says of these targets.
    """
    form = chosen_implementation(impl, logits, (target, sample_weight, denominator, *params))

    def triton() -> Tensor:
        from counterpoise.kernels.triton.softmax import softmax_triton

        return softmax_triton(
            logits,
            target,
            params,
            sample_weight=sample_weight,
            denominator=denominator,
            ignore_index=ignore_index,
            reduction=reduction,
            inplace=inplace,
        )

    def in_torch() -> Tensor:
        below = denominator
        if below is None and reduction in ("mean", "batchmean"):
            below = found(
                target,
                valid_rows(target, ignore_index),
                reduction,
                params.weight,
                sample_weight,
                accumulation_dtype(logits),
            )
        if form == "reference":
            rows = softmax_rows(logits, target, params, ignore_index)
            return reduced(rows if sample_weight is None else rows * sample_weight, reduction, below)
        coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
        coefficient = coefficient if sample_weight is None else coefficient * sample_weight
        coefficient = coefficient if below is None else safe_divide(coefficient, below)
        return softmax_closed(
            logits, target, coefficient, params, ignore_index, total=reduction != "none", inplace=inplace
        )

    def trusted() -> bool:
        return trusted_softmax(logits, target, params, sample_weight, ignore_index)

    return triton_or(impl, triton, in_torch, trusted) if form == "triton" else in_torch()


def trusted_softmax(
    logits: Tensor, target: Tensor, params: SoftmaxParameters, sample_weight: Tensor | None, ignore_index: int
) -> bool:
    """May "auto" take the Triton kernels for batches like this one?"""

    def softmax(z: Tensor, y: Tensor, u: Tensor | None, form: Implementation) -> Tensor:
        return softmax_equation(
            z,
            y,
            params,
            sample_weight=u,
            ignore_index=ignore_index,
            reduction="sum",
            denominator=None,
            impl=form,
        )

    return trusted_triton(softmax, logits, target, sample_weight)


def rows_and_gradient(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    *,
    ignore_index: int,
    form: Literal["closed_form", "triton"],
    want_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """coefficient · ℓ of each row, (N,), and the gradient of their sum for logits (N, C), without a graph."""
    if form == "triton":
        from counterpoise.kernels.triton.softmax import rows_and_gradient as in_triton

        return in_triton(logits, target, coefficient, params, ignore_index=ignore_index, want_gradient=want_gradient)
    gradient = torch.empty_like(logits) if want_gradient else None
    rows = closed_rows(logits, target, params, ignore_index, gradient, coefficient)
    return rows if coefficient is None else rows * coefficient, gradient


def sigmoid_equation(  # noqa: PLR0913  what the equation and its caller have
    logits: Tensor,
    target: Tensor,
    params: SigmoidParameters,
    *,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    denominator: Tensor | float | None,
    impl: Impl,
    inplace: bool = False,
) -> Tensor:
    """Logits (N, C, …) and targets of that shape, or int64 (N, …), to the loss: a scalar, or (N, C, …) for "none".

    ``sample_weight`` is (N, …); ``denominator`` divides the sum of "mean" and "batchmean"; None: the
    number of elements, or rows, that are not ignored.
    """
    form = chosen_implementation(impl, logits, (target, sample_weight, denominator, *params))

    def triton() -> Tensor:
        from counterpoise.kernels.triton.sigmoid import sigmoid_triton

        return sigmoid_triton(
            logits,
            target,
            params,
            sample_weight=sample_weight,
            denominator=denominator,
            ignore_index=ignore_index,
            reduction=reduction,
            inplace=inplace,
        )

    def in_torch() -> Tensor:
        below = denominator
        if below is None and reduction in ("mean", "batchmean"):
            below = counted(target, logits, ignore_index, reduction)
        if form == "reference":
            elements = sigmoid_elements(logits, target, params, ignore_index)
            elements = elements if sample_weight is None else elements * sample_weight.unsqueeze(1)
            return reduced(elements, reduction, below)
        coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
        coefficient = coefficient if sample_weight is None else coefficient * sample_weight
        coefficient = coefficient if below is None else safe_divide(coefficient, below)
        return sigmoid_closed(
            logits, target, coefficient, params, ignore_index, total=reduction != "none", inplace=inplace
        )

    def trusted() -> bool:
        return trusted_triton(sigmoid, logits, target, sample_weight)

    def sigmoid(z: Tensor, y: Tensor, u: Tensor | None, form: Implementation) -> Tensor:
        return sigmoid_equation(
            z,
            y,
            params,
            sample_weight=u,
            ignore_index=ignore_index,
            reduction="sum",
            denominator=None,
            impl=form,
        )

    return triton_or(impl, triton, in_torch, trusted) if form == "triton" else in_torch()


def counted(target: Tensor, logits: Tensor, ignore_index: int, reduction: Reduction) -> Tensor:
    """How many elements ("mean") or rows ("batchmean") are not ignored."""
    dtype = accumulation_dtype(logits)
    valid = kept(target, ignore_index)
    if target.dim() == logits.dim():
        return (valid.any(1) if reduction == "batchmean" else valid).sum(dtype=dtype)
    return valid.sum(dtype=dtype) * (1 if reduction == "batchmean" else logits.shape[1])
