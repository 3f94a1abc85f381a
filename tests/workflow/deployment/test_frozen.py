"""A run on frozen features: backbone and head are one model, which predicts as the head did and can be exported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from tests.workflow.training.frozen.photos import OPTIONS, write_photos

import counterpoise as cp
from counterpoise.core.artifacts import LogitTransform, Predictions, Run
from counterpoise.core.errors import ArtifactError, UnsupportedError
from counterpoise.core.strategy import Strategy
from counterpoise.hierarchy import from_paths
from counterpoise.models import Standardize, build_head
from counterpoise.posthoc import apply_transforms
from counterpoise.workflow.training import RunFolder
from counterpoise.workflow.training.frozen.extraction import extract_features
from counterpoise.workflow.training.frozen.features import Features, link_backbone, save_backbone

TREE = from_paths(["dots", "lines"])
ADJUST = LogitTransform("adjust_logits", {"prior": [0.6, 0.4], "tau": 1.0})
LEAVES = LogitTransform("leaf_log_probabilities", {"tree": TREE.to_dict(), "empty": []})
HEADS = {
    "linear": (Strategy("logit", "a description"), (ADJUST,)),
    "cosine": (Strategy("ldam", "a description", head="cosine"), (LogitTransform("scale_logits", {"scale": 30.0}),)),
    "hierarchical": (Strategy("tree", "a description", head="hierarchical", loss="hierarchical"), (LEAVES,)),
}
TOLERANCE = 1e-5
"""Of logits: the features are the same bits, and products of another shape may be added in another order."""


def write_run(folder, photos, features: Features, head_name: str, precision: str = "no"):
    """The folder of a run whose head has random weights, with the predictions of the head on the features."""
    strategy, transforms = HEADS[head_name]
    tree = TREE if head_name == "hierarchical" else None
    torch.manual_seed(1)
    head = build_head(head_name, features.width, 2, tree=tree)
    train = torch.from_numpy(features.values["train"][:, 0].astype(np.float32))
    mean, scale = train.mean(0), train.std(0).clamp_min(1e-3)
    values = torch.from_numpy(features.values["test"][:, 0].astype(np.float32))
    with torch.no_grad():
        raw = head((values - mean) / scale).numpy()
    run_folder, test = RunFolder(folder), photos.subset("test")
    predictions = Predictions(
        apply_transforms(raw, transforms), test.labels, np.array(test.paths), np.array(photos.classes)
    )
    run_folder.write_predictions("test", predictions)
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    tensors |= {"standardize.mean": mean, "standardize.scale": scale}
    run_folder.write_tensors("model.safetensors", tensors, {"model": "resnet20"})
    settings = {"model": "resnet20", "frozen": True, "features": features.source, "batch_size": 2}
    run = Run(
        strategy=strategy, seed=0, status="done", model="resnet20", transforms=transforms, digests=run_folder.digests(),
        settings=settings, classes=photos.classes,
        train_counts=(7, 4), tree={} if tree is None else tree.to_dict(), environment={}, data={},
    )  # fmt: skip
    run_folder.write_run(run)
    return predictions


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def features(photos):
    return extract_features(photos, **OPTIONS, cache=None)


@pytest.fixture(scope="module", params=HEADS)
def run(request, photos, features, tmp_path_factory):
    """The folder of a run and its predictions; the backbone is written once, elsewhere."""
    root = tmp_path_factory.mktemp(request.param)
    expected = write_run(root / "run", photos, features, request.param)
    save_backbone(root, features)
    link_backbone(root / "run", root)
    return root / "run", expected


def test_predictions_are_those_of_the_head_on_the_features(run, photos):
    folder, expected = run
    model = cp.load_model(folder)
    found = model.predict(photos.subset("test"))
    np.testing.assert_allclose(found.logits, expected.logits, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.ptp(found.logits[:, 0]) > 100 * TOLERANCE
    assert found.names == tuple(expected.paths.tolist())
    one = model.predict([photos.file(i) for i in range(3)])
    assert len(one) == 3


def test_the_features_are_rounded_as_the_stored_ones(run, photos, features):
    model = cp.load_model(run[0])
    test = photos.subset("test")
    inputs = torch.stack([model.transform(test[i]) for i in range(len(test))])
    network = model.module.network
    with torch.no_grad():
        exact = network.backbone(inputs.contiguous(memory_format=torch.channels_last))
        found = network.standardize(exact)
    values = torch.from_numpy(features.values["test"][:, 0].astype(np.float32))
    assert torch.equal(found, (values - network.standardize.mean) / network.standardize.scale)
    assert not torch.equal(found, (exact - network.standardize.mean) / network.standardize.scale)


@pytest.mark.parametrize("images", [1, 5])
def test_exported_models_give_the_same_logits(run, photos, tmp_path, images):
    model = cp.load_model(run[0], device="cpu")
    batch = torch.stack([model.transform(photos[i]) for i in range(images)])
    with torch.no_grad():
        expected = model.module(batch).numpy()
    model.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    logits, probabilities = session.run(None, {"images": batch.numpy()})
    # The runtime adds in another order, which may move a feature to the next float16.
    np.testing.assert_allclose(logits, expected, atol=5e-3, rtol=5e-3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    model.export(tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    np.testing.assert_allclose(program(batch)[0].detach().numpy(), expected, atol=5e-3, rtol=5e-3)


def test_a_folder_of_a_run_can_be_moved_alone(run, photos, tmp_path):
    folder, expected = run
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    found = cp.load_model(moved).predict(photos.subset("test"))
    np.testing.assert_allclose(found.logits, expected.logits, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_backbone_computes_in_the_precision_of_the_features(photos, tmp_path):
    half = extract_features(photos, **{**OPTIONS, "precision": "bf16"}, cache=None)
    expected = write_run(tmp_path / "run", photos, half, "linear")
    save_backbone(tmp_path / "run", half)
    model, images = cp.load_model(tmp_path / "run", device="cpu"), photos.subset("test")
    found = model.predict(images).logits
    # In bfloat16 a batch of another size is rounded otherwise: three digits agree, and in float32 as many.
    np.testing.assert_allclose(found, expected.logits, atol=0.1)
    exact = model.module(torch.stack([model.transform(images[i]) for i in range(len(images))])).numpy()
    assert not np.allclose(found, exact, atol=1e-4)


def test_the_backbone_is_stored_once(run):
    folder, _ = run
    first, second = (path / "backbone.safetensors" for path in (folder, folder.parent))
    assert first.samefile(second)


def test_a_backbone_that_is_missing_or_another_is_refused(photos, features, tmp_path):
    write_run(tmp_path / "run", photos, features, "linear")
    with pytest.raises(ArtifactError, match=r"backbone\.safetensors does not exist; copy it from the folder"):
        cp.load_model(tmp_path / "run")
    state = {name: value.clone() for name, value in features.backbone.state_dict().items()}
    state["backbone.conv.weight"][0, 0, 0, 0] += 1
    RunFolder(tmp_path / "run").write_tensors("backbone.safetensors", state, {})
    with pytest.raises(ArtifactError, match=r"is not the backbone that run\.json records; copy both again"):
        cp.load_model(tmp_path / "run")
    (tmp_path / "run" / "backbone.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"backbone\.safetensors is damaged"):
        cp.load_model(tmp_path / "run")


@pytest.mark.parametrize("drop", ["head.bias", "standardize.mean", "head.weight"])
def test_a_head_that_lacks_tensors_is_refused(photos, features, tmp_path, drop):
    write_run(tmp_path, photos, features, "linear")
    save_backbone(tmp_path, features)
    folder = RunFolder(tmp_path)
    tensors, metadata = folder.read_tensors("model.safetensors")
    del tensors[drop]
    folder.write_tensors("model.safetensors", tensors, metadata)
    folder.write_run(replace(folder.read_run(), digests=folder.digests()))
    with pytest.raises(ArtifactError, match=r"model\.safetensors does not fit the model"):
        cp.load_model(tmp_path)


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_own_features_have_no_network_and_the_message_says_how_to_apply_the_head(photos, features, tmp_path, head):
    own = replace(features, source={"file": "clip.npz", "sha256": "ab" * 32, "views": 0}, backbone=None)
    expected = write_run(tmp_path, photos, own, head)
    with pytest.raises(UnsupportedError) as caught:
        cp.load_model(tmp_path)
    text = str(caught.value)
    assert "trained on the features in clip.npz (SHA-256 abababababab…)" in text
    assert ("`head.bias`" in text) == (head == "linear")
    # What it says works.
    tensors = RunFolder(tmp_path).read_tensors("model.safetensors")[0]
    x = features.values["test"][:, 0].astype(np.float32)
    x = (x - tensors["standardize.mean"].numpy()) / tensors["standardize.scale"].numpy()
    weight = tensors["head.weight"].numpy()
    if head == "linear":
        raw = x @ weight.T + tensors["head.bias"].numpy()
    else:
        norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
        raw = x @ weight.T / norms
    final = apply_transforms(raw, Run.load(tmp_path / "run.json").transforms)
    np.testing.assert_allclose(final, expected.logits, atol=1e-4)


def test_standardize_keeps_features_beyond_float16():
    module = Standardize(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0]))
    found = module(torch.tensor([[1e6, -1e6, 1.0002441]]))
    assert found.tolist() == [[1e6, -5e5, 0.25]]
    assert json.dumps(list(module.state_dict())) == '["mean", "scale"]'
