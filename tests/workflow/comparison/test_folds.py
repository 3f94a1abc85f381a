"""A comparison over folds: every number again from the files, no image in its own correction, and how it is used."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from tests.workflow.blobs import CLASSES, blobs

import counterpoise as cp
from counterpoise.core.artifacts import Comparison, Predictions, Run, Strategy
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.dataset.folds import draw_folds, with_validation
from counterpoise.workflow.training.posthoc import HeldOut, apply_over_folds

ASKED = ("weighted-ce", "tuned-thresholds", "tau-norm")
OPTIONS = {"strategies": ASKED, "seeds": 2, "folds": 3, "epochs": 2}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison") / "out"
    calls = []
    found = compare(blobs(), **OPTIONS, out=out, progress=lambda *call: calls.append(call))
    return found, out, calls


def predictions(out, name, split):
    return Predictions.load(out / "runs" / name / f"predictions-{split}.npz")


def test_there_is_a_run_per_strategy_seed_and_fold(compared):
    comparison, out, _ = compared
    names = [f"{n}-seed{s}-fold{f}" for n in ("baseline", *ASKED) for s in (0, 1) for f in range(3)]
    assert sorted(p.name for p in (out / "runs").iterdir()) == sorted(names)
    assert [d for arm in comparison.arms for d in arm.directories] == [f"runs/{name}" for name in names]
    assert comparison.folds == 3
    assert Comparison.load(out / "comparison.json") == comparison
    assert str(out) not in (out / "comparison.json").read_text()
    content = comparison.to_dict()
    del content["folds"]  # a file of an earlier version
    assert Comparison.from_dict(content) == dataclasses.replace(comparison, folds=None)


def test_the_cost_is_the_first_that_is_reported(compared):
    _, out, calls = compared
    steps = Run.load(out / "runs/baseline-seed0-fold0/run.json").steps
    assert calls[0] == ("12 trainings: 3 folds × 2 strategies that train × 2 seeds", 0, 12 * steps)
    assert calls[-1][1:] == (12 * steps, 12 * steps)


def test_every_image_of_train_and_val_is_held_out_once_per_seed_by_a_model_that_was_not_trained_on_it(compared):
    _, out, _ = compared
    data = blobs()
    pool = sorted(np.array(data.paths)[data.splits != "test"])
    for name in ("baseline", *ASKED):
        held_out = [predictions(out, f"{name}-seed1-fold{fold}", "val").paths.tolist() for fold in range(3)]
        assert sorted(path for paths in held_out for path in paths) == pool
        for fold in range(3):
            trained = predictions(out, f"{name}-seed1-fold{fold}", "train").paths.tolist()
            assert sorted(trained + held_out[fold]) == pool
            run = Run.load(out / f"runs/{name}-seed1-fold{fold}/run.json")
            assert sum(run.train_counts) == len(trained)
            assert run.data["fold"] == fold


def test_scores_on_validation_are_of_the_pooled_predictions_and_on_test_means_over_the_models(compared):
    comparison, out, _ = compared
    for arm in comparison.arms:
        name = arm.strategy.name
        assert (len(arm.validation), len(arm.test)) == (2, 6)
        for seed, evaluation in enumerate(arm.validation):
            parts = [predictions(out, f"{name}-seed{seed}-fold{fold}", "val") for fold in range(3)]
            labels = np.concatenate([p.labels for p in parts])
            predicted = np.concatenate([p.logits.argmax(1) for p in parts])
            assert evaluation.num_images == 72
            assert [c.support for c in evaluation.classes] == [52, 14, 6]
            wanted = balanced_accuracy_score(labels, predicted)
            assert evaluation.balanced_accuracy == pytest.approx(wanted, abs=1e-12)
            assert arm.scores["val"]["balanced_accuracy"].values[seed] == evaluation.balanced_accuracy
        on_test = [
            balanced_accuracy_score(p.labels, p.logits.argmax(1))
            for seed in (0, 1)
            for p in [predictions(out, f"{name}-seed{seed}-fold{fold}", "test") for fold in range(3)]
        ]
        spread = arm.scores["test"]["balanced_accuracy"]
        assert spread.values == pytest.approx(on_test, abs=1e-12)
        assert (spread.mean, spread.sd) == pytest.approx((np.mean(on_test), np.std(on_test, ddof=1)), abs=1e-12)


def test_differences_are_of_the_means_per_seed(compared):
    comparison, _, _ = compared
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    for d in comparison.differences:
        if d.metric != "balanced_accuracy":
            continue
        a, b = (np.array(arms[name].scores[d.split][d.metric].values) for name in (d.strategy, d.baseline))
        assert d.estimate == pytest.approx(a.mean() - b.mean(), abs=1e-12)
        by_seed = (a - b).reshape(2, -1).mean(axis=1)  # folds of one seed are not independent
        assert d.seed_sd == pytest.approx(np.std(by_seed, ddof=1), abs=1e-12)
        assert d.method == "images"


def test_the_verdict_says_that_it_is_over_folds_and_ends_in_the_training_of_a_final_model(compared):
    comparison, out, _ = compared
    verdict = comparison.verdict
    assert "over 3 folds" in verdict.headline
    assert any("mean over the models of 3 folds" in note for note in verdict.notes)
    assert "--val-fraction" not in " ".join((verdict.headline, *verdict.notes, verdict.next_step))
    assert "counterpoise train blobs … --strategy " in verdict.next_step
    for strategy in (None, "baseline"):
        with pytest.raises(ArgumentError, match=r"3 models per strategy and seed.*Next: .*--out final.*baseline-seed0"):
            cp.load_model(out, strategy=strategy)
    model = cp.load_model(out / "runs" / "weighted-ce-seed1-fold2")
    predicted = model.predict(blobs().subset("test"))
    np.testing.assert_array_equal(predicted.logits, predictions(out, "weighted-ce-seed1-fold2", "test").logits)


def test_a_comparison_over_folds_is_resumed_run_by_run_and_in_parallel_with_the_same_numbers(compared, tmp_path):
    comparison, done, _ = compared
    out = tmp_path / "out"
    shutil.copytree(done, out)
    for name in ("weighted-ce-seed0-fold1", "tau-norm-seed1-fold0", "baseline-seed1-fold2"):
        shutil.rmtree(out / "runs" / name)
    (out / "comparison.json").unlink()
    calls = Counter()
    again = compare(blobs(), **OPTIONS, out=out, resume=True, jobs=2, progress=lambda t, *_: calls.update([t]))
    trained = {title for title, n in calls.items() if n > 1}  # for a run that was finished before, one call
    assert trained == {"weighted-ce, seed 0, fold 1", "baseline, seed 1, fold 2"}
    numbers = [[dataclasses.replace(arm, seconds=()) for arm in found.arms] for found in (again, comparison)]
    assert numbers[0] == numbers[1]
    assert again.differences == comparison.differences
    for name in ("weighted-ce-seed0-fold1", "baseline-seed1-fold2"):
        one, other = (folder / "runs" / name / "model.safetensors" for folder in (out, done))
        assert one.read_bytes() == other.read_bytes()


def test_other_folds_in_the_folder_are_refused(compared):
    _, out, _ = compared
    with pytest.raises(ArtifactError, match="holds another run: its data has folds = 3, and 2 was"):
        compare(blobs(), **{**OPTIONS, "folds": 2}, out=out, resume=True)


@pytest.mark.parametrize(
    "strategy",
    [
        "hierarchical",
        "adaptive-weights",
        "decoupled",
        "sigmoid-focal",
        Strategy("own", "", posthoc="tune_thresholds"),
    ],
)
def test_strategies_of_every_kind_are_compared_over_folds(strategy, tmp_path):
    found = compare(blobs(), strategies=[strategy], seeds=1, folds=2, epochs=2, out=tmp_path / "out")
    assert [arm.error for arm in found.arms] == [None] * len(found.arms)
    assert found.arms[-1].validation[0].num_images == 72


def test_classes_with_one_image_are_trained_on_and_named(tmp_path):
    data = blobs({"train": (20, 6, 1), "val": (6, 2, 0), "test": (5, 5, 5)})
    found = compare(data, strategies=["focal"], seeds=1, folds=4, epochs=1, out=tmp_path / "out")
    (note,) = [note for note in found.verdict.notes if "held out in any fold" in note]
    assert note.startswith("no image of 'rarest' was held out")
    assert [c.support for c in found.arms[0].validation[0].classes] == [26, 8, 0]
    counts = [Run.load(tmp_path / "out" / d / "run.json").train_counts for d in found.arms[0].directories]
    assert [c[2] for c in counts] == [1, 1, 1, 1]
    assert all("rarest (0)" not in note for note in found.verdict.notes)


def test_a_failed_fold_fails_its_strategy_by_name_and_not_the_others(tmp_path, monkeypatch):
    from counterpoise.workflow.comparison import engine

    train = engine.run_training

    def failing(setup, strategy, *, seed, **rest):
        if strategy.name == "focal" and setup.data.to_dict()["fold"] == 1:
            raise RuntimeError("out of memory")
        return train(setup, strategy, seed=seed, **rest)

    monkeypatch.setattr(engine, "run_training", failing)
    found = compare(blobs(), strategies=["focal", "weighted-ce"], seeds=1, folds=2, epochs=1, out=tmp_path / "out")
    assert [arm.status for arm in found.arms] == ["done", "failed", "done"]
    assert found.arms[1].error == "seed 0, fold 1: RuntimeError: out of memory"


def noise(folds, per_fold, classes, rng):
    """Predictions of folds whose logits have nothing to do with the labels."""
    parts = []
    for fold in range(folds):
        labels = rng.integers(0, classes, per_fold)
        paths = np.array([f"{fold}-{i}.png" for i in range(per_fold)])
        parts.append(
            Predictions(rng.normal(size=(per_fold, classes)), labels, paths, np.array(list("abcdefgh")[:classes]))
        )
    return parts


def test_a_correction_that_is_fitted_on_other_folds_gains_nothing_from_noise():
    """With random logits every method has a balanced accuracy of 1/C; fitted on its own images it seems better."""
    rng, crossed, leaked = np.random.default_rng(0), [], []
    strategy = Strategy("x", "", posthoc="tau_normalize", reuses="baseline")
    head = (np.diag([4.0, 2.0, 1.0, 0.5]), np.zeros(4))
    for _ in range(150):
        parts = noise(3, 8, 4, rng)
        held_out, predicted, own = [HeldOut(part, head) for part in parts], [], []
        for fold, part in enumerate(parts):
            final, _ = apply_over_folds(strategy, None, {"val": part, "test": part}, held_out, fold)
            predicted.append(final["val"].logits.argmax(1))
            own.append(final["test"].logits.argmax(1))  # fitted on all folds, these images among them
        labels = np.concatenate([part.labels for part in parts])
        crossed.append(balanced_accuracy_score(labels, np.concatenate(predicted)))
        leaked.append(balanced_accuracy_score(labels, np.concatenate(own)))
    assert np.mean(leaked) > 0.25 + 0.04
    assert abs(np.mean(crossed) - 0.25) < 2.5 * np.std(crossed) / np.sqrt(len(crossed)) < 0.025


@pytest.mark.parametrize("method", ["tune_thresholds", "tau_normalize"])
def test_the_labels_of_a_fold_have_no_part_in_its_validation_logits(method):
    rng = np.random.default_rng(1)
    heads = [(rng.normal(size=(4, 5)) * [[3.0], [1.0], [0.5], [0.1]], np.zeros(4)) for _ in range(3)]
    parts = noise(3, 30, 4, rng)
    strategy = Strategy("x", "", posthoc=method, reuses="baseline")

    def transformed(changed):
        held_out = [HeldOut(part, head) for part, head in zip(changed, heads, strict=True)]
        final, _ = apply_over_folds(strategy, None, {"val": changed[1], "test": parts[0]}, held_out, 1)
        return final["val"].logits, final["test"].logits

    before = transformed(parts)
    other = [parts[0], dataclasses.replace(parts[1], labels=parts[1].logits.argmax(1)), parts[2]]
    after = transformed(other)
    np.testing.assert_array_equal(after[0], before[0])
    assert not np.array_equal(after[1], before[1])  # the final method is fitted on all folds


def test_tau_normalisation_uses_the_head_of_each_fold(compared):
    _, out, _ = compared
    fitted = [Run.load(out / f"runs/tau-norm-seed0-fold{fold}/run.json") for fold in range(3)]
    assert len({run.fitted["tau"] for run in fitted}) == 1  # one fit to all folds
    norms = [tuple(run.transforms[-1].parameters["norm"]) for run in fitted]
    assert len(set(norms)) == 3


def test_a_final_model_is_trained_on_train_and_val(tmp_path):
    run = cp.train("weighted-ce", blobs(), with_val=True, epochs=1, out=tmp_path / "final")
    assert run.train_counts == (52, 14, 6)
    folder = Path(run.directory)
    assert not (folder / "predictions-val.npz").exists()
    data = blobs()
    assert sorted(Predictions.load(folder / "predictions-test.npz").paths) == sorted(data.subset("test").paths)
    assert cp.load_model(folder).predict(data.subset("test")).logits.shape == (30, 3)
    with pytest.raises(ArgumentError, match="fits posthoc 'tune_thresholds' on validation images"):
        cp.train("tuned-thresholds", blobs(), with_val=True, epochs=1, out=tmp_path / "other")


def test_what_cannot_be_is_refused_before_any_work(tmp_path):
    options = {"strategies": ["focal"], "seeds": 1, "epochs": 1, "out": tmp_path / "out"}
    with pytest.raises(ArgumentError, match="`folds` must be at least 2; got 1"):
        compare(blobs(), folds=1, **options)
    with pytest.raises(ArgumentError, match="`folds` must be at most the number of images of the largest class, 52 "):
        compare(blobs(), folds=53, **options)
    no_test = blobs({"train": (20, 6, 3), "val": (6, 2, 1), "test": (0, 0, 0)})
    with pytest.raises(ArgumentError, match="has no test images, and a comparison needs train and test images"):
        compare(no_test, folds=3, **options)
    assert not (tmp_path / "out").exists()
    no_val = blobs({"train": (20, 6, 3), "val": (0, 0, 0), "test": (5, 5, 5)})
    found = compare(no_val, folds=3, **options)  # folds need no validation split
    assert found.arms[0].validation[0].num_images == 29


def test_the_report_shows_the_pooled_numbers_and_says_what_was_done(compared):
    comparison, out, _ = compared
    html = (out / "report.html").read_text()
    assert "3 folds" in html
    leader = next(arm for arm in comparison.arms if arm.strategy.name == comparison.verdict.leader)
    assert f"{100 * leader.scores['val']['balanced_accuracy'].mean:.1f}" in html
    assert json.loads((out / "comparison.json").read_text())["folds"] == 3


def test_choice_options_hold_on_the_pooled_images(compared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared[1], out)
    found = compare(blobs(), **OPTIONS, out=out, resume=True, select_by="accuracy", max_accuracy_drop=0.0)
    means = {arm.strategy.name: arm.scores["val"]["accuracy"].mean for arm in found.arms}
    assert found.metric == "accuracy"
    assert means[found.verdict.leader] == max(means.values())
    dropped = [name for name, mean in means.items() if mean < means["baseline"]]
    assert all(any(name in note for note in found.verdict.notes if note.startswith("left out")) for name in dropped)


def test_copies_of_an_image_are_one_unit_of_the_intervals(tmp_path):
    data = blobs()
    rows = np.flatnonzero(data.splits == "train")[:4]
    pixels = data.pixels.copy()
    pixels[rows] = pixels[rows[0]]
    data.pixels = pixels
    pooled = with_validation(data)
    units = draw_folds(pooled, 3).units_by_path(pooled)
    assert len({units[data.paths[i]] for i in rows}) == 1
    assert len(set(units.values())) == 72 - 3
    assert CLASSES[0] in data.paths[rows[0]]
    assert draw_folds(with_validation(blobs()), 3).units_by_path(with_validation(blobs())) is None
