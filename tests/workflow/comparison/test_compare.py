"""The whole flow on a small dataset: equal budget, every number again from the predictions, failures kept apart."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from tests.workflow.blobs import blobs
from tests.workflow.evaluation.recompute import recompute_comparison

import counterpoise as cp
from counterpoise.core import codec
from counterpoise.core.artifacts import Comparison, Predictions, Run, Strategy
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.text import metric_name
from counterpoise.metrics import METRICS
from counterpoise.workflow.audit import audit
from counterpoise.workflow.comparison import compare, engine
from counterpoise.workflow.comparison.engine import Task, run_tasks
from counterpoise.workflow.comparison.experiment import _advised
from counterpoise.workflow.evaluation import evaluate
from counterpoise.workflow.report.formatting import METRIC_DEFINITIONS
from counterpoise.workflow.strategy import CATALOG
from counterpoise.workflow.training import Settings, TrainingSetup, run_training, train

ASKED = ("weighted-ce", "post-hoc-logit-adjusted")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison") / "out"
    return compare(blobs(), strategies=ASKED, seeds=2, epochs=3, out=out), out


@pytest.mark.parametrize(("tree", "is_advised"), [("auto", False), ("balanced", True)])
def test_a_class_tree_that_the_settings_name_is_compared_by_default(dataset, tree, is_advised):
    setup = TrainingSetup.prepare(dataset, Settings(epochs=1, tree=tree))
    assert ("hierarchical" in [s.name for s in _advised(audit(dataset), setup)]) == is_advised


def test_it_leaves_what_the_contract_names(compared):
    comparison, out = compared
    assert sorted(p.name for p in out.iterdir()) == ["comparison.json", "report.html", "runs"]
    runs = [f"{name}-seed{seed}" for name in ("baseline", *ASKED) for seed in (0, 1)]
    assert sorted(p.name for p in (out / "runs").iterdir()) == sorted(runs)
    assert Comparison.load(out / "comparison.json") == comparison
    assert str(out) not in (out / "comparison.json").read_text()


def test_every_number_can_be_computed_again_from_the_predictions_alone(compared):
    _, out = compared
    assert recompute_comparison(out) == 3 * 2 * 2  # arms × seeds × splits


def test_a_number_that_is_wrong_in_the_ninth_digit_is_noticed(compared, tmp_path):
    _, out = compared
    data = json.loads((out / "comparison.json").read_text())
    data["arms"][1]["test"][0]["balanced_accuracy"] += 1e-8
    (tmp_path / "comparison.json").write_text(json.dumps(data))
    (tmp_path / "runs").symlink_to(out / "runs")
    with pytest.raises(AssertionError):
        recompute_comparison(tmp_path)


def test_the_budget_is_equal_and_a_corrected_strategy_trains_nothing(compared):
    comparison, out = compared
    steps = {
        arm.strategy.name: [Run.load(out / d / "run.json").steps for d in arm.directories] for arm in comparison.arms
    }
    assert steps == {"baseline": [6, 6], "weighted-ce": [6, 6], "post-hoc-logit-adjusted": [0, 0]}
    one, other = (out / f"runs/{name}-seed0/model.safetensors" for name in ("baseline", "post-hoc-logit-adjusted"))
    assert one.samefile(other)


def test_the_corrected_scores_are_the_baselines(compared):
    _, out = compared
    raw, adjusted = (
        Predictions.load(out / f"runs/{name}-seed1/predictions-test.npz").logits for name in ("baseline", ASKED[1])
    )
    np.testing.assert_allclose(adjusted - raw, np.tile(-np.log(np.array([40, 10, 4]) / 54), (30, 1)), atol=1e-5)


def test_the_choice_is_made_on_validation(compared):
    comparison, _ = compared
    best = max(comparison.arms, key=lambda arm: arm.scores["val"]["balanced_accuracy"].mean)
    assert best.strategy.name == comparison.verdict.leader


def test_the_metric_to_choose_by_is_that_of_validation_in_the_verdict_the_differences_and_the_report(
    compared, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(compared[1], out)
    options = {"strategies": ASKED, "seeds": 2, "epochs": 3, "out": out, "resume": True}
    for metric in METRICS:
        found = compare(blobs(), select_by=metric, **options)
        means = {arm.strategy.name: arm.scores["val"][metric].mean for arm in found.arms}
        assert found.metric == metric
        assert means[found.verdict.leader] == max(means.values())
        on_validation = {(d.metric, d.baseline) for d in found.differences if d.split == "val"}
        assert on_validation == {(metric, found.verdict.leader)}
        assert metric_name(metric) in found.verdict.headline
    name = METRIC_DEFINITIONS[metric][0]
    assert f"{name} (validation)" in (out / "report.html").read_text()


def test_the_worst_recall_is_that_of_the_worst_class_with_images(compared):
    comparison, _ = compared
    for arm in comparison.arms:
        worst = [min(c.recall for c in e.classes if c.support) for e in arm.validation]
        assert arm.scores["val"]["worst_recall"].values == tuple(worst)


def test_a_comparison_of_an_earlier_version_has_no_leader(compared):
    content = compared[0].to_dict()
    del content["verdict"]["leader"]
    for arm in content["arms"]:
        for evaluation in (*arm["validation"], *arm["test"]):
            del evaluation["worst_recall"]
    content["verdict"] |= {"kind": "undecided", "recommended": "focal"}  # the leader, until recommended could be null
    old = Comparison.from_dict(content)
    assert (old.verdict.leader, old.verdict.selected) == (None, "focal")
    assert old.arms[0].test[0].worst_recall is None


def test_a_short_training_is_said_to_be_short(compared):
    comparison, _ = compared
    assert any("took only 6 optimiser steps" in note and "`--epochs 100`" in note for note in comparison.verdict.notes)


def test_the_same_comparison_again_has_the_same_numbers(compared, tmp_path):
    comparison, _ = compared
    again = compare(blobs(), strategies=ASKED, seeds=2, epochs=3, out=tmp_path / "again")

    def numbers(c):
        arms = tuple(dataclasses.replace(arm, seconds=()) for arm in c.arms)
        verdict = dataclasses.replace(c.verdict, next_step="")  # it names the folder
        return dataclasses.replace(c, arms=arms, verdict=verdict, seconds=None)

    assert numbers(again) == numbers(comparison)


def test_resume_keeps_what_is_done(compared, tmp_path):
    _, out = compared
    calls = []
    again = compare(
        blobs(), strategies=ASKED, seeds=2, epochs=3, out=out, resume=True, progress=lambda *step: calls.append(step)
    )
    assert [done for _, done, _ in calls] == [6, 12, 18, 24]  # no step, but one jump per run that was finished before
    assert again.arms[0].seconds == compared[0].arms[0].seconds
    longer = compare(blobs(), strategies=(*ASKED, "focal"), seeds=2, epochs=3, out=out, resume=True)
    assert [arm.strategy.name for arm in longer.arms] == ["baseline", *ASKED, "focal"]


@pytest.mark.parametrize("name", ["predictions-test.npz", "predictions-val.npz", "model.safetensors"])
def test_results_that_changed_after_their_run_are_refused_on_resume(compared, tmp_path, name):
    options = {"strategies": ASKED, "seeds": 2, "epochs": 3, "out": tmp_path / "out", "resume": True}
    shutil.copytree(compared[1], tmp_path / "out")
    file = tmp_path / "out" / "runs" / "weighted-ce-seed1" / name
    if name == "predictions-test.npz":
        saved = Predictions.load(file)
        forged = np.eye(3, dtype=np.float32)[saved.labels]  # all correct
        dataclasses.replace(saved, logits=forged).save(file)
    elif name == "model.safetensors":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(
        ArtifactError, match=rf"weighted-ce-seed1/{name} (was changed|is missing).*delete .*--overwrite"
    ):
        compare(blobs(), **options)
    shutil.rmtree(file.parent)
    again = compare(blobs(), **options)
    assert again.verdict == compared[0].verdict


def test_a_run_of_an_earlier_version_without_digests_is_kept_on_resume(compared, tmp_path):
    shutil.copytree(compared[1], tmp_path / "out")
    for record in (tmp_path / "out").glob("runs/*/run.json"):
        content = json.loads(record.read_text())
        assert sorted(content.pop("digests"))[-3:] == [f"predictions-{split}.npz" for split in ("test", "train", "val")]
        record.write_text(json.dumps(content))
    calls = []
    compare(
        blobs(), strategies=ASKED, seeds=2, epochs=3, out=tmp_path / "out", resume=True,
        progress=lambda *step: calls.append(step),
    )  # fmt: skip
    assert [done for _, done, _ in calls] == [6, 12, 18, 24]


@pytest.mark.fault("C15")
@pytest.mark.parametrize("function", ["compare", "train"])
def test_a_folder_that_another_process_filled_meanwhile_is_not_replaced(tmp_path, monkeypatch, function):
    out, prepare = tmp_path / "out", TrainingSetup.prepare

    def prepared_while_another_finishes(*args, **options):
        out.mkdir()
        (out / "report.html").write_text("theirs")
        return prepare(*args, **options)

    monkeypatch.setattr(TrainingSetup, "prepare", prepared_while_another_finishes)
    with pytest.raises(ArtifactError, match=r"holds other files \(report\.html\)"):
        if function == "compare":
            compare(blobs(), strategies=["focal"], seeds=1, epochs=1, out=out)
        else:
            train("focal", blobs(), epochs=1, out=out)
    assert [p.name for p in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "theirs"


def test_other_runs_in_the_folder_are_refused_before_any_work(compared):
    _, out = compared
    with pytest.raises(ArtifactError, match="holds another run: its settings has epochs = 3, and 4 was asked for"):
        compare(blobs(), strategies=ASKED, seeds=2, epochs=4, out=out, resume=True)
    with pytest.raises(ArtifactError, match="holds other files"):
        compare(blobs(), strategies=ASKED, seeds=2, epochs=3, out=out)


def test_overwrite_keeps_the_old_comparison_until_the_new_one_is_done(compared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared[1], out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def stop(task, done, total):
        if done == 5:
            raise KeyboardInterrupt

    options = {"strategies": ["focal"], "seeds": 1, "epochs": 2, "out": out}
    with pytest.raises(KeyboardInterrupt):
        compare(blobs(), **options, overwrite=True, progress=stop)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and ".counterpoise-new" not in p.parts} == before
    steps = []
    comparison = compare(blobs(), **options, resume=True, progress=lambda *step: steps.append(step))
    assert [done for _, done, _ in steps] == [4, 5, 6, 7, 8]  # the baseline was done
    assert Comparison.load(out / "comparison.json") == comparison
    records = sorted(p.parent.name for p in out.rglob("run.json"))
    assert records == ["baseline-seed0", "focal-seed0"]
    assert not (out / ".counterpoise-new").exists()


def test_a_comparison_with_a_file_of_arrays_is_resumed_and_replaced_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "MANY_CLASSES", 2)  # as if three classes were many
    out = tmp_path / "out"
    options = {"strategies": ["adaptive-weights"], "seeds": 1, "epochs": 2, "out": out}

    def saved():
        (arrays,) = out.glob("comparison-arrays-*.npz")
        assert sorted(p.name for p in out.iterdir()) == [arrays.name, "comparison.json", "report.html", "runs"]
        return arrays.name, Comparison.load(out / "comparison.json")

    first = compare(blobs(), **options)
    assert first.arms[1].weights
    assert saved()[1] == first
    assert compare(blobs(), **options, resume=True).arms == first.arms
    before = saved()
    assert before[1].arms == first.arms
    other = compare(blobs(seed=1), **options, overwrite=True)
    name, found = saved()
    assert found == other
    assert name != before[0]
    assert found.arms[0].test[0].confusion == evaluate(out / found.arms[0].directories[0]).confusion


@pytest.mark.fault("C16")
def test_a_run_that_fails_is_shown_as_failed_and_the_others_are_kept(tmp_path):
    hopeless = Strategy("hopeless", "a scale at which float32 overflows", loss_options={"scale": 3e38})
    comparison = compare(blobs(), strategies=[hopeless, "focal"], seeds=1, epochs=1, out=tmp_path / "out")
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    assert arms["hopeless"].status == "failed"
    assert "seed 0" in arms["hopeless"].error
    assert "the loss is inf" in arms["hopeless"].error
    assert arms["focal"].status == arms["baseline"].status == "done"
    assert Run.load(tmp_path / "out/runs/hopeless-seed0/run.json").status == "failed"
    assert any("hopeless" in note for note in (*comparison.verdict.notes, *comparison.verdict.costs))
    assert "hopeless" in (tmp_path / "out/report.html").read_text()


def test_without_a_baseline_run_nothing_can_reuse_it(tmp_path, monkeypatch):
    def fails_for_the_baseline(setup, strategy, **options):
        if strategy.name == "baseline":
            raise MemoryError("no memory left")
        return run_training(setup, strategy, **options)

    monkeypatch.setattr(engine, "run_training", fails_for_the_baseline)
    comparison = compare(
        blobs(), strategies=["post-hoc-logit-adjusted", "focal"], seeds=1, epochs=1, out=tmp_path / "o"
    )
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    assert arms["baseline"].error == "seed 0: MemoryError: no memory left"
    assert arms["post-hoc-logit-adjusted"].error == "seed 0: it reuses the model of baseline, which did not finish"
    assert arms["focal"].status == "done"


def test_runs_side_by_side_are_the_runs_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.os, "cpu_count", lambda: 2)  # one thread a process, as here: the same bits
    torch.set_num_threads(1)
    setup = TrainingSetup.prepare(blobs(), Settings(epochs=2))
    for jobs in (1, 2):
        tasks = [Task(CATALOG["focal"], seed, tmp_path / f"{jobs}-{seed}") for seed in (0, 1)]
        seen = []
        runs = run_tasks(setup, tasks, jobs=jobs, progress=lambda *step, seen=seen: seen.append(step))
        assert [(run.status, run.seed) for run in runs] == [("done", 0), ("done", 1)]
        assert seen[-1][1:] == (8, 8)
        assert len(seen) == 8
    for seed in (0, 1):
        alone, beside = (Predictions.load(tmp_path / f"{jobs}-{seed}/predictions-test.npz").logits for jobs in (1, 2))
        np.testing.assert_array_equal(alone, beside)


class _Fatal(type(blobs())):
    """Kills the process that trains on it, as a system short of memory would."""

    def counts(self, split="train"):
        if multiprocessing.parent_process() is not None and multiprocessing.current_process().name != "MainProcess":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().counts(split)


@pytest.mark.fault("C16")
def test_a_process_that_is_killed_is_a_failed_run(tmp_path):
    data = blobs()
    setup = TrainingSetup.prepare(data, Settings(epochs=1))
    setup = dataclasses.replace(setup, data=_Fatal(**{f.name: getattr(data, f.name) for f in dataclasses.fields(data)}))
    tasks = [Task(CATALOG["baseline"], seed, tmp_path / str(seed)) for seed in (0, 1)]
    runs = run_tasks(setup, tasks, jobs=2, progress=lambda *step: None)
    assert [run.status for run in runs] == ["failed", "failed"]
    assert "its process was killed" in runs[0].error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategies": ["focall"]}, "strategy 'focall' is unknown"),
        ({"strategies": "focal,focall"}, "strategy 'focall' is unknown"),
        ({"strategies": []}, "`strategies` is empty"),
        ({"seeds": 0}, "`seeds` must be a number of at least 1"),
        ({"seeds": [1, 1]}, "`seeds` must be"),
        ({"strategies": [Strategy("focal", "x"), "focal"]}, "two different strategies named 'focal'"),
        ({"select_by": "f1"}, "`select_by` must be one of 'accuracy', 'balanced_accuracy'"),
        ({"jobs": 0}, "`jobs` must be at least 1"),
        ({"model": "timm:resnet999"}, "`model` 'timm:resnet999' is unknown to timm; did you mean"),
    ],
)
def test_mistakes_come_before_anything_is_written(options, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        compare(blobs(), **{"strategies": ["focal"], "seeds": 1, "epochs": 1, "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_comparison_needs_all_three_splits(missing, tmp_path):
    data = blobs({"train": (9, 4, 3), "val": (3, 3, 3), "test": (3, 3, 3)} | {missing: (0, 0, 0)})
    with pytest.raises(ArgumentError, match=f"blobs has no {missing} images, and a comparison needs"):
        compare(data, strategies=["focal"], out=tmp_path / "out")


def test_without_strategies_the_plan_is_run(tmp_path):
    comparison = compare(blobs(), seeds=1, epochs=1, out=tmp_path / "out")
    assert [arm.strategy.name for arm in comparison.arms] == [s.name for s in cp.plan(audit(blobs()))]


def test_weights_that_cannot_be_had_are_a_mistake_not_six_failed_runs(tmp_path, monkeypatch):
    import timm

    def offline(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("counterpoise.models.published.check_reachable", lambda model, url: None)
    with pytest.raises(ArgumentError, match=r"weights of timm:resnet18 could not be loaded \(no network\)"):
        compare(blobs(), strategies=["focal"], model="timm:resnet18", pretrained=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
