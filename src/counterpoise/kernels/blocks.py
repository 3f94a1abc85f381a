"""Walking over logits in blocks, so that the temporaries of a closed form stay small whatever the batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Fold", "blocks", "empty_gradient", "gradient_room", "overwritten"]

Index = tuple[slice, ...]


class Fold(NamedTuple):
    """How (N, C, …) is seen as (N, C) or (N, C, L) without a copy: channels-last memory has its classes last."""

    last: bool

    @classmethod
    def of(cls, logits: Tensor) -> Fold:
        return cls(logits.dim() > 2 and logits.movedim(1, -1).is_contiguous())

    def classes(self, tensor: Tensor) -> Tensor:
        """(N, C, …) to (N·L, C) if the classes are last in memory, else to (N, C, L); (N, C) stays."""
        if self.last:
            return tensor.movedim(1, -1).reshape(-1, tensor.shape[1])
        return tensor.flatten(2) if tensor.dim() > 3 else tensor

    def rows(self, tensor: Tensor) -> Tensor:
        """(N, …) alike."""
        if self.last:
            return tensor.reshape(-1)
        return tensor.flatten(1) if tensor.dim() > 2 else tensor


def empty_gradient(logits: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Room for a gradient (or a loss for each logit) that `Fold` can view without a copy."""
    if Fold.of(logits).last:
        return torch.empty(logits.movedim(1, -1).shape, dtype=dtype or logits.dtype, device=logits.device).movedim(
            -1, 1
        )
    return torch.empty(logits.shape, dtype=dtype or logits.dtype, device=logits.device)


def gradient_room(logits: Tensor, inplace: bool) -> Tensor:
    """Where the gradient goes: memory of its own, or (never inside `torch.compile`) that of the logits."""
    return logits.detach() if inplace and not torch.compiler.is_compiling() else empty_gradient(logits)


def overwritten(logits: Tensor, gradient: Tensor) -> None:
    """If the gradient took the logits' memory: whoever saved them for a backward is refused by their version, and
    whoever would use them from now on finds them empty, not changed."""
    if not torch.compiler.is_compiling() and gradient.data_ptr() == logits.data_ptr() and logits.numel():
        torch.autograd.graph.increment_version(logits)
        logits.data = logits.detach().new_empty(0)


def blocks(logits: Tensor, elements: int) -> Iterator[tuple[Index, Index]]:
    """Slices of (N,) or (N, L) and of (N, C) or (N, C, L) with about ``elements`` logits each.

    Compiled code gets one block: the compiler fuses what the blocks keep in cache here.
    """
    every = slice(None)
    if torch.compiler.is_compiling():
        yield (every,), (every,)
        return
    positions = logits.shape[2] if logits.dim() > 2 else 1
    step = max(1, elements // max(1, logits.shape[1] * positions))
    width = max(1, min(positions, elements // logits.shape[1]))
    if logits.dim() == 2:
        yield from (((rows,), (rows,)) for rows in _slices(logits.shape[0], step))
        return
    for rows, at in itertools.product(_slices(logits.shape[0], step), _slices(positions, width)):
        yield (rows, at), (rows, every, at)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
