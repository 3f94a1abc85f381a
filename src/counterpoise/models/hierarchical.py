"""The head of a class tree, and its logits as leaf log-probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.tree import ClassTree

__all__ = ["HierarchicalHead", "leaf_log_probabilities"]


class HierarchicalHead(nn.Linear):
    """One linear layer for all inner nodes: features ``(N, D)`` → edge logits ``(N, E)``.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> HierarchicalHead(8, from_paths(["a/x", "a/y", "b"]))(torch.zeros(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(self, in_features: int, tree: ClassTree) -> None:
        super().__init__(in_features, tree.num_edges)
        self.tree = tree


def leaf_log_probabilities(logits: Tensor, tree: ClassTree) -> Tensor:
    """Leaf log-probabilities ``(N, C)``, in the order of ``tree.classes``, from edge logits ``(N, E)``.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> leaf_log_probabilities(torch.zeros(1, 4), from_paths(["a/x", "a/y", "b"])).exp()
        tensor([[0.2500, 0.2500, 0.5000]])
    """
    if logits.shape[1:] != (tree.num_edges,):
        raise ArgumentError(f"`logits` must have shape (N, {tree.num_edges}); got {tuple(logits.shape)}")
    z = logits if logits.dtype == torch.float64 else logits.float()
    segments = torch.tensor(tree.segments, device=z.device)
    count = len(tree.starts)
    top = z.new_full((len(z), count), -torch.inf).scatter_reduce(1, segments.expand_as(z), z.detach(), "amax")
    shifted = z - top[:, segments]
    edges = shifted - z.new_zeros(len(z), count).index_add(1, segments, shifted.exp()).log()[:, segments]
    paths = torch.tensor(tree.paths, device=z.device)
    return nn.functional.pad(edges, (0, 1))[:, paths].sum(2)
