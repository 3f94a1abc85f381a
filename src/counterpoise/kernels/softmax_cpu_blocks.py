"""The softmax equation for blocks of class indices on a CPU, in few vectorised passes and without masks of elements.

The values e^z' of a row, up to a factor, give `own`, that of the target, and `rest`, the sum of the others, and then

    −log p = log1p(rest/own),    1 − p = rest/(rest + own),    gradient k·e with k = w u A/(rest + own), −k·rest at y

Label smoothing without a modulating factor needs no target of the logits' size. With the ε of the row, W = Σ_c w_c and
d = z' − max z', it is

    ℓ = (1 − ε) w_y (−log p_y) + ε/C · (W log Σ_c e^d_c − Σ_c w_c d_c),    gradient k·e − u ε/C · w

A block with a masked class in a smoothed target, a target whose probability is nearly 0, or NaN is left to
`softmax_blocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.reduction import accumulation_dtype, class_view
from counterpoise.kernels.reference import SoftmaxParameters, is_affine
from counterpoise.kernels.softmax_blocks import affine, loss_and_slope, of_target, shifted

# With fewer classes, torch's softmax over the last dimension takes more time than its separate operations.
_FEW_CLASSES = 64
# The exponentials of logits within ± this bound, and their sum, can be computed without subtracting the maximum.
_BOUND = 32.0
# Logits within ± this bound lose less than 5e-7 when an offset is added or when they are summed.
_SMALL = 8.0
# A target's probability below this, relative to the largest one, may underflow.
_SMALLEST = 1e-30
# Class weights are handled up to this multiple of the sum of the others; beyond it Σ_c w_c d_c loses digits.
_DOMINANT = 100.0


class IndexBlocks(NamedTuple):
    """The targets of a batch and what their rows are multiplied by: tensors (N, 1, …), or numbers for all rows."""

    y: Tensor  # 0 for ignored rows
    weight: Tensor | float  # w_y, 0 for ignored rows
    factor: Tensor | float  # the gradient's factor besides the weights: u, the denominator and s
    share: Tensor | float  # ε of the row, 0 for ignored rows
    params: SoftmaxParameters
    memory: dict[str, Tensor]

    def rows(self, n: tuple[slice, ...], z: Tensor, out: Tensor | None) -> Tensor | None:
        """ℓ of the rows of a block, and their gradient in ``out``; None, with z unchanged, if it has extremes."""
        at = (n[0], slice(None), *n[1:])
        weight, factor, share = (x[at] if isinstance(x, Tensor) and x.dim() else x for x in self[1:4])
        block = self._replace(y=self.y[at], weight=weight, factor=factor, share=share)
        smooth = isinstance(share, Tensor) or share > 0.0
        loss = block._smoothed(z, out) if smooth else block._hard(z, out)
        return None if loss is None else loss.squeeze(1)

    def _hard(self, z: Tensor, out: Tensor | None) -> Tensor | None:
        params, y = self.params, self.y
        if params.offset is not None and self._is_small(z):
            moved = torch.add(z, class_view(params.offset, z.dim()), out=self._like(z, "shifted"))
            e = self._exponentials(moved, z, out)
        elif is_affine(params):
            e = self._exponentials(affine(z, y, params, self._like(z, "shifted")), z, out)
        elif z.dtype != accumulation_dtype(z):
            e = self._exponentials(self._like(z, "shifted").copy_(z), z, out)
        else:
            e = self._exponentials(z, z, out)
        own, rest = self._own_and_rest(e)
        if _underflows(own):
            return None
        nll, whole = torch.log1p(rest / own), rest + own
        slope: Tensor | float
        if isinstance(params.gamma, Tensor) or params.gamma != 0.0 or params.poly != 0.0:
            loss, slope = loss_and_slope(nll, rest / whole, own / whole, of_target(params.gamma, y), params.poly)
            slope = slope * self.weight
        else:
            loss, slope = nll, self.weight
        if out is not None:
            k = slope * self.factor / whole
            e.mul_(k)
            e.scatter_(1, y, (rest * k).neg_())
            self._write(e, out)
        return loss * self.weight

    def _smoothed(self, z: Tensor, out: Tensor | None) -> Tensor | None:
        params, y = self.params, self.y
        small = params.offset is None and self._is_small(z)
        d = z if small else shifted(z, y, params, self._like(z, "shifted"))
        w, classes = params.weight, z.shape[1]
        sum_w = float(classes) if w is None else w.sum()
        side = (
            d.sum(1, keepdim=True)
            if w is None
            else (torch.matmul(w, d) if d.dim() > 2 else torch.mv(d, w)).unsqueeze(1)
        )
        if not bool(side.amin() > -torch.inf):
            return None
        own_d = d.gather(1, y)
        e = self._exponentials(d, z, out, bounded=True)
        own, rest = self._own_and_rest(e)
        if _underflows(own):
            return None
        nll = torch.log1p(rest / own)
        spread = self.share / classes
        weight = self.weight
        mass = weight * (1.0 - self.share) + spread * sum_w
        loss = weight * (1.0 - self.share) * nll + spread * (sum_w * (nll + own_d) - side)
        if out is not None:
            k = self.factor * mass / (rest + own)
            uniform = self.factor * spread
            e.mul_(k).sub_(uniform if w is None else uniform * class_view(w, e.dim()))
            e.scatter_(1, y, uniform * (sum_w - weight) - rest * k)
            self._write(e, out)
        return loss

    def _is_small(self, z: Tensor) -> bool:
        """Whether sums of z, and an offset added to it, keep their digits without subtracting the maximum first."""
        params = self.params
        if z.dtype != accumulation_dtype(z) or is_affine(params._replace(offset=None)):
            return False
        low, high = z.aminmax()
        return bool(low >= -_SMALL) and bool(high <= _SMALL)

    def _exponentials(self, d: Tensor, z: Tensor, out: Tensor | None, bounded: bool = False) -> Tensor:
        """e^d of each row up to a factor, in ``out`` if it has the dtype and other memory than z."""
        free = out is not None and out.dtype == d.dtype and out.data_ptr() != z.data_ptr()
        e = out if free else self._like(z, "exponentials")
        if d.dim() == 2 and d.shape[1] >= _FEW_CLASSES:
            return torch.softmax(d, 1, out=e)
        if not bounded:
            low, high = d.aminmax()
            if not (bool(low >= -_BOUND) and bool(high <= _BOUND)):
                return torch.sub(d, d.amax(1, keepdim=True), out=e).exp_()
        return torch.exp(d, out=e)

    def _own_and_rest(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """e of the target, which is set to 0, and the sum over the other classes."""
        own = e.gather(1, self.y)
        e.scatter_(1, self.y, torch.zeros_like(own))
        if e.dim() > 2 or e.shape[1] >= _FEW_CLASSES:
            return own, e.sum(1, keepdim=True)
        return own, torch.mv(e, e.new_ones(e.shape[1])).unsqueeze(1)  # `sum` over few elements is slower

    def _write(self, gradient: Tensor, out: Tensor) -> None:
        if self.params.class_scale is not None:
            gradient.mul_(class_view(self.params.class_scale, gradient.dim()))
        if gradient is not out:
            out.copy_(gradient)

    def _like(self, z: Tensor, name: str) -> Tensor:
        """Memory with the shape of a block, kept for the next one."""
        kept = self.memory.get(name)
        if kept is None or kept.numel() < z.numel():
            kept = self.memory[name] = torch.empty(z.numel(), dtype=accumulation_dtype(z), device=z.device)
        return kept[: z.numel()].view(z.shape)


def index_blocks(
    z: Tensor, target: Tensor, coefficient: Tensor | None, params: SoftmaxParameters, ignore_index: int
) -> IndexBlocks | None:
    """`IndexBlocks` of logits (N, C) or (N, C, L), target (N,) or (N, L) and coefficient like it, a number or None.

    None if an index is out of range, or smoothing is combined with what its closed form does not have.
    """
    smooth = isinstance(params.label_smoothing, Tensor) or params.label_smoothing > 0.0
    if smooth and not _can_smooth(z.shape[1], params):
        return None
    valid = None
    low, high = (int(x) for x in target.aminmax())
    if low < 0 or high >= z.shape[1] or 0 <= ignore_index < z.shape[1]:
        valid = target != ignore_index
        target = target * valid
        low, high = (int(x) for x in target.aminmax())
        if low < 0 or high >= z.shape[1]:
            return None
    y = target.unsqueeze(1)
    weight = 1.0 if params.weight is None else params.weight.index_select(0, y.flatten()).view(y.shape)
    share = of_target(params.label_smoothing, y)
    if valid is not None:
        kept = valid.unsqueeze(1).to(accumulation_dtype(z))  # a boolean times a number would be float32
        weight, share = kept * weight, kept * share
    factor: Tensor | float = params.scale
    if coefficient is not None:
        factor = coefficient * params.scale
        factor = factor.unsqueeze(1) if factor.dim() else factor
    return IndexBlocks(y, weight, factor, share if smooth else 0.0, params, {})


def _can_smooth(classes: int, params: SoftmaxParameters) -> bool:
    """Whether the closed form with label smoothing holds, and keeps its digits."""
    if isinstance(params.gamma, Tensor) or params.gamma != 0.0 or params.poly != 0.0 or classes < 2:
        return False
    if params.weight is None:
        return True
    largest = params.weight.max()
    return bool(largest <= _DOMINANT * (params.weight.sum() - largest))


def _underflows(own: Tensor) -> bool:
    """Whether the value of a target is too small for the quotients of its row, or NaN."""
    return not bool(own.amin() > _SMALLEST)
