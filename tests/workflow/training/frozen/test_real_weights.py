"""Features of a pretrained network on real photographs: the weights are read as they are, and the classes separate."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from benchmarks.lite0_weights import MODEL
from tests.workflow.training.frozen.photos import OPTIONS, write_photos

import counterpoise as cp
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.training.data import fit_to_square, to_tensor
from counterpoise.workflow.training.frozen.extraction import extract_features


def options(weights, **changes):
    return {**OPTIONS, "model": f"timm:{MODEL}", "weights": str(weights), **changes}


def test_the_features_are_those_of_the_network_of_timm(lite0_weights, tmp_path):
    photos = write_photos(tmp_path / "photos")
    features = extract_features(photos, **options(lite0_weights, image_size=40), cache=None)
    network = timm.create_model(MODEL).eval()
    network.load_state_dict(safetensors.torch.load_file(lite0_weights))
    images = photos.subset("test")
    squares = torch.stack([to_tensor(fit_to_square(images[i], 40)) for i in range(len(images))]).float() / 255
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(squares * 2 - 1), pre_logits=True).numpy()
    np.testing.assert_allclose(features.values["test"][:, 0], expected, rtol=1e-3, atol=1e-3)
    other = extract_features(photos, **{**options(None, image_size=40), "weights": None}, cache=None)
    assert other.source["weights"] != features.source["weights"]


def test_weights_of_another_network_are_refused(lite0_weights, tmp_path):
    photos = write_photos(tmp_path / "photos")
    for model in ("resnet20", "timm:efficientnet_lite1"):
        with pytest.raises(ArgumentError, match=r"`weights` lite0.*of the model not in the file .* random weights"):
            extract_features(photos, **options(lite0_weights, model=model), cache=None)


def test_tensors_of_the_file_that_are_not_used_are_named(lite0_weights, tmp_path):
    photos = write_photos(tmp_path / "photos")
    tensors = safetensors.torch.load_file(lite0_weights)
    safetensors.torch.save_file({**tensors, "neck.weight": torch.ones(3)}, tmp_path / "more.safetensors")
    with pytest.warns(UserWarning, match=r"1 tensor of the file not used \('neck\.weight'\)"):
        more = extract_features(photos, **options(tmp_path / "more.safetensors"), cache=None)
    assert np.array_equal(
        more.values["test"], extract_features(photos, **options(lite0_weights), cache=None).values["test"]
    )


def test_the_classes_of_real_photographs_separate(lite0_weights, real_data):
    data = cp.load(real_data / "cifar10-lt")
    random = np.random.default_rng(0)
    kept: list[int] = []
    for split in ("train", "test"):
        for label in range(10):
            kept += random.permutation(np.flatnonzero((data.splits == split) & (data.labels == label)))[:15].tolist()
    data = data.quarantine(dict.fromkeys(set(range(len(data))) - set(kept), "not in the sample"))
    features = extract_features(data, **options(lite0_weights, image_size=96), cache=None)
    train, test = (features.values[split][:, 0].astype(float) for split in ("train", "test"))
    train, test = ((x - train.mean(0)) / (train.std(0) + 1e-6) for x in (train, test))
    labels = data.subset("train").labels
    means = np.stack([train[labels == label].mean(0) for label in range(10)])
    nearest = np.square(test[:, None] - means).sum(2).argmin(1)
    assert (nearest == data.subset("test").labels).mean() > 0.45  # 0.1 by chance; 0.67 measured
