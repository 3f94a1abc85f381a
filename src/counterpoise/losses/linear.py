"""Head and loss in one: the softmax equation of a linear layer's output that never exists as a whole."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.kernels.dispatch import chosen_implementation
from counterpoise.kernels.linear import Head, linear_softmax
from counterpoise.kernels.reduction import Batch
from counterpoise.losses.arguments import (
    checked_choice,
    checked_logits,
    checked_normalizer,
    checked_row_vector,
    checked_target,
    checked_tensor,
    warn_if_massless,
)
from counterpoise.losses.letters import softmax_terms
from counterpoise.losses.options import IMPLS, REDUCTIONS, SoftmaxOptions
from counterpoise.losses.softmax import softmax_loss

__all__ = ["linear_softmax_loss"]

_OF_A_BATCH = ("sample_weight", "ignore_index", "reduction", "normalizer", "impl")


def linear_softmax_loss(
    hidden: Tensor,
    head_weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    **options: Unpack[SoftmaxOptions],
) -> Tensor:
    """`softmax_loss` of ``hidden @ head_weight.T + bias`` without the logits in memory, a chunk of rows at a time.

    Value and gradient are exact; no small gradient is dropped. A preset's letters are ``.keywords`` of its module:
    ``linear_softmax_loss(h, w, y, **BalancedSoftmaxLoss(class_counts=n).keywords)``. Under autocast the head runs in
    the dtype of autocast, as a linear layer would. `impl="reference"`, and "auto" where a letter requires a gradient,
    hold the logits as a whole.

    Args:
        hidden: ``(N, D)``, any floating dtype.
        head_weight: ``(C, D)``, the weight of the linear layer.
        target: ``(N,)`` class indices of any integer dtype, or ``(N, C)`` probabilities.
        bias: ``(C,)``, or None.
        options: the keywords of `softmax_loss`.

    Returns:
        A scalar, or ``(N,)`` for "none" (which computes the logits twice); float32, or float64 for float64.

    Raises:
        ArgumentError: a shape, value or choice that cannot be used; the message names the argument.
        ArgumentTypeError: an argument of the wrong type.
        UnsupportedError: a form asked for by name that cannot run here.

    Example:
        >>> import torch
        >>> hidden, head = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> linear_softmax_loss(hidden, head, torch.tensor([0]))  # log(1 + e^-2)
        tensor(0.1269)
    """
    reduction, impl = options.get("reduction", "mean"), options.get("impl", "auto")
    checked_choice("reduction", reduction, REDUCTIONS)
    checked_choice("impl", impl, IMPLS)
    if options.pop("inplace", False):
        raise ArgumentError("`inplace` must be False: there are no logits in memory to write over")
    head = _autocast(_checked_head(hidden, head_weight, bias))
    like = checked_logits(head.hidden.new_empty(()).expand(len(hidden), len(head_weight)))  # no memory
    ignore_index = options.get("ignore_index", -100)
    target = checked_target(target, like, ignore_index)
    terms = softmax_terms(like, **{k: v for k, v in options.items() if k not in _OF_A_BATCH})  # type: ignore[arg-type]
    u = checked_row_vector(options.get("sample_weight"), like)
    normalizer = checked_normalizer(options.get("normalizer"), reduction, like)
    implementation = chosen_implementation(impl, "softmax", like, (target, u, normalizer, *terms))
    if implementation == "reference":
        logits = torch.nn.functional.linear(head.hidden, head.weight, head.bias)
        options["impl"] = "reference"
        return softmax_loss(logits, target, **options)
    if reduction == "mean" and normalizer is None:
        warn_if_massless(target, ignore_index, terms.weight, u)
    batch = Batch(target, u, ignore_index, reduction, normalizer)
    with torch.autocast(like.device.type, enabled=False):
        return linear_softmax(head, like, batch, terms, impl=impl, implementation=implementation)


def _checked_head(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Head:
    for name, tensor in (("hidden", hidden), ("head_weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        checked_tensor(name, tensor)
        if not tensor.is_floating_point():
            raise ArgumentTypeError(f"`{name}` must be floating point; got {tensor.dtype}")
        if tensor.device != hidden.device:
            raise ArgumentError(f"`{name}` must be on the device of `hidden` {hidden.device}; it is on {tensor.device}")
    if hidden.dim() != 2:
        raise ArgumentError(f"`hidden` must have shape (N, D); got {tuple(hidden.shape)}")
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[1] or not len(weight):
        raise ArgumentError(
            f"`head_weight` must have shape (C, {hidden.shape[1]}) for `hidden` of shape {tuple(hidden.shape)}; "
            f"got {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ArgumentError(f"`bias` must have shape ({len(weight)},); got {tuple(bias.shape)}")
    return Head(hidden, weight, bias)


def _autocast(head: Head) -> Head:
    """All in one dtype: that of autocast, as `torch.nn.functional.linear` would have it, or that of ``hidden``."""
    device = head.hidden.device.type
    dtype = head.hidden.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return Head(*(None if x is None else x.to(dtype) for x in head))  # type: ignore[arg-type]
