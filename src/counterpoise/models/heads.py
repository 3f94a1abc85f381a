"""Classification heads: cosine similarities, and edge logits of a class tree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.decoding import segment_log_softmax
from counterpoise.hierarchy.tree import ClassTree


class CosineHead(nn.Module):
    """The cosine of the angle between the features and the weight of each class: ``(N, D)`` → ``(N, C)`` in [−1, 1].

    Use it with LDAM: a margin is meaningful only if the logits are bounded.

    Args:
        in_features: D.
        out_features: number of classes C.

    Reference: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019
    (arXiv:1906.07413).

    Example:
        >>> head = CosineHead(64, 10)
        >>> bool((head(torch.randn(4, 64)).abs() <= 1 + 1e-6).all())
        True
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


class HierarchicalHead(nn.Linear):
    """One linear layer for all inner nodes of a class tree: features ``(N, D)`` → edge logits ``(N, E)``.

    Args:
        in_features: D.
        tree: the class tree, with E edges.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> HierarchicalHead(8, from_paths(["a/x", "a/y", "b"]))(torch.zeros(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(self, in_features: int, tree: ClassTree) -> None:
        super().__init__(in_features, tree.num_edges)
        self.tree = tree


def leaf_log_probabilities(logits: Tensor, tree: ClassTree) -> Tensor:
    """Compute leaf log-probabilities from edge logits, as `counterpoise.hierarchy.leaf_log_probabilities` of a tensor.

    Args:
        logits: floating point ``(N, E)``, one per edge of the tree.
        tree: the class tree.

    Returns:
        ``(N, C)`` in the order of ``tree.classes``; float32, or float64 for float64 logits.

    Raises:
        ArgumentError: logits of another shape.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> leaf_log_probabilities(torch.zeros(1, 4), from_paths(["a/x", "a/y", "b"])).exp()
        tensor([[0.2500, 0.2500, 0.5000]])
    """
    if logits.shape[1:] != (tree.num_edges,):
        raise ArgumentError(f"`logits` must have shape (N, {tree.num_edges}); got {tuple(logits.shape)}")
    z = logits if logits.dtype == torch.float64 else logits.float()
    edges = segment_log_softmax(z, torch.tensor(tree.segments, device=z.device), len(tree.starts))
    paths = torch.tensor(tree.paths, device=z.device)
    return F.pad(edges, (0, 1))[:, paths].sum(2)
