"""The command line as a user meets it: help, results on stdout, mistakes in one line, exit codes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import typer
from PIL import Image
from tests.cli.photos import call, write_photos
from tests.workflow.report import samples
from typer.testing import CliRunner

import counterpoise as cp
from counterpoise.cli import app
from counterpoise.cli.compare import print_comparison
from counterpoise.cli.options import TrainingOptions, typed_command
from counterpoise.core import codec
from counterpoise.core.artifacts import AuditResult, Comparison, Evaluation, Run
from counterpoise.core.text import number_text
from counterpoise.metrics import METRICS
from counterpoise.weights import Scheme, class_weights
from counterpoise.workflow import augmentation
from counterpoise.workflow.augmentation import LongTail
from counterpoise.workflow.training import RunFolder, Settings

COMMANDS = ("demo", "audit", "plan", "augment", "train", "compare", "evaluate", "report", "weights", "explain")
COMMANDS += ("predict", "export", "make-longtail")
SHORT = ("--epochs", "1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders alone: 24 red, 8 green, 6 blue images, and one file that is no image."""
    root = write_photos(tmp_path_factory.mktemp("data") / "photos")
    rng = np.random.default_rng(1)
    (root / "blue" / "broken.jpg").write_bytes(b"<html>not found</html>")
    (root.parent / "one/a").mkdir(parents=True)
    for i in range(5):
        Image.fromarray(rng.integers(0, 90, (12, 10, 3)).astype(np.uint8)).save(root.parent / f"one/a/{i}.png")
    return root


@pytest.fixture(scope="module")
def run_folder(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    call("train", photos, "--strategy", "baseline", "--out", out, *SHORT)
    return out


@pytest.mark.parametrize("module", ["counterpoise", "counterpoise.cli"])
def test_the_package_runs_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"counterpoise {cp.__version__}\n"), done.stderr


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=lambda c: c[0] if c else "counterpoise")
def test_help_says_what_each_command_does(command):
    text = call(*command, "--help").stdout
    assert "Usage" in text
    if command:
        assert "--json" in text
        assert "--debug" in text
    else:
        assert all(name in text for name in COMMANDS)


def options_of(command: str) -> dict[str, object]:
    """Defaults by the name of the Python argument."""
    return {p.name: p.default for p in typer.main.get_command(app).commands[command].params if p.default is not None}


def test_defaults_are_those_of_the_functions():
    settings, load = dataclasses.asdict(Settings()), defaults_of(cp.load)
    for command, function in (("train", cp.train), ("compare", cp.compare), ("augment", augmentation.augment)):
        defaults = {**load, "split_seed": load["seed"], **settings, **defaults_of(function), "strategies": ""}
        shown = options_of(command)
        assert {name: defaults[name] for name in shown if name in defaults and name != "jobs"} == {
            name: value for name, value in shown.items() if name in defaults
        }
    assert options_of("train").keys() > {"precision", "tree", "val_fraction", "split_seed", "seed"}
    shown = options_of("weights")
    assert (shown["scheme"], shown["beta"]) == tuple(defaults_of(class_weights)[name] for name in ("scheme", "beta"))


def defaults_of(function) -> dict[str, object]:
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def test_train_and_compare_take_the_same_training_options():
    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    assert names == {field.name for field in dataclasses.fields(Settings)} - {
        "momentum",
        "weight_decay",
        "warmup",
        "cache_gib",
    }
    groups = typer.main.get_command(app).commands
    train, compare = ({p.name: p.help for p in groups[command].params} for command in ("train", "compare"))
    assert {name: train[name] for name in names} == {name: compare[name] for name in names}


def test_weights_help_lists_all_schemes():
    text = " ".join(call("weights", "--help").stdout.split())
    for scheme in get_args(Scheme):
        assert scheme in text


def test_audit_prints_counts_faults_and_advice(photos, tmp_path):
    text = call("audit", photos, "--out", tmp_path / "audit").stdout
    assert "red" in text
    assert "Imbalanced 3.5:1: always predicting 'red' scores" in text
    assert " balanced accuracy on the test images; judge models by balanced accuracy" in text
    assert "blue/broken.jpg" in text
    assert "recommended to compare: baseline" in text
    assert AuditResult.load(tmp_path / "audit/audit.json").quarantined[0].path == "blue/broken.jpg"
    assert (tmp_path / "audit/audit.html").read_text().startswith("<!doctype html>")


def test_audit_fails_on_request_only(photos):
    call("audit", photos)
    call("audit", photos, "--fail-on", "warning", code=1)


def test_plan_ends_with_the_command_to_run(photos):
    text = call("plan", photos).stdout
    assert "logit-adjusted" in text
    assert text.rstrip().splitlines()[-1].startswith(f"counterpoise compare {photos} --strategies baseline,")


def test_train_leaves_a_run_and_evaluate_reads_it(run_folder):
    assert Run.load(run_folder / "run.json").status == "done"
    text = call("evaluate", run_folder).stdout
    assert "balanced accuracy" in text
    assert "green" in text
    alone = call("evaluate", run_folder / "predictions-val.npz", "--json").stdout
    assert Evaluation.from_dict(json.loads(alone)).split == "val"


def test_augment_says_what_it_would_make_and_makes_it(photos, tmp_path):
    text = call("augment", photos, "--out", tmp_path / "out", "--target", "ratio:2", "--dry-run").stdout
    assert "nothing was written; without --dry-run" in text
    assert not (tmp_path / "out").exists()
    text = call("augment", photos, "--out", tmp_path / "out", "--target", "ratio:2").stdout
    assert "augmented.csv lists their sources" in text
    assert "contact-sheet.html before you train" in text
    assert (tmp_path / "out/contact-sheet.html").stat().st_size > 1000
    assert "--with-splits" in text
    told = json.loads(call("augment", photos, "--out", tmp_path / "two", "--with-splits", "--json").stdout)
    assert told["made"] == sum(told["after"]) - sum(told["before"])
    assert call("augment", photos, "--out", tmp_path / "x", "--target", "even", code=2).stderr.count("\n") == 1
    assert "--resume" in call("augment", photos, "--out", tmp_path / "out", code=2).stderr


def test_augment_takes_operations_and_a_strength(photos, tmp_path):
    chosen = ("--operations", "crop,noise", "--strength", "0.2", "--no-images")
    told = json.loads(call("augment", photos, "--out", tmp_path / "out", *chosen, "--json").stdout)
    assert (told["operations"], told["strength"]) == (["crop", "noise"], 0.2)
    assert not (tmp_path / "out/contact-sheet.html").exists()
    wrong = call("augment", photos, "--out", tmp_path / "x", "--operations", "crop,nois", code=2).stderr
    assert "`--operations` 'nois' is unknown; did you mean" in wrong
    assert "got none" in call("augment", photos, "--out", tmp_path / "x", "--operations", "none", code=2).stderr
    assert (
        "`--strength` must be above 0"
        in call("augment", photos, "--out", tmp_path / "x", "--strength", "0", code=2).stderr
    )
    other = call("augment", photos, "--out", tmp_path / "out", "--resume", code=2).stderr
    assert "the list of operations (`--operations`, `--symmetries`) was" in other


@pytest.mark.parametrize("what", ["tau", "thresholds", "temperature"])
def test_evaluate_tunes_on_validation_and_shows_before_and_after(run_folder, what):
    text = call("evaluate", run_folder, "--tune", what).stdout
    assert text.startswith(f"{what}: ")
    assert "fitted on the validation images" in text
    assert "before" in text
    told = json.loads(call("evaluate", run_folder, "--tune", what, "--json").stdout)
    assert (told["kind"], told["cross_fitted"], told["after"]["split"]) == (what, False, "test")
    own = json.loads(call("evaluate", run_folder / "predictions-val.npz", "--tune", what, "--json").stdout)
    assert (own["cross_fitted"], own["after"]["split"]) == (True, "val")
    assert own["parameters"] == told["parameters"]


def test_tau_of_a_uniform_prior_is_one_line(photos, tmp_path):
    call("train", photos, "--strategy", "logit-adjusted", "--out", tmp_path / "run", *SHORT)
    result = call("evaluate", tmp_path / "run", "--tune", "tau")
    assert result.stdout.count("\n") == 1
    assert "tau has no effect; tune thresholds instead" in result.stdout
    assert json.loads(call("evaluate", tmp_path / "run", "--tune", "tau", "--json").stdout)["kind"] == "tau"


def test_evaluate_prints_the_same_metrics_and_numbers_with_and_without_tuning(run_folder, monkeypatch):
    from counterpoise.workflow import evaluation

    def cells(text):
        return [re.split(r"  +", line.strip()) for line in text.splitlines() if "%" in line]

    plain = cells(call("evaluate", run_folder).stdout.partition("class")[0])
    tuned = cells(call("evaluate", run_folder, "--tune", "tau").stdout.partition("\nclass")[0])
    assert len(plain) >= 5
    assert [row[:2] for row in tuned] == plain
    real = evaluation.tune
    negative = {"parameters": {"tau": -0.25}}
    monkeypatch.setattr(
        evaluation, "tune", lambda *args, **named: dataclasses.replace(real(*args, **named), **negative)
    )
    assert call("evaluate", run_folder, "--tune", "tau").stdout.startswith("tau: −0.25")


def test_evaluate_tunes_scores_of_others_with_the_counts_given(run_folder, tmp_path):
    for name in ("val", "test"):
        (tmp_path / f"predictions-{name}.npz").write_bytes((run_folder / f"predictions-{name}.npz").read_bytes())
    text = call("evaluate", tmp_path / "predictions-test.npz", "--tune", "tau", "--counts", "5,8,24").stdout
    assert text.startswith("tau: ")
    source, told = tmp_path / "predictions-test.npz", []
    for order in ((5, "blue"), (8, "green"), (24, "red")), ((24, "red"), (5, "blue"), (8, "green")):
        (tmp_path / "c.json").write_text(json.dumps({name: n for n, name in order}))
        for what in ("tau", "temperature"):
            told.append(call("evaluate", source, "--tune", what, "--counts", tmp_path / "c.json", "--json").stdout)
    assert told[:2] == told[2:]  # names decide, not the order of the file
    assert told[0] == call("evaluate", source, "--tune", "tau", "--counts", "5,8,24", "--json").stdout
    assert "has 2 classes; the predictions have 3" in call("evaluate", source, "--counts", "5,8", code=2).stderr
    (tmp_path / "c.json").write_text('{"blue": 1, "green": 2, "rot": 3}')
    assert "only in `--counts`: 'rot'" in call("evaluate", source, "--counts", tmp_path / "c.json", code=2).stderr
    error = call("evaluate", tmp_path / "predictions-test.npz", "--tune", "tau", code=2).stderr
    assert "needs the class prior of training: give `--counts`" in error
    (tmp_path / "predictions-val.npz").unlink()
    error = call("evaluate", tmp_path / "predictions-test.npz", "--tune", "thresholds", code=2).stderr
    assert "`--tune` fits on validation predictions" in error
    assert call("evaluate", run_folder, "--tune", "tua", code=2).stderr.startswith("error: `--tune` must be")
    assert "not trained on" in call("evaluate", run_folder, "--tune", "tau", "--split", "train", code=2).stderr


def test_compare_ends_in_a_report_that_can_be_drawn_again(photos, tmp_path):
    out = tmp_path / "out"
    asked = (
        "compare",
        photos,
        "--strategies",
        "focal:gamma=1,label_smoothing=0.1,LA,post-hoc-logit-adjusted",
        "--seeds",
        1,
        "--jobs",
        1,
        "--out",
        out,
    )
    result = call(*asked, *SHORT, "--select-by", "macro_f1", "--max-accuracy-drop", 100)
    assert "baseline was trained as well" in result.stderr
    assert "audit found an error" not in result.stderr
    assert "val macro F1" in result.stdout.splitlines()[0]
    done = Comparison.load(out / "comparison.json")
    assert (done.metric, done.max_accuracy_drop) == ("macro_f1", 100)
    assert done.verdict.next_step.startswith("Next: `counterpoise ")
    assert str(out) not in done.verdict.next_step  # a report may be passed on
    assert f"report: {out / 'report.html'}" in result.stdout
    rows = [line.split()[0] for line in result.stdout.splitlines()[1:5]]
    assert rows == ["baseline", "focal:gamma=1,label_smoothing=0.1", "logit-adjusted", "post-hoc-logit-adjusted"]
    before = (out / "report.html").read_text()
    assert "Next: <code><span>counterpoise</span> " in before
    (out / "report.html").unlink()
    call("report", out, "--data", photos)
    assert (out / "report.html").read_text() == before
    assert "First training image of each class" in before
    assert "Most confident mistakes" in before
    call("report", out, "--to", tmp_path / "r.md")
    assert "| baseline" in (tmp_path / "r.md").read_text()
    call(*asked, *SHORT, code=2)
    again = call(*asked, *SHORT, "--resume", "--json")
    assert Comparison.from_dict(json.loads(again.stdout)).verdict.headline


def test_the_next_step_repeats_the_options_as_they_were_typed(photos, tmp_path, capsys):
    out = tmp_path / "my result"
    asked = ("compare", photos, "--strategies", "focal", "--seeds", 1, "--symmetries", "none", "--out", out, *SHORT)
    call(*asked)
    comparison = Comparison.load(out / "comparison.json")
    verdict = dataclasses.replace(comparison.verdict, kind="undecided", recommended=None, leader="focal")
    again = f"counterpoise compare {photos} --symmetries none --epochs 1 --strategies focal --out '{out}'"
    typed = {}

    def as_typed(context, *, without, name="line"):
        typed[name] = typed_command(context, without=without, name=None if name == "line" else name)
        return typed[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("counterpoise.cli.compare.typed_command", as_typed)
        call(*asked, "--resume")
    assert sorted(shlex.split(typed["line"])) == sorted(shlex.split(again))
    train = f"counterpoise train {photos} --symmetries none --epochs 1"
    assert sorted(shlex.split(typed["train"])) == sorted(shlex.split(train))
    print_comparison(dataclasses.replace(comparison, verdict=verdict), out, typed["line"])
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    (line, use) = re.findall("`(.*?)`", last)
    assert line == f"{typed['line']} --seeds 5 --resume"
    assert shlex.split(use) == ["counterpoise", "predict", str(out), "IMAGES", "--strategy", "focal"]
    call(*shlex.split(line)[1:])
    assert Comparison.load(out / "comparison.json").seeds == (0, 1, 2, 3, 4)


def test_folds_state_their_cost_first_and_end_in_the_training_of_a_final_model(photos, tmp_path):
    out, final = tmp_path / "result", tmp_path / "final"
    asked = ("--folds", 2, "--seeds", 1, "--strategies", "focal", "--symmetries", "none", "--no-images", *SHORT)
    result = call("compare", photos, *asked, "--out", out)
    first = result.stderr.splitlines()[0]
    assert first.endswith(": 4 runs × 1 epoch; 4 trainings: 2 folds × 2 strategies that train × 1 seed")
    assert "over 2 folds" in result.stdout
    assert "val: the held-out images of 2 folds together" in result.stdout
    (command,) = re.findall("`(counterpoise train .*?)`", result.stdout)
    assert shlex.split(command)[2] == str(photos)
    assert command.endswith(" --with-val --out final")
    runs = call("evaluate", out, code=2).stderr
    assert "holds a comparison" in runs
    assert str(out / Comparison.load(out / "comparison.json").arms[0].directories[0]) in runs
    refused = call("predict", out, photos, code=2)
    assert "2 models per strategy and seed" in " ".join(refused.stderr.split())
    call(*shlex.split(command)[1:-1], final)
    data = cp.load(photos)
    wanted = data.counts("train").counts + data.counts("val").counts
    assert json.loads((final / "run.json").read_text())["train_counts"] == wanted.tolist()
    call("predict", final, photos)
    assert "K × strategies × seeds trainings" in " ".join(call("compare", "--help").stdout.replace("│", " ").split())


@pytest.mark.filterwarnings("default:the comparison goes on")
def test_a_comparison_goes_on_after_an_error_of_the_audit_and_says_so(photos, tmp_path):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    shutil.copy(data / "red" / "00.png", data / "green" / "copy.png")
    out = tmp_path / "out"
    result = call("compare", data, "--strategies", "focal", "--seeds", 1, "--jobs", 1, *SHORT, "--out", out)
    (line,) = [line for line in result.stderr.splitlines() if "audit" in line]
    assert line.startswith("warning: the comparison goes on although the audit found an error in the data: ")
    assert line.endswith(
        "; `counterpoise audit` lists all findings, and `--exclude-duplicates` leaves copies of images out"
    )
    assert "The audit found an error in the data" in (out / "report.html").read_text()


@pytest.mark.filterwarnings("default:the (training|augmentation) goes on")
def test_training_and_augmentation_go_on_after_an_error_of_the_audit_and_say_so(photos, tmp_path):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    shutil.copy(data / "red" / "00.png", data / "green" / "copy.png")
    for what, arguments in (
        ("training", ("train", data, "--strategy", "focal", *SHORT)),
        ("augmentation", ("augment", data, "--no-images", "--jobs", 1)),
    ):
        result = call(*arguments, "--out", tmp_path / what)
        (line,) = [line for line in result.stderr.splitlines() if "audit" in line]
        assert line.startswith(f"warning: the {what} goes on although the audit found an error in the data: ")
        assert "`--exclude-duplicates`" in line
        assert "goes on" not in call(*arguments, "--exclude-duplicates", "--out", tmp_path / f"{what}-clean").stderr


def test_train_prints_the_score_the_epoch_that_was_kept_and_that_a_run_was_finished(photos, tmp_path):
    command = ("train", photos, "--strategy", "focal", "--keep", "best", *SHORT, "--out", tmp_path / "run")
    first, again = call(*command).stdout, call(*command, "--resume").stdout
    run = Run.load(tmp_path / "run" / "run.json")
    history = RunFolder(tmp_path / "run").read_history()
    value = history[run.best_epoch - 1]["val_balanced_accuracy"]
    assert f"validation balanced accuracy: {100 * value:.1f} %" in first
    assert f"the model has the weights of epoch {run.best_epoch}, the best one" in first
    assert first.rstrip().endswith(f"Next: counterpoise evaluate {tmp_path / 'run'}")
    assert "already finished" not in first
    assert again == first.replace(
        "trained for", "this run was already finished, and nothing was trained now: trained for"
    )


def test_make_longtail_names_the_classes_that_limit_the_ratio(photos, tmp_path):
    said = call("make-longtail", photos, "--ratio", 100, "--out", tmp_path / "limited").stderr
    told = LongTail.load(tmp_path / "limited" / "longtail.json")
    limited = [n for n, k in zip(told.before, told.profile, strict=True) if n < k]
    assert bool(limited) == ("too few training images" in said)
    (tmp_path / "c").mkdir()
    for name, number in (("a", 40), ("b", 6), ("c", 30)):
        (tmp_path / "c" / name).mkdir()
        for i in range(number):
            Image.new("RGB", (4, 4), (i, number, 0)).save(tmp_path / "c" / name / f"{i}.png")
    said = call("make-longtail", tmp_path / "c", "--ratio", 2, "--out", tmp_path / "made").stderr
    assert "ratio of 2 that was asked for" in said
    assert re.search(r"1 class has too few training images: '?b \(\d\)'?; choose a smaller --ratio", said)
    assert "--one-vs-rest" in said


@pytest.mark.parametrize(("option", "value"), [("--select-by", "f1"), ("--max-accuracy-drop", "-1")])
def test_a_choice_that_cannot_be_made_is_refused(photos, tmp_path, option, value):
    assert option in call("compare", photos, option, value, "--out", tmp_path / "out", code=2).stderr
    assert not (tmp_path / "out").exists()


def test_the_help_of_compare_names_every_metric_to_choose_by():
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", call("compare", "--help").stdout).split())
    assert all(name in text for name in METRICS)


@pytest.mark.fault("C5")
def test_a_report_without_the_arrays_of_its_comparison_is_one_line(tmp_path):
    comparison = samples.comparison(tuple(f"class-{i}" for i in range(101)))
    comparison.save(tmp_path / "comparison.json")
    call("report", tmp_path)
    assert "class-100" in (tmp_path / "report.html").read_text()
    call("report", tmp_path, "--to", tmp_path / "copy" / "all.json")
    assert Comparison.load(tmp_path / "copy" / "all.json") == comparison
    (arrays,) = tmp_path.glob("comparison-arrays-*.npz")
    arrays.rename(tmp_path / "copy" / arrays.name)
    result = call("report", tmp_path, code=2)
    assert result.stderr.startswith(f"error: {arrays} does not exist")
    assert result.stderr.count("\n") == 1


def test_the_plan_follows_the_transforms_and_the_class_tree(tmp_path):
    photos, tree = write_photos(tmp_path / "photos", blue=1), tmp_path / "tree.json"
    tree.write_text('{"warm": ["red"], "cold": ["blue", "green"]}')
    assert "\nminority-augment: " in call("plan", photos).stdout
    told = call("plan", photos, "--symmetries", "none", "--tree", tree).stdout
    assert "minority-augment" not in told
    assert "\nhierarchical: " in told
    command = shlex.split(told.splitlines()[-1])
    assert command[3:7] == ["--symmetries", "none", "--tree", str(tree)]
    assert "minority-augment" in call("audit", photos).stdout.partition("recommended to compare")[2]
    assert "`--tree`" in call("plan", photos, "--tree", tmp_path / "none.json", code=2).stderr


@pytest.mark.parametrize("command", ["audit", "plan", "weights"])
def test_json_is_all_that_is_on_stdout(photos, command):
    assert json.loads(call(command, photos, "--json").stdout)


def test_nested_folders_are_spoken_of_and_kept_in_what_is_recommended(photos, tmp_path):
    for name in ("red", "green"):
        shutil.copytree(photos / name, tmp_path / "nest/warm" / name)
    shutil.copytree(photos / "blue", tmp_path / "nest/cold")
    for command in (("plan",), ("weights",)):
        told = call(*command, tmp_path / "nest")
        assert "class 'warm' has its images in 2 folders" in told.stderr
        assert "warm/red" not in told.stdout
    told = call("plan", tmp_path / "nest", "--nested")
    assert (
        told.stdout.rstrip().splitlines()[-1].startswith(f"counterpoise compare {tmp_path / 'nest'} --nested --strat")
    )
    assert "warm/red" in call("weights", tmp_path / "nest", "--nested").stdout
    made = call("augment", tmp_path / "nest", "--nested", "--out", tmp_path / "out", "--with-splits").stdout
    assert "read the copy with --nested" in made


def test_weights_from_counts_a_file_or_a_dataset(photos, tmp_path):
    assert json.loads(call("weights", "90,10", "--scheme", "balanced", "--json").stdout) == {"0": 100 / 180, "1": 5.0}
    (tmp_path / "c.json").write_text('{"a": 90, "b": 10}')
    assert json.loads(call("weights", tmp_path / "c.json", "--json").stdout) == pytest.approx({"a": 0.2, "b": 1.8})
    assert "red" in call("weights", photos).stdout


def test_train_says_the_same_in_json(photos, tmp_path):
    done = call("train", photos, "--strategy", "focal", "--out", tmp_path / "r", "--json", *SHORT)
    assert Run.from_dict(json.loads(done.stdout)).strategy.name == "focal"


def test_explain_lists_draws_and_keeps_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = call("explain").stdout
    assert "strategies (what `train` and `compare` take): baseline, weighted-ce" in listed
    assert "samplers (those that no strategy uses): repeat_factor" in listed
    text = call("explain", "focal_loss").stdout
    assert "(1 − p_y)^γ log p_y" in text
    assert text.rstrip().endswith("wrote the page explain-focal.html in the current folder; --out names another file")
    before = (tmp_path / "explain-focal.html").read_bytes()
    assert "--overwrite" in call("explain", "dice", "--out", "explain-focal.html", code=2).stderr
    call("explain", "dice", "--out", "explain-focal.html", "--overwrite")
    assert (tmp_path / "explain-focal.html").read_bytes() != before
    call("explain", "focal")  # a page of ours under its own name is drawn again
    assert (tmp_path / "explain-focal.html").read_bytes() == before
    (tmp_path / "explain-focal.html").write_text("mine")
    assert "--overwrite" in call("explain", "focal", code=2).stderr
    told = json.loads(call("explain", "accuracy", "--json").stdout)
    assert (told["artifact"], told["name"]) == ("Explanation", "accuracy")
    assert [p.name for p in tmp_path.iterdir()] == ["explain-focal.html"]


@pytest.mark.fault("R9")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit", "{tmp}/nowhere"), "nowhere"),
        (("audit", "{tmp}"), ""),
        (("audit", "{photos}", "--out", "{photos}"), "holds other files"),
        (("plan", "{tmp}/bad.csv"), "line"),
        (("plan", "{tmp}/nolabel.csv"), "label"),
        (("train", "{photos}", "--strategy", "focall", "--out", "{tmp}/o"), "did you mean focal"),
        (
            ("train", "{photos}", "--strategy", "focal", "--model", "resnet99", "--out", "{tmp}/o"),
            "`--model` 'resnet99'",
        ),
        (
            ("train", "{photos}", "--strategy", "focal", "--out", "{photos}"),
            "name a new folder, or set `--resume` to continue or `--overwrite` to start again",
        ),
        (("train", "{photos}", "--strategy", "focal:gamma=-1", "--out", "{tmp}/o"), "`gamma` must be at least 0"),
        (("train", "{photos}", "--strategy", "focal", "--out", "{tmp}/o", "--precision", "fp8"), "`--precision` must"),
        (("audit", "{photos}", "--val-fraction", "2"), "`--val-fraction` must be"),
        (
            ("train", "{photos}", "--strategy", "focal", "--out", "{tmp}/o", "--augment", "crop,spin"),
            "got 'spin'",
        ),
        (
            ("train", "{photos}", "--strategy", "focal", "--out", "{tmp}/o", "--augment", "rot90"),
            "'rot90' is not label",
        ),
        (("train", "digits", "--strategy", "focal", "--out", "{tmp}/o", "--augment", "hflip"), "'hflip' is not label"),
        (("train", "{photos}", "--strategy", "focal", "--out", "{tmp}/o", "--lr", "-1"), "`--lr` must be above 0"),
        (("train", "{photos}/../one", "--strategy", "focal", "--out", "{tmp}/o"), "of one class only ('a')"),
        (("compare", "{photos}/../one", "--out", "{tmp}/o"), "of one class only ('a')"),
        (("compare", "{photos}", "--strategies", "baseline,magic", "--out", "{tmp}/o"), "'magic' is unknown"),
        (("compare", "{photos}", "--strategies", "focal", "--symmetries", "twist", "--out", "{tmp}/o"), "twist"),
        (
            ("train", "{photos}", "--strategy", "hierarchical", "--tree", "{tmp}/folder.yaml", "--out", "{tmp}/o"),
            "folder.yaml is not a file",
        ),
        (
            ("train", "{photos}", "--strategy", "hierarchical", "--tree", "{photos}", "--out", "{tmp}/o"),
            "must be auto, folders, balanced, or a file ending in",
        ),
        (("evaluate", "{tmp}/nowhere"), "does not exist"),
        (("evaluate", "{tmp}/bad.csv"), "cannot be read as predictions"),
        (("report", "{tmp}"), "holds none of"),
        (("report", "{tmp}/nowhere"), "does not exist"),
        (("report", "{tmp}", "--to", "{tmp}"), "is a folder; name a file, such as"),
        (("weights", "{photos}", "--scheme", "inverted"), "inverted"),
        (("evaluate", "x" * 300), "does not exist"),
        (("evaluate", f"{'x' * 300}.npz"), "does not exist"),
        (("evaluate", "{photos}", "--split", "x" * 300), "does not exist"),
        (("evaluate", "{tmp}/folder.json"), "predictions-test.npz does not exist"),
        (("report", "x" * 300), "does not exist"),
        (("explain", "focal", "--out", f"{'x' * 300}.html"), "x.html: File name too long"),
        (("train", "{photos}", "--strategy", "focal", "--out", "x" * 300), "cannot write to `--out` xxx"),
        (("compare", "{photos}", "--out", "x" * 300), "cannot write to `--out` xxx"),
        (("augment", "{photos}", "--out", "x" * 300), "cannot write to `--out` xxx"),
        (("weights", "{tmp}/bad.json"), "bad.json cannot be read as JSON"),
        (("weights", "{tmp}/twice.json"), "twice.json cannot be read as JSON: it has the key 'a' twice"),
        (("weights", "{tmp}/digits.json"), "digits.json cannot be read as JSON"),
        (("weights", "{tmp}/deep.json"), "deep.json cannot be read as JSON"),
        (("weights", "{tmp}/bool.json"), "class 'a' has True"),
        (("weights", "{tmp}/long.json"), "sum to at most 2^53"),
        (("weights", "{tmp}/folder.json"), "folder.json cannot be read as JSON: Is a directory"),
        (("weights", f"{'x' * 300}.json"), "cannot be read as JSON: File name too long"),
        (("weights", "5,²"), "counts must be whole numbers separated by commas, or a JSON file; got '5,²'"),
        (("weights", f"5,{'9' * 5000}"), "counts must be whole numbers separated by commas"),
        (("weights", f"5,{'9' * 300}"), "sum to at most 2^53"),
        (("explain", "focl", "--out", "{tmp}/o.html"), "did you mean focal"),
        (("explain", "focal", "--out", "{tmp}/o.pdf"), "must end in one of"),
        (("explain", "focal", "--out", "{photos}"), "is a folder"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_line_and_exit_2_and_writes_nothing(arguments, message, photos, tmp_path):
    (tmp_path / "bad.csv").write_text('path,label\n"a.png,x\n')
    (tmp_path / "nolabel.csv").write_text("path,class\na.png,x\n")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "twice.json").write_text('{"a": 1, "b": 2, "a": 500}')
    (tmp_path / "digits.json").write_text(f'{{"a": {"9" * 5000}}}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bool.json").write_text('{"a": true, "b": 2}')
    (tmp_path / "long.json").write_text(f'{{"a": {"9" * 4000}}}')
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    result = call(*(a.format(tmp=tmp_path, photos=photos) for a in arguments), code=2)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert result.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_message_names_each_option_once_and_as_it_was_typed(photos):
    error = call("train", photos, "--strategy", "focal", "--out", photos, code=2).stderr
    assert error.endswith("set `--resume` to continue or `--overwrite` to start again\n")
    assert call("audit", photos, "--out", photos, code=2).stderr.endswith("or set `--overwrite` to start again\n")
    assert call("demo", "--out", photos, code=2).stderr.endswith("; name a new folder\n")


@pytest.mark.fault("R9")
def test_an_unknown_option_is_exit_2():
    assert "--epoch" in call("train", "digits", "--epoch", "3", code=2).stderr


def test_debug_shows_where_a_mistake_was_found(tmp_path):
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "nowhere"), "--debug"])
    assert type(result.exception).__name__ == "DatasetError"


def test_interrupting_is_exit_130(photos, tmp_path, monkeypatch):
    from counterpoise.workflow.training import loop

    def interrupted(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.TrainingLoop, "train_step", interrupted)
    result = call("train", photos, "--strategy", "focal", "--out", tmp_path / "r", *SHORT, code=130)
    assert "--resume continues" in result.stderr
    monkeypatch.undo()
    call("train", photos, "--strategy", "focal", "--out", tmp_path / "r", "--resume", *SHORT)
    assert Run.load(tmp_path / "r/run.json").starts == (0, 0)


def test_an_interrupted_command_without_resume_does_not_advise_it(photos, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("counterpoise.workflow.dataset.load", interrupted)
    assert call("plan", photos, code=130).stderr == "error: interrupted\n"


@pytest.mark.fault("R10")
@pytest.mark.skipif(os.name == "nt", reason="pipes of a POSIX shell")
def test_a_closed_pipe_and_a_poor_locale_are_no_crash(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({f"klasse-ö-{i}": 5 + i for i in range(3000)}), encoding="utf-8")
    command = f"{sys.executable} -c 'from counterpoise.cli import main; main()' weights {tmp_path / 'c.json'}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 2"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("class")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo_can_be_run_twice_and_its_strategies_differ(tmp_path):
    for _ in range(2):
        out = call("demo", "--out", tmp_path / "demo", "--json").stdout
    comparison = Comparison.from_dict(json.loads(out))
    means = {arm.scores["test"]["balanced_accuracy"].mean for arm in comparison.arms}
    assert len(comparison.arms) == len(means) == 6
    assert (tmp_path / "demo/report.html").exists()


def test_a_warning_is_one_line_without_the_place_in_the_source():
    command = ["-W", "default", "-m", "counterpoise.cli", "weights", "900,300,30", "--scheme", "ENS", "--beta", "0.5"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, timeout=120)
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: beta=0.5 has no effect")


def test_a_class_without_images_gets_weight_0_and_is_named():
    told = call("weights", "0,10,30,0", "--json")
    assert json.loads(told.stdout) == pytest.approx({"0": 0.0, "1": 1.5, "2": 0.5, "3": 0.0})
    reason = "weight 0, and not counted in the average; add images to train on it"
    assert told.stderr == f"warning: classes '0', '3' have no images: {reason}\n"
    assert call("weights", "0,10").stderr.startswith("warning: class '0' has no images: weight 0")
    assert call("weights", "5,10").stderr == ""


def test_the_options_that_write_pages_are_named(run_folder, tmp_path):
    for name in ("page.svg", "page.png", "page.pdf", "page"):
        error = call("report", run_folder, "--to", tmp_path / name, code=2).stderr
        assert error == f"error: `--to` must end in one of .html, .md, .json; got '{name}'\n"
    error = call("explain", "focal", "--out", tmp_path / "page.pdf", code=2).stderr
    assert error == "error: `--out` must end in one of .html, .png, .svg, .md, .json; got 'page.pdf'\n"
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_belongs_to_another_scheme_is_refused():
    error = call("weights", "5,50", "--scheme", "inverse", "--beta", "0.9", code=2).stderr
    assert error == 'error: `--beta` belongs to scheme="effective_number"; remove it, or use that scheme\n'


@pytest.mark.parametrize(
    ("function", "name", "hint"),
    [
        (cp.train, "bs", "batch_size"),
        (cp.train, "seeds", "seed"),
        (cp.train, "num_epochs", "epochs"),
        (cp.train, "overwrit", "overwrite"),
        (cp.compare, "learning_rat", "learning_rate"),
        (cp.compare, "seed", "seeds"),
        (cp.compare, "job", "jobs"),
        (cp.compare, "wd", "weight_decay"),
    ],
)
def test_a_misspelt_argument_gets_a_hint(function, name, hint):
    data = {"strategy": "focal"} if function is cp.train else {}
    with pytest.raises(cp.errors.ArgumentError, match=rf"`{name}` is an unknown training setting; did you mean {hint}"):
        function(data="digits", **data, **{name: 1})


def test_reports_show_images_unless_they_are_unwanted_or_gone(photos, tmp_path, monkeypatch):
    def images(*arguments):
        return call(*arguments), (tmp_path / "out" / "report.html").read_text("utf-8").count('<img src="data:')

    options = ("--strategies", "focal", "--seeds", "1", "--epochs", "1", "--jobs", "1", "--batch-size", "8")
    _, at_first = images("compare", photos, *options, "--out", tmp_path / "out")
    assert at_first > 3
    monkeypatch.chdir(photos.parent)
    _, again = images("report", tmp_path / "out")
    assert again == at_first
    assert images("report", tmp_path / "out", "--no-images")[1] == 0
    moved = photos.rename(tmp_path / "elsewhere")
    try:
        assert images("report", tmp_path / "out")[1] == 0
        assert f"the files are no longer at {photos.name}" in (tmp_path / "out/report.html").read_text("utf-8")
        assert images("report", tmp_path / "out", "--data", moved)[1] == again
        run = tmp_path / "out/runs/focal-seed0"
        call("report", run, "--data", moved)
        assert "predicted as" in (run / "run.html").read_text("utf-8")
        assert images("compare", moved, *options, "--overwrite", "--no-images", "--out", tmp_path / "out")[1] == 0
    finally:
        moved.rename(photos)
    call("audit", photos, "--out", tmp_path / "audit")
    assert (tmp_path / "audit/audit.html").read_text("utf-8").count('<img src="data:') == 3
    call("audit", photos, "--no-images", "--overwrite", "--out", tmp_path / "audit")
    assert '<img src="data:' not in (tmp_path / "audit/audit.html").read_text("utf-8")


def test_json_of_many_classes_is_that_of_the_saved_file_and_that_of_few_the_whole_comparison(
    photos, tmp_path, monkeypatch
):
    options = ("--strategies", "focal", "--seeds", "1", "--epochs", "1", "--jobs", "1", "--batch-size", "8", "--json")
    out = tmp_path / "out"
    whole = json.loads(call("compare", photos, *options, "--out", out).stdout)
    assert Comparison.from_dict(whole) == Comparison.load(out / "comparison.json")
    assert whole["seconds"] > whole["arms"][0]["seconds"][0]
    monkeypatch.setattr(codec, "MANY_CLASSES", 2)
    for command in (("compare", photos, *options, "--resume", "--out", out), ("report", out, "--no-images", "--json")):
        printed = call(*command).stdout
        assert printed.count("\n") == 1
        assert json.loads(printed) == json.loads((out / "comparison.json").read_text("utf-8"))
        assert json.loads(printed)["seconds"] is None  # the comparison was resumed, so its wall time is not known
        assert (out / json.loads(printed)["arrays"]["file"]).exists()
        assert json.loads(printed)["arms"][0]["test"][0]["confusion"].keys() == {"num_classes", "array"}


def test_the_report_of_a_run_has_the_values_that_evaluate_saved(run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    call("report", folder, "--to", tmp_path / "before.md")
    call("evaluate", folder, "--tune", "thresholds", "--save")
    call("report", folder, "--to", tmp_path / "after.md")
    before, after = ((tmp_path / f"{name}.md").read_text("utf-8") for name in ("before", "after"))
    thresholds = json.loads((folder / "tuned.json").read_text())["transforms"][-1]["parameters"]["thresholds"]
    assert "Threshold" not in before
    assert "tuned.json has tuned values (thresholds)" in after
    row = next(line for line in after.splitlines() if line.startswith("| blue |") and line.count("|") > 4)
    assert number_text(thresholds[0]) in row
