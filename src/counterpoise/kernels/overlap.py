"""Soft counts of true positives, false positives and false negatives, which the overlap losses are made of.

With probabilities p, targets t and the weight u of each row that is not ignored, over the rows of a batch or an image:

    TP_c = Σ u t_c p_c        FP_c = Σ u (1 − t_c) p_c        FN_c = Σ u t_c (1 − p_c)

For derivatives A, B and D of a loss with respect to TP, FP and FN, its derivative with respect to p_c is
h_c = u [t_c (A_c − D_c) + (1 − t_c) B_c], hence that with respect to the logits p_c (h_c − Σ_k h_k p_k) for a softmax
and p_c (1 − p_c) h_c for a sigmoid. 1 − p is the sum over the other classes, or σ(−z), never a difference.

The closed form goes through the logits in blocks, once for the counts and once for the gradient, and keeps no tensor of
their size in between; the eager reference has the other derivatives and runs where operations are recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.autograd import Fold, empty_gradient, in_transform, is_traced
from counterpoise.kernels.reduction import accumulation_dtype, kept
from counterpoise.kernels.reference import dense_labels, dense_target, log_one_minus_p

Activation = Literal["softmax", "sigmoid"]
Block = tuple[slice, slice]

_BLOCK = 1 << 18  # elements per block: its temporaries stay in the cache, and it occupies several threads


class SoftCounts(NamedTuple):
    """The counts of each class, ``(C,)`` of the batch or ``(N, C)`` of each image.

    ``positives`` is Σ u t, and ``rows`` Σ u: 0 where a class does not occur, or every row is ignored.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    positives: Tensor
    rows: Tensor


def soft_counts(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    ignore_index: int,
    *,
    activation: Activation,
    per_image: bool,
) -> SoftCounts:
    """The soft counts of logits (N, C, …) and targets as the equation of the activation takes them.

    The counts have the dtype of accumulation; an index outside 0 .. C−1 makes all of them NaN.
    """
    others = (target, sample_weight)
    learns = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in others)
    closed = (target.dim() == logits.dim()) == (activation == "sigmoid") and logits.device.type == "cpu"
    if not closed or learns or in_transform() or is_traced(logits):
        return reference_counts(logits, target, sample_weight, ignore_index, activation, per_image)
    with torch.autocast(logits.device.type, enabled=False):
        return SoftCounts(*_SoftCounts.apply(logits, target, sample_weight, ignore_index, activation, per_image))


def reference_counts(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    ignore_index: int,
    activation: Activation,
    per_image: bool,
) -> SoftCounts:
    """The soft counts by operations that autograd and compilers follow."""
    dense = dense_target if activation == "softmax" else dense_labels
    t, valid, wrong = (x if x.dim() == logits.dim() else x.unsqueeze(1) for x in dense(logits, target, ignore_index))
    z = torch.where(valid, logits.to(t.dtype), 0.0)
    u = valid.to(t.dtype) if sample_weight is None else torch.where(valid, sample_weight.unsqueeze(1), 0.0)
    u = torch.where(wrong, torch.nan, u)
    if activation == "softmax":
        log_p = torch.log_softmax(z, 1)
        p, rest = log_p.exp(), log_one_minus_p(z, log_p).exp()  # rest is 1 − p without cancellation
    else:
        p, rest = torch.sigmoid(z), torch.sigmoid(-z)
    dims = [d for d in range(0 if not per_image else 1, z.dim()) if d != 1]
    terms = (t * p, (1.0 - t) * p, t * rest, t, torch.ones_like(t))
    return SoftCounts(*((u * x).sum(dims) if dims else u * x for x in terms))


class _SoftCounts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        sample_weight: Tensor | None,
        ignore_index: int,
        activation: Activation,
        per_image: bool,
    ) -> tuple[Tensor, ...]:
        batch = _Batch.of(logits, target, sample_weight, ignore_index, activation, per_image)
        counts, rest = (_class_counts if activation == "softmax" else _label_counts)(batch)
        ctx.arguments = (ignore_index, activation, per_image)
        ctx.save_for_backward(logits, target, sample_weight, rest)
        dtype = accumulation_dtype(logits)
        outputs = tuple((x if per_image else x.sum(0)).to(dtype) for x in counts)
        ctx.mark_non_differentiable(*outputs[3:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, sample_weight, rest = ctx.saved_tensors
        if torch.is_grad_enabled():  # double backward: the reference has the second derivative
            counts = reference_counts(logits, target, sample_weight, *ctx.arguments)
            (gradient,) = torch.autograd.grad(counts[:3], logits, upstream[:3], create_graph=True)
            return gradient, None, None, None, None, None
        with torch.autocast(logits.device.type, enabled=False):
            batch = _Batch.of(logits, target, sample_weight, *ctx.arguments)
            a, b, d = (x.reshape(-1, batch.classes).expand(batch.images, -1) for x in upstream[:3])
            out = empty_gradient(logits)
            folded = _fold(out, batch.per_image)
            for block in batch.blocks():
                at = batch.at(*block)
                if ctx.arguments[1] == "softmax":
                    folded[at] = _class_gradient(batch, block, a - d, b, rest)
                else:
                    folded[at] = _label_gradient(batch, block, a - d, b)
        return out, None, None, None, None, None


def _fold(tensor: Tensor, per_image: bool) -> Tensor:
    """(N, C, …) as (images, C, rows), or as (images, rows, C) where the classes are last in memory."""
    if tensor.dim() == 2:
        return tensor.unsqueeze(1 if per_image else 0)
    if Fold.of(tensor).last:
        return tensor.movedim(1, -1).flatten(1, -2)
    return tensor.flatten(2)


class _Batch(NamedTuple):
    """Folded logits z and targets, with everything that a block needs.

    ``target`` is (images, rows) int64 of valid classes, or labels in the layout of the logits. ``ignored`` marks rows
    or labels, None if there are none; ``weight`` is (images, rows), None for 1, and NaN for an invalid index.
    """

    z: Tensor
    target: Tensor
    ignored: Tensor | None
    weight: Tensor | None
    dim: int
    per_image: bool

    @classmethod
    def of(
        cls,
        logits: Tensor,
        target: Tensor,
        sample_weight: Tensor | None,
        ignore_index: int,
        activation: Activation,
        per_image: bool,
    ) -> _Batch:
        z = _fold(logits.detach(), per_image)
        dim = 2 if logits.dim() == 2 or Fold.of(logits).last else 1
        rows = (z.shape[0], z.shape[3 - dim])
        weight = None if sample_weight is None else sample_weight.detach().reshape(rows)
        ignored = ~kept(target, ignore_index)
        if activation == "sigmoid":
            target = target.detach()
            if dim == 2 and target.dim() > 2:
                target, ignored = (x.movedim(1, -1) for x in (target, ignored))
            target, ignored = target.reshape(z.shape), ignored.reshape(z.shape)
        else:
            target, ignored = target.reshape(rows), ignored.reshape(rows)
            wrong = ~ignored & ((target < 0) | (target >= logits.shape[1]))
            if bool(wrong.any()):
                weight = torch.ones(rows, dtype=accumulation_dtype(logits)) if weight is None else weight
                weight = torch.where(wrong, torch.nan, weight)
            target = torch.where(ignored | wrong, 0, target)
        return cls(z, target, ignored if bool(ignored.any()) else None, weight, dim, per_image)

    @property
    def classes(self) -> int:
        return self.z.shape[self.dim]

    @property
    def images(self) -> int:
        return self.z.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return accumulation_dtype(self.z)

    def blocks(self) -> Iterator[Block]:
        """Slices of images and rows with about `_BLOCK` logits each."""
        images, rows = self.images, self.z.shape[3 - self.dim]
        step = max(1, _BLOCK // max(1, self.classes * rows))
        width = max(1, min(rows, _BLOCK // self.classes))
        return itertools.product(_slices(images, step), _slices(rows, width))

    def at(self, images: slice, rows: slice) -> tuple[slice, ...]:
        """The index of a block in a tensor in the layout of the logits."""
        every = slice(None)
        return (images, every, rows) if self.dim == 1 else (images, rows, every)

    def new_counts(self) -> Tensor:
        """Zeros (images, C) to add blocks to: in float64, in which a long sum of small terms keeps its digits."""
        return torch.zeros(self.images, self.classes, dtype=torch.float64)

    def row_weight(self, block: Block) -> Tensor | None:
        """The weight of the rows of a block, to broadcast over its classes."""
        return None if self.weight is None else self.weight[block].unsqueeze(self.dim)

    def spread(self, values: Tensor, images: slice) -> Tensor:
        """Values (images, C) to broadcast over the rows of a block."""
        return values[images].unsqueeze(3 - self.dim)

    def row_sums(self, values: Tensor, weight: Tensor | None) -> Tensor:
        """The (weighted) sum of a block over its rows, (images, C)."""
        if weight is None:
            return values.sum(3 - self.dim)
        if self.dim == 1:
            return torch.matmul(values, weight.transpose(1, 2)).squeeze(2)
        return torch.matmul(weight.transpose(1, 2), values).squeeze(1)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _other_classes(batch: _Batch, block: Block) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax of a block with 0 for the class of each row; that class, and its probability."""
    y = batch.target[block].unsqueeze(batch.dim)
    p = torch.softmax(batch.z[batch.at(*block)], batch.dim, dtype=batch.dtype)
    own = p.gather(batch.dim, y)
    return p.scatter_(batch.dim, y, 0.0), y, own


def _class_counts(batch: _Batch) -> tuple[list[Tensor], Tensor]:
    """The counts (images, C) of class indices, and 1 − p of the class of each row, (images, rows)."""
    own, rest = (torch.empty(batch.target.shape, dtype=batch.dtype) for _ in range(2))
    fp = batch.new_counts()
    for block in batch.blocks():
        p, _, own_block = _other_classes(batch, block)
        if batch.ignored is not None:
            ignored = batch.ignored[block].unsqueeze(batch.dim)
            p.masked_fill_(ignored, 0.0)
            own_block.masked_fill_(ignored, 0.0)
        own[block], rest[block] = own_block.squeeze(batch.dim), p.sum(batch.dim)
        fp[block[0]] += batch.row_sums(p, batch.row_weight(block))
    u = torch.ones((), dtype=torch.float64) if batch.weight is None else batch.weight.to(torch.float64)
    u = u.expand(batch.target.shape) if batch.ignored is None else torch.where(batch.ignored, 0.0, u)
    tp, fn, positives = (batch.new_counts().scatter_add_(1, batch.target, u * x) for x in (own, rest, 1.0))
    invalid = u.sum(1, keepdim=True) * 0.0  # NaN where an index is invalid
    return [tp + invalid, fp, fn + invalid, positives + invalid, u.sum(1, keepdim=True).expand_as(fp)], rest


def _class_gradient(batch: _Batch, block: Block, a: Tensor, b: Tensor, rest: Tensor) -> Tensor:
    """The gradient of a block: p_c (B_c − m) for the other classes, p_y (A_y m' − Σ_c B_c p_c) for that of the row.

    m = Σ_c B_c p_c + A_y p_y and m' = 1 − p_y; the sums are over the other classes.
    """
    images, dim = block[0], batch.dim
    p, y, own = _other_classes(batch, block)
    others = torch.matmul(b[images].unsqueeze(1), p) if dim == 1 else torch.matmul(p, b[images].unsqueeze(2))
    slope = a[images].gather(1, batch.target[block]).unsqueeze(dim)
    p.mul_(batch.spread(b, images) - (others + slope * own))
    p.scatter_(dim, y, own * (slope * rest[block].unsqueeze(dim) - others))
    weight = batch.row_weight(block)
    p = p if weight is None else p.mul_(weight)
    return p if batch.ignored is None else p.masked_fill_(batch.ignored[block].unsqueeze(dim), 0.0)


def _label_counts(batch: _Batch) -> tuple[list[Tensor], None]:
    """The counts (images, C) of labels in [0, 1]."""
    counts = [batch.new_counts() for _ in range(5)]
    for block in batch.blocks():
        at = batch.at(*block)
        z, t = batch.z[at].to(batch.dtype), batch.target[at].to(batch.dtype)
        p, rest, one = torch.sigmoid(z), torch.sigmoid(-z), torch.ones_like(z)
        terms = [t * p, (1.0 - t) * p, t * rest, t, one]
        if batch.ignored is not None:
            terms = [x.masked_fill(batch.ignored[at], 0.0) for x in terms]
        weight = batch.row_weight(block)
        for count, x in zip(counts, terms, strict=True):
            count[block[0]] += batch.row_sums(x, weight)
    return counts, None


def _label_gradient(batch: _Batch, block: Block, a: Tensor, b: Tensor) -> Tensor:
    """The gradient of a block of labels: p_c (1 − p_c) [t_c A_c + (1 − t_c) B_c]."""
    at = batch.at(*block)
    z, t = batch.z[at].to(batch.dtype), batch.target[at].to(batch.dtype)
    spread_b = batch.spread(b, block[0])
    out = t * (batch.spread(a, block[0]) - spread_b)
    out = out.add_(spread_b).mul_(torch.sigmoid(z)).mul_(torch.sigmoid(-z))
    weight = batch.row_weight(block)
    out = out if weight is None else out.mul_(weight)
    return out if batch.ignored is None else out.masked_fill_(batch.ignored[at], 0.0)
