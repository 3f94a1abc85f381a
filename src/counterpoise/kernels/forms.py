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
from torch.autograd import forward_ad

from counterpoise.core.errors import CounterpoiseError, UnsupportedError

__all__ = [
    "Form",
    "Impl",
    "chosen_form",
    "in_transform",
    "keeps_graph",
    "power",
    "refuse_double_backward",
    "triton_obstacle",
    "triton_or",
    "trusted_triton",
    "upstream_applied",
    "worth_triton",
]

Impl = Literal["auto", "reference", "closed_form", "triton"]


Form = Literal["reference", "closed_form", "triton"]

# "auto" takes Triton from so many logits on. Chosen without a measurement, where the kernels must win: below, launches
# and Triton's compilation weigh more than bytes.
_WORTH = 1 << 20
_INSTALLED = importlib.util.find_spec("triton") is not None


def chosen_form(impl: Impl, logits: Tensor, others: Iterable[Any]) -> Form:
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

    def outcome(form: Form) -> tuple[Tensor, ...]:
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


def in_transform() -> bool:
    """Inside grad, vmap, jvp … of torch.func, or a level of forward-mode differentiation?"""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def refuse_double_backward() -> None:
    """Called in a backward: the gradient of the gradient would silently be missing."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise UnsupportedError(
            'double backward (`create_graph=True`) is not supported by impl="closed_form" and "triton", of which '
            '"auto" takes one; use impl="reference"'
        )


# Tells a backward whether its saved tensors are needed again (`retain_graph`). Where torch lacks it they always are.
keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def upstream_applied(gradient: Tensor, factor: Tensor) -> Tensor:
    """The saved gradient times a factor of the same number of dimensions, in the gradient's dtype.

    In place where no second backward can ask for it again, so that one tensor of the logits' size is all there is.
    """
    if torch.compiler.is_compiling():
        return (gradient * factor).to(gradient.dtype)
    if factor.device.type == "cpu" and factor.numel() == 1 and factor.item() == 1 and not keeps_graph():
        return gradient
    return torch.mul(gradient, factor, out=torch.empty_like(gradient) if keeps_graph() else gradient)


def power(base: Tensor, exponent: float | Tensor) -> Tensor:
    """base^exponent with 0^0 = 1; the usual exponents by multiplication."""
    if isinstance(exponent, Tensor) or exponent not in (0.0, 1.0, 2.0, 4.0):
        return base.pow(exponent)
    if exponent == 0.0:
        return torch.ones_like(base)
    if exponent == 1.0:
        return base
    square = base * base
    return square if exponent == 2.0 else square * square
