"""The sigmoid equation for blocks of labels 0 and 1 on a CPU: one logarithm and one sigmoid per element.

Without a probability margin, and with one focusing parameter γ, positives and negatives have the same loss f of

    s = (1 − 2t)·z,    f = σ(s)^γ log(1 + e^s),    ∂f/∂s = σ(s)^γ [σ(s) + γ (1 − σ(s)) log(1 + e^s)]

so that labels of any share of positives take the same time, and none is selected or masked. With a margin m, the loss
is f = q^γ (−log(1 − q)) with q = max(σ(s) − m, 0) and γ⁻ for negatives, and q = σ(s) and γ⁺ for positives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.autograd import power
from counterpoise.kernels.reduction import accumulation_dtype, class_view
from counterpoise.kernels.reference import SigmoidParameters

# From here on torch takes s for log(1 + e^s); its default of 20 is meant for float32.
_LINEAR = 50.0
_FILLED = 64
# Beyond it, the probability of a label may underflow, and −log p is not computed from it.
_LARGEST = 80.0


class LabelBlocks(NamedTuple):
    """What the blocks of a batch share: hyperparameters, a number for loss and gradient, and memory."""

    params: SigmoidParameters
    factor: float
    memory: dict[str, Tensor]

    def loss_and_slope(self, z: Tensor, target: Tensor, out: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Loss and derivative of each element times ``factor``; None, with z unchanged, if a label is not 0 or 1.

        The next block overwrites both. The derivative is in ``out`` where possible.
        """
        loss, t = self._like(z, "loss"), target
        t = t if t.dtype == loss.dtype else self._like(z, "labels").copy_(t)
        low, high = torch.addcmul(t, t, t, value=-1.0, out=loss).aminmax()
        if not (bool(low == 0.0) and bool(high == 0.0)):
            return None
        sign, s = torch.add(t.new_ones(()), t, alpha=-2.0, out=self._like(z, "sign")), self._like(z, "argument")
        s = torch.mul(z if z.dtype == s.dtype else s.copy_(z), sign, out=s)
        free = out is not None and out.dtype == s.dtype and out.is_contiguous()
        memory = out if out is not None and free else self._like(z, "slope")
        if self.params.clip > 0.0:
            if not bool(s.amax() <= _LARGEST):
                return None
            slope = self._with_margin(s, t, loss, memory)
        else:
            slope = self._without_margin(s, loss, memory)
        self._weigh(t, sign, loss, slope)
        return loss, slope

    def _without_margin(self, s: Tensor, loss: Tensor, out: Tensor) -> Tensor:
        """f, written to ``loss``, and ∂f/∂s, to ``out``."""
        gamma = self.params.gamma_pos
        torch._C._nn.softplus(s, 1.0, _LINEAR, out=loss)  # type: ignore[call-arg]
        slope = torch.sigmoid(s, out=out)
        if gamma == 0.0:
            return slope
        focus = power(slope, gamma) if gamma != 1.0 else slope.clone()
        if not self.params.detach_focus:
            # 1 − σ may cancel near σ = 1, where it is negligible beside σ.
            slope.addcmul_(torch.sub(slope.new_ones(()), slope, out=s), loss, value=gamma)
        loss.mul_(focus)
        return slope.mul_(focus)

    def _with_margin(self, s: Tensor, t: Tensor, loss: Tensor, out: Tensor) -> Tensor:
        """The same with a margin for negatives, and with the focus as a constant in the derivative; overwrites s."""
        params, one = self.params, t.new_ones(())
        p, rest = torch.sigmoid(s, out=out), s.neg_().sigmoid_()
        margin = torch.add(params.clip * one, t, alpha=-params.clip, out=self._like(t, "margin"))
        one_minus_q = torch.add(rest, margin, out=self._like(t, "one minus q")).clamp_(max=1.0)
        q = torch.sub(p, margin, out=margin).clamp_(min=0.0)
        # −log(1 − q); the product restores what rounding 1 − q has lost of a small q.
        torch.sub(q, torch.sub(one, one_minus_q, out=loss), out=loss).mul_(one_minus_q)
        focus = torch.log(one_minus_q, out=self._like(t, "focus"))
        loss.sub_(focus)
        # Of negatives, 0 where q is 0, also for γ = 0.
        negative = q.sign() if params.gamma_neg == 0.0 else power(q, params.gamma_neg)
        torch.lerp(negative, power(q, params.gamma_pos), t, out=focus)
        loss.mul_(focus)
        return p.mul_(rest).mul_(focus).div_(one_minus_q)

    def _weigh(self, t: Tensor, sign: Tensor, loss: Tensor, slope: Tensor) -> None:
        """Multiply the loss by the weights and the factor, and the derivative by them and by ∂s/∂z = 1 − 2t."""
        params = self.params
        alphas = params.pos_weight, params.neg_weight
        if params.weight is None and not any(isinstance(alpha, Tensor) for alpha in alphas) and alphas[0] == alphas[1]:
            number = self.factor * alphas[0]
            if number != 1.0:
                loss.mul_(number)
                sign.mul_(number)
        else:
            sign = torch.lerp(self._ends(t, "negative", 1.0), self._ends(t, "positive", -1.0), t, out=sign)
            loss.mul_(sign).abs_()
        slope.mul_(sign)

    def _ends(self, t: Tensor, name: str, sign: float) -> Tensor:
        """w α⁺ or w α⁻ of each element, times factor and sign; kept for blocks of this shape or with fewer rows."""
        known = self.memory.get(name)
        if known is None or known.shape[1:] != t.shape[1:] or len(known) < len(t):
            alpha = self.params.pos_weight if name == "positive" else self.params.neg_weight
            weight = alpha * (1.0 if self.params.weight is None else self.params.weight) * (sign * self.factor)
            values = torch.as_tensor(class_view(weight, t.dim()), dtype=t.dtype)
            # A few rows first: copies of long contiguous pieces are faster than of C elements each.
            rows = min(_FILLED, len(t))
            few = values.expand(rows, *t.shape[1:]).reshape(1, -1)
            known = few.repeat(-(-len(t) // rows), 1).view(-1, *t.shape[1:])
            self.memory[name] = known
        return known[: len(t)]

    def _like(self, z: Tensor, name: str) -> Tensor:
        """Memory with the shape of a block, kept for the next one."""
        kept = self.memory.get(name)
        if kept is None or kept.numel() < z.numel():
            kept = self.memory[name] = torch.empty(z.numel(), dtype=accumulation_dtype(z))
        return kept[: z.numel()].view(z.shape)


def label_blocks(
    z: Tensor, target: Tensor, params: SigmoidParameters, ignore_index: int, factor: float
) -> LabelBlocks | None:
    """`LabelBlocks` of a batch with labels of the logits' shape; None if positives and negatives differ by more."""
    alike = params.detach_focus if params.clip > 0.0 else params.gamma_pos == params.gamma_neg
    possible = alike and ignore_index not in (0, 1) and target.dim() == z.dim() and not _has_negative_weight(params)
    return LabelBlocks(params, factor, {}) if possible else None


def _has_negative_weight(params: SigmoidParameters) -> bool:
    """Whether a weight is below 0, which `checks("never")` allows, but the losses of `LabelBlocks` have no sign."""
    weights = (params.weight, params.pos_weight, params.neg_weight)
    return any(bool((w < 0).any()) if isinstance(w, Tensor) else w is not None and w < 0 for w in weights)
