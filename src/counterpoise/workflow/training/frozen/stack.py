"""Many heads on the same features, trained together: those that share a batch share its matrix product."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoise.kernels.reduction import Reduction, row_mass, safe_divide
from counterpoise.models import CosineHead
from counterpoise.workflow.training.data import EpochBatches
from counterpoise.workflow.training.transforms import Mixing

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Hyperparameters of AdamW, the defaults of PyTorch."""


class FeatureTensors:
    """Standardised features of the images of one split, with V augmented views of each.

    Args:
        values: floating point ``(N, 1 + V, D)``, perhaps a memory map.
        labels: class ids ``(N,)``.
        mean: float32 ``(D,)``, subtracted from the features.
        scale: float32 ``(D,)``, by which they are then divided.
        dtype: of the standardised features.
        device: of the batches.
        in_memory: standardise all features at once; otherwise those of a batch when it is drawn.

    Attributes:
        labels: int64 ``(N,)`` on the device.
    """

    def __init__(
        self,
        values: NDArray[np.floating[Any]],
        labels: NDArray[np.int64],
        *,
        mean: Tensor,
        scale: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        in_memory: bool = True,
    ) -> None:
        self._raw, self.dtype, self.device = values, dtype, torch.device(device)
        self._mean, self._scale = mean.double(), scale.double()
        self.labels = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
        self._ready: Tensor | None = None
        if in_memory:
            self._ready = torch.empty(values.shape, dtype=dtype, device=device)
            for start in range(0, len(values), _CHUNK):
                rows = slice(start, start + _CHUNK)
                self._ready[rows] = self._standardized(values[rows])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def views(self) -> int:
        """V, the number of augmented views."""
        return int(self._raw.shape[1]) - 1

    def batch(self, rows: Tensor, view: Tensor | None = None) -> Tensor:
        """Features ``(B, D)`` of the views ``(B,)`` of some images; None is the image without augmentation."""
        if self._ready is not None:
            return self._ready[rows, 0 if view is None else view]
        return self._standardized(self._raw[rows.cpu().numpy(), 0 if view is None else view.cpu().numpy()])

    def chunks(self) -> Iterator[Tensor]:
        """The features of all images without augmentation, in order, some thousand at a time."""
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            yield self._standardized(self._raw[rows, 0]) if self._ready is None else self._ready[rows, 0]

    def _standardized(self, values: NDArray[np.floating[Any]]) -> Tensor:
        # In double precision on the CPU: not every device has it.
        part = (torch.from_numpy(np.array(values, dtype=np.float64)) - self._mean) / self._scale
        return part.to(self.dtype).to(self.device)


_CHUNK = 4096
"""Images that are standardised at a time."""


@dataclass(frozen=True)
class ViewChoice:
    """Which view of an image a step sees: uniform over all, or an augmented one with a probability by class.

    Attributes:
        views: V, the number of augmented views.
        strength: ``(C,)`` in [0, 1], the probability of an augmented view for the images of each class; None for
            uniform.
    """

    views: int
    strength: Tensor | None = None

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor | None:
        """The view ``(B,)`` of each image of a batch."""
        if self.views == 0:
            return None
        size = (len(labels),)
        if self.strength is None:
            return torch.randint(self.views + 1, size, generator=generator).to(labels.device)
        augmented = torch.rand(size, generator=generator).to(labels.device) < self.strength.to(labels.device)[labels]
        return torch.where(augmented, 1 + torch.randint(self.views, size, generator=generator).to(labels.device), 0)


class HeadLoss:
    """The loss of one strategy for many heads at once: logits ``(P, B, K, O)`` of P batches → losses ``(P, K)``.

    Args:
        loss: the loss module of the strategy; its reduction is replaced by "none".
        family: "softmax", "sigmoid" or "hierarchical", which decides by what "mean" divides.
    """

    def __init__(self, loss: nn.Module, family: str) -> None:
        self.loss, self.family = loss, family
        self.reduction = cast("Reduction", loss.reduction)
        loss.reduction = "none"  # type: ignore[assignment]

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each head; ``target`` is ``(P, B)`` class ids or ``(P, B, C)`` probabilities."""
        batches, size, heads, outputs = logits.shape
        flat = target.flatten(0, 1)
        rows = self.loss(logits.reshape(-1, outputs), flat.repeat_interleave(heads, dim=0))
        totals: Tensor = rows.view(batches, size, heads, -1).sum((1, 3))
        return safe_divide(totals, self._denominator(flat, batches, outputs, totals.dtype))

    def _denominator(self, target: Tensor, batches: int, outputs: int, dtype: torch.dtype) -> Tensor | float:
        """By what the sum over a batch is divided: ``(P, 1)``, or a number."""
        if self.reduction == "sum":
            return 1.0
        weight = cast("Tensor | None", getattr(self.loss, "weight", None))
        if self.family == "softmax" and self.reduction == "mean" and weight is not None:
            valid = torch.ones(len(target), dtype=torch.bool, device=target.device)
            return row_mass(target, valid, weight, None, dtype).view(batches, -1).sum(1, keepdim=True)
        elements = outputs if self.family == "sigmoid" and self.reduction == "mean" else 1
        return float(len(target) // batches * elements)


@dataclass(frozen=True)
class Batch:
    """One step of a group: its logits ``(B, K, O)`` and the target of the loss."""

    logits: Tensor
    target: Tensor


@dataclass
class HeadGroup:
    """Heads of one shape that see the same batches, with the state of AdamW.

    Attributes:
        weight: ``(K, O, D)``.
        bias: ``(K, O)``; None for cosine heads.
        rates: ``(K,)``, the highest learning rate of each head; 0 stops the training of a head.
        decays: ``(K,)``, weight decay.
        batches: image indices of every step of an epoch.
        schedule: steps since the start of the stage → learning rate as a share of the highest.
        views: which view of an image a step sees.
        mix: mixes the features of a batch; None for no mixing.
        seed: of the views and of the mixing.
    """

    weight: Tensor
    bias: Tensor | None
    rates: Tensor
    decays: Tensor
    batches: EpochBatches
    schedule: Callable[[int], float]
    views: ViewChoice
    mix: Mixing | None
    seed: int
    first_step: int = 0
    moments: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart(first_step=self.first_step)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The tensors that are trained."""
        return {"weight": self.weight} if self.bias is None else {"weight": self.weight, "bias": self.bias}

    def restart(self, *, first_step: int) -> None:
        """Begin a stage of training: the schedule and the moments of AdamW start anew."""
        self.first_step = first_step
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(True)
            self.moments[f"{name}.first"] = torch.zeros_like(parameter, requires_grad=False)
            self.moments[f"{name}.second"] = torch.zeros_like(parameter, requires_grad=False)

    def logits(self, features: Tensor) -> Tensor:
        """Features ``(B, D)`` → ``(B, K, O)``."""
        heads, outputs, width = self.weight.shape
        if self.bias is None:
            features, weight = F.normalize(features, dim=1), F.normalize(self.weight, dim=2)
            return (features @ weight.view(heads * outputs, width).T).view(-1, heads, outputs)
        flat = self.weight.view(heads * outputs, width)
        return F.linear(features, flat, self.bias.view(-1)).view(-1, heads, outputs)

    def forward(self, images: FeatureTensors, rows: Tensor, step: int) -> Batch:
        """Draw the views of some images, mix them, and compute the logits of all heads."""
        generator = torch.Generator().manual_seed(_entropy(self.seed, step))
        labels = images.labels[rows]
        features, target = images.batch(rows, self.views.draw(labels, generator)), labels
        if self.mix is not None:
            features, target = self.mix(features, labels, generator)
        return Batch(self.logits(features), target)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """AdamW (Loshchilov and Hutter, ICLR 2019) with the learning rate and the weight decay of each head."""
        since = step - self.first_step
        rate = self.rates * self.schedule(since)
        kept = 1 - rate * self.decays
        first_bias, second_bias = 1 - BETA1 ** (since + 1), 1 - BETA2 ** (since + 1)
        for name, parameter in self.parameters.items():
            gradient = cast("Tensor", parameter.grad)
            first, second = self.moments[f"{name}.first"], self.moments[f"{name}.second"]
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            # The gradient is not needed any more: its memory takes the step.
            torch.sqrt(second, out=gradient)
            gradient.div_(math.sqrt(second_bias)).add_(EPSILON)
            torch.div(first, gradient, out=gradient)
            shape = (-1, *[1] * (parameter.dim() - 1))
            parameter.mul_(kept.view(shape)).addcmul_(gradient, (-rate / first_bias).view(shape))
            parameter.grad = None

    def stop(self, heads: NDArray[np.bool_]) -> None:
        """Set heads to zero and leave them there; for those whose loss is not finite."""
        mask = torch.from_numpy(heads).to(self.weight.device)
        with torch.no_grad():
            for tensor in (*self.parameters.values(), *self.moments.values(), self.rates):
                tensor[mask] = 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that change in training."""
        return {**{k: v.detach() for k, v in self.parameters.items()}, **self.moments, "rates": self.rates}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                tensor.copy_(tensors[name])


def initial_head(width: int, outputs: int, *, seed: int, cosine: bool) -> dict[str, Tensor]:
    """Weight ``(O, D)`` and bias ``(O,)`` of an untrained head: a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: nn.Module = CosineHead(width, outputs) if cosine else nn.Linear(width, outputs)
    return {name: value.detach() for name, value in head.named_parameters()}


def _entropy(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step, 0)).generate_state(1)[0])
