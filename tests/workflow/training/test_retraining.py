"""The second stage of a decoupled training: only a new head learns, from balanced batches."""

import dataclasses

import numpy as np
import pytest
import torch

from counterpoise.core.artifacts import Predictions
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.strategy import CATALOG
from counterpoise.workflow.training import RunFolder, train
from counterpoise.workflow.training.loop import TrainingLoop
from counterpoise.workflow.training.trainer import Trainer

DECOUPLED = dataclasses.replace(CATALOG["decoupled"], retraining_options={"share": 0.5})


class Interrupted(Exception):
    pass


def test_the_backbone_stays_and_the_head_is_new(dataset, tmp_path, monkeypatch):
    seen, begun = [], []
    step, begin = TrainingLoop.train_step, Trainer.start_second_stage

    def state(loop):
        return {name: value.clone() for name, value in loop.unwrapped_model.state_dict().items()}

    def train_step(loop, batch):
        value = step(loop, batch)
        seen.append((loop.step, loop.optimizer.param_groups[0]["lr"], batch["labels"].clone(), state(loop)))
        return value

    def start_second_stage(training):
        before = state(training.loop)
        begin(training)
        begun.append((before, state(training.loop)))

    monkeypatch.setattr(TrainingLoop, "train_step", train_step)
    monkeypatch.setattr(Trainer, "start_second_stage", start_second_stage)
    run = train(DECOUPLED, dataset, epochs=4, out=tmp_path / "run", learning_rate=0.1)
    assert [number for number, *_ in seen] == list(range(8))
    ((before, after),) = begun
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    _, _, _, last = seen[-1]
    learnt = {name for name in after if not torch.equal(after[name], last[name])}
    assert learnt == {"head.weight", "head.bias"}  # the batch statistics stay, too
    rates = [rate for _, rate, *_ in seen]
    assert rates[4] == pytest.approx(0.1)  # the second stage has a schedule of its own, without a warm-up
    assert rates[3] < 0.1 / 2 > rates[7]
    assert all(np.diff(rates[4:]) < 0)
    first, second = (torch.cat([labels for i, _, labels, _ in seen if (i < 4) == early]) for early in (True, False))
    assert torch.bincount(first, minlength=3).max() > 2 * torch.bincount(first, minlength=3).min()
    drawn = torch.bincount(second, minlength=3)
    assert drawn.max() <= 1.6 * drawn.min()
    np.testing.assert_allclose(run.prior, 1 / 3)


@pytest.mark.fault("C7")
@pytest.mark.parametrize("stop_at", [2, 4, 5, 7])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(dataset, tmp_path, stop_at):
    def stop(done, total):
        if done == stop_at:
            raise Interrupted

    train(DECOUPLED, dataset, epochs=4, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(DECOUPLED, dataset, epochs=4, out=tmp_path / "parts", progress=stop)
    run = train(DECOUPLED, dataset, epochs=4, out=tmp_path / "parts", resume=True)
    assert run.starts == (0, (stop_at - 1) // 2 * 2)
    for file in sorted((tmp_path / "whole").iterdir()):
        other = tmp_path / "parts" / file.name
        if file.suffix == ".npz":
            np.testing.assert_array_equal(Predictions.load(file).logits, Predictions.load(other).logits)
        elif file.name != "run.json":
            assert file.read_bytes() == other.read_bytes(), file.name


def test_its_scores_can_be_tuned_on_like_any_others(dataset, tmp_path):
    run = train("decoupled", dataset, epochs=2, out=tmp_path / "run")
    assert (run.status, run.steps) == ("done", 4)
    assert "head.weight" in RunFolder(tmp_path / "run").read_tensors("model.safetensors")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "focal"}, "works only with plain cross-entropy on a linear head"),
        ({"weights": "inverse"}, "works only with plain cross-entropy on a linear head"),
        ({"head": "cosine"}, "works only with plain cross-entropy on a linear head"),
        ({"mixing": "mixup"}, "works only with plain cross-entropy on a linear head"),
        ({"retraining": "backbone"}, "retraining 'backbone' is unknown; expected one of head"),
        ({"retraining_options": {"share": 1.0}}, r"`share` must be above 0 and below 1; got 1"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(DECOUPLED, **change)


def test_one_epoch_has_no_second_stage(dataset, tmp_path):
    with pytest.raises(ArgumentError, match="'decoupled' trains in two stages: `epochs` must be at least 2"):
        train("decoupled", dataset, epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
