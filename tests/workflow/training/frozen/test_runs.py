"""Comparisons and trainings on frozen features: the files of the runs, resumption, folds and mistakes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import counterpoise as cp
from counterpoise.core.artifacts import Comparison, Predictions, Run
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError, TrainingError
from counterpoise.workflow.dataset.folds import ResplitImages
from counterpoise.workflow.training.frozen import runs
from counterpoise.workflow.training.frozen.settings import default_batch, resolve_frozen
from counterpoise.workflow.training.settings import Settings

STRATEGIES = "focal,logit-adjusted,post-hoc-logit-adjusted,tau-norm"


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """The pixels of the digits as a file of features."""
    data = cp.load("digits")
    pixels = np.stack([data[i][..., 0].reshape(-1) for i in range(len(data))]).astype(np.float32) / 16
    file = tmp_path_factory.mktemp("features") / "digits.npz"
    np.savez(file, features=pixels, paths=np.array(data.paths))
    return str(file)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def compared(features, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    return out, cp.compare("digits", strategies=STRATEGIES, seeds=2, frozen=True, features=features, epochs=6, out=out)


def test_a_comparison_leaves_the_files_of_every_run(compared):
    out, comparison = compared
    names = {arm.strategy.name: arm.status for arm in comparison.arms}
    assert names == dict.fromkeys(("baseline", *STRATEGIES.split(",")), "done")
    assert {p.name for p in out.iterdir()} == {"comparison.json", "report.html", "runs"}
    for arm in comparison.arms:
        for folder in arm.directories:
            files = {p.name for p in (out / folder).iterdir()}
            assert {"run.json", "model.safetensors", "predictions-val.npz", "predictions-test.npz"} <= files
    run = Run.load(out / "runs/focal-seed1/run.json")
    assert run.settings["frozen"] is True
    assert run.settings["features"]["file"] == "digits.npz"
    assert tuple(run.selected.values()) in {tuple(pair) for pair in run.settings["pairs"]}
    assert len(run.settings["pairs"]) == 8
    assert run.steps == 6 * run.settings["steps_per_epoch"]
    assert run.prior == ()
    assert Run.load(out / "runs/logit-adjusted-seed0/run.json").prior == pytest.approx([0.1] * 10)
    scores = {arm.strategy.name: arm.scores["test"]["balanced_accuracy"].mean for arm in comparison.arms}
    assert scores["logit-adjusted"] > scores["baseline"] + 0.05


def test_both_seeds_use_the_pair_that_was_chosen_for_the_strategy(compared):
    out, _ = compared
    for name in ("baseline", "focal", "logit-adjusted"):
        pairs = {tuple(Run.load(out / f"runs/{name}-seed{seed}/run.json").selected.values()) for seed in (0, 1)}
        assert len(pairs) == 1


def test_predictions_are_those_of_the_saved_head(compared):
    from safetensors.numpy import load_file

    out, _ = compared
    data = cp.load("digits").subset("test")
    tensors = load_file(out / "runs/baseline-seed0/model.safetensors")
    pixels = np.stack([data[i][..., 0].reshape(-1) for i in range(len(data))]).astype(np.float32) / 16
    standardized = (pixels - tensors["standardize.mean"]) / tensors["standardize.scale"]
    logits = standardized @ tensors["head.weight"].T + tensors["head.bias"]
    saved = Predictions.load(out / "runs/baseline-seed0/predictions-test.npz")
    np.testing.assert_allclose(saved.logits, logits, rtol=1e-4, atol=1e-4)
    assert saved.paths.tolist() == list(data.paths)


def test_a_strategy_alone_has_the_weights_that_it_has_among_others(compared, features, tmp_path):
    out, _ = compared
    cp.train("focal", "digits", frozen=True, features=features, epochs=6, seed=0, out=tmp_path / "run")
    alone = Predictions.load(tmp_path / "run/predictions-test.npz")
    among = Predictions.load(out / "runs/focal-seed0/predictions-test.npz")
    np.testing.assert_allclose(alone.logits, among.logits, rtol=1e-3, atol=1e-3)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "history.csv", "model.safetensors", "predictions-test.npz", "predictions-train.npz", "predictions-val.npz",
        "run.json",
    ]  # fmt: skip


def test_a_comparison_that_was_interrupted_ends_with_the_same_files(compared, features, tmp_path, monkeypatch):
    out, _ = compared
    options = {"strategies": STRATEGIES, "seeds": 2, "frozen": True, "features": features, "epochs": 6}
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
    for title in ("choosing learning rates", "training heads"):

        def interrupt(task, done, total, title=title):
            if task == title and done > total / 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cp.compare("digits", **options, out=tmp_path / "again", resume=True, progress=interrupt)
    assert (tmp_path / "again/heads").is_dir()
    cp.compare("digits", **options, out=tmp_path / "again", resume=True)
    assert not (tmp_path / "again/heads").exists()
    ours, whole = contents(tmp_path / "again"), contents(out)
    assert ours.keys() == whole.keys()
    for name in ours:
        if name.endswith(("predictions-test.npz", "model.safetensors", "history.csv")):
            assert ours[name] == whole[name], name


def test_an_interrupted_comparison_may_be_resumed_with_more_strategies(features, tmp_path, monkeypatch):
    options = {"seeds": 1, "frozen": True, "features": features, "epochs": 3, "lr": 1e-2, "weight_decay": 0.1}
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)

    def interrupt(task, done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cp.compare("digits", strategies="focal", **options, out=tmp_path / "out", progress=interrupt)
    more = cp.compare("digits", strategies="focal,ldam", **options, out=tmp_path / "out", resume=True)
    assert [arm.status for arm in more.arms] == ["done"] * 3


def test_a_run_that_is_missing_is_trained_again_with_the_same_weights(compared, features, tmp_path):
    out, _ = compared
    shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/runs/focal-seed1")
    options = {"strategies": STRATEGIES, "seeds": 2, "frozen": True, "features": features, "epochs": 6}
    cp.compare("digits", **options, out=tmp_path / "copy", resume=True)
    for name in ("model.safetensors", "predictions-test.npz"):
        part = f"runs/focal-seed1/{name}"
        assert (tmp_path / "copy" / part).read_bytes() == (out / part).read_bytes()


def test_folds_are_trained_on_the_features_of_the_others(features, tmp_path):
    options = {"strategies": "logit-adjusted,tau-norm", "seeds": 1, "frozen": True, "features": features, "epochs": 3}
    comparison = cp.compare("digits", **options, folds=3, out=tmp_path / "out", lr=1e-2, weight_decay=0.01)
    assert comparison.folds == 3
    folders = {p.name for p in (tmp_path / "out/runs").iterdir()}
    assert folders == {f"{s}-seed0-fold{k}" for s in ("baseline", "logit-adjusted", "tau-norm") for k in range(3)}
    held_out = [
        set(Predictions.load(tmp_path / f"out/runs/baseline-seed0-fold{k}/predictions-val.npz").paths.tolist())
        for k in range(3)
    ]
    assert not held_out[0] & held_out[1]
    trained = Predictions.load(tmp_path / "out/runs/baseline-seed0-fold0/predictions-train.npz").paths.tolist()
    assert not held_out[0] & set(trained)
    assert held_out[1] | held_out[2] <= set(trained)


def test_given_values_leave_nothing_to_choose(features, tmp_path):
    run = cp.train(
        "focal", "digits", frozen=True, features=features, epochs=2, lr=1e-2, weight_decay=0.5, out=tmp_path / "run"
    )
    assert run.selected == {"learning_rate": 1e-2, "weight_decay": 0.5}
    assert run.settings["pairs"] == [[1e-2, 0.5]]
    rates = [float(line.split(",")[3]) for line in (tmp_path / "run/history.csv").read_text().splitlines()[1:]]
    assert max(rates) <= 1e-2


def test_a_head_that_diverges_fails_alone(features, tmp_path, monkeypatch):
    options = {"frozen": True, "features": features, "epochs": 2, "weight_decay": 0.0, "lr": 1e38}
    with pytest.raises(TrainingError, match=r"became infinite or NaN.*lower `learning_rate`, now 1e\+38"):
        cp.train("focal", "digits", **options, out=tmp_path / "run")
    assert Run.load(tmp_path / "run/run.json").status == "failed"


def test_heads_that_do_not_fit_in_memory_are_trained_in_parts(compared, features, tmp_path):
    out, _ = compared
    options = {"strategies": "focal,logit-adjusted", "seeds": 1, "frozen": True, "features": features, "epochs": 6}
    part = 5 * 65 * 10 * 4 * 8 / 2**30  # the eight pairs of one strategy
    cp.compare("digits", **options, cache_gib=part, out=tmp_path / "parts")
    whole = Predictions.load(out / "runs/focal-seed0/predictions-test.npz")
    parts = Predictions.load(tmp_path / "parts/runs/focal-seed0/predictions-test.npz")
    np.testing.assert_allclose(parts.logits, whole.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 2}, "`views` needs `frozen`"),
        ({"features": "x.npz"}, "`features` needs `frozen`"),
        ({"frozen": True, "optimizer": "adamw"}, "`optimizer` has no effect with `frozen`"),
        ({"frozen": True, "keep": "best"}, "`keep` has no effect with `frozen`"),
        ({"frozen": True, "features": "x.npz", "pretrained": True}, "`pretrained` has no effect on `features`"),
        ({"frozen": True, "features": "missing.npz"}, "missing.npz"),
        ({"frozen": 1}, "`frozen` must be True or False"),
        ({"frozen": True, "views": -1}, "`views`"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(options, message, tmp_path):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        cp.compare("digits", **options, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_on_other_features_is_not_continued(compared, features, tmp_path):
    out, _ = compared
    shutil.copytree(out, tmp_path / "copy")
    with np.load(features) as saved:
        np.savez(tmp_path / "digits.npz", features=saved["features"] + 1, paths=saved["paths"])
    options = {"strategies": STRATEGIES, "seeds": 2, "frozen": True, "epochs": 6}
    with pytest.raises(ArtifactError, match="features"):
        cp.compare("digits", **options, features=str(tmp_path / "digits.npz"), out=tmp_path / "copy", resume=True)


def test_the_verdict_says_that_only_heads_were_trained(compared):
    out, comparison = compared
    assert any("frozen features" in note for note in comparison.verdict.notes)
    saved = json.loads((out / "comparison.json").read_text())
    assert saved["settings"]["frozen"] is True
    assert Comparison.load(out / "comparison.json").settings == comparison.settings


def test_the_default_batch_gives_about_forty_steps():
    assert [default_batch(n) for n in (2, 500, 2_000, 12_406, 10**7)] == [16, 16, 64, 256, 512]


@pytest.mark.parametrize(("images", "epochs"), [(12, 600), (100, 86), (1_000, 19), (10_000, 15)])
def test_few_images_are_seen_in_more_epochs(images, epochs):
    from tests.workflow.training.frozen.test_heads import setup_of_digits

    data = setup_of_digits().data
    train = np.flatnonzero(data.splits == "train")
    rows = np.resize(train, images)
    splits = np.full(images, "train")
    resolved = resolve_frozen(Settings(frozen=True, features="x.npz"), ResplitImages(data, splits, rows=rows))
    assert resolved.epochs == epochs
    assert resolved.steps >= 585
    given = resolve_frozen(Settings(frozen=True, epochs=2, features="x"), ResplitImages(data, splits, rows=rows))
    assert given.epochs == 2
