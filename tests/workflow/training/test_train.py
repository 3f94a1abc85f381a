"""A run: what it leaves, that it learns, repeats, resumes, and refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from tests.workflow.blobs import blobs

from counterpoise import losses
from counterpoise.core import files as files_module
from counterpoise.core.artifacts import LogitTransform, Predictions, Run, Strategy
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError, DatasetError, TrainingError
from counterpoise.models import build_model
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.strategy import CATALOG
from counterpoise.workflow.training import RunFolder, Settings, TrainingSetup, run_posthoc, run_training, train
from counterpoise.workflow.training import loop as loop_module
from counterpoise.workflow.training import trainer as trainer_module
from counterpoise.workflow.training.run_folder import FILES as RUN_FILES
from counterpoise.workflow.training.run_folder import RESULTS

FILES = ["history.csv", "model.safetensors", "predictions-test.npz", "predictions-train.npz", "predictions-val.npz"]


def test_a_run_learns_and_leaves_its_files(dataset, tmp_path):
    run = train("baseline", dataset, epochs=12, out=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [*FILES, "run.json"]
    test = Predictions.load(tmp_path / "run" / "predictions-test.npz")
    assert test.labels.tolist() == dataset.subset("test").labels.tolist()
    assert test.paths.tolist() == list(dataset.subset("test").paths)
    assert test.classes.tolist() == list(dataset.classes)
    assert (test.logits.argmax(1) == test.labels).mean() > 0.6
    assert run.steps == 24
    assert run.starts == (0,)
    with (tmp_path / "run" / "history.csv").open() as lines:
        history = list(csv.DictReader(lines))
    assert [int(row["epoch"]) for row in history] == list(range(1, 13))
    assert float(history[-1]["loss"]) < float(history[0]["loss"])


def test_the_saved_model_takes_plain_images_and_gives_the_saved_scores(dataset, tmp_path):
    run = train("baseline", dataset, epochs=2, out=tmp_path / "run")
    model = build_model(run.model, len(run.classes))
    model.load_state_dict(RunFolder(tmp_path / "run").read_tensors("model.safetensors")[0])
    test = dataset.subset("test")
    images = torch.stack([torch.from_numpy(test[i]) for i in range(len(test))]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        logits = model.eval()(images).numpy()
    np.testing.assert_allclose(
        logits, Predictions.load(tmp_path / "run" / "predictions-test.npz").logits, rtol=1e-4, atol=1e-4
    )


def test_train_recall_is_the_recall_on_the_training_images(dataset, tmp_path):
    run = train("oversample", dataset, epochs=3, out=tmp_path / "run")
    saved = Predictions.load(tmp_path / "run" / "predictions-train.npz")
    right = saved.logits.argmax(1) == saved.labels
    assert run.train_recall == tuple(right[saved.labels == c].mean() for c in range(3))


def test_the_record_has_no_path_of_this_machine(dataset, tmp_path):
    train("baseline", dataset, epochs=1, out=tmp_path / "run")
    assert str(tmp_path) not in (tmp_path / "run" / "run.json").read_text()
    assert Run.load(tmp_path / "run" / "run.json").directory == "."


@pytest.mark.fault("C17")
def test_the_same_seed_gives_the_same_bits_and_another_does_not(dataset, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("class-balanced-sampling", dataset, seed=seed, epochs=2, out=tmp_path / name)
    a, b, c = (Predictions.load(tmp_path / name / "predictions-test.npz").logits for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert (tmp_path / "a" / "history.csv").read_bytes() == (tmp_path / "b" / "history.csv").read_bytes()


def test_training_leaves_the_callers_generator_alone(dataset, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("baseline", dataset, epochs=1, out=tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


class Interrupted(Exception):
    pass


@pytest.mark.fault("C7")
@pytest.mark.parametrize("strategy", ["baseline", "oversample"])
@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(dataset, tmp_path, strategy, stop_at):
    def stop(done, total):
        if done == stop_at:
            raise Interrupted

    train(strategy, dataset, epochs=3, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(strategy, dataset, epochs=3, out=tmp_path / "parts", progress=stop)
    run = train(strategy, dataset, epochs=3, out=tmp_path / "parts", resume=True)
    assert run.starts == (0, (stop_at - 1) // 2 * 2)  # two steps an epoch; saved after each
    for name in ("model.safetensors", "history.csv", "predictions-test.npz", "predictions-val.npz"):
        if name.endswith("npz"):
            whole, parts = (Predictions.load(tmp_path / part / name).logits for part in ("whole", "parts"))
            np.testing.assert_array_equal(whole, parts)
        else:
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


@pytest.mark.fault("C7")
def test_a_resumed_run_draws_the_dropout_of_an_uninterrupted_one(dataset, tmp_path, monkeypatch):
    original = trainer_module.build_model

    def with_dropout(*args, **options):
        model = original(*args, **options)
        model.backbone = torch.nn.Sequential(model.backbone, torch.nn.Dropout(0.5))
        return model

    def stop(done, total):
        if done == 3:
            raise Interrupted

    monkeypatch.setattr(trainer_module, "build_model", with_dropout)
    train("baseline", dataset, epochs=2, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train("baseline", dataset, epochs=2, out=tmp_path / "parts", progress=stop)
    assert train("baseline", dataset, epochs=2, out=tmp_path / "parts", resume=True).starts == (0, 2)
    whole, parts = (tmp_path / part / "history.csv" for part in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_a_run_resumes_although_texts_have_changed_and_a_default_is_no_longer_stated(dataset, tmp_path):
    def stop(done, total):
        if done == 3:
            raise Interrupted

    train("focal", dataset, epochs=3, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train("focal", dataset, epochs=3, out=tmp_path / "parts", progress=stop)
    record = tmp_path / "parts" / "run.json"
    before = json.loads(record.read_text())
    before["strategy"] |= {"summary": "other words", "reference": "", "reason": "why", "loss_options": {}}
    record.write_text(json.dumps(before))
    assert train("focal", dataset, epochs=3, out=tmp_path / "parts", resume=True).starts == (0, 2)
    whole, parts = (Predictions.load(tmp_path / part / "predictions-test.npz").logits for part in ("whole", "parts"))
    np.testing.assert_array_equal(whole, parts)
    before["strategy"]["loss_options"] = {"gamma": 1.0}
    record.write_text(json.dumps(before))
    with pytest.raises(ArtifactError, match=r"its strategy has loss gamma = 1\.0, and 2\.0 was asked for"):
        train("focal", dataset, epochs=3, out=tmp_path / "parts", resume=True)


def test_tau_norm_alone_normalises_the_head_that_it_has_trained(dataset, tmp_path):
    run = train("tau-norm", dataset, epochs=2, out=tmp_path / "run")
    plain = train("baseline", dataset, epochs=2, out=tmp_path / "base")
    tensors, _ = RunFolder(tmp_path / "base").read_tensors("model.safetensors")
    weight, bias = tensors["head.weight"].numpy(), tensors["head.bias"].numpy()
    raw, final = (Predictions.load(tmp_path / name / "predictions-test.npz").logits for name in ("base", "run"))
    expected = (raw - bias) / np.linalg.norm(weight, axis=1) ** run.fitted["tau"]
    np.testing.assert_allclose(final, expected, rtol=1e-4, atol=1e-5)
    assert run.steps == plain.steps


def test_resume_without_a_checkpoint_starts_from_the_beginning(dataset, tmp_path):
    assert train("baseline", dataset, epochs=1, out=tmp_path / "run", resume=True).starts == (0,)


def test_a_finished_run_is_not_trained_again(dataset, tmp_path):
    first = train("baseline", dataset, epochs=1, out=tmp_path / "run")
    calls = []
    again = train(
        "baseline", dataset, epochs=1, out=tmp_path / "run", resume=True, progress=lambda *step: calls.append(step)
    )
    assert not calls
    assert dataclasses.replace(again, directory="") == dataclasses.replace(first, directory="")


@pytest.fixture
def bitmaps(tmp_path):
    """Two classes of BMP files, which all have the same size and the same modification time."""
    for number, name in enumerate(f"{split}/{label}" for split in ("train", "val", "test") for label in "ab"):
        for i in range(4):
            path = tmp_path / "bitmaps" / name / f"{i}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng((number, i)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "bitmaps"


def exchange(first, second):
    first.rename(first.with_suffix(".old"))
    second.rename(first)
    first.with_suffix(".old").rename(second)


@pytest.mark.fault("S15")
@pytest.mark.parametrize("replaced", ["train/a/0.bmp", "test/a/3.bmp"])
def test_images_exchanged_between_a_kill_and_the_resumption_are_noticed(bitmaps, tmp_path, replaced):
    def stop(done, total):
        raise Interrupted

    with pytest.raises(Interrupted):
        train("baseline", bitmaps, epochs=2, out=tmp_path / "run", progress=stop)
    exchange(bitmaps / replaced, bitmaps / replaced.replace("/a/", "/b/"))
    with pytest.raises(ArtifactError, match=r"its data has content = 'content \w+.*was asked for.*`overwrite`"):
        train("baseline", bitmaps, epochs=2, out=tmp_path / "run", resume=True)
    exchange(bitmaps / replaced, bitmaps / replaced.replace("/a/", "/b/"))
    for path in bitmaps.rglob("*.bmp"):
        path.touch()  # a copy of the folder has other times, and the same content
    assert train("baseline", bitmaps, epochs=2, out=tmp_path / "run", resume=True).status == "done"


def test_of_large_data_the_sizes_and_times_are_compared(bitmaps, tmp_path, monkeypatch):
    monkeypatch.setattr("counterpoise.core.images._MOST_HASHED", 1000)
    run = train("baseline", bitmaps, epochs=1, out=tmp_path / "run")
    assert re.fullmatch("size and time [0-9a-f]{64}", run.data["content"])
    assert train("baseline", bitmaps, epochs=1, out=tmp_path / "run", resume=True) == run
    os.utime(bitmaps / "val/b/2.bmp", ns=(10**18, 10**18 + 1))
    with pytest.raises(ArtifactError, match="its data has content = 'size and time"):
        train("baseline", bitmaps, epochs=1, out=tmp_path / "run", resume=True)


def test_pixels_in_memory_count_as_content(dataset, tmp_path):
    train("baseline", dataset, epochs=1, out=tmp_path / "run")
    dataset.pixels[7, 0, 0, 0] ^= 1
    with pytest.raises(ArtifactError, match="its data has content = 'content"):
        train("baseline", dataset, epochs=1, out=tmp_path / "run", resume=True)


def test_a_run_that_does_not_record_the_content_is_resumed(dataset, tmp_path):
    first = train("baseline", dataset, epochs=1, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["data"]["content"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert train("baseline", dataset, epochs=1, out=tmp_path / "run", resume=True).starts == first.starts


@pytest.mark.fault("C6")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "its settings has epochs = 2, and 3 was asked for"),
        ({"strategy": "focal"}, "its strategy has name = 'baseline', and 'focal' was asked for"),
        ({"seed": 1}, "its seed is '0', and '1' was asked for"),
        ({"data": blobs(seed=1, counts={"train": (30, 9, 3), "val": (4, 4, 4), "test": (4, 4, 4)})}, "its data has"),
    ],
)
def test_another_run_in_the_folder_is_refused_with_the_difference(dataset, tmp_path, change, message):
    same = {"strategy": "baseline", "data": dataset, "epochs": 2}
    train(**same, out=tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(ArtifactError, match=message):
        train(**{**same, **change}, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def interrupted(dataset, out, *, at=5, strategy="baseline"):
    """Train for three epochs of two steps each, and stop after step ``at``."""

    def stop(done, total):
        if done == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(strategy, dataset, epochs=3, out=out, progress=stop)


def same_model(one, two):
    a, b = (RunFolder(folder).read_tensors("model.safetensors")[0] for folder in (one, two))
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def flip_bit(file, *, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 4
    file.write_bytes(content)


def edit(file, *, drop=(), **metadata):
    """Write a checkpoint with other metadata as a version without digests would have."""
    tensors, before = RunFolder(file.parent).read_tensors(file.name)
    kept = {name: tensor for name, tensor in tensors.items() if name not in drop}
    before.pop("sha256")
    safetensors.torch.save_file(kept, file, {**before, **metadata})


@pytest.mark.fault("C4")
@pytest.mark.parametrize("strategy", ["baseline", "decoupled", "adaptive-weights"])
def test_a_damaged_checkpoint_is_replaced_by_the_previous_one_with_the_same_result(dataset, tmp_path, strategy):
    train(strategy, dataset, epochs=3, out=tmp_path / "whole")
    interrupted(dataset, tmp_path / "run", strategy=strategy)
    flip_bit(tmp_path / "run" / "checkpoint.safetensors", at=-5000)
    with pytest.warns(UserWarning, match=r"checkpoint\.safetensors is damaged .*continues from checkpoint-previous\.s"):
        run = train(strategy, dataset, epochs=3, out=tmp_path / "run", resume=True)
    assert run.starts == (0, 2)
    assert same_model(tmp_path / "whole", tmp_path / "run")
    assert (tmp_path / "whole" / "history.csv").read_bytes() == (tmp_path / "run" / "history.csv").read_bytes()


@pytest.mark.fault("C4")
@pytest.mark.parametrize("at", [40, 200, -1, -2000])
def test_one_flipped_bit_in_the_only_checkpoint_is_refused_with_what_to_do(dataset, tmp_path, at):
    interrupted(dataset, tmp_path, at=3)
    flip_bit(tmp_path / "checkpoint.safetensors", at=at)
    with pytest.raises(ArtifactError, match=r"checkpoint\.safetensors is damaged .*\(--overwrite\)"):
        train("baseline", dataset, epochs=3, out=tmp_path, resume=True)


def test_a_truncated_checkpoint_is_named(dataset, tmp_path):
    interrupted(dataset, tmp_path, at=3)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"checkpoint\.safetensors is damaged"):
        train("baseline", dataset, epochs=3, out=tmp_path, resume=True)


@pytest.mark.fault("C4")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "999999"}, "`step` is '999999'"),
        ({"step": "4"}, r"history\.csv has other epochs"),
        ({"step": "abc"}, "`step` is 'abc'"),
        ({"step": "3"}, "not the end of an epoch"),
        ({"drop": ["rng"]}, "tensor 'rng' does not fit"),
        ({"drop": ["model.head.weight"]}, "tensor 'model.head.weight' does not fit"),
    ],
)
def test_a_checkpoint_without_digest_must_fit_the_run(dataset, tmp_path, change, reason):
    interrupted(dataset, tmp_path, at=3)
    edit(tmp_path / "checkpoint.safetensors", **change)
    with pytest.raises(ArtifactError, match=rf"checkpoint\.safetensors is damaged .*{reason}"):
        train("baseline", dataset, epochs=3, out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trained": "2"}, "history.csv has other"),
        ({"drop": ["logits.val"]}, "its logits"),
        ({"trained": "0"}, "is '0'"),
    ],
)
def test_a_checkpoint_of_separate_models_must_fit_the_run(dataset, tmp_path, change, reason):
    interrupted(dataset, tmp_path, strategy="hierarchical-separate")
    edit(tmp_path / "checkpoint.safetensors", **change)
    with pytest.raises(ArtifactError, match=rf"checkpoint\.safetensors is damaged .*{reason}"):
        train("hierarchical-separate", dataset, epochs=3, out=tmp_path, resume=True)


def test_a_checkpoint_of_an_earlier_version_without_digest_is_resumed(dataset, tmp_path):
    train("baseline", dataset, epochs=3, out=tmp_path / "whole")
    interrupted(dataset, tmp_path / "run")
    edit(tmp_path / "run" / "checkpoint.safetensors")
    assert train("baseline", dataset, epochs=3, out=tmp_path / "run", resume=True).starts == (0, 4)
    assert same_model(tmp_path / "whole", tmp_path / "run")


@pytest.mark.fault("C4")
@pytest.mark.parametrize("content", ["", "epoch,step\n1,2\n", "{header}\n1,x,,,,,\n", "{header}\n1,7,1,1,1,1,1\n"])
def test_a_history_that_does_not_match_the_checkpoint_is_refused(dataset, tmp_path, content):
    interrupted(dataset, tmp_path, at=3)
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    (tmp_path / "history.csv").write_text(content.format(header=header))
    with pytest.raises(ArtifactError, match=r"history\.csv"):
        train("baseline", dataset, epochs=3, out=tmp_path, resume=True)


@pytest.mark.fault("C1")
def test_a_kill_between_the_two_checkpoints_loses_one_epoch_and_no_bit(dataset, tmp_path):
    train("baseline", dataset, epochs=3, out=tmp_path / "whole")
    interrupted(dataset, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert train("baseline", dataset, epochs=3, out=tmp_path / "run", resume=True).starts == (0, 2)
    assert same_model(tmp_path / "whole", tmp_path / "run")


def test_files_of_others_are_protected_and_overwrite_removes_only_ours(dataset, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds other files \(notes.txt\)"):
        train("baseline", dataset, epochs=1, out=tmp_path)
    train("baseline", dataset, epochs=1, out=tmp_path, overwrite=True)
    train("focal", dataset, epochs=1, out=tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert Run.load(tmp_path / "run.json").strategy.name == "focal"


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.fault("C1")
def test_overwrite_keeps_the_old_run_until_the_new_one_is_done_and_resume_continues_the_new_one(dataset, tmp_path):
    train("adaptive-weights", dataset, epochs=3, out=tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    old = contents(tmp_path / "run")

    def stop(done, total):
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train("focal", dataset, epochs=3, out=tmp_path / "run", overwrite=True, progress=stop)
    assert contents(tmp_path / "run") == old
    run = train("focal", dataset, epochs=3, out=tmp_path / "run", resume=True)
    assert run.starts == (0, 2)
    assert run.directory == str(tmp_path / "run")
    train("focal", dataset, epochs=3, out=tmp_path / "whole")
    assert same_model(tmp_path / "run", tmp_path / "whole")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted([*FILES, "run.json", "notes.txt"])


@pytest.mark.fault("C1")
@pytest.mark.parametrize("stop_at", range(1, 8))
def test_a_replacement_that_is_killed_half_way_is_completed_by_the_next_start(dataset, tmp_path, monkeypatch, stop_at):
    train("adaptive-weights", dataset, epochs=1, out=tmp_path / "run")
    train("focal", dataset, epochs=1, out=tmp_path / "run" / ".counterpoise-new")
    new, calls = contents(tmp_path / "run" / ".counterpoise-new"), []

    def kill(original):
        def step(*args, **options):
            calls.append(args)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return original(*args, **options)

        return step

    with monkeypatch.context() as patched:
        for name in ("unlink", "replace", "mkdir"):
            patched.setattr(files_module.Path, name, kill(getattr(files_module.Path, name)))
        with pytest.raises(KeyboardInterrupt):
            files_module.replace_files(tmp_path / "run", RUN_FILES)
    train("focal", dataset, epochs=1, out=tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == new
    assert not (tmp_path / "run" / ".counterpoise-new").exists()


@pytest.mark.fault("C1")
def test_temporary_files_of_a_killed_process_are_removed_on_the_next_start(dataset, tmp_path):
    interrupted(dataset, tmp_path)
    (tmp_path / ".checkpoint.safetensors.ab12_xyz.tmp").write_bytes(b"half")
    (tmp_path / ".mine.ab12_xyz.tmp").write_text("not ours")
    train("baseline", dataset, epochs=3, out=tmp_path, resume=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine.ab12_xyz.tmp", *FILES, "run.json"]


@pytest.mark.fault("C9")
def test_a_failed_training_records_its_error_and_resumes_as_usual(dataset, tmp_path):
    with pytest.raises(TrainingError, match="the loss is"):
        train("baseline", dataset, epochs=3, learning_rate=1e20, out=tmp_path)
    run = RunFolder(tmp_path).read_run()
    assert run.status == "failed"
    assert "the loss is" in run.error
    with pytest.raises(TrainingError, match="the loss is"):
        train("baseline", dataset, epochs=3, learning_rate=1e20, out=tmp_path, resume=True)


@pytest.mark.fault("C9")
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(dataset, tmp_path, monkeypatch):
    original = loop_module.TrainingLoop.train_step

    def poisoned(self, batch):
        value = original(self, batch)
        return value * float("nan") if self.step == 3 else value

    monkeypatch.setattr(loop_module.TrainingLoop, "train_step", poisoned)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 3 of 6 .*lower `learning_rate`"):
        train("baseline", dataset, epochs=3, out=tmp_path / "run")


def test_mistakes_come_before_anything_is_written(dataset, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ArgumentError, match="strategy 'focall' is unknown; did you mean focal"):
        train("focall", dataset, out=out)
    with pytest.raises(ArgumentError, match=r"`model` 'resnet21' is unknown; did you mean .*resnet20"):
        train("baseline", dataset, model="resnet21", out=out)
    with pytest.raises(ArgumentError, match="no weights are published for 'resnet20'"):
        train("baseline", dataset, model="resnet20", pretrained=True, out=out)
    with pytest.raises(ArgumentError, match="`modle` is an unknown training setting"):
        train("baseline", dataset, modle="resnet20", out=out)
    with pytest.raises(DatasetError, match="nowhere"):
        train("baseline", tmp_path / "nowhere", out=out)
    with pytest.raises(ArgumentTypeError, match="`data` must be a dataset, got list; pass the dataset that"):
        train("baseline", [1, 2], out=out)
    for posthoc, message in (("adjust_logits", 'use loss="cross_entropy"'), ("tau_normalize", 'use head="linear"')):
        mine = Strategy("mine", "", loss="ldam", head="cosine", posthoc=posthoc)
        with pytest.raises(ArgumentError, match=f"posthoc '{posthoc}' needs .*{message}"):
            train(mine, dataset, out=out)
    assert not out.exists()


def test_a_class_without_training_images_is_never_predicted_and_breaks_nothing(tmp_path):
    data = blobs({"train": (20, 8, 0), "val": (4, 4, 0), "test": (6, 6, 6)})
    for name in CATALOG:
        if CATALOG[name].reuses is None:
            run = train(name, data, epochs=2, out=tmp_path / name)  # decoupled has two stages
            scores = Predictions.load(tmp_path / name / "predictions-test.npz").logits
            assert np.isneginf(scores[:, 2]).all()
            assert np.isfinite(scores[:, :2]).all(), name
            assert run.train_recall[2] is None


def test_images_that_cannot_be_decoded_are_quarantined_and_training_goes_on(dataset, monkeypatch):
    original = type(dataset).__getitem__

    def damaged(self, index):
        if self.paths[index] in ("train/common/3", "test/rare/85"):
            raise DatasetError(f"{self.paths[index]} is truncated")
        return original(self, index)

    monkeypatch.setattr(type(dataset), "__getitem__", damaged)
    setup = TrainingSetup.prepare(dataset, Settings())
    assert {item.path: item.split for item in setup.data.quarantined} == {
        "train/common/3": "train",
        "test/rare/85": "test",
    }
    assert len(setup.images["train"]) == 53
    assert setup.counts.counts.tolist() == [39, 10, 4]
    assert len(setup.data) == len(dataset) - 2


def test_all_splits_have_the_first_image_size_after_quarantine(dataset, monkeypatch):
    original, sizes = type(dataset).__getitem__, iter((8, 6))

    def damaged(self, index):
        if self.paths[index] == "train/common/3":
            raise DatasetError(f"{self.paths[index]} is truncated")
        return original(self, index)

    monkeypatch.setattr(type(dataset), "__getitem__", damaged)
    monkeypatch.setattr("counterpoise.workflow.training.settings.native_size", lambda images: next(sizes))
    setup = TrainingSetup.prepare(dataset, Settings())
    assert setup.settings.image_size == 8
    assert {images.size for images in setup.images.values()} == {8}


def test_a_class_without_training_images_is_never_predicted(tmp_path):
    data = blobs({"train": (40, 10, 0), "val": (10, 5, 5), "test": (10, 5, 5)})
    run = train("baseline", data, epochs=1, out=tmp_path / "run")
    logits = Predictions.load(tmp_path / "run" / "predictions-test.npz").logits
    assert np.isneginf(logits[:, 2]).all()
    assert np.isfinite(logits[:, :2]).all()
    assert run.transforms == (LogitTransform("exclude", {"classes": [2]}),)


def test_training_logits_that_are_too_many_to_save_give_a_warning(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("counterpoise.workflow.training.results.MAX_TRAIN_LOGITS", 161)
    with pytest.warns(UserWarning, match=r"predictions-train\.npz is not written, because its 162 logits .* than 161"):
        run = train("baseline", dataset, epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run" / "predictions-train.npz").exists()
    assert len(run.train_recall) == 3


@pytest.mark.parametrize(
    ("loss", "calls"),
    [(losses.CrossEntropyLoss, 1), (losses.FocalLoss, 1), (losses.SigmoidFocalLoss, 0), (losses.AsymmetricLoss, 0)],
)
def test_only_weighted_softmax_losses_get_the_normalizer_of_all_processes(loss, calls, monkeypatch):
    found = []

    def normalizer(target, *, weight):
        found.append(weight.tolist())
        return torch.tensor(7.0)

    monkeypatch.setattr(loop_module, "global_normalizer", normalizer)
    weighted, logits, target = loss(weight=[1.0, 2.0, 3.0]), torch.randn(4, 3), torch.tensor([0, 0, 1, 2])
    loop = SimpleNamespace(loss=weighted, accelerator=SimpleNamespace(num_processes=2))
    value = loop_module.TrainingLoop.compute_loss(loop, logits, target)
    assert found == [[1.0, 2.0, 3.0]] * calls
    torch.testing.assert_close(value, weighted(logits, target, normalizer=7.0) if calls else weighted(logits, target))


def test_a_corrected_run_is_the_base_run_with_corrected_scores(dataset, tmp_path):
    setup = TrainingSetup.prepare(dataset, Settings(epochs=2))
    base = run_training(
        setup, CATALOG["baseline"], seed=0, folder=RunFolder(tmp_path / "base"), progress=lambda step: None
    )
    again = run_posthoc(setup, CATALOG["post-hoc-logit-adjusted"], base, seed=0, folder=RunFolder(tmp_path / "after"))
    assert {p.name for p in (tmp_path / "after").iterdir()} == {"run.json", *RESULTS}
    model = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("base", "after")]
    assert model[0] == model[1]
    raw, adjusted = (Predictions.load(tmp_path / name / "predictions-test.npz").logits for name in ("base", "after"))
    np.testing.assert_allclose(adjusted, raw - np.log(np.array([40, 10, 4]) / 54), rtol=1e-6)
    assert again.steps == 0
    alone = train("post-hoc-logit-adjusted", dataset, epochs=2, out=tmp_path / "alone")
    assert alone.steps == 4
    np.testing.assert_allclose(
        Predictions.load(tmp_path / "alone" / "predictions-test.npz").logits, adjusted, rtol=1e-6
    )


def test_every_strategy_of_the_catalog_trains_on_an_equal_budget(dataset, tmp_path):
    for name, strategy in CATALOG.items():
        if strategy.reuses is None:
            assert train(name, dataset, epochs=2, out=tmp_path / name).steps == 4


def test_a_strategy_of_ones_own_is_data(dataset, tmp_path):
    mine = Strategy("mine", "focal on top of square-root sampling", loss="focal", loss_options={"gamma": 1.0})
    mine = dataclasses.replace(mine, sampler="class_balanced", sampler_options={"power": 0.5})
    train(mine, dataset, epochs=1, out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["strategy"]["sampler_options"] == {"power": 0.5}
    with pytest.raises(
        ArgumentError, match="strategy 'mine': loss 'dice' cannot be used in `train`; use one of cross_"
    ):
        train(Strategy("mine", "", loss="dice"), dataset, epochs=1, out=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("strategy", ["baseline", "logit-adjusted", "ldam", "remix"])
def test_a_class_without_training_images_may_have_validation_images(strategy, tmp_path):
    """Training never has it as a target; its validation loss is infinite, because it is never predicted."""
    data = blobs({"train": (40, 10, 0), "val": (12, 4, 2), "test": (4, 4, 4)})
    train(strategy, data, epochs=2, out=tmp_path / "run")
    with (tmp_path / "run" / "history.csv").open() as lines:
        history = list(csv.DictReader(lines))
    assert [float(row["val_loss"]) for row in history] == [float("inf")] * 2
    assert all(float(row["loss"]) < float("inf") for row in history)
    assert 2 not in Predictions.load(tmp_path / "run" / "predictions-val.npz").logits.argmax(1)


def test_a_loss_or_swapped_arguments_in_place_of_the_strategy_are_refused(tmp_path):
    for call in (
        lambda: train(torch.nn.CrossEntropyLoss(), blobs(), out=tmp_path),
        lambda: train(torch.nn.CrossEntropyLoss, blobs(), out=tmp_path),
        lambda: compare(blobs(), strategies=[torch.nn.CrossEntropyLoss()], out=tmp_path / "comparison"),
    ):
        with pytest.raises(ArgumentTypeError, match=r"`strateg(y|ies)` must be a name.*got CrossEntropyLoss: .*own"):
            call()
    for order in ((blobs(), "focal"), ("photos", "focal:gamma=1"), ("photos", CATALOG["focal"])):
        with pytest.raises(ArgumentTypeError, match=r"`strategy` comes first; write train\('focal', data\)"):
            train(*order, out=tmp_path)
    with pytest.raises(ArgumentError, match=r"`optimizer` must be one of 'sgd', 'adamw'; got 'adam'.*torch.optim.Adam"):
        train("focal", blobs(), optimizer="adam", out=tmp_path)
