"""Backbones whose batch normalisations are folded into their convolutions give the same features, faster."""

import pytest
import torch
from torch import nn

from counterpoise.models import FeatureExtractor, build_extractor, folded

MODELS = [
    "resnet20",
    "timm:tf_efficientnet_lite0",
    "timm:resnet18",
    "torchvision:mobilenet_v3_small",
    "timm:densenet121",
]


def with_statistics(extractor):
    """Give the normalisations statistics and factors that are not 0 and 1."""
    torch.manual_seed(0)
    for module in extractor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.7, 1.4)
            module.weight.data.uniform_(0.7, 1.4)
            module.bias.data.normal_(0, 0.1)
    return extractor


def norms(extractor):
    return sum(isinstance(module, nn.BatchNorm2d) for module in extractor.modules())


@pytest.mark.parametrize("name", MODELS)
def test_the_features_are_the_same(name):
    extractor = with_statistics(build_extractor(name))
    before = {key: value.clone() for key, value in extractor.state_dict().items()}
    fast = folded(extractor, image_size=64)
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        expected, found = extractor(images), fast(images)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert norms(fast) == (62 if name == "timm:densenet121" else 0) < norms(extractor)
    assert all(torch.equal(value, before[key]) for key, value in extractor.state_dict().items())


class UsedTwice(nn.Module):
    """The output of the convolution goes to the normalisation and past it."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        x = self.conv(images)
        return (x + self.norm(x)).mean((2, 3))


class Repeated(nn.Module):
    """The same convolution before two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.second(self.conv(self.first(self.conv(images)))).mean((2, 3))


@pytest.mark.parametrize("module", [UsedTwice(), Repeated()])
def test_a_network_that_cannot_be_folded_is_left(module):
    extractor = with_statistics(FeatureExtractor(module, (0.5,) * 3, (0.5,) * 3).eval().requires_grad_(False))
    fast = folded(extractor, image_size=16)
    images = torch.rand(3, 3, 16, 16)
    assert norms(fast) == norms(extractor)
    assert torch.equal(fast(images), extractor(images))


def test_a_network_without_normalisation_is_returned_at_once():
    extractor = FeatureExtractor(nn.Flatten(), (0.5,) * 3, (0.5,) * 3)
    assert folded(extractor, image_size=4) is extractor
