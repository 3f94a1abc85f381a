"""What compare and train print about frozen features, and what their reports show."""

from __future__ import annotations

import re

import numpy as np
import pytest
import safetensors.torch
from tests.cli.photos import call, write_photos

import counterpoise as cp
from counterpoise.core.artifacts import Comparison, Run
from counterpoise.models import build_model, published

STRATEGIES = ("--strategies", "logit-adjusted", "--seeds", 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Options of a small network with a file of weights."""
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    safetensors.torch.save_file(build_model("resnet20", 3).state_dict(), file)
    return ("--frozen", "--model", "resnet20", "--weights", file, "--image-size", 12)


@pytest.fixture(scope="module")
def own(photos, tmp_path_factory):
    """A file of features that were computed elsewhere: the mean colours."""
    data = cp.load(photos)
    file = tmp_path_factory.mktemp("features") / "own.npz"
    means = np.stack([data[i].mean((0, 1)) for i in range(len(data))]).astype(np.float32)
    np.savez(file, features=means, paths=np.array(data.paths))
    return ("--frozen", "--features", file)


@pytest.fixture(scope="module")
def compared(photos, backbone, tmp_path_factory):
    """A comparison on frozen features, and what it printed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    return out, call("compare", photos, *backbone, *STRATEGIES, "--views", 1, "--out", out)


@pytest.fixture(scope="module")
def compared_own(photos, own, tmp_path_factory):
    """The same on features that were computed elsewhere."""
    out = tmp_path_factory.mktemp("own") / "out"
    return out, call("compare", photos, *own, *STRATEGIES, "--out", out)


def test_the_plan_says_that_the_backbone_is_frozen_and_how_rates_are_chosen(compared):
    features, plan = compared[1].stderr.splitlines()[:2]
    assert re.fullmatch(r"features of 38 of 38 images: \d+ images/s", features)
    assert re.fullmatch(
        r"resnet20 \(frozen\), 12×12 pixels, on .+: 2 runs × 300 epochs, learning rate and weight decay chosen from "
        r"8 pairs",
        plan,
    )


def test_the_plan_names_the_file_of_features(compared_own, own, photos, tmp_path):
    plan, *_ = compared_own[1].stderr.splitlines()
    assert re.match(r"features in own\.npz, on .+: 2 runs × 300 epochs, learning rate and weight decay chosen", plan)
    command = ("train", photos, *own, "--strategy", "focal", "--lr", 0.01, "--out", tmp_path / "run")
    plan, *_ = call(*command).stderr.splitlines()
    assert re.fullmatch(r"features in own\.npz, on .+: 1 run × 300 epochs, learning rate and .+ from 2 pairs", plan)


def test_another_comparison_says_that_no_features_have_to_be_computed(compared, photos, backbone):
    folder = compared[0].parent
    again = call(
        "compare", photos, *backbone, "--views", 1, "--strategies", "focal", "--seeds", 1, "--out", folder / "2"
    )
    assert again.stderr.splitlines()[0] == "features of 38 of 38 images: computed before, none to compute"


def test_features_of_the_user_lead_to_no_prediction_of_images(compared_own):
    out, printed = compared_own
    assert "counterpoise predict" not in printed.stdout
    assert "apply the head in" in printed.stdout
    assert "counterpoise predict" not in Comparison.load(out / "comparison.json").verdict.next_step


def test_without_weights_the_error_names_what_to_give(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "_failure", lambda url: "no network")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    for command in (("compare",), ("train", "--strategy", "focal")):
        text = call(*command, photos, "--frozen", "--out", tmp_path / "out", code=2).stderr
        assert text == (
            "error: `--frozen` needs pretrained weights, and the weights of timm:tf_efficientnet_lite0 could not be "
            "downloaded, because huggingface.co cannot be reached (no network); give a file of weights of "
            "timm:tf_efficientnet_lite0 as `--weights`, or features that were computed elsewhere as `--features`\n"
        )
    text = call("compare", photos, "--frozen", "--pretrained", "--out", tmp_path / "out", code=2).stderr
    assert text.startswith("error: `--pretrained`: the weights of timm:tf_efficientnet_lite0 could not be downloaded")
    text = call("compare", photos, "--frozen", "--model", "resnet20", "--out", tmp_path / "out", code=2).stderr
    assert text.startswith("error: `--frozen` needs pretrained weights, and no weights are published for 'resnet20'")
    assert not (tmp_path / "out").exists()


def test_the_report_says_that_only_the_last_layer_was_trained_and_what_was_chosen(compared, tmp_path):
    out, _ = compared
    call("report", out, "--to", tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text("utf-8")
    head = text.partition("\n## ")[0]
    assert "2 strategies with 1 seed, of which only the last layer was trained on frozen features" in head
    assert "Model (frozen; only the last layer is trained): resnet20" in head
    for strategy in ("baseline", "logit-adjusted"):
        chosen = Run.load(out / f"runs/{strategy}-seed0/run.json").selected
        assert f"| {strategy} | {chosen['learning_rate']:g} | {chosen['weight_decay']:g} |" in text
    for row in ("optimizer: adamw", "views: 1", "weights: file = small.safetensors", "features: mean: 0.485"):
        assert row in text.replace("Weights", "weights").replace("Views", "views"), row
    assert "momentum" not in text
    assert "0.001 and 0.01; 0.001 and 3; 0.0003 and 0.01" in text


def test_the_report_on_features_of_the_user_names_their_file_and_no_network(compared_own, tmp_path):
    call("report", compared_own[0], "--to", tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Features (computed elsewhere): own.npz" in text.partition("\n## ")[0]
    for setting in ("image size", "pretrained", "resize", "precision"):
        assert f"- {setting}:" not in text
    assert "features: file: own.npz" in text


def test_the_report_of_a_run_has_its_learning_rate(compared, tmp_path):
    folder = compared[0] / "runs/baseline-seed0"
    call("report", folder, "--to", tmp_path / "run.md")
    head = (tmp_path / "run.md").read_text("utf-8").partition("\n## ")[0]
    chosen = Run.load(folder / "run.json").selected
    assert f"- Learning rate: {chosen['learning_rate']:.6g}" in head
    assert f"- Weight decay: {chosen['weight_decay']:.6g}" in head
    assert "Model (frozen; only the last layer is trained): resnet20" in head


def test_finetuning_is_in_the_plan_and_has_rows_of_its_own(photos, backbone, tmp_path):
    finetune = ("--finetune", "--finetune-epochs", 1, "--epochs", 2, "--jobs", 1)
    result = call("compare", photos, *backbone, *STRATEGIES, *finetune, "--out", tmp_path / "out")
    cost = "then the whole network is finetuned with the best strategy and the baseline, at most 2 trainings: "
    assert f"{cost}2 strategies × 1 seed, 1 epoch each" in " ".join(result.stderr.split())
    assert "baseline-finetuned" in result.stdout
    assert (tmp_path / "out/runs/baseline-finetuned-seed0/model.safetensors").exists()
    call("compare", photos, "--finetune", "--out", tmp_path / "other", code=2)
