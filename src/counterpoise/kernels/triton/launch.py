"""What both Triton forms share on the host: starting a kernel, and the gradient times the upstream one."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from counterpoise.kernels.autograd import keeps_graph, upstream_applied
from counterpoise.kernels.triton.math import scale_kernel
from counterpoise.kernels.triton.tiles import power_of_2

__all__ = [
    "INTERPRETED",
    "accumulation",
    "applied",
    "class_strides",
    "launch",
    "row_strides",
    "totals_arguments",
    "whole_exponent",
]

# Triton decides when a kernel is defined whether it is compiled or interpreted (TRITON_INTERPRET=1).
INTERPRETED = not isinstance(scale_kernel, triton.JITFunction)
_SCALE_BLOCK, _SCALE_PROGRAMS = 4096, 1024


def accumulation(logits: Tensor) -> Any:
    return tl.float64 if logits.dtype == torch.float64 else tl.float32


def whole_exponent(gamma: float | Tensor) -> int:
    """γ itself where multiplications do (0 to 4), −1 where it takes a logarithm."""
    return int(gamma) if not isinstance(gamma, Tensor) and gamma in (0.0, 1.0, 2.0, 3.0, 4.0) else -1


def totals_arguments(totals: Tensor | None) -> dict[str, int]:
    count = 1 if totals is None else totals.numel()
    return {"TOTALS": count, "PADDED": power_of_2(count)}


def row_strides(name: str, rows: Tensor | None) -> dict[str, int]:
    outer, inner = (0, 0) if rows is None else rows.stride()
    return {f"{name}_o": outer, f"{name}_i": inner}


def class_strides(name: str, strides: tuple[int, int, int]) -> dict[str, int]:
    return {f"{name}_{axis}": stride for axis, stride in zip("oic", strides, strict=True)}


def launch(kernel: Any, programs: int, device: torch.device, arguments: dict[str, Any], *, warps: int = 4) -> None:
    """Start a kernel on the tensors' device; nothing for an empty batch."""
    if programs == 0:
        return
    # Fused multiply-adds are said aloud: Triton's default is about to change.
    options = {} if INTERPRETED else {"num_warps": warps, "enable_fp_fusion": True}
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[(programs,)](**arguments, **options)


def applied(gradient: Tensor, factor: Tensor) -> Tensor:
    """The saved gradient times the upstream one; a factor of 1 is seen on the device, without waiting for it."""
    if torch.compiler.is_compiling() or factor.numel() != 1:
        return upstream_applied(gradient, factor)
    keep = keeps_graph()
    out = torch.empty_like(gradient) if keep else gradient
    arguments = {
        "source": gradient,
        "target": out,
        "factor": factor,
        "size": gradient.numel(),
        "INPLACE": not keep,
        "ACC": accumulation(gradient),
        "BLOCK": _SCALE_BLOCK,
    }
    launch(scale_kernel, min(_SCALE_PROGRAMS, -(-gradient.numel() // _SCALE_BLOCK)), gradient.device, arguments)
    return out
