"""Files and names from elsewhere: none of them runs code, and each that is damaged or hostile is refused by name."""

from __future__ import annotations

import ast
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from tests.workflow.blobs import blobs

from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.models import build_model
from counterpoise.workflow.training import RunFolder, train
from counterpoise.workflow.training.run_folder import HISTORY_COLUMNS

SOURCE = Path(__file__).parents[1] / "src"


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def safetensors_file(header: object, data: bytes = bytes(16), *, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    "content",
    [
        safetensors_file({}, size=2**60),
        safetensors_file({}, size=200_000_000),
        safetensors_file({"a": tensor(0, 8), "b": tensor(4, 16)}),
        safetensors_file({"a": tensor(0, 16), "b": tensor(0, 16)}),
        safetensors_file({"a": tensor(0, 8), "b": tensor(12, 16)}),
        safetensors_file({"a": tensor(0, 2**40)}),
        safetensors_file({"a": {**tensor(0, 16), "shape": [2**62, 8]}}),
        safetensors_file({"a": {**tensor(0, 16), "shape": [-4]}}),
        safetensors_file({"a": tensor(0, 16)}, bytes(32)),
        safetensors_file(b'{"a":' * 100_000),
        safetensors_file(b"\xff\xfe{}"),
        b"",
        b"\x01",
    ],
    ids=["size", "long", "overlap", "twice", "gap", "beyond", "overflow", "negative", "tail", "deep", "text", "0", "1"],
)
def test_a_damaged_or_hostile_file_of_tensors_is_refused_by_name(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is damaged"):
        RunFolder(tmp_path).read_tensors("model.safetensors")


@pytest.mark.fault("C5")
@pytest.mark.parametrize("by_torch", [True, False])
def test_a_pickle_in_place_of_tensors_is_refused_and_not_run(tmp_path, by_torch):
    file, target = tmp_path / "model.safetensors", tmp_path / "made"
    content = {"weight": Payload(target)}
    torch.save(content, file) if by_torch else file.write_bytes(pickle.dumps(content))
    with pytest.raises(ArtifactError, match=r"model\.safetensors is damaged"):
        RunFolder(tmp_path).read_tensors("model.safetensors")
    assert not target.exists()


@pytest.mark.fault("R8")
@pytest.mark.parametrize("field", ["loss", "sampler", "weights", "posthoc", "mixing", "augment", "head"])
@pytest.mark.parametrize("name", ["os.system", "builtins:eval", "counterpoise.losses.focal_loss", "__import__('os')"])
def test_names_in_a_strategy_come_from_the_catalog_only(tmp_path, field, name):
    with pytest.raises((ArgumentError, ArtifactError)):
        train(Strategy.from_dict({**Strategy("mine", "").to_dict(), field: name}), blobs(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("R8")
@pytest.mark.parametrize("name", ["os:system", "torchvision:os.system", "timm:../x", "torchvision.models:resnet18"])
def test_a_model_is_a_name_of_a_supported_library(name):
    with pytest.raises(ArgumentError, match="`model`"):
        build_model(name, 2)


def nodes():
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            yield file.name, node


@pytest.mark.fault("C5")
@pytest.mark.fault("R8")
def test_no_module_evaluates_text_or_loads_pickles():
    for file, node in nodes():
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__", "os.system"}, file
            assert not called.startswith(("pickle.", "marshal.", "shelve.", "joblib.")), file
            values = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            # With weights_only=True, torch refuses every object that is not a tensor or a plain container.
            assert called != "torch.load" or values.get("weights_only") == "True", file
            assert values.get("allow_pickle", "False") == "False", file
            assert values.get("shell", "False") == "False", file


@pytest.mark.fault("R11")
def test_no_module_downloads_anything_itself():
    network = {"urllib", "http", "requests", "httpx", "socket", "ftplib", "aiohttp", "huggingface_hub"}
    for file, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        # One module asks the cache and the server of published weights; timm and torchvision download them.
        allowed = {"urllib", "huggingface_hub"} if file == "published.py" else {"urllib"}
        assert not {name.partition(".")[0] for name in names} & network - allowed, file
        assert not {name for name in names if name in ("urllib.request", "urllib")}, file


@pytest.mark.fault("R11")
def test_pretrained_weights_come_over_https_with_their_checksum(monkeypatch):
    calls = []

    def download(url, *args, **options):
        calls.append((url, options))
        raise RuntimeError("invalid hash value")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    monkeypatch.setattr("counterpoise.models.published.check_reachable", lambda model, url: None)
    with pytest.raises(
        ArgumentError, match=r"weights of torchvision:resnet18 could not be loaded .*invalid hash value"
    ):
        build_model("torchvision:resnet18", 2, pretrained=True)
    ((url, options),) = calls
    assert url.startswith("https://")
    assert options["check_hash"] is True


def test_tensors_without_elements_are_saved_with_their_digest(tmp_path):
    run, loaded = RunFolder(tmp_path), []
    tensors = {"a": torch.tensor([]), "b": torch.ones(2, 0), "c": torch.tensor(1.5)}
    run.write_checkpoint(tensors, {"step": "1", "note": ""})
    run.load_checkpoint(lambda found, metadata: loaded.append(found))
    assert {name: tensor.shape for name, tensor in loaded[0].items()} == {name: t.shape for name, t in tensors.items()}


def test_a_checkpoint_of_nothing_is_refused(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(safetensors_file({}, b""))
    with pytest.raises(ArtifactError, match="does not have the SHA-256"):
        RunFolder(tmp_path).load_checkpoint(lambda found, metadata: None)


@pytest.mark.parametrize(
    "epochs", ["12", ["12"], {"a": [1.0]}, [[1.0, "2"]], [[True]], [[None]], [[2**53 + 1]], [[10**400]], None, [1.0]]
)
def test_class_weights_of_epochs_are_numbers_and_not_cast(tmp_path, epochs):
    (tmp_path / "weights.json").write_text(json.dumps({"classes": ["a"], "epochs": epochs}))
    with pytest.raises(ArtifactError, match=r"weights\.json is damaged \(.*epochs"):
        RunFolder(tmp_path).read_weights()


@pytest.mark.parametrize("number", ["1_0", "١", "１", " 1", "1 ", "0x1", "infinity", "\u20281"])
def test_numbers_of_the_history_are_as_they_were_written(tmp_path, number):
    run = RunFolder(tmp_path)
    run.write_history([dict.fromkeys(HISTORY_COLUMNS, 7.5)])
    assert run.read_history()[0]["loss"] == 7.5
    text = (tmp_path / "history.csv").read_text("utf-8")
    (tmp_path / "history.csv").write_text(text.replace("7.5", number), "utf-8")
    with pytest.raises(ArtifactError, match=r"history\.csv is damaged \(.* is not a number"):
        run.read_history()
