"""Walking over logits in blocks, so that the temporaries of a closed form stay small whatever the batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Fold", "accumulation_dtype", "blocks", "class_view", "empty_gradient"]

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


def accumulation_dtype(logits: Tensor) -> torch.dtype:
    """fp64 for fp64, fp32 for everything else: half precision would lose small classes in the sums."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def class_view(vector: Tensor | float, ndim: int) -> Tensor | float:
    """(C,) shaped to broadcast over (N, C, …); numbers pass."""
    return vector.reshape(-1, *[1] * (ndim - 2)) if isinstance(vector, Tensor) and vector.dim() == 1 else vector
