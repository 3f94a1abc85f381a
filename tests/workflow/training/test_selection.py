"""The epoch that a run keeps, and early stopping: chosen on validation only, and the same after an interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.cli.test_cli import call
from tests.workflow.blobs import blobs

from counterpoise.core.artifacts import Predictions, Run
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.metrics import balanced_accuracy, macro_f1
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import RunFolder, Settings, train

EPOCHS = 6


class Interrupted(Exception):
    pass


def history(folder):
    return RunFolder(folder).read_history()


def model(folder):
    return (folder / "model.safetensors").read_bytes()


def values(folder, metric="balanced_accuracy"):
    return [row[f"val_{metric}"] for row in history(folder)]


def of_validation(folder, metric=balanced_accuracy):
    saved = Predictions.load(folder / "predictions-val.npz")
    return metric(saved.labels, saved.logits.argmax(1))


@pytest.mark.parametrize(("seed", "metric"), [(0, "balanced_accuracy"), (5, "macro_f1")])
def test_the_best_epoch_on_validation_is_kept_and_training_is_the_same(dataset, tmp_path, seed, metric):
    last = train("baseline", dataset, epochs=EPOCHS, seed=seed, out=tmp_path / "last")
    best = train("baseline", dataset, epochs=EPOCHS, seed=seed, keep="best", select_by=metric, out=tmp_path / "best")
    found = values(tmp_path / "best", metric)
    assert (last.best_epoch, best.best_epoch) == (None, 1 + found.index(max(found)))
    assert best.best_epoch < EPOCHS, "choose another seed: the last epoch is the best one"
    kept = of_validation(tmp_path / "best", {"balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}[metric])
    assert kept == max(found) > found[-1]
    common = ("epoch", "step", "loss", "val_loss", "val_balanced_accuracy")
    assert [[row[key] for key in common] for row in history(tmp_path / "best")] == [
        [row[key] for key in common] for row in history(tmp_path / "last")
    ]
    assert model(tmp_path / "best") != model(tmp_path / "last")
    assert {key: best.settings[key] for key in ("keep", "patience", "select_by")} == {
        "keep": "best", "patience": None, "select_by": metric,
    }  # fmt: skip
    assert last.settings["select_by"] is None
    assert f"the model has the weights of epoch {best.best_epoch}, the best one by validation" in best.notes[-1]
    # The weights are those of a training that ends there, because an epoch does not depend on the later ones.
    saved = {}

    def watch(done, total):
        if done == 2 * best.best_epoch + 1:  # the first step after the save at the end of the best epoch
            saved.update(RunFolder(tmp_path / "watched").read_tensors("checkpoint.safetensors")[0])

    train("baseline", dataset, epochs=EPOCHS, seed=seed, out=tmp_path / "watched", progress=watch)
    for name, tensor in RunFolder(tmp_path / "best").read_tensors("model.safetensors")[0].items():
        assert tensor.equal(saved[f"model.{name}"]), name


def test_training_stops_when_validation_does_not_improve(dataset, tmp_path):
    whole = train("baseline", dataset, epochs=12, out=tmp_path / "whole")
    found = values(tmp_path / "whole")
    for patience in (1, 3):
        folder = tmp_path / str(patience)
        run = train("baseline", dataset, epochs=12, patience=patience, out=folder)
        best, end = 0, 12
        for epoch, value in enumerate(found):
            best = epoch if value > found[best] else best
            if epoch - best >= patience:
                end = epoch + 1
                break
        assert end < 12, "choose another seed: it improves until the end"
        assert history(folder) == history(tmp_path / "whole")[:end]
        assert (run.steps, run.best_epoch, run.status) == (2 * end, None, "done")
        assert f"training stopped after epoch {end} of 12" in run.notes[0]
        assert of_validation(folder) == found[end - 1]  # the last epoch is kept unless `keep` says otherwise
        assert run.train_recall != ()
    assert train("baseline", dataset, epochs=12, patience=12, out=tmp_path / "long").steps == whole.steps
    assert model(tmp_path / "long") == model(tmp_path / "whole")


@pytest.mark.fault("C7")
@pytest.mark.parametrize("strategy", ["baseline", "crt", "deferred-reweighting", "adaptive-weights"])
def test_a_resumed_run_keeps_the_same_epoch_and_stops_after_the_same_one(dataset, tmp_path, strategy):
    chosen = {"epochs": 10, "keep": "best", "patience": 3}
    whole = train(strategy, dataset, **chosen, out=tmp_path / "whole")
    for stop_at in range(2, whole.steps + 1, 2 if strategy == "baseline" else 6):

        def stop(done, total, stop_at=stop_at):
            if done == stop_at:
                raise Interrupted

        folder = tmp_path / str(stop_at)
        with pytest.raises(Interrupted):
            train(strategy, dataset, **chosen, out=folder, progress=stop)
        run = train(strategy, dataset, **chosen, out=folder, resume=True)
        assert (run.best_epoch, run.steps, run.notes) == (whole.best_epoch, whole.steps, whole.notes)
        assert run.starts == (0, (stop_at - 1) // 2 * 2)
        for name in ("model.safetensors", "history.csv"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (stop_at, name)


def test_a_run_that_was_ended_before_its_results_were_written_keeps_the_best_epoch(dataset, tmp_path, monkeypatch):
    chosen = {"epochs": 8, "keep": "best", "patience": 2}
    train("baseline", dataset, **chosen, out=tmp_path / "whole")

    def end(self, *_):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_predictions", end)
        with pytest.raises(Interrupted):
            train("baseline", dataset, **chosen, out=tmp_path / "parts")
    (tmp_path / "parts" / "model.safetensors").unlink()
    train("baseline", dataset, **chosen, out=tmp_path / "parts", resume=True)
    assert model(tmp_path / "parts") == model(tmp_path / "whole")


def test_the_test_split_has_no_influence(tmp_path):
    runs = []
    for number, shift in enumerate((0, 1)):
        data = blobs()
        data.labels = np.where(data.splits == "test", (data.labels + shift) % 3, data.labels)
        chosen = {"epochs": 8, "keep": "best", "patience": 3}
        runs.append(train("baseline", data, **chosen, out=tmp_path / str(number)))
    assert runs[0].best_epoch == runs[1].best_epoch
    assert model(tmp_path / "0") == model(tmp_path / "1")


@pytest.mark.parametrize(("strategy", "start"), [("crt", 6), ("deferred-reweighting", 6)])
def test_only_epochs_after_the_last_change_of_a_strategy_compete(dataset, tmp_path, strategy, start, monkeypatch):
    options = {"crt": "crt:share=0.4", "deferred-reweighting": "deferred-reweighting:start=0.6"}
    run = train(options[strategy], dataset, epochs=10, keep="best", patience=1, out=tmp_path / "run")
    found = values(tmp_path / "run")
    assert run.best_epoch > start
    assert found[run.best_epoch - 1] == max(found[start:])
    assert len(found) > start + 1


def test_what_cannot_be_chosen_by_validation_is_refused_before_any_work(dataset, tmp_path):
    for chosen, name in (({"keep": "best"}, "`keep` 'best'"), ({"patience": 2}, "`patience`")):
        with pytest.raises(
            ArgumentError, match=f"{name} has no meaning for strategy 'hierarchical-separate': .*leave it"
        ):
            train("hierarchical-separate", dataset, **chosen, out=tmp_path / "out")
        with pytest.raises(ArgumentError, match=f"{name} has no meaning for strategy 'hierarchical-separate'"):
            compare(dataset, strategies="hierarchical-separate", **chosen, out=tmp_path / "out")
        without = blobs({"train": (10, 5, 5), "test": (3, 3, 3)})
        with pytest.raises(
            ArgumentError, match=f"{name} chooses an epoch on validation images, and blobs has none; add"
        ):
            train("baseline", without, **chosen, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for chosen, message in (
        ({"keep": "first"}, "`keep` must be one of 'last', 'best'; got 'first'"),
        ({"patience": 0}, "`patience` must be at least 1; got 0"),
        ({"select_by": "f1"}, "`select_by` must be one of 'accuracy', .*; got 'f1'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Settings(**chosen)


def test_more_epochs_than_the_run_had_are_refused_with_the_reason_and_a_way_out(dataset, tmp_path):
    def stop(done, total):
        if done == 3:
            raise Interrupted

    train("baseline", dataset, epochs=2, out=tmp_path / "done")
    with pytest.raises(Interrupted):
        train("baseline", dataset, epochs=2, out=tmp_path / "parts", progress=stop)
    reason = (
        "its settings has epochs = 2, and 3 was asked for. The learning rate follows a schedule over all epochs, so "
        "the epochs of a longer or shorter training are others and cannot be added; keep or continue this run with "
        "`epochs` 2, or train for 3 epochs from the beginning; choose another folder, or start again with `overwrite`"
    )
    for folder in ("done", "parts"):
        with pytest.raises(ArtifactError) as caught:
            train("baseline", dataset, epochs=3, out=tmp_path / folder, resume=True)
        assert str(caught.value) == f"{tmp_path / folder} holds another run: {reason}"
    with pytest.raises(ArtifactError, match=r"holds another run: its settings has momentum = 0\.9") as caught:
        train("baseline", dataset, epochs=2, momentum=0.8, out=tmp_path / "done", resume=True)
    assert "schedule" not in str(caught.value)
    assert train("baseline", dataset, epochs=2, out=tmp_path / "parts", resume=True).status == "done"
    command = ("train", "digits", "--strategy", "focal", "--out", tmp_path / "cli")
    call(*command, "--epochs", 1)
    (line,) = call(*command, "--epochs", 2, "--resume", code=2).stderr.splitlines()
    assert "with `--epochs` 1, or train for 2 epochs" in line


def test_a_run_of_a_version_without_these_settings_is_resumed(dataset, tmp_path):
    first = train("baseline", dataset, epochs=1, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for name in ("keep", "patience", "select_by"):
        del record["settings"][name]
    del record["best_epoch"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert train("baseline", dataset, epochs=1, out=tmp_path / "run", resume=True).starts == first.starts
    with pytest.raises(ArtifactError, match="its settings has keep = 'last', and 'best' was asked for"):
        train("baseline", dataset, epochs=1, keep="best", out=tmp_path / "run", resume=True)


def test_a_history_that_was_changed_is_noticed(dataset, tmp_path):
    def stop(done, total):
        if done == 11:
            raise Interrupted

    with pytest.raises(Interrupted):
        train("baseline", dataset, epochs=EPOCHS, keep="best", out=tmp_path, progress=stop)
    rows = history(tmp_path)
    worst = min(rows, key=lambda row: row["val_balanced_accuracy"])
    worst["val_balanced_accuracy"] = 1.0
    RunFolder(tmp_path).write_history(rows)
    with pytest.raises(ArtifactError, match=r"damaged \(history.csv has another best epoch\); start again"):
        train("baseline", dataset, epochs=EPOCHS, keep="best", out=tmp_path, resume=True)


def test_a_comparison_says_that_budgets_differ_and_that_validation_chose_the_epochs(dataset, tmp_path):
    chosen = {"strategies": "adaptive-weights,post-hoc-logit-adjusted", "seeds": 2, "epochs": 12}
    result = compare(dataset, **chosen, keep="best", patience=2, select_by="macro_f1", out=tmp_path / "short")
    ends = {run.parent.name: len(history(run.parent)) for run in (tmp_path / "short").glob("runs/*/history.csv")}
    trained = [n for n in ends.values() if n]
    assert len(set(trained)) > 1, "choose another seed: all runs end with the same epoch"
    (budget,) = [note for note in result.verdict.notes if "same budget" in note]
    assert f"with `--patience 2` they stopped after {min(trained)} (" in budget
    assert f"to {max(trained)} (" in budget
    assert any(note.startswith("validation has chosen the epoch of every model") for note in result.verdict.notes)
    run = Run.load(tmp_path / "short" / "runs" / "baseline-seed0" / "run.json")
    assert run.settings["select_by"] == "macro_f1"
    assert run.best_epoch == 1 + int(np.argmax(values(tmp_path / "short" / "runs" / "baseline-seed0", "macro_f1")))
    plain = compare(dataset, strategies="focal", seeds=1, epochs=1, out=tmp_path / "plain")
    assert not [note for note in plain.verdict.notes if "budget" in note or "has chosen the epoch" in note]
