"""Loss of a class tree: at each inner node on a sample's path, the softmax loss over that node's children."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import check_options, hyperparameters
from counterpoise.hierarchy.decoding import segment_log_softmax
from counterpoise.hierarchy.tree import ClassTree
from counterpoise.kernels.reduction import Reduction, denominator, reduced
from counterpoise.losses.arguments import Vector, also_named, checked_arguments
from counterpoise.losses.base import SettableModule
from counterpoise.losses.targets import checked_index_target, checked_logits, checked_row_vector, with_batch_dimension

_TABLE = hyperparameters("loss", "hierarchical")
Balance = Literal["plain", "weighted", "logit-adjusted"]


class HierarchicalLoss(SettableModule):
    """Loss of a class tree as a module; what it derives from the tree is computed once.

    Args:
        tree: the class tree.
        class_counts: training images per class; counts with names are matched by name. Needed unless "plain".
        balance: "plain"; "weighted" weighs each child by ``n_node / (K n_child)``, K the number of children with
            images; "logit-adjusted" adds ``log(n_child / n_node)`` to its logit.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed sample weight), "batchmean" (over the rows), "sum" or "none".

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used, or missing counts; the message names it.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> HierarchicalLoss(tree=from_paths(["a/x", "a/y", "b"]))(torch.zeros(1, 4), torch.tensor([0]))  # 2 log 2
        tensor(1.3863)
    """

    def __init__(
        self,
        *,
        tree: ClassTree,
        class_counts: CountsLike | None = None,
        balance: Balance = "plain",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_options("loss", "hierarchical", {"balance": balance, "reduction": reduction})
        self._tree, self.defaults = tree, {"ignore_index": -100, "reduction": "mean"}
        self.ignore_index, self.reduction = ignore_index, reduction
        weight, offset = _balance(tree, class_counts, balance)
        for name, value in {"weight": weight, "offset": offset, "segments": tree.segments, "paths": tree.paths}.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    ignore_index: int
    reduction: Reduction
    weight: Tensor
    offset: Tensor
    segments: Tensor
    paths: Tensor

    @property
    def tree(self) -> ClassTree:
        """The class tree that the module was made for."""
        return self._tree

    def _checked(self, name: str, value: Any) -> Any:
        return checked_arguments({name: value}, _TABLE)[name]

    @also_named(input="logits")
    def forward(self, logits: Tensor, target: Tensor, *, sample_weight: Vector | None = None) -> Tensor:
        """Edge logits ``(N, E)`` and class indices ``(N,)``, or ``(E,)`` and one index, to the loss."""
        tree = self.tree
        unbatched, logits, target = with_batch_dimension(logits, target)
        logits = checked_logits(logits)
        if logits.shape[1:] != (tree.num_edges,):
            raise ArgumentError(f"`logits` must have shape (N, {tree.num_edges}); got {tuple(logits.shape)}")
        if target.shape != logits.shape[:1]:
            raise ArgumentError(f"`target` must have shape ({len(logits)},); got {tuple(target.shape)}")
        # A tree has at least as many edges as classes: the slice only says how many classes there are.
        target = checked_index_target(target, logits[:, : tree.num_classes], self.ignore_index)
        valid = target != self.ignore_index
        z = logits if logits.dtype == torch.float64 else logits.float()
        losses = -segment_log_softmax(z + self.offset.to(z), self.segments, len(tree.starts)) * self.weight.to(z)
        path = self.paths[torch.where(valid, target, 0)]
        # The column E of zeros is where paths that are shorter end.
        summed = nn.functional.pad(losses, (0, 1)).gather(1, path).sum(1)
        u = checked_row_vector(sample_weight, z)
        mass = denominator(target, valid, self.reduction, None, u, z.dtype)
        values = torch.where(valid, summed if u is None else summed * u, 0.0)
        loss = reduced(values, self.reduction, None if self.reduction == "sum" else mass)
        return loss.squeeze(0) if unbatched and self.reduction == "none" else loss


@also_named(input="logits")
def hierarchical_loss(
    logits: Tensor,
    target: Tensor,
    *,
    tree: ClassTree,
    class_counts: CountsLike | None = None,
    balance: Balance = "plain",
    ignore_index: int = -100,
    sample_weight: Vector | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Sum, over the inner nodes on each sample's path, of the softmax loss over that node's children.

    A child without images has weight 0 and offset 0, so that the loss is finite whichever classes are absent.

    Args:
        logits: ``(N, E)``, one per edge of the tree, as `counterpoise.models.HierarchicalHead` gives.
        target: ``(N,)`` class indices in the order of ``tree.classes``, any integer dtype.
        tree: the class tree.
        class_counts: training images per class; counts with names are matched by name. Needed unless "plain".
        balance: "plain"; "weighted" weighs each child by ``n_node / (K n_child)``, K the number of children with
            images; "logit-adjusted" adds ``log(n_child / n_node)`` to its logit.
        ignore_index: rows with this target are left out.
        sample_weight: ``(N,)`` weight of each row, at least 0.
        reduction: "mean" (over the summed sample weight), "batchmean" (over the rows), "sum" or "none".

    Returns:
        A scalar, or ``(N,)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used, or missing counts; the message names it.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> tree = from_paths(["a/x", "a/y", "b"])
        >>> hierarchical_loss(torch.zeros(1, 4), torch.tensor([2]), tree=tree)  # only the root: log 2
        tensor(0.6931)
    """
    loss = HierarchicalLoss(
        tree=tree, class_counts=class_counts, balance=balance, ignore_index=ignore_index, reduction=reduction
    )
    value: Tensor = loss.to(logits.device)(logits, target, sample_weight=sample_weight)
    return value


def _balance(tree: ClassTree, counts: CountsLike | None, balance: Balance) -> tuple[np.ndarray, np.ndarray]:
    """Weight and offset of each edge."""
    ones, zeros = np.ones(tree.num_edges), np.zeros(tree.num_edges)
    if balance == "plain":
        return ones, zeros
    if counts is None:
        raise ArgumentError(f"`class_counts` is needed for `balance`={balance!r}")
    nodes = tree.node_counts(_in_order(tree, counts)).astype(np.float64)
    share = nodes[1:] / np.maximum(nodes[tree.parents[1:]], 1.0)
    present = share > 0
    if balance == "logit-adjusted":
        return ones * present, np.log(np.where(present, share, 1.0))
    siblings = np.bincount(tree.segments, weights=present)[tree.segments]
    return np.where(present, 1.0 / np.where(present, share * siblings, 1.0), 0.0), zeros


def _in_order(tree: ClassTree, counts: CountsLike) -> np.ndarray:
    """The counts in the order of the tree's classes; counts with names are matched by name."""
    named = hasattr(counts, "names") or hasattr(counts, "keys")
    counts = ClassCounts(counts)
    if not named or set(counts.names) == {str(i) for i in range(len(counts))} != set(tree.classes):
        return counts.counts
    if set(counts.names) != set(tree.classes):
        raise ArgumentError(f"`class_counts` names {sorted(set(counts.names) ^ set(tree.classes))} do not fit the tree")
    where = {name: index for index, name in enumerate(counts.names)}
    return counts.counts[[where[name] for name in tree.classes]]
