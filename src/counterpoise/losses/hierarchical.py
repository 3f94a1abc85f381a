"""The joint loss of a class tree: in each inner node on a sample's path, the softmax loss of that node's children."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.decoding import segment_log_softmax
from counterpoise.hierarchy.tree import ClassTree
from counterpoise.kernels.reduction import Reduction, denominator, reduced
from counterpoise.losses.arguments import checked_choice, checked_index_target, checked_logits, checked_row_vector
from counterpoise.losses.options import REDUCTIONS, Vector

__all__ = ["HierarchicalLoss", "hierarchical_loss"]

Balance = Literal["plain", "weighted", "logit-adjusted"]


class HierarchicalLoss(nn.Module):
    """`hierarchical_loss` as a module, same keywords; what it derives from the tree is computed once.

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
        checked_choice("balance", balance, ("plain", "weighted", "logit-adjusted"))
        checked_choice("reduction", reduction, REDUCTIONS)
        self.tree, self.ignore_index, self.reduction = tree, ignore_index, reduction
        weight, offset = _balance(tree, class_counts, balance)
        for name, value in {"weight": weight, "offset": offset, "segments": tree.segments, "paths": tree.paths}.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    weight: Tensor
    offset: Tensor
    segments: Tensor
    paths: Tensor

    def forward(self, logits: Tensor, target: Tensor, *, sample_weight: Vector | None = None) -> Tensor:
        """Edge logits ``(N, E)`` and class indices ``(N,)`` to the loss."""
        tree = self.tree
        logits = checked_logits(logits)
        if logits.shape[1:] != (tree.num_edges,):
            raise ArgumentError(f"`logits` must have shape (N, {tree.num_edges}); got {tuple(logits.shape)}")
        if target.shape != logits.shape[:1]:
            raise ArgumentError(f"`target` must have shape ({len(logits)},); got {tuple(target.shape)}")
        # A tree has at least as many edges as classes: the slice only says how many classes there are.
        target = checked_index_target(target, logits[:, : tree.num_classes], self.ignore_index)
        rows = target != self.ignore_index
        z = logits if logits.dtype == torch.float64 else logits.float()
        losses = -segment_log_softmax(z + self.offset.to(z), self.segments, len(tree.starts)) * self.weight.to(z)
        path = self.paths[torch.where(rows, target, 0)]
        # The column E of zeros is where paths that are shorter end.
        summed = nn.functional.pad(losses, (0, 1)).gather(1, path).sum(1)
        u = checked_row_vector(sample_weight, z)
        mass = denominator(target, rows, self.reduction, None, u, z.dtype)
        values = torch.where(rows, summed if u is None else summed * u, 0.0)
        return reduced(values, self.reduction, None if self.reduction == "sum" else mass)


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
    """The sum, over the inner nodes on each sample's path, of the softmax loss of that node's children.

    Args:
        logits: ``(N, E)``, one per edge of the tree, as `models.HierarchicalHead` gives.
        target: ``(N,)`` class indices in the order of ``tree.classes``.
        tree: the class tree.
        class_counts: images of each class; a mapping or `ClassCounts` is matched by name where it has names.
        balance: "plain"; "weighted": each child by ``n_node / (K n_child)``, K children with images;
            "logit-adjusted": ``+ log(n_child / n_node)``.
        ignore_index: rows with this index count nowhere.
        sample_weight: ``(N,)``, at least 0; each row counts this often.
        reduction: "mean" (over the rows, as often as they count), "batchmean" (over the number of rows), "sum" or
            "none".

    A child without images has weight 0 and offset 0, so the loss is finite whatever is absent.

    Raises:
        ArgumentError: a shape, value or choice that cannot be used, or counts that are missing.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> tree = from_paths(["a/x", "a/y", "b"])
        >>> hierarchical_loss(torch.zeros(1, 4), torch.tensor([2]), tree=tree)  # only the root: log 2
        tensor(0.6931)
    """
    loss = HierarchicalLoss(
        tree=tree, class_counts=class_counts, balance=balance, ignore_index=ignore_index, reduction=reduction
    )
    equation: Tensor = loss.to(logits.device)(logits, target, sample_weight=sample_weight)
    return equation


def _balance(tree: ClassTree, counts: CountsLike | None, balance: Balance) -> tuple[np.ndarray, np.ndarray]:
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
    """Counts with names are matched by name; others are in the order of the classes."""
    named = hasattr(counts, "names") or hasattr(counts, "keys")
    counts = ClassCounts(counts)
    if not named or set(counts.names) == {str(i) for i in range(len(counts))} != set(tree.classes):
        return counts.counts
    if set(counts.names) != set(tree.classes):
        raise ArgumentError(f"`class_counts` names {sorted(set(counts.names) ^ set(tree.classes))} do not fit the tree")
    where = {name: index for index, name in enumerate(counts.names)}
    return counts.counts[[where[name] for name in tree.classes]]
