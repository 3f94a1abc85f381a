"""Finetuning after a comparison on frozen features: the start, the files of the runs, resumption, verdict, refusals."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.workflow.training.frozen.photos import write_photos

import counterpoise as cp
from counterpoise.core.artifacts import Comparison, Predictions, Run, Strategy
from counterpoise.core.errors import ArgumentError, ArtifactError, DatasetError
from counterpoise.workflow.comparison.finetuning import finetune_best, finetuned_verdict
from counterpoise.workflow.comparison.runs import Experiment
from counterpoise.workflow.training import RunFolder
from counterpoise.workflow.training.frozen.finetune import (
    FinetuneSetup,
    finetune_settings,
    finetuned,
    unstandardized,
)
from counterpoise.workflow.training.frozen.setup import FrozenSetup
from counterpoise.workflow.training.progress import ProgressReport
from counterpoise.workflow.training.settings import Settings
from counterpoise.workflow.training.trainer import Trainer

STRATEGIES = "logit-adjusted,tau-norm,hierarchical,sigmoid-focal"
TITLE = "baseline-finetuned, seed 0"


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A network that has seen the digits a few times, as the backbone."""
    folder = tmp_path_factory.mktemp("weights")
    cp.train("baseline", "digits", model="resnet20", epochs=3, augment="none", lr=0.05, out=folder)
    file = str(folder / "model.safetensors")
    return {"model": "resnet20", "weights": file, "image_size": 8, "augment": "none", "frozen": True, "epochs": 3}


@pytest.fixture(scope="module")
def compared(options, tmp_path_factory):
    """A comparison on the digits in which the winner and the baseline are finetuned."""
    out = tmp_path_factory.mktemp("compared") / "out"
    comparison = cp.compare(
        "digits", **options, strategies=STRATEGIES, seeds=1, out=out, finetune=True, finetune_epochs=2
    )
    return out, comparison


@pytest.fixture(scope="module")
def setup(options, compared):
    out, _ = compared
    settings = Settings(**options)
    frozen = FrozenSetup.extract(cp.load("digits"), settings, cache=out.parent / "counterpoise-features")
    return FinetuneSetup.of(frozen, finetune_settings(settings, 2), out / "runs"), frozen


@pytest.mark.parametrize("name", ["baseline", "logit-adjusted", "hierarchical", "sigmoid-focal"])
def test_before_the_first_step_the_network_predicts_as_the_run_on_frozen_features(name, compared, setup, tmp_path):
    out, comparison = compared
    strategy = finetuned(next(arm.strategy for arm in comparison.arms if arm.strategy.name == name))
    trainer = Trainer.create_or_resume(setup[0].with_images(), strategy, 0, RunFolder(tmp_path / "run"))
    logits = trainer.raw_predictions("test").logits
    expected = Predictions.load(out / f"runs/{name}-seed0/predictions-test.npz").logits
    np.testing.assert_allclose(logits, expected, atol=0.02)
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.99
    assert expected.std() > 0.5  # of another order than the tolerance


def test_a_head_on_standardised_features_becomes_one_on_the_features():
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 5, generator=generator), torch.randn(3, generator=generator)
    mean, scale = torch.randn(5, generator=generator), torch.rand(5, generator=generator) + 0.1
    saved = {"head.weight": weight, "head.bias": bias, "standardize.mean": mean, "standardize.scale": scale}
    features = torch.randn(7, 5, generator=generator)
    found = unstandardized(saved)
    torch.testing.assert_close(
        features @ found["head.weight"].T + found["head.bias"], (features - mean) / scale @ weight.T + bias
    )


def test_the_finetuned_runs_are_ordinary_runs_with_arms_of_their_own(compared):
    out, comparison = compared
    names = [arm.strategy.name for arm in comparison.arms]
    assert names[:5] == ["baseline", *STRATEGIES.split(",")]
    assert "baseline-finetuned" in names[5:]
    frozen = next(name for name in names if f"{name}-finetuned" in names and name != "baseline")
    run = Run.load(out / f"runs/{frozen}-finetuned-seed0/run.json")
    base = Run.load(out / f"runs/{frozen}-seed0/run.json")
    assert (run.status, run.settings["epochs"], len(run.starts)) == ("done", 2, 1)
    assert "frozen" not in run.settings
    assert run.settings["finetuned_from"] == base.settings["features"]
    assert run.settings["learning_rate"] == pytest.approx(0.01 * run.settings["batch_size"] / 128)
    assert replace(run.strategy, name="same", summary="") == replace(base.strategy, name="same", summary="")
    assert run.prior == base.prior
    assert Comparison.load(out / "comparison.json") == comparison
    report = (out / "report.html").read_text()
    assert "baseline-finetuned" in report
    assert f"{frozen}-finetuned" in report


def test_the_whole_network_was_trained(compared, setup):
    out, _ = compared
    start = setup[0].initial_weights(finetuned(Strategy("baseline")), 0)
    end = safetensors.torch.load_file(out / "runs/baseline-finetuned-seed0/model.safetensors")
    assert start.keys() == end.keys()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed >= {name for name in start if name.endswith("weight")}


def test_the_best_on_validation_is_recommended_and_predicts(compared):
    out, comparison = compared
    verdict, metric = comparison.verdict, comparison.metric
    means = {arm.strategy.name: arm.scores["val"][metric].mean for arm in comparison.arms}
    assert verdict.recommended == max(means, key=means.get)
    assert verdict.recommended.endswith("-finetuned")
    assert verdict.leader == verdict.recommended
    assert verdict.headline.endswith(
        f"The model to use is that of {verdict.recommended}, the best of them on validation."
    )
    sentence = r"On validation, (.*)-finetuned is better than \1 \(.*\), and it is better than baseline-finetuned \("
    assert re.search(sentence, verdict.headline)
    model = cp.load_model(out)
    assert model.run.strategy.name == verdict.recommended
    test = cp.load("digits").subset("test")
    saved = Predictions.load(out / f"runs/{verdict.recommended}-seed0/predictions-test.npz")
    np.testing.assert_allclose(model.predict(test).logits, saved.logits, atol=1e-4)
    keys = {(d.split, d.strategy, d.baseline) for d in comparison.differences}
    assert ("test", verdict.recommended, "baseline") in keys
    assert len([d for d in comparison.differences if d.split == "val" and d.baseline == verdict.leader]) == 6


def test_an_interrupted_finetuning_ends_with_the_same_bits(compared, options, tmp_path):
    out, _ = compared
    shutil.copytree(out, tmp_path / "out")
    for folder in (tmp_path / "out/runs").glob("*-finetuned-*"):
        shutil.rmtree(folder)
    arguments = {**options, "strategies": STRATEGIES, "seeds": 1, "out": tmp_path / "out", "jobs": 1}

    def interrupt(task, done, total):
        if task == TITLE and done > total / 3:  # in the second epoch of the first of two trainings
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cp.compare("digits", **arguments, finetune=True, finetune_epochs=2, resume=True, progress=interrupt)
    assert (tmp_path / "out/runs/baseline-finetuned-seed0/checkpoint.safetensors").exists()
    cp.compare("digits", **arguments, finetune=True, finetune_epochs=2, resume=True)
    assert Run.load(tmp_path / "out/runs/baseline-finetuned-seed0/run.json").starts != (0,)
    for folder in (out / "runs").glob("*-finetuned-*"):
        for name in ("model.safetensors", "predictions-test.npz"):
            assert (tmp_path / "out/runs" / folder.name / name).read_bytes() == (folder / name).read_bytes()


def test_a_finished_finetuning_is_not_repeated_and_another_one_refused(compared, options, tmp_path, monkeypatch):
    out, comparison = compared
    shutil.copytree(out, tmp_path / "out")
    arguments = {**options, "strategies": STRATEGIES, "seeds": 1, "out": tmp_path / "out", "finetune": True}
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneSetup, "with_images", None)
        again = cp.compare("digits", **arguments, finetune_epochs=2, resume=True)
    assert again.verdict == replace(comparison.verdict, next_step=again.verdict.next_step)
    with pytest.raises(ArtifactError, match=r"baseline-finetuned-seed0 holds another run: its settings has epochs = 2"):
        cp.compare("digits", **arguments, finetune_epochs=3, resume=True)


def test_a_strategy_that_reuses_a_model_reuses_the_finetuned_one(compared, options, setup, tmp_path):
    out, comparison = compared
    shutil.copytree(out, tmp_path / "out")
    arms = comparison.arms[:5]
    verdict = replace(comparison.verdict, recommended="tau-norm", leader="tau-norm")
    strategies = [arm.strategy for arm in arms]
    experiment = Experiment(setup[1], (0,), tmp_path / "out", strategies, finetune_settings(Settings(**options), 2))
    found = finetune_best(replace(comparison, arms=arms, verdict=verdict), experiment, 1, ProgressReport())
    assert [arm.strategy.name for arm in found.arms[5:]] == ["baseline-finetuned", "tau-norm-finetuned"]
    runs = tmp_path / "out/runs"
    models = [runs / f"{name}-finetuned-seed0/model.safetensors" for name in ("tau-norm", "baseline")]
    assert models[0].read_bytes() == models[1].read_bytes()
    logits = [Predictions.load(model.parent / "predictions-test.npz").logits for model in models]
    assert not np.allclose(*logits)


def verdict_of(compared, scale):
    """The verdict if the scores of finetuned models on validation are multiplied by a number."""
    _, comparison = compared
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    selected = next(name for name in arms if f"{name}-finetuned" in arms and name != "baseline")
    frozen = replace(comparison.verdict, headline="Before.", kind="undecided", recommended=None, leader=selected)
    candidates = [arms[selected]]
    for name in (f"{selected}-finetuned", "baseline-finetuned"):
        spread = arms[name].scores["val"][comparison.metric]
        scores = {**arms[name].scores["val"], comparison.metric: replace(spread, mean=spread.mean * scale)}
        candidates.append(replace(arms[name], scores={**arms[name].scores, "val": scores}))
    more = {"baseline": "baseline", "metric": comparison.metric, "max_accuracy_drop": None}
    return frozen, candidates, more, comparison.differences


def test_finetuning_that_makes_the_model_worse_leaves_the_verdict_and_says_so(compared):
    frozen, candidates, more, differences = verdict_of(compared, 0.1)
    one = next(d for d in differences if d.split == "val")
    pair = {"strategy": f"{frozen.leader}-finetuned", "baseline": frozen.leader}
    worse = [replace(one, **pair, estimate=-0.5, low=-0.6, high=-0.4)]
    found = finetuned_verdict(frozen, candidates, worse, **more)
    assert found == replace(frozen, headline=found.headline)
    assert f"On validation, {frozen.leader}-finetuned is worse than {frozen.leader} (" in found.headline
    assert found.headline.endswith("Finetuning has not given a better model.")


def test_a_finetuned_model_that_failed_is_noted(compared):
    frozen, candidates, more, differences = verdict_of(compared, 1.0)
    failed = [candidates[0], *(replace(arm, status="failed", error="it broke") for arm in candidates[1:])]
    found = finetuned_verdict(frozen, failed, differences, **more)
    assert found == replace(frozen, notes=found.notes)
    assert found.notes[-1] == "baseline-finetuned failed and is not compared: it broke"
    found = finetuned_verdict(frozen, [*candidates[:2], failed[2]], differences, **more)
    assert found.recommended == f"{frozen.leader}-finetuned"
    assert "baseline-finetuned" not in found.headline


def test_models_that_do_not_differ_significantly_are_tied(compared):
    frozen, candidates, more, differences = verdict_of(compared, 1.0)
    wide = [replace(d, low=-1.0, high=1.0) for d in differences]
    found = finetuned_verdict(frozen, candidates, wide, **more)
    assert found.kind == "tied"
    assert len(found.tied) == 2
    assert "does not differ significantly from" in found.headline
    narrow = [replace(d, low=d.estimate, high=d.estimate) for d in differences if d.estimate is not None]
    assert finetuned_verdict(frozen, candidates, narrow, **more).kind == "clear"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen": False}, "`finetune` needs `frozen`"),
        ({"model": "auto", "weights": None, "features": "x.npz"}, "`features` were computed elsewhere"),
        ({"folds": 3}, "`finetune` and `folds` exclude each other"),
        ({"finetune": False, "finetune_epochs": 3}, "`finetune_epochs` needs `finetune`"),
        ({"finetune_epochs": 0}, "`finetune_epochs`"),
        ({"strategies": "ldam"}, "'ldam' cannot be finetuned: its cosine head"),
        ({"strategies": "decoupled", "finetune_epochs": 1}, "'decoupled' trains in two stages"),
        ({"strategies": [Strategy("my-finetuned")]}, "`finetune` gives names that end in -finetuned"),
    ],
)
def test_what_cannot_be_finetuned_is_refused_before_any_work(changes, message, options, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        cp.compare("digits", **{**options, "finetune": True, **changes}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_changed_since_its_features_were_computed_is_named(options, tmp_path):
    photos = write_photos(tmp_path / "photos")
    settings = Settings(**{**options, "image_size": 12})
    frozen = FrozenSetup.extract(photos, settings)
    (tmp_path / "photos/val/dots/1.png").write_bytes(b"no image")
    setup = FinetuneSetup.of(frozen, finetune_settings(settings, None), tmp_path)
    assert setup.settings.epochs == 5
    with pytest.raises(DatasetError, match=r"val/dots/1\.png has changed since its features were computed"):
        setup.with_images()
