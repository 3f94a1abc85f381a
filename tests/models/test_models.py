"""Networks have the published sizes, heads do what they say, and names that cannot be built say why."""

import pytest
import torch
from torch import nn

from counterpoise.core.errors import ArgumentError
from counterpoise.models import CifarResNet, Classifier, CosineHead, build_model, check_model


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (56, 0.85)])
def test_the_networks_have_the_sizes_of_the_paper(depth, millions):
    parameters = sum(p.numel() for p in CifarResNet(depth).parameters()) + 64 * 10 + 10
    assert round(parameters / 1e6, 2) == millions  # He et al. 2016, table 6
    assert sum(isinstance(m, nn.Conv2d) for m in CifarResNet(depth).modules()) == depth - 1


def test_the_shortcut_subsamples_and_pads_with_zero_channels():
    block = CifarResNet(20).stage2[0].eval()
    nn.init.zeros_(block.conv2.weight)  # what is left is the shortcut, after the ReLU
    x = torch.rand(1, 16, 6, 6)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_cosine_logits_do_not_see_the_length_of_the_features():
    head, features = CosineHead(8, 3), torch.randn(5, 8)
    torch.testing.assert_close(head(features), head(7 * features))
    expected = torch.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(features), expected)


def test_a_classifier_normalises_plain_images():
    net = Classifier(nn.Flatten(), nn.Identity(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    assert net(torch.ones(1, 3, 1, 1)).tolist() == [[2.0, 1.0, 0.5]]
    assert {"mean", "std"} <= set(net.state_dict())


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:mobilenetv3_small_050", "torchvision:squeezenet1_1"])
def test_models_of_others_get_our_head_or_a_reason(name):
    if name.startswith("torchvision:squeezenet"):
        with pytest.raises(ArgumentError, match="has no linear classifier to replace; use timm:NAME"):
            build_model(name, 5)
        return
    net = build_model(name, 5, head="cosine").eval()
    assert isinstance(net.head, CosineHead)
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_torchvisions_last_linear_layer_becomes_the_head():
    net = build_model("torchvision:mobilenet_v3_small", 7).eval()
    assert net.head.in_features == 1024
    with torch.inference_mode():
        assert net(torch.rand(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "`model` 'resnet19' is unknown; did you mean"),
        ("timm:resnet", "'timm:resnet' is unknown to timm; did you mean"),
        ("torchvision:resnet17", "'torchvision:resnet17' is unknown to torchvision; did you mean"),
        ("keras:resnet50", "'keras' is not a supported library; use timm:NAME"),
    ],
)
def test_an_unknown_model_gets_the_nearest_names(name, message):
    with pytest.raises(ArgumentError, match=message):
        check_model(name)


def test_an_unknown_head_is_refused():
    with pytest.raises(ArgumentError, match="`head` must be one of 'linear', 'cosine', 'hierarchical'; got 'cosin'"):
        build_model("resnet20", 3, head="cosin")


def test_weights_that_cannot_be_loaded_are_a_clear_error(monkeypatch):
    import timm

    def offline(*args, pretrained, **options):
        raise OSError("We couldn't connect to the hub.\nMore lines.")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("counterpoise.models.published.check_reachable", lambda model, url: None)
    with pytest.raises(
        ArgumentError, match=r"weights of timm:resnet18 could not be loaded \(We couldn't connect to the hub\.\)"
    ):
        build_model("timm:resnet18", 2, pretrained=True)
