"""The general softmax loss of the output of a linear layer, without holding the logits in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.kernels.dispatch import Impl, chosen_implementation
from counterpoise.kernels.linear import Head, linear_softmax
from counterpoise.kernels.reduction import Batch, Reduction
from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.losses.arguments import (
    SOFTMAX,
    Vector,
    also_named,
    check_choices,
    checked_normalizer,
    parameters_for,
)
from counterpoise.losses.softmax import softmax_loss
from counterpoise.losses.targets import (
    check_tensor,
    check_unmasked,
    checked_logits,
    checked_row_vector,
    checked_target,
    warn_if_no_weight,
)


@also_named(input="hidden", linear_weight="head_weight", linear_bias="bias")
def linear_softmax_loss(
    hidden: Tensor, head_weight: Tensor, target: Tensor, *, bias: Tensor | None = None,
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None,
    gamma: float | Vector = 0.0, poly: float = 0.0, label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
    reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """`softmax_loss` of ``hidden @ head_weight.T + bias``, computed a chunk of rows at a time.

    The logits are never in memory as a whole. Value and gradient are exact; no small gradient is dropped. The
    hyperparameters of a named loss are ``.keywords`` of its module:
    ``linear_softmax_loss(h, w, y, **BalancedSoftmaxLoss(class_counts=n).keywords)``. Under autocast the head runs in
    the dtype of autocast, as a linear layer does. "auto" takes the reference if a hyperparameter requires a gradient.

    Args:
        hidden: ``(N, D)`` inputs of the linear layer, any floating dtype.
        head_weight: ``(C, D)`` weight of the linear layer.
        target: ``(N,)`` class indices of any integer dtype, or ``(N, C)`` probabilities.
        bias: ``(C,)`` bias of the linear layer, or None.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N,)`` weight of each row, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton"; the reference holds all logits in memory.
        inplace: must be False, because there are no logits in memory to write over.

    Returns:
        A scalar, or ``(N,)`` for "none" (which computes the logits twice); float32, or float64 for float64.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.
        UnsupportedError: `impl` names an implementation that cannot run on these tensors.

    Example:
        >>> import torch
        >>> hidden, head = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> linear_softmax_loss(hidden, head, torch.tensor([0]))  # log(1 + e^-2)
        tensor(0.1269)
    """
    check_choices(SOFTMAX, reduction, impl)
    if inplace:
        raise ArgumentError("`inplace` must be False: there are no logits in memory to write over")
    head = _autocast(_checked_head(hidden, head_weight, bias))
    like = checked_logits(head.hidden.new_empty(()).expand(len(hidden), len(head_weight)))  # no memory
    target = checked_target(target, like, ignore_index)
    parameters = SoftmaxParameters(**parameters_for(like, SOFTMAX, {
        "weight": weight, "offset": offset, "class_scale": class_scale, "scale": scale, "margin": margin,
        "gamma": gamma, "poly": poly, "label_smoothing": label_smoothing,
    }))
    check_unmasked(target, ignore_index, head.bias, parameters.offset)  # there are no logits to read
    u = checked_row_vector(sample_weight, like)
    normalizer = checked_normalizer(normalizer, reduction, like.device)
    implementation = chosen_implementation(impl, "softmax", like, (target, u, normalizer, *parameters))
    if implementation == "reference":
        logits = torch.nn.functional.linear(head.hidden, head.weight, head.bias)
        return softmax_loss(
            logits, target, **parameters._asdict(), sample_weight=u, ignore_index=ignore_index, reduction=reduction,
            normalizer=normalizer, impl="reference",
        )
    if reduction == "mean" and normalizer is None:
        warn_if_no_weight(target, ignore_index, parameters.weight, u)
    batch = Batch(target, u, ignore_index, reduction, normalizer)
    with torch.autocast(like.device.type, enabled=False):
        return linear_softmax(head, like, batch, parameters, impl=impl, implementation=implementation)


def _checked_head(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Head:
    """The head, with devices, dtypes and shapes that fit together."""
    for name, tensor in (("hidden", hidden), ("head_weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        check_tensor(name, tensor)
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
    """The head in one dtype: that of autocast, as in `torch.nn.functional.linear`, or that of ``hidden``."""
    device = head.hidden.device.type
    dtype = head.hidden.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return Head(*(None if x is None else x.to(dtype) for x in head))  # type: ignore[arg-type]
