"""Exported models: ONNX and torch.export give the final logits of the module, for any batch size, with metadata."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.workflow.blobs import blobs

import counterpoise as cp
from counterpoise.core.artifacts import LogitTransform
from counterpoise.core.errors import ArgumentError, MissingExtraError
from counterpoise.hierarchy import from_paths
from counterpoise.posthoc import TRANSFORMS, apply_transforms
from counterpoise.workflow.deployment.export import METADATA
from counterpoise.workflow.deployment.module import LogitStep

TREE = from_paths(["a/x", "a/y", "b"])
STEPS = {
    "log_sigmoid": {},
    "leaf_log_probabilities": {"tree": TREE.to_dict(), "empty": [3]},
    "exclude": {"classes": [1]},
    "adjust_logits": {"prior": [0.7, 0.0, 0.3], "tau": 1.3},
    "scale_logits": {"scale": 30.0},
    "tau_normalize": {"tau": 0.7, "norm": [2.0, 1.0, 0.5], "bias": [0.1, -3.0, 2.0]},
    "tune_thresholds": {"thresholds": [0.5, 0.01, 0.2]},
    "temperature": {"temperature": [0.5, 2.0, 1.0]},
}


def test_every_step_has_a_torch_module():
    assert STEPS.keys() == TRANSFORMS.keys()


@pytest.mark.parametrize("method", STEPS)
def test_the_torch_module_of_a_step_equals_the_step(method):
    width = TREE.num_edges if method == "leaf_log_probabilities" else 3
    z = np.random.default_rng(0).normal(0, 5, (50, width)).astype(np.float32)
    step = LogitTransform(method, STEPS[method])
    expected = apply_transforms(z, [step])
    found = LogitStep(step, 3)(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    assert not np.array_equal(found[:, :3], z[:, :3])


@pytest.fixture(scope="module", params=["hierarchical-separate", "post-hoc-logit-adjusted", "tuned-thresholds"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    cp.train(request.param, blobs(), epochs=1, out=folder)
    model = cp.load_model(folder, device="cpu")
    return model, model.export(folder / "model.onnx"), model.export(folder / "model.pt2")


@pytest.mark.parametrize("images", [1, 2, 7])
def test_exported_models_give_the_final_logits(exported, images):
    model, onnx_file, pt2_file = exported
    size = model.transform.size
    batch = torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = model.module(batch).numpy()
    logits, probabilities = onnxruntime.InferenceSession(onnx_file).run(None, {"images": batch.numpy()})
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(probabilities, torch.from_numpy(expected).softmax(1), atol=1e-5)
    logits, probabilities = torch.export.load(pt2_file).module()(batch)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-5)


def test_the_metadata_have_classes_and_preprocessing(exported):
    model, onnx_file, pt2_file = exported
    program = onnx.load(onnx_file)
    onnx.checker.check_model(program)
    metadata = json.loads({entry.key: entry.value for entry in program.metadata_props}[METADATA])
    assert metadata["classes"] == list(model.classes)
    assert metadata["input"]["shape"] == ["batch", 3, model.transform.size, model.transform.size]
    assert "shorter side" in metadata["input"]["resize"]
    assert metadata["prior"] == list(model.run.prior)
    extra = {METADATA: ""}
    torch.export.load(pt2_file, extra_files=extra)
    assert json.loads(extra[METADATA]) == metadata


def test_another_ending_is_refused(exported, tmp_path):
    with pytest.raises(ArgumentError, match=r"must end in \.onnx or \.pt2; got .*model\.pth"):
        exported[0].export(tmp_path / "model.pth")


def test_onnx_that_is_not_installed_is_named(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxscript: run pip install -e '\.\[onnx\]' in your clone"):
        exported[0].export(tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_that_cannot_be_exported_is_named(exported, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("unsupported operator\nand a long trace")

    monkeypatch.setattr(torch.export, "export", refuse)
    with pytest.raises(ArgumentError, match=r"resnet20 cannot be exported as \.pt2: unsupported operator$"):
        exported[0].export(tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
