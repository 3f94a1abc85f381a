"""Residual networks for small images, as used with long-tailed CIFAR."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is subsampled and zero-padded if the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride, self.padding = stride, (out_channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        if self.padding:
            identity = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + identity, inplace=True)


class CifarResNet(nn.Module):
    """ResNet of depth 6n+2 with 16, 32 and 64 channels: images ``(N, 3, H, W)`` → features ``(N, 64)``.

    Reference: He et al., Deep Residual Learning, CVPR 2016, section 4.2 (shortcut option A).

    Args:
        depth: 20, 32, 44, 56 or 110.

    Example:
        >>> import torch
        >>> net = CifarResNet(20)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 64])
        >>> sum(p.numel() for p in net.parameters())
        269072
    """

    num_features = 64

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stage1 = _stage(16, 16, blocks, stride=1)
        self.stage2 = _stage(16, 32, blocks, stride=2)
        self.stage3 = _stage(32, 64, blocks, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(images)), inplace=True)
        x = self.stage3(self.stage2(self.stage1(x)))
        features: Tensor = x.mean(dim=(2, 3))
        return features


def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = Block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(Block(out_channels, out_channels, 1) for _ in range(blocks - 1)))
