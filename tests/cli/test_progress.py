"""What train and compare print on stderr while they work, and what a report of one's own is told."""

from __future__ import annotations

import json
import re

import pytest
from tests.cli.photos import call
from tests.workflow.blobs import blobs

from counterpoise.cli import progress as progress_module
from counterpoise.cli.progress import TrainingProgress
from counterpoise.core.artifacts import Run
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import ProgressReport, RunFolder, WorkPlan, train

PLAN = WorkPlan("resnet20", 8, "CPU", runs=1, epochs=3, steps=60)


class Recorder(ProgressReport):
    def __init__(self):
        self.told = []

    def start(self, plan):
        self.told.append(plan)

    def step(self, run, done, total):
        self.told.append((run, done, total))

    def epoch(self, run, row):
        self.told.append((run, dict(row)))

    def finish(self, run, result, value):
        self.told.append((run, result.status, value))


def test_train_prints_its_plan_and_a_line_per_epoch(tmp_path):
    result = call("train", "digits", "--strategy", "focal", "--epochs", 2, "--json", "--out", tmp_path)
    assert Run.from_dict(json.loads(result.stdout)).status == "done"
    plan, *epochs = [line for line in result.stderr.splitlines() if not line.startswith("about ")]
    assert re.fullmatch(r"resnet20, 8×8 pixels, on .+: 1 run × 2 epochs", plan)
    rows = RunFolder(tmp_path).read_history()
    assert len(epochs) == 2
    for n, (line, row) in enumerate(zip(epochs, rows, strict=True), start=1):
        value = f"{100 * row['val_balanced_accuracy']:.1f} %"
        left = "(; about .+ left)?" if n == 1 else ""
        expected = rf"epoch {n} of 2: loss {row['loss']:.4f}, validation balanced accuracy {value}, [\d.]+ s{left}"
        assert re.fullmatch(expected, line)


@pytest.mark.parametrize("jobs", [1, 2])
def test_compare_prints_its_plan_and_a_line_per_run(tmp_path, jobs):
    strategies = ("--strategies", "focal,post-hoc-logit-adjusted", "--select-by", "macro_f1")
    command = ("compare", "digits", *strategies, "--seeds", 1, "--epochs", 1, "--jobs", jobs, "--out", tmp_path)
    plan, *runs = [line for line in call(*command).stderr.splitlines() if not line.startswith("about ")][:4]
    assert re.fullmatch(r"resnet20, 8×8 pixels, on .+: 3 runs × 1 epoch \(1 run reuses a trained model\)", plan)
    names = [re.fullmatch(r"(.+), seed 0 \((\d) of 3 runs\): validation macro F1 .+ %, .+ s.*", line) for line in runs]
    assert sorted(found[1] for found in names) == ["baseline", "focal", "post-hoc-logit-adjusted"]
    assert [found[2] for found in names] == ["1", "2", "3"]
    again = call(*command, "--resume").stderr
    assert "of 3 runs): validation macro F1" in again
    assert "left" not in again


def test_a_report_gets_the_plan_the_steps_the_epochs_and_the_run(tmp_path):
    told = Recorder()
    run = train("focal", blobs(), epochs=2, keep="best", select_by="macro_f1", progress=told, out=tmp_path)
    plan, *rest = told.told
    assert (plan.runs, plan.epochs, plan.steps, plan.model, plan.image_size) == (1, 2, 4, run.model, 8)
    assert plan.metric == "macro_f1"
    name = "focal, seed 0"
    first, second = RunFolder(tmp_path).read_history()
    steps = [(name, n, 4) for n in range(1, 5)]
    assert rest == [*steps[:2], (name, first), *steps[2:], (name, second), (name, "done", None)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_report_of_a_comparison_hears_of_every_run_and_its_value_on_validation(tmp_path, jobs):
    told = Recorder()
    result = compare(blobs(), strategies="focal,post-hoc-logit-adjusted", seeds=2, epochs=2, jobs=jobs, progress=told,
                     out=tmp_path)  # fmt: skip
    plan, *rest = told.told
    assert (plan.runs, plan.reusing, plan.steps, plan.metric) == (6, 2, 16, "balanced_accuracy")
    assert [entry[1:] for entry in rest if isinstance(entry[1], int)] == [(n, 16) for n in range(1, 17)]
    assert sum(isinstance(entry[1], dict) for entry in rest) == 8
    finished = {entry[0]: entry[2] for entry in rest if entry[1] == "done"}
    arms = {arm.strategy.name: arm for arm in result.arms}
    assert finished == {
        f"{name}, seed {seed}": pytest.approx(arms[name].validation[seed].balanced_accuracy)
        for name in arms for seed in (0, 1)
    }  # fmt: skip


def test_the_time_left_counts_only_the_steps_that_were_trained_here(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    shown = TrainingProgress(lambda *bar: None, is_terminal=False)
    shown.start(PLAN)
    for done in (21, *range(22, 34)):  # resumed after 20 of 60 steps
        clock[0] += 5.0 if done < 23 else 0.5  # the first steps are slow
        shown.step("focal, seed 0", done, 60)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [str(PLAN), "about 13.5 s left, estimated from the first 12 steps"]
    shown.epoch("focal, seed 0", {"epoch": 2.0, "loss": 0.25, "val_balanced_accuracy": None})
    assert capsys.readouterr().err == "epoch 2 of 3: loss 0.2500, 15.5 s; about 13.5 s left\n"


def test_the_time_of_short_work_is_not_estimated_and_that_of_long_work_once(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    for seconds, shown_left in ((0.15, ""), (0.3, "; about 12.0 s left")):
        shown = TrainingProgress(lambda *bar: None, is_terminal=False)
        shown.start(PLAN)
        for done in range(1, 61):
            clock[0] += seconds
            shown.step("focal, seed 0", done, 60)
            if done == 20:
                shown.epoch("focal, seed 0", {"epoch": 1.0, "loss": 0.25, "val_balanced_accuracy": None})
                _, *lines = capsys.readouterr().err.splitlines()
                assert len(lines) == (2 if shown_left else 1)
                assert lines[-1].endswith(f" s{shown_left}")
        assert capsys.readouterr().err == ""


def test_on_a_terminal_the_bar_shows_loss_and_metric_and_no_line_is_added(capsys):
    bars = []
    shown = TrainingProgress(lambda *bar: bars.append(bar), is_terminal=True)
    shown.start(PLAN)
    shown.step("focal, seed 0", 1, 60)
    shown.epoch("focal, seed 0", {"epoch": 1.0, "loss": 0.25, "val_balanced_accuracy": 0.612})
    shown.step("focal, seed 0", 2, 60)
    assert bars == [("focal, seed 0", 1, 60), ("focal, seed 0, loss 0.250, validation 61.2 %", 2, 60)]
    assert capsys.readouterr().err == f"{PLAN}\n"
