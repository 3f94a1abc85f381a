"""Class weights, mixing and augmentation by class during training, and post-hoc methods after it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tests.workflow.blobs import blobs

from counterpoise.core.artifacts import Predictions, Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.weights import AdaptiveWeights, class_weights
from counterpoise.workflow.strategy import CATALOG
from counterpoise.workflow.training import RunFolder, Settings, TrainingSetup, run_posthoc, run_training, train
from counterpoise.workflow.training.loop import TrainingLoop
from counterpoise.workflow.training.posthoc import apply_posthoc
from counterpoise.workflow.training.recipe import build_recipe


class Interrupted(Exception):
    pass


@pytest.mark.fault("C7")
@pytest.mark.parametrize("strategy", ["adaptive-weights", "ldam-drw", "cmo", "remix", "minority-augment"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(dataset, tmp_path, strategy):
    def stop(done, total):
        if done == 5:
            raise Interrupted

    train(strategy, dataset, epochs=4, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(strategy, dataset, epochs=4, out=tmp_path / "parts", progress=stop)
    assert train(strategy, dataset, epochs=4, out=tmp_path / "parts", resume=True).starts == (0, 4)
    for file in sorted((tmp_path / "whole").iterdir()):
        other = tmp_path / "parts" / file.name
        if file.suffix == ".npz":
            np.testing.assert_array_equal(Predictions.load(file).logits, Predictions.load(other).logits)
        elif file.name != "run.json":
            assert file.read_bytes() == other.read_bytes(), file.name


def test_adaptive_weights_follow_the_validation_of_their_own_run(dataset, tmp_path, monkeypatch):
    seen = []
    original = AdaptiveWeights.update
    monkeypatch.setattr(
        AdaptiveWeights, "update", lambda self, y, p: seen.append((y.copy(), p.copy())) or original(self, y, p)
    )
    used = []
    step = TrainingLoop.train_step
    monkeypatch.setattr(TrainingLoop, "train_step", lambda s, b: used.append(s.loss.weight.clone()) or step(s, b))
    train("adaptive-weights", dataset, epochs=3, out=tmp_path / "run")
    logged = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert logged["classes"] == ["common", "rare", "rarest"]
    expected = AdaptiveWeights(dataset.counts("train"))
    assert len(seen) == 3
    for epoch, (labels, predicted) in enumerate(seen):
        np.testing.assert_allclose(logged["epochs"][epoch], expected.weight)
        for weight in used[2 * epoch : 2 * epoch + 2]:
            np.testing.assert_allclose(weight, expected.weight, rtol=1e-6)
        assert labels.tolist() == dataset.subset("val").labels.tolist()
        original(expected, labels, predicted)
    assert not np.allclose(logged["epochs"][0], logged["epochs"][2])


def test_deferred_weights_begin_when_they_are_told_to(dataset, tmp_path):
    train("class-balanced-ce-drw", dataset, epochs=5, out=tmp_path / "run")
    epochs = json.loads((tmp_path / "run" / "weights.json").read_text())["epochs"]
    assert epochs[:4] == [[1.0, 1.0, 1.0]] * 4
    np.testing.assert_allclose(epochs[4], class_weights(dataset.counts("train"), "effective_number", beta=0.9999))


def test_what_is_fitted_on_validation_needs_validation(tmp_path):
    data = blobs({"train": (20, 8, 4), "val": (0, 0, 0), "test": (6, 6, 6)})
    for name in ("adaptive-weights", "tuned-thresholds", "tau-norm"):
        with pytest.raises(ArgumentError, match=f"'{name}' fits .* on validation images, and blobs has none"):
            train(name, data, epochs=1, out=tmp_path / name)
        assert not (tmp_path / name).exists()


def batches(dataset, strategy, steps=4):
    """Images and targets as the loss sees them."""
    setup = TrainingSetup.prepare(dataset, Settings(epochs=1, batch_size=16, augment=()))
    recipe = build_recipe(
        strategy, setup.train_labels, setup.counts, symmetries=frozenset(dataset.symmetries), seed=0, epochs=1
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 3))
    loop = TrainingLoop(model, recipe.loss, setup.settings, 0, setup.images["train"], recipe.order, recipe.transform)
    found = []
    for batch in loop.loader:
        found.append((batch, loop.prepare_batch(batch["images"], batch["labels"])))
        loop.step += 1
    return found[:steps]


def test_cmo_pastes_rare_foregrounds_on_backgrounds_as_they_come(dataset):
    strategy = dataclasses.replace(CATALOG["cmo"], mixing_options={"alpha": 1.0, "probability": 1.0})
    backs, fronts = [], []
    for batch, (images, target) in batches(dataset, strategy):
        back, front = (batch["images"][i::2].float() / 255 for i in (0, 1))
        assert images.shape == back.shape
        pasted = ((images == front) & (images != back)).any(1).float().mean((1, 2))
        assert ((images == front) | (images == back)).all()
        backs += batch["labels"][0::2].tolist()
        fronts += batch["labels"][1::2].tolist()
        for i in range(len(images)):
            share = 1 - target[i, batch["labels"][2 * i]] if backs[i] != fronts[i] else None
            if share is not None and batch["labels"][2 * i] != batch["labels"][2 * i + 1]:
                assert share == pytest.approx(float(pasted[i]), abs=0.02)
    assert np.bincount(backs, minlength=3).argmax() == 0
    assert np.bincount(fronts, minlength=3).argmax() == 2


def test_without_mixing_a_cmo_batch_is_its_backgrounds(dataset):
    strategy = dataclasses.replace(CATALOG["cmo"], mixing_options={"probability": 0.0})
    for batch, (images, target) in batches(dataset, strategy):
        torch.testing.assert_close(images, batch["images"][0::2].float() / 255)
        assert target.tolist() == batch["labels"][0::2].tolist()


def test_minority_augmentation_changes_the_rare_and_leaves_the_frequent(dataset):
    changed = {0: [], 1: [], 2: []}
    for batch, (images, target) in batches(dataset, CATALOG["minority-augment"]):
        before = batch["images"].float() / 255
        for label, same in zip(target.tolist(), (images == before).flatten(1).all(1).tolist(), strict=True):
            changed[label].append(not same)
    assert not any(changed[0])
    assert np.mean(changed[2]) > 0.9


def test_adaptive_weights_without_a_posthoc_method_are_not_cross_fitted(dataset, monkeypatch):
    monkeypatch.setattr("counterpoise.workflow.training.posthoc.cross_fitted", lambda *_: pytest.fail("cross-fitted"))
    setup, strategy = TrainingSetup.prepare(dataset, Settings()), CATALOG["adaptive-weights"]
    raw = setup.predictions("val", np.ones((len(setup.images["val"]), 3), dtype=np.float32))
    final, _ = apply_posthoc(strategy, setup.class_prior(strategy), {"val": raw})
    np.testing.assert_array_equal(final["val"].logits, raw.logits)


@pytest.mark.parametrize("name", ["tuned-thresholds", "tau-norm"])
def test_a_fitted_correction_is_cross_fitted_on_validation_and_whole_on_test(dataset, tmp_path, name):
    setup = TrainingSetup.prepare(dataset, Settings(epochs=3))
    base = run_training(
        setup, CATALOG["baseline"], seed=0, folder=RunFolder(tmp_path / "base"), progress=lambda step: None
    )
    run = run_posthoc(setup, CATALOG[name], base, seed=0, folder=RunFolder(tmp_path / "after"))
    raw = {s: Predictions.load(tmp_path / "base" / f"predictions-{s}.npz") for s in ("val", "test")}
    got = {s: Predictions.load(tmp_path / "after" / f"predictions-{s}.npz").logits for s in ("val", "test")}
    if name == "tuned-thresholds":
        t = np.array(run.fitted["thresholds"])
        log_p = torch.from_numpy(raw["test"].logits).double().log_softmax(1).numpy()
        np.testing.assert_allclose(got["test"], log_p - np.log(t), rtol=1e-5, atol=1e-5)
        whole = torch.from_numpy(raw["val"].logits).double().log_softmax(1).numpy() - np.log(t)
        assert not np.allclose(got["val"], whole, atol=1e-6)
    else:
        head, _ = RunFolder(tmp_path / "base").read_tensors("model.safetensors")
        w, b = head["head.weight"].numpy(), head["head.bias"].numpy()
        expected = (raw["test"].logits - b) / np.linalg.norm(w, axis=1) ** run.fitted["tau"]
        np.testing.assert_allclose(got["test"], expected, rtol=1e-5, atol=1e-6)


def test_the_prior_left_in_the_scores_is_recorded(dataset, tmp_path):
    prior = np.array([40, 10, 4]) / 54
    kept = {"baseline": prior, "class-balanced-sampling": np.full(3, 1 / 3), "logit-adjusted": np.full(3, 1 / 3)}
    for name, expected in kept.items():
        run = train(name, dataset, epochs=1, out=tmp_path / name)
        np.testing.assert_allclose(run.prior, expected, rtol=1e-6)
    assert train("focal", dataset, epochs=1, out=tmp_path / "focal").prior == ()


def test_a_strategy_that_corrects_twice_warns_with_the_numbers(dataset, tmp_path):
    mine = Strategy("mine", "", sampler="class_balanced", weights="inverse")
    with pytest.warns(UserWarning, match="mine compensates the imbalance twice: .* 10 times .* weights raise"):
        run = train(mine, dataset, epochs=1, out=tmp_path / "run")
    assert "class weights raise that to about 100. Remove the sampler or the class weights." in run.notes[0]
