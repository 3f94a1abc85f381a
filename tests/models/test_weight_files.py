"""Weights from files and from the cache: what is loaded, what is listed, what is refused, and how soon offline."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from tests.workflow.blobs import blobs
from torch import nn

from counterpoise.core.artifacts import Run
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.models import WeightFile, build_model, inspect_model, load_weights, published
from counterpoise.workflow.deployment import load_model
from counterpoise.workflow.strategy import CATALOG
from counterpoise.workflow.training import RunFolder, Settings, TrainingSetup, train
from counterpoise.workflow.training.trainer import new_model


def saved(path, content):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return WeightFile.of(path)


def timm_weights():
    torch.manual_seed(5)
    return timm.create_model("resnet10t", num_classes=7).state_dict()


def prefixed(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "w.pt", "w.bin", "w.ckpt", "w.pth.tar"])
@pytest.mark.parametrize("form", ["plain", "module.", "model.backbone.", "state_dict", "model"])
def test_the_backbone_of_a_timm_file_is_loaded_and_the_head_is_new(tmp_path, file, form):
    theirs = timm_weights()
    content = (
        prefixed(form, theirs) if form.endswith(".") else theirs if form == "plain" else {form: theirs, "epoch": 3}
    )
    if file.endswith("safetensors") and form in ("state_dict", "model"):
        pytest.skip("a file of safetensors has no dictionaries")
    model = build_model("timm:resnet10t", 7)
    head = model.head.weight.clone()
    matched = load_weights(model, saved(tmp_path / file, content))
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(model.head.weight, head)
    assert not matched.missing
    assert not matched.unexpected
    assert len(matched.loaded) == len(theirs) - 2


def test_a_torchvision_file_and_one_for_a_backbone_within_a_module_are_loaded(tmp_path):
    torch.manual_seed(1)
    theirs = torchvision.models.mobilenet_v3_small(num_classes=4).state_dict()
    file = saved(tmp_path / "m.pth", theirs)
    model = build_model("torchvision:mobilenet_v3_small", 3)
    assert not load_weights(model, file).missing
    assert torch.equal(model.backbone.features[0][0].weight, theirs["features.0.0.weight"])

    class Wrapped(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.body = torchvision.models.mobilenet_v3_small(num_classes=5)
            self.last = nn.Linear(5, num_classes)

        def forward(self, x):
            return self.last(self.body(x))

    own = build_model(inspect_model(Wrapped, 3, image_size=32), 3)
    matched = load_weights(own, file)
    assert torch.equal(own.backbone.body.features[0][0].weight, theirs["features.0.0.weight"])
    assert set(matched.missing) == {"body.classifier.3.weight", "body.classifier.3.bias"}


def test_what_does_not_fit_is_listed_with_numbers(tmp_path):
    theirs = timm_weights()
    del theirs["layer4.0.conv1.weight"]
    theirs["conv1.0.weight"] = theirs["conv1.0.weight"][:, :1].clone()
    theirs["extra.weight"] = torch.zeros(3)
    file = saved(tmp_path / "w.safetensors", theirs)
    advice = load_weights(build_model("timm:resnet10t", 3), file).advice(file)
    total = len(timm_weights()) - 2
    assert f"{total - 2} of {total} tensors of the backbone were loaded" in advice
    assert "2 tensors of the model not in the file or of another shape ('conv1.0.weight', 'layer4.0.conv1" in advice
    assert "1 tensor of the file not used ('extra.weight')" in advice
    assert advice.endswith("check that `model` is the architecture of the file")


def test_a_file_of_another_architecture_is_refused(tmp_path):
    file = saved(tmp_path / "w.pth", {"a.weight": torch.zeros(3), "b.bias": torch.zeros(2)})
    with pytest.raises(
        ArgumentError, match=r"`weights` .*w.pth does not fit the model: no name and shape of its 2 tens"
    ):
        load_weights(build_model("resnet20", 3), file)


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.fault("C5")
def test_a_file_with_other_objects_is_refused_with_the_reason_and_not_run(tmp_path):
    torch.save({"state_dict": timm_weights(), "x": Payload(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(
        ArgumentError, match=r"evil.pth is refused, .*other objects than tensors.*mkdir.*could run code"
    ):
        WeightFile.of(tmp_path / "evil.pth").tensors()
    assert not (tmp_path / "made").exists()
    torch.save({"state_dict": timm_weights(), "args": argparse.Namespace(lr=1)}, tmp_path / "args.pth")
    with pytest.raises(
        ArgumentError, match=r"\(argparse.Namespace\).*torch.save\(model.state_dict\(\), 'weights.pth'\)"
    ):
        WeightFile.of(tmp_path / "args.pth").tensors()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ArgumentError, match="is refused, because it has other objects than tensors"):
        WeightFile.of(tmp_path / "module.pth").tensors()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "is damaged"),
        ("w.pth", b"<html>", "is damaged|is refused"),
        ("w.safetensors", b"12345678", "is damaged"),
        ("w.h5", b"", r"must be a file ending in \.safetensors, \.pth"),
    ],
)
def test_a_damaged_or_other_file_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArgumentError, match=f"`weights` .*{message}"):
        WeightFile.of(tmp_path / name).tensors()


def test_files_without_tensors_or_missing_are_refused(tmp_path):
    torch.save({"epoch": 3, "state_dict": {"a": 1}}, tmp_path / "w.pth")
    with pytest.raises(ArgumentError, match=r"has no named tensors; save model.state_dict\(\)"):
        WeightFile.of(tmp_path / "w.pth").tensors()
    with pytest.raises(ArgumentError, match=r"`weights` .*none.pth cannot be read: No such file"):
        WeightFile.of(tmp_path / "none.pth")
    with pytest.raises(ArgumentTypeError, match="`weights` must be the path of a file; got dict"):
        Settings(weights={})
    with pytest.raises(ArgumentError, match="`weights` and `pretrained` exclude each other"):
        Settings(weights="w.pth", pretrained=True)


def test_a_run_starts_from_the_file_and_records_it(tmp_path):
    file = tmp_path / "w.safetensors"
    digest = saved(file, timm_weights()).sha256
    options = {"model": "timm:resnet10t", "weights": file, "epochs": 1, "image_size": 32}
    setup = TrainingSetup.prepare(blobs(), Settings(**options))
    first = new_model(setup, CATALOG["baseline"], 3)
    assert torch.equal(first.backbone.conv1[0].weight, timm_weights()["conv1.0.weight"])
    assert first.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    run = train("baseline", blobs(), out=tmp_path / "run", **options)
    assert run.settings["weights"] == {"file": "w.safetensors", "sha256": digest}
    assert str(tmp_path) not in (tmp_path / "run/run.json").read_text()
    assert run.settings["learning_rate"] == pytest.approx(0.1 * 32 / 128 / 10)
    load_model(tmp_path / "run").predict(blobs().subset("test"))
    file.rename(tmp_path / "renamed.safetensors")
    again = {**options, "weights": tmp_path / "renamed.safetensors"}
    assert train("baseline", blobs(), out=tmp_path / "run", resume=True, **again).starts == (0,)
    torch.manual_seed(6)
    saved(file, timm.create_model("resnet10t").state_dict())
    with pytest.raises(ArtifactError, match="its settings has weights = 'SHA-256"):
        train("baseline", blobs(), out=tmp_path / "run", resume=True, **options)


def test_image_size_is_that_of_pretrained_models_but_not_for_small_networks(tmp_path):
    assert Settings(weights="w.pth").resolve(blobs()).image_size == 224
    assert Settings(weights="w.pth").resolve(blobs()).model == "timm:resnet18"
    assert Settings(weights="w.pth", model="resnet32").resolve(blobs()).image_size == 8


def test_a_model_of_counterpoise_brings_its_normalization(tmp_path):
    train("baseline", blobs(), epochs=1, out=tmp_path / "one")
    file = tmp_path / "one/model.safetensors"
    theirs = RunFolder(tmp_path / "one").read_tensors(file.name)[0]
    setup = TrainingSetup.prepare(blobs(), Settings(model="resnet20", weights=str(file)))
    model = new_model(setup, CATALOG["baseline"], 3)
    assert torch.equal(model.mean, theirs["mean"])
    assert torch.equal(model.backbone.conv.weight, theirs["backbone.conv.weight"])
    assert not torch.equal(model.head.weight, theirs["head.weight"])
    assert json.loads((tmp_path / "one/run.json").read_text())["settings"]["weights"] is None
    assert Run.load(tmp_path / "one/run.json").settings["weights"] is None


@pytest.fixture
def unreachable(monkeypatch):
    """A server that never answers, whatever the network of this machine."""

    class Session:
        def head(self, url, **options):
            time.sleep(60)

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: Session())
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nonexistent")


@pytest.mark.fault("R11")
@pytest.mark.parametrize("model", ["timm:resnet18", "torchvision:resnet18"])
def test_published_weights_that_cannot_be_downloaded_fail_within_five_seconds(unreachable, model):
    start = time.monotonic()
    with pytest.raises(
        ArgumentError, match=rf"the weights of {model} could not be downloaded, because .*--weights FILE"
    ):
        build_model(model, 3, pretrained=True)
    assert time.monotonic() - start < published.SECONDS + 1


def test_an_error_of_the_network_is_the_reason(monkeypatch):
    class Session:
        def head(self, url, **options):
            raise OSError("Name or service\nnot known")

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: Session())
    with pytest.raises(ArgumentError, match=r"because example.org cannot be reached \(Name or service not known\)"):
        published.check_reachable("timm:x", "https://example.org/a/b")


def test_cached_weights_are_used_without_the_network(unreachable, monkeypatch, tmp_path):
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet10t").state_dict(), file)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name: str(file))
    model = build_model("timm:resnet10t", 3, pretrained=True)
    theirs = safetensors.torch.load_file(file)
    assert torch.equal(model.backbone.conv1[0].weight, theirs["conv1.0.weight"])


def test_the_command_line_says_it_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "counterpoise", "train", "digits", "--strategy", "focal", "--out", str(tmp_path / "o"),
         "--weights", str(tmp_path / "none.pth")],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: `--weights` ")
    assert "Traceback" not in done.stderr
