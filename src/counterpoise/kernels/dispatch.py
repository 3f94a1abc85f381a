"""Entry points of the two equations, and the choice of the implementation that computes them.

Triton is imported only where its kernels are about to run.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from counterpoise.core.errors import CounterpoiseError, UnsupportedError, install_command
from counterpoise.kernels.autograd import Recomputed, in_transform, is_jit_traced, is_traced
from counterpoise.kernels.closed_sigmoid import sigmoid_closed
from counterpoise.kernels.closed_softmax import closed_rows, softmax_closed
from counterpoise.kernels.reduction import (
    Batch,
    Reduction,
    accumulation_dtype,
    all_kept,
    denominator,
    kept,
    reduced,
    safe_divide,
    valid_rows,
)
from counterpoise.kernels.reference import SigmoidParameters, SoftmaxParameters, sigmoid_elements, softmax_rows

Impl = Literal["auto", "reference", "closed_form", "triton"]
Implementation = Literal["reference", "closed_form", "triton"]
Equation = Literal["softmax", "sigmoid"]
Params = SoftmaxParameters | SigmoidParameters
Capability = tuple[int, int]

# The time of the closed form divided by that of the Triton kernels (forward and backward), measured on a GPU: the only
# places where "auto" takes the kernels are those with an entry above 1. Empty, because nothing has been measured yet.
MEASURED_SPEEDUPS: dict[tuple[Equation, Capability, torch.dtype, str], float] = {}

_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
# Where the first batch of each kind verifies the kernels: compiled kernels depend on compiler, driver and device.
_VERIFIED_DEVICES: tuple[str, ...] = ("cuda",)
_VERIFIED_ROWS = 64
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# Why the kernels cannot be used for a kind of batch; None where they agree with the closed form.
_failures: dict[tuple[Any, ...], str | None] = {}


def softmax_equation(  # noqa: PLR0913  the arguments of the public losses
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
    """The loss of logits (N, C, …) and targets (N, …) int64 or (N, C, …) floating: a scalar, or (N, …) for "none".

    The default denominator is `reduction.denominator`; see `reduction.Batch` for the other arguments.
    """
    batch = Batch(target, sample_weight, ignore_index, reduction, denominator)
    return _evaluated("softmax", logits, params, batch, impl, inplace)


def sigmoid_equation(  # noqa: PLR0913  the arguments of the public losses
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
    """The loss of logits (N, C, …) and labels of that shape, or int64 (N, …): a scalar, or (N, C, …) for "none".

    The default denominator is the number of elements, or of rows for "batchmean", that are not ignored.
    """
    batch = Batch(target, sample_weight, ignore_index, reduction, denominator)
    return _evaluated("sigmoid", logits, params, batch, impl, inplace)


def _evaluated(equation: Equation, logits: Tensor, params: Params, batch: Batch, impl: Impl, inplace: bool) -> Tensor:
    others = (batch.target, batch.sample_weight, batch.denominator, *params)
    implementation = chosen_implementation(impl, equation, logits, others)
    if implementation == "triton":
        implementation = verified_implementation(impl, equation, logits, params, batch, lambda rows: logits[rows])
    recomputed = None
    if impl == "auto" and implementation != "reference" and not inplace and can_recompute(logits):
        recomputed = Recomputed(REFERENCE_LOSS[equation], logits, *batch, *params)
    return _computed(implementation, equation, logits, params, batch, inplace, recomputed)


def can_recompute(*inputs: Tensor | None) -> bool:
    """Whether a gradient is wanted that may be differentiated once more; `torch.compile` has no double backward."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return any(x is not None and x.requires_grad for x in inputs)


def _computed(
    implementation: Implementation,
    equation: Equation,
    logits: Tensor,
    params: Params,
    batch: Batch,
    inplace: bool,
    recomputed: Recomputed | None = None,
) -> Tensor:
    if implementation == "triton":
        return _triton_kernels(equation)(logits, params, batch, inplace=inplace, recomputed=recomputed)
    target, weight, ignore_index, reduction, below = batch
    if below is None and reduction in ("mean", "batchmean"):
        below = _DENOMINATOR[equation](logits, params, batch)
    if implementation == "reference":
        terms = _REFERENCE[equation](logits, target, params, ignore_index)
        if weight is not None:
            terms = terms * (weight if weight.dim() == terms.dim() else weight.unsqueeze(1))
        return reduced(terms, reduction, below)
    coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
    coefficient = coefficient if weight is None else coefficient * weight
    coefficient = coefficient if below is None else safe_divide(coefficient, below)
    options = {"total": reduction != "none", "inplace": inplace, "recomputed": recomputed}
    return _CLOSED_FORM[equation](logits, target, coefficient, params, ignore_index, **options)


def _triton_kernels(equation: Equation) -> Callable[..., Tensor]:
    if equation == "softmax":
        from counterpoise.kernels.triton.softmax import softmax_triton

        return softmax_triton
    from counterpoise.kernels.triton.sigmoid import sigmoid_triton

    return sigmoid_triton


def softmax_denominator(logits: Tensor, params: Params, batch: Batch) -> Tensor:
    dtype = accumulation_dtype(logits)
    if _is_counted(batch) and not batch.target.is_floating_point() and params.weight is None:
        return torch.tensor(float(batch.target.numel()), dtype=dtype)
    valid = valid_rows(batch.target, batch.ignore_index)
    return denominator(batch.target, valid, batch.reduction, params.weight, batch.sample_weight, dtype)


def sigmoid_denominator(logits: Tensor, params: Params, batch: Batch) -> Tensor:
    """The number of elements ("mean") or rows ("batchmean") that are not ignored."""
    dtype, by_rows = accumulation_dtype(logits), batch.reduction == "batchmean"
    if _is_counted(batch._replace(sample_weight=None)):
        return torch.tensor(float(logits.numel() // logits.shape[1] if by_rows else logits.numel()), dtype=dtype)
    valid = kept(batch.target, batch.ignore_index)
    if valid.dim() == logits.dim():
        return (valid.any(1) if by_rows else valid).sum(dtype=dtype)
    return valid.sum(dtype=dtype) * (1 if by_rows else logits.shape[1])


def _is_counted(batch: Batch) -> bool:
    """Whether all rows have weight 1, which is known without a sum over them: on a CPU, none is ignored."""
    target = batch.target
    if batch.sample_weight is not None or target.device.type != "cpu" or is_traced(target) or in_transform():
        return False
    return all_kept(target, batch.ignore_index)


def _reference_loss(equation: Equation, params_type: Callable[..., Params], logits: Tensor, *arguments: Any) -> Tensor:
    """The loss of the reference, from the fields of a batch and of the hyperparameters."""
    fields = len(Batch._fields)
    batch, params = Batch(*arguments[:fields]), params_type(*arguments[fields:])
    return _computed("reference", equation, logits, params, batch, False)


# The loss of an equation as a function of logits and the fields of batch and hyperparameters, for `Recomputed`.
REFERENCE_LOSS: dict[Equation, Callable[..., Tensor]] = {
    "softmax": partial(_reference_loss, "softmax", SoftmaxParameters),
    "sigmoid": partial(_reference_loss, "sigmoid", SigmoidParameters),
}
_REFERENCE: dict[Equation, Callable[..., Tensor]] = {"softmax": softmax_rows, "sigmoid": sigmoid_elements}
_CLOSED_FORM: dict[Equation, Callable[..., Tensor]] = {"softmax": softmax_closed, "sigmoid": sigmoid_closed}
_DENOMINATOR: dict[Equation, Callable[..., Tensor]] = {"softmax": softmax_denominator, "sigmoid": sigmoid_denominator}


def rows_and_gradient(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    *,
    ignore_index: int,
    implementation: Implementation,
    want_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """coefficient · ℓ of each row, (N,), and the gradient of their sum for logits (N, C), outside of autograd."""
    if implementation == "triton":
        from counterpoise.kernels.triton.softmax import rows_and_gradient as in_triton

        return in_triton(logits, target, coefficient, params, ignore_index=ignore_index, want_gradient=want_gradient)
    gradient = torch.empty_like(logits) if want_gradient else None
    rows = closed_rows(logits, target, params, ignore_index, gradient, coefficient)
    return rows if coefficient is None else rows * coefficient, gradient


def chosen_implementation(impl: Impl, equation: Equation, logits: Tensor, others: Iterable[Any]) -> Implementation:
    """The implementation that runs for ``impl``; "auto" takes the fastest one that can compute what is asked for.

    Args:
        impl: as given by the user.
        equation: which equation.
        logits: only shape, dtype and device are used.
        others: all other arguments; only the reference has a gradient for them.

    Raises:
        UnsupportedError: an implementation given by name cannot compute this; the message has the reason.
    """
    if impl == "reference":
        return "reference"
    reason = _obstacle(others)
    if impl == "auto":
        if reason is not None:
            return "reference"
        return "triton" if _is_faster(equation, logits) and _triton_obstacle(logits) is None else "closed_form"
    if reason is None and impl == "triton":
        reason = _triton_obstacle(logits)
    if reason is not None:
        raise UnsupportedError(
            f'`impl="{impl}"` {reason}; pass impl="reference", or "auto", which takes one that can be used'
        )
    return impl


def _obstacle(others: Iterable[Any]) -> str | None:
    if in_transform():
        return "does not run inside torch.func transforms or forward-mode differentiation"
    if is_jit_traced():
        return "cannot be recorded by torch.jit.trace"
    if torch.is_grad_enabled() and any(isinstance(other, Tensor) and other.requires_grad for other in others):
        return "has a gradient for `logits` only, and another argument requires one"
    return None


def _triton_obstacle(logits: Tensor) -> str | None:
    """Why the Triton kernels cannot run on these logits, or None. TRITON_INTERPRET=1 runs them on a CPU, slowly."""
    if logits.dtype not in _TOLERANCE:
        return f"does not support logits of {logits.dtype}"
    if not _TRITON_INSTALLED:
        return f"needs Triton: {install_command('kernels')}"
    if logits.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"needs logits on a GPU (or TRITON_INTERPRET=1); they are on {logits.device}"
    return None


def _is_faster(equation: Equation, logits: Tensor) -> bool:
    """Whether Triton was measured to be faster; never where `is_traced`: a compiler fuses the closed form itself."""
    if logits.device.type != "cuda" or is_traced(logits):
        return False
    capability = torch.cuda.get_device_capability(logits.device)
    return MEASURED_SPEEDUPS.get((equation, capability, logits.dtype, shape_class(logits)), 0.0) > 1.0


def shape_class(logits: Tensor) -> str:
    """The class of shapes that shares an entry of `MEASURED_SPEEDUPS`."""
    if logits.numel() < 1 << 20:
        return "small"  # the time is that of launches
    classes = logits.shape[1]
    return "few classes" if classes <= 128 else "many classes" if classes <= 1 << 14 else "rows beyond one tile"


def verified_implementation(
    impl: Impl, equation: Equation, logits: Tensor, params: Params, batch: Batch, first: Callable[[slice], Tensor]
) -> Implementation:
    """Return "triton", or "closed_form" if "auto" chose kernels that fail on this device.

    The first batch of each kind (device, dtype, number of classes, …) compares the kernels with the closed form, loss
    and gradient of its first rows, which waits for the device. ``first`` gives the logits of these rows.

    Raises:
        UnsupportedError: ``impl`` is "triton", and the kernels do not start or disagree with the closed form.
    """
    capturing = logits.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    if logits.device.type not in _VERIFIED_DEVICES or torch.compiler.is_compiling() or capturing:
        return "triton"
    differentiable = not torch.is_inference_mode_enabled()
    target = (batch.target.dtype, batch.target.dim())
    kind = (equation, differentiable, logits.device, logits.dtype, logits.shape[1], logits.dim(), *target)
    if kind not in _failures:
        rows = slice(0, _VERIFIED_ROWS)
        weight = None if batch.sample_weight is None else batch.sample_weight[rows]
        part = Batch(batch.target[rows], weight, batch.ignore_index, "sum")
        _failures[kind] = failure = _failure(equation, first(rows).detach(), params, part, differentiable)
        if failure is not None and impl == "auto":
            action = 'impl="auto" uses the closed form instead; pass impl="closed_form" to skip this comparison'
            warnings.warn(f"the Triton kernels {failure}; {action}", stacklevel=5)
    failure = _failures[kind]
    if failure is not None and impl != "auto":
        raise UnsupportedError(f'`impl="triton"` cannot be used, its kernels {failure}; pass impl="closed_form"')
    return "triton" if failure is None else "closed_form"


def _failure(equation: Equation, logits: Tensor, params: Params, batch: Batch, differentiable: bool) -> str | None:
    def outcome(implementation: Implementation) -> tuple[Tensor, ...]:
        leaf = logits.clone().requires_grad_(differentiable)
        with torch.set_grad_enabled(differentiable):
            loss = _computed(implementation, equation, leaf, params, batch, False)
        return (loss.detach(), *(torch.autograd.grad(loss, leaf) if differentiable else ()))

    try:
        outcomes = outcome("triton"), outcome("closed_form")
    except (CounterpoiseError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a missing compiler, an old driver, a device with too little shared memory, …
        return f"do not run on {logits.device} ({type(error).__name__}: {error})"
    tolerance = _TOLERANCE[logits.dtype]
    for found, expected in zip(*outcomes, strict=True):
        scale = float(expected.nan_to_num().abs().max()) if expected.numel() else 0.0
        if not torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=tolerance * scale, equal_nan=True):
            return f"give another result than the closed form on {logits.device}"
    return None
