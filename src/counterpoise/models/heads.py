"""Heads: features → logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CosineHead"]


class CosineHead(nn.Module):
    """Cosine of the angle between the features and each class's weight: ``(N, D)`` → ``(N, C)`` in [-1, 1].

    The head that LDAM needs: a margin means something only where the logits are bounded.

    Reference: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019.

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
