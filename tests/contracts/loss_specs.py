"""The table of loss specifications: every public loss has one row, and every law and contract is generated from it.

A row says how to build the loss for C classes. `test_every_loss_has_a_row` fails for a loss without one.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from counterpoise import losses

# Triton's kernels are compiled on a GPU; without one they run under its interpreter, see conftest.py.
TRITON = importlib.util.find_spec("triton") is not None
FORMS = ("reference", "closed_form", *(["triton"] if TRITON else []))
FUSED = FORMS[1:]

Options = dict[str, Any]


def counts(c: int) -> Tensor:
    """Distinct class counts, largest first: 10·C … 10."""
    return torch.arange(c, 0, -1) * 10


@functools.cache
def placed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss of tensors on the CPU; ``impl="triton"`` computes it on the GPU where there is one."""

    @functools.wraps(function)
    def on_device(logits: Tensor, target: Tensor, **options: Any) -> Tensor:
        if options.get("impl") != "triton" or not torch.cuda.is_available():
            return function(logits, target, **options)
        moved = {
            name: x.cuda() if isinstance(x, Tensor) and name != "class_counts" else x for name, x in options.items()
        }
        return function(logits.cuda(), target.cuda(), **moved).cpu()

    return on_device


class _Placed:
    """`counterpoise.losses`, each function `placed`."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(losses, name)
        return placed(found) if name.endswith(("_loss", "_entropy")) else found


placed_losses = _Placed()


@dataclass(frozen=True)
class LossSpec:
    """One loss: its function, its module, its family, and options for C classes (``per_class`` ones permute).

    A loss with ``one_implementation`` has no argument ``impl``.
    """

    function: Callable[..., Tensor]
    module: type[nn.Module]
    family: Literal["softmax", "sigmoid", "overlap"]
    options: Callable[[int], Options] = field(default=lambda c: {})
    per_class: tuple[str, ...] = ()
    one_implementation: bool = False

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def impls(self) -> tuple[str | None, ...]:
        return (None,) if self.family == "overlap" or self.one_implementation else FORMS

    def loss(self, c: int, impl: str | None, **more: Any) -> Callable[..., Tensor]:
        """The function with its options for C classes; more options go on top."""
        options = {**self.options(c), **({} if impl is None else {"impl": impl}), **more}
        function = placed(self.function)
        return lambda logits, target, **batch: function(logits, target, **{**options, **batch})


SPECS = (
    LossSpec(
        losses.softmax_loss,
        losses.SoftmaxLoss,
        "softmax",
        lambda c: {
            "offset": torch.linspace(-1.0, 1.0, c, dtype=torch.float64),
            "class_scale": torch.linspace(0.5, 1.5, c, dtype=torch.float64),
            "scale": 1.5,
            "margin": torch.linspace(0.0, 0.5, c, dtype=torch.float64),
            "gamma": torch.linspace(0.0, 2.0, c, dtype=torch.float64),
            "poly": 0.5,
            "label_smoothing": torch.linspace(0.1, 0.3, c, dtype=torch.float64),
        },
        per_class=("offset", "class_scale", "margin", "gamma", "label_smoothing"),
    ),
    LossSpec(losses.cross_entropy, losses.CrossEntropyLoss, "softmax"),
    LossSpec(losses.focal_loss, losses.FocalLoss, "softmax", lambda c: {"gamma": 0.5}),
    LossSpec(
        losses.class_balanced_loss,
        losses.ClassBalancedLoss,
        "softmax",
        lambda c: {"class_counts": counts(c), "beta": 0.99, "gamma": 2.0},
        per_class=("class_counts",),
    ),
    LossSpec(
        losses.logit_adjusted_loss,
        losses.LogitAdjustedLoss,
        "softmax",
        lambda c: {"prior": counts(c).double() / counts(c).sum(), "tau": 1.5},
        per_class=("prior",),
    ),
    LossSpec(
        losses.balanced_softmax_loss,
        losses.BalancedSoftmaxLoss,
        "softmax",
        lambda c: {"class_counts": counts(c)},
        per_class=("class_counts",),
    ),
    LossSpec(
        losses.vector_scaling_loss,
        losses.VectorScalingLoss,
        "softmax",
        lambda c: {"class_counts": counts(c)},
        per_class=("class_counts",),
    ),
    LossSpec(
        losses.ldam_loss,
        losses.LDAMLoss,
        "softmax",
        lambda c: {"class_counts": counts(c), "scale": 4.0},
        per_class=("class_counts",),
    ),
    LossSpec(losses.poly_loss, losses.PolyLoss, "softmax", lambda c: {"epsilon": 2.0}),
    LossSpec(
        losses.label_aware_smoothing_loss,
        losses.LabelAwareSmoothingLoss,
        "softmax",
        lambda c: {"class_counts": counts(c)},
        per_class=("class_counts",),
    ),
    LossSpec(losses.asymmetric_softmax_loss, losses.AsymmetricSoftmaxLoss, "softmax", one_implementation=True),
    LossSpec(
        losses.sigmoid_loss,
        losses.SigmoidLoss,
        "sigmoid",
        lambda c: {
            "pos_weight": torch.linspace(1.0, 3.0, c, dtype=torch.float64),
            "neg_weight": torch.linspace(0.5, 1.0, c, dtype=torch.float64),
            "gamma_pos": 0.5,
            "gamma_neg": 2.0,
            "clip": 0.1,
        },
        per_class=("pos_weight", "neg_weight"),
    ),
    LossSpec(losses.binary_cross_entropy, losses.BinaryCrossEntropyLoss, "sigmoid"),
    LossSpec(losses.sigmoid_focal_loss, losses.SigmoidFocalLoss, "sigmoid"),
    LossSpec(losses.asymmetric_loss, losses.AsymmetricLoss, "sigmoid", lambda c: {"detach_focus": False}),
    LossSpec(
        losses.class_balanced_sigmoid_loss,
        losses.ClassBalancedSigmoidLoss,
        "sigmoid",
        lambda c: {"class_counts": counts(c), "beta": 0.99, "gamma": 1.0},
        per_class=("class_counts",),
    ),
    LossSpec(losses.tversky_loss, losses.TverskyLoss, "overlap", lambda c: {"alpha": 0.3, "beta": 0.7, "gamma": 1.5}),
    LossSpec(losses.dice_loss, losses.DiceLoss, "overlap"),
    LossSpec(losses.jaccard_loss, losses.JaccardLoss, "overlap"),
    LossSpec(losses.focal_tversky_loss, losses.FocalTverskyLoss, "overlap"),
)

BY_NAME = {spec.name: spec for spec in SPECS}
EVERY_FORM = [(spec, impl) for spec in SPECS for impl in spec.impls]
EQUATIONS = [(spec, impl) for spec, impl in EVERY_FORM if impl is not None]


def form_id(value: Any) -> str | None:
    """Names the cases of a parametrised test: focal_loss-closed_form."""
    return value.name if isinstance(value, LossSpec) else None


def sample(
    shape: tuple[int, ...], *, seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Logits (N, C, …) and index targets (N, …); every class occurs if there are rows enough."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
    rows = (shape[0], *shape[2:])
    size = int(torch.tensor(rows).prod())
    return logits, (torch.randperm(size, generator=generator) % shape[1]).reshape(rows)


def one_hot(target: Tensor, c: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(N, …) indices to (N, C, …)."""
    return nn.functional.one_hot(target, c).movedim(-1, 1).to(dtype)


def value_and_gradient(
    loss: Callable[..., Tensor], logits: Tensor, target: Tensor, **batch: Any
) -> tuple[Tensor, Tensor]:
    """The loss and the gradient of its sum with respect to the logits."""
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(leaf, target, **batch)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def reductions(spec: LossSpec) -> tuple[str, ...]:
    return ("mean", "sum", "none") if spec.family == "overlap" else ("mean", "batchmean", "sum", "none")
