"""Lightning itself, on one process and on two: what its own machinery makes of our samplers, weights and metrics."""

import inspect
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

pytest.importorskip("lightning")
from tests.integrations.lightning_script import LABELS, VAL, Model, Points, fit

from counterpoise.core.errors import ArgumentError
from counterpoise.integrations.lightning import (
    AdaptiveReweighting,
    DeferredReweighting,
    SamplerEpochs,
    ShotGroupMetrics,
)
from counterpoise.losses import FocalLoss
from counterpoise.metrics import balanced_accuracy
from counterpoise.samplers import ClassBalancedSampler
from counterpoise.weights import AdaptiveWeights, DeferredWeights, class_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(num_workers|logging interval|LeafSpec|isinstance.treespec|pkg_resources).*"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("lightning_script.py")
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_share_the_draws_of_each_epoch(ranks):
    sampler = ClassBalancedSampler(LABELS, seed=7)
    for epoch in range(3):
        expected = Counter(epoch_of(sampler, epoch))
        mine, other = (rank["seen"][epoch] for rank in ranks)
        assert len(mine) == len(other) == 27
        surplus = Counter(mine + other) - expected  # 53 draws on two ranks: Lightning repeats one
        assert sum(surplus.values()) == 1
        assert not expected - Counter(mine + other)
    assert Counter(epoch_of(sampler, 0)) != Counter(epoch_of(sampler, 1))


def test_metrics_of_two_processes_are_those_of_the_whole_set_without_the_padding(ranks):
    for rank in ranks:
        predicted = np.array(rank["predicted"])
        assert rank["metrics"]["val_balanced_accuracy"] == pytest.approx(balanced_accuracy(VAL, predicted), abs=1e-6)
        assert rank["metrics"]["val_few"] == pytest.approx((predicted == 2)[VAL == 2].mean(), abs=1e-6)


def test_one_process_sees_our_order_and_logs_our_metrics():
    model, trainer = fit(1, callbacks=[SamplerEpochs(), ShotGroupMetrics([400, 90, 4])])
    sampler = ClassBalancedSampler(LABELS, seed=7)
    assert model.seen == [epoch_of(sampler, epoch) for epoch in range(3)]
    with torch.no_grad():
        predicted = model.net(Points(VAL).x).argmax(1).numpy()
    assert trainer.callback_metrics["val_balanced_accuracy"] == pytest.approx(balanced_accuracy(VAL, predicted))
    assert {"val_many", "val_medium", "val_few"} <= trainer.callback_metrics.keys()


def test_deferred_weights_come_when_they_are_due():
    model, _ = fit(1, epochs=4, callbacks=[DeferredReweighting([40, 9, 4], start=0.5)])
    steps = len(model.weights) // 4
    assert model.weights[: 2 * steps] == [[1.0, 1.0, 1.0]] * 2 * steps
    expected = class_weights([40, 9, 4], "effective_number")
    np.testing.assert_allclose(model.weights[2 * steps :], [expected] * 2 * steps, rtol=1e-6)


def test_adaptive_weights_change_between_epochs_and_survive_a_checkpoint(tmp_path):
    adaptive = AdaptiveReweighting([40, 9, 4])
    model, trainer = fit(1, epochs=3, callbacks=[adaptive])
    steps = len(model.weights) // 3
    first, last = model.weights[0], model.weights[-1]
    np.testing.assert_allclose(first, class_weights([40, 9, 4], "inverse_sqrt"), rtol=1e-6)
    assert first == model.weights[steps - 1]
    assert not np.allclose(first, last)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    saved = torch.load(tmp_path / "c.ckpt", weights_only=False)
    again = AdaptiveReweighting([40, 9, 4])
    again.load_state_dict(next(state for name, state in saved["callbacks"].items() if "AdaptiveReweighting" in name))
    np.testing.assert_array_equal(again.rule.weight, adaptive.rule.weight)
    np.testing.assert_allclose(saved["state_dict"]["loss.weight"], last, rtol=1e-6)


def test_of_several_validation_loaders_one_counts():
    class TwoLoaders(Model):
        def validation_step(self, batch, index, dataloader_idx=0):
            _, y, _ = batch
            sure = torch.nn.functional.one_hot(y, 3).float()
            return {"logits": sure if dataloader_idx == 0 else -sure, "labels": y}

    loaders = [DataLoader(Points(VAL), batch_size=4) for _ in range(2)]
    for index, expected in ((0, 1.0), (1, 0.0)):
        shot = ShotGroupMetrics([40, 9, 4], dataloader_idx=index)
        _, trainer = fit(1, epochs=1, callbacks=[shot], model=TwoLoaders(), val=loaders)
        assert trainer.callback_metrics["val_balanced_accuracy"] == expected
    with pytest.raises(ArgumentError, match="`dataloader_idx` is 2, but no validation loader"):
        fit(1, epochs=1, callbacks=[ShotGroupMetrics([40, 9, 4], dataloader_idx=2)], model=TwoLoaders(), val=loaders)


def test_groups_have_the_limits_that_are_given():
    found = ShotGroupMetrics([900, 50, 5], many=1000, few=10).numbers(np.array([0, 1, 2]), np.array([0, 0, 2]))
    assert found == {"val_balanced_accuracy": pytest.approx(2 / 3), "val_medium": 0.5, "val_few": 1.0}


def test_callbacks_have_the_arguments_and_defaults_of_the_rules_they_apply():
    def defaults(function):
        return {name: p.default for name, p in inspect.signature(function).parameters.items()}

    own = {"class_counts", "attribute", "dataloader_idx"}
    mine = {name: value for name, value in defaults(AdaptiveReweighting).items() if name not in own}
    assert mine == {name: value for name, value in defaults(AdaptiveWeights).items() if name != "counts"}
    theirs = {**defaults(class_weights), **defaults(DeferredWeights)}
    mine = {name: value for name, value in defaults(DeferredReweighting).items() if name not in own}
    assert mine == {name: theirs[name] for name in mine}
    assert theirs.keys() - mine.keys() == {"counts", "empty", "options", "pixels_in_images"}


def test_mistakes_are_named():
    class Elsewhere(DeferredReweighting):
        pass

    with pytest.raises(
        ArgumentError, match=r"`attribute`: Model\.criterion must be a loss module of counterpoise.losses"
    ):
        fit(1, epochs=1, callbacks=[DeferredReweighting([40, 9, 4], attribute="criterion")])
    with pytest.raises(ArgumentError, match="needs a Trainer with `max_epochs`"):
        fit(1, epochs=-1, max_steps=2, callbacks=[DeferredReweighting([40, 9, 4])])
    with pytest.raises(ArgumentError, match=r"`start` must be at least 0 and at most 1; got 20"):
        DeferredReweighting([40, 9, 4], start=20)
    with pytest.raises(ArgumentError, match="`reweight` needs a loss that was made with `weight`"):
        FocalLoss().reweight([1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"`weight` must have shape \(2,\); got \(3,\)"):
        FocalLoss(weight=[1.0, 2.0]).reweight([1.0, 2.0, 3.0])
    collector = ShotGroupMetrics([40, 9, 4])
    with pytest.raises(ArgumentError, match="ShotGroupMetrics needs the result of validation_step"):
        collector.on_validation_batch_end(None, None, torch.zeros(()), None, 0)
    logits = torch.zeros(4, 5)
    with pytest.raises(ArgumentError, match="`class_counts` must have one number per class, 5 for these logits; got 3"):
        collector.on_validation_batch_end(None, None, {"logits": logits, "labels": torch.zeros(4)}, None, 0)
    with pytest.raises(ArgumentError, match=r"one class per image; got \(4, 5\) and \(4, 5\)"):
        collector.on_validation_batch_end(None, None, {"logits": logits, "labels": logits}, None, 0)
    with pytest.raises(ArgumentError, match="AdaptiveReweighting needs validation, and this training has none"):
        fit(1, epochs=1, callbacks=[AdaptiveReweighting([40, 9, 4])], limit_val_batches=0)


def test_groups_that_overlap_are_refused_when_the_callback_is_made():
    with pytest.raises(ArgumentError, match="`few` must not exceed `many`; got few=200, many=100"):
        ShotGroupMetrics([400, 90, 4], many=100, few=200)
