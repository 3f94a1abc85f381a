"""Comparison of one of our losses with a peer's: value and gradients, on the same inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoise.core.errors import CounterpoiseError

Loss = Callable[..., Tensor]


def outcome(loss: Loss, inputs: Sequence[Any], learn: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Value of a loss, and the gradients of the inputs named in ``learn`` under a fixed upstream gradient."""
    given = [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
    leaves = [given[i].requires_grad_() for i in learn]
    value = loss(*given)
    upstream = torch.linspace(0.5, 1.5, max(value.numel(), 1), dtype=value.dtype)[: value.numel()].reshape(value.shape)
    return value.detach(), list(torch.autograd.grad(value, leaves, upstream))


def assert_agree(
    ours: Loss, theirs: Loss, *inputs: Any, learn: Sequence[int] = (0,), rtol: float | None = None, atol: float = 1e-7
) -> None:
    """Assert that both losses have the same value and gradients; the gradients have the dtype of their inputs.

    The peer computes in float64, from the same inputs, so that its own rounding does not count. Ours is float64 for
    float64 and float32 for float32 and half precision, with gradients rounded to half precision.
    """
    dtype = inputs[0].dtype
    value, gradients = outcome(ours, inputs, learn)
    exact = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    wanted, wanted_gradients = outcome(theirs, exact, learn)
    if dtype != torch.float64:
        atol = max(atol, 2e-6)
    loose = {torch.float64: 1e-9, torch.float32: 1e-5}.get(dtype, 1e-4) if rtol is None else rtol
    assert value.shape == wanted.shape
    torch.testing.assert_close(value.to(wanted.dtype), wanted, rtol=loose, atol=atol)
    rounding = torch.finfo(dtype).eps if dtype in (torch.float16, torch.bfloat16) else 0.0
    for i, gradient, other in zip(learn, gradients, wanted_gradients, strict=True):
        assert gradient.dtype == inputs[i].dtype
        near = {"rtol": max(loose, rounding), "atol": max(atol, rounding / 8)}
        torch.testing.assert_close(gradient.to(other.dtype), other, **near)


def assert_each(samples: Iterable[Any], check: Callable[[Any], str], cases: Counter[str]) -> None:
    """Check every sample and count its outcome, then fail with all samples that did not pass."""
    failed = []
    for number, sample in enumerate(samples):
        try:
            cases[check(sample)] += 1
        except (AssertionError, CounterpoiseError, RuntimeError, TypeError, pytest.fail.Exception) as error:
            shown = " ".join(str(error).split())[:300]
            failed.append(f"sample {number}: {described(sample)}\n    {type(error).__name__}: {shown}")
    assert not failed, f"{len(failed)} samples differ:\n" + "\n".join(failed)
    assert cases.total() > 0


def described(value: Any) -> str:
    """A sample in one line: of tensors dtype and shape."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {described(x)}" for name, x in value.items()) + "}"
    return "(" + ", ".join(map(described, value)) + ")" if isinstance(value, tuple) else repr(value)
