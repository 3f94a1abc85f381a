"""The Trainer itself: what it divides by, in which order it reads, and where it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("datasets")
from tests.integrations.huggingface_script import LABELS, Points, data, trainer
from transformers import EvalPrediction

from counterpoise.core.errors import CounterpoiseError
from counterpoise.integrations.huggingface import loss_for_trainer, metrics_for_trainer
from counterpoise.losses import (
    AsymmetricLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    FocalLoss,
    LogitAdjustedLoss,
)
from counterpoise.samplers import ClassBalancedSampler, labels_of

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

WEIGHT = torch.tensor([0.4, 1.0, 1.6])


def read(run, start=0):
    """The rows in the order in which the model saw them, from a step on."""
    return [row for batch in run.model.seen[start:] for row in batch]


def balanced(labels):
    return ClassBalancedSampler(labels, seed=3)


def order(epoch):
    sampler = balanced(LABELS)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.fault("L34")
@pytest.mark.parametrize("micro", [32, 8])
def test_one_step_is_the_step_of_the_whole_window(tmp_path, micro):
    run = trainer(
        tmp_path,
        sampler=balanced(LABELS),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=32 // micro,
    )
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.train()
    rows = order(0)[:32]
    assert read(run) == rows
    by_hand = Points()
    by_hand.load_state_dict(before)
    x = torch.tensor(np.array(data()["x"])[rows], dtype=torch.float32)
    y = torch.from_numpy(LABELS[rows])
    prior = torch.tensor([40, 16, 8]) / 64
    scaled = WEIGHT / (prior * WEIGHT).sum()
    loss = torch.nn.functional.cross_entropy(by_hand.net(x), y, weight=scaled, reduction="sum") / 32
    loss.backward()
    for name, value in run.model.net.named_parameters():
        expected = getattr(by_hand.net, name) - 0.1 * getattr(by_hand.net, name).grad
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_epochs_differ_and_are_ours(tmp_path):
    run = trainer(tmp_path, sampler=balanced, max_steps=-1, num_train_epochs=3)
    run.train()
    assert read(run) == order(0) + order(1) + order(2)
    assert order(0) != order(1)


@pytest.mark.fault("S13")
@pytest.mark.parametrize("stop", [3, 8, 13])
def test_a_training_resumed_anywhere_reads_what_was_left(tmp_path, stop):
    options = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": stop}
    whole = trainer(tmp_path / "a", sampler=balanced(LABELS), **options)
    whole.train()
    again = trainer(tmp_path / "a", sampler=balanced(LABELS), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{stop}"))
    assert read(again) == read(whole, stop)
    torch.testing.assert_close(again.model.net.weight, whole.model.net.weight)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("huggingface_script.py")
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run([*command, str(folder)], env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_share_our_global_order_and_train_as_one(ranks, tmp_path):
    for epoch in range(2):
        batches = np.array(order(epoch)).reshape(-1, 8)
        per_epoch = len(batches) // 2
        for rank in range(2):
            mine = ranks[rank]["seen"][epoch * per_epoch : (epoch + 1) * per_epoch]
            assert mine == batches[rank::2].tolist()
    one = trainer(
        tmp_path,
        sampler=balanced(LABELS),
        per_device_train_batch_size=16,
        max_steps=-1,
        num_train_epochs=2,
    )
    one.train()
    for rank in ranks:
        torch.testing.assert_close(torch.tensor(rank["weight"]), one.model.net.weight.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (FocalLoss(), torch.tensor([0, 1, -100, 2])),
        (LogitAdjustedLoss(prior=[0.6, 0.3, 0.1]), torch.tensor([0, 1, 2, 2])),
        (FocalLoss(), torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).softmax(1)),
        (AsymmetricLoss(), torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])),
        (AsymmetricLoss(reduction="batchmean"), torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])),
        (BinaryCrossEntropyLoss(), torch.tensor([0, 1, 2, 0])),
    ],
)
def test_the_count_of_the_trainer_gives_the_mean_of_the_loss(loss, labels):
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    func = loss_for_trainer(loss)
    counted = labels.ne(-100).sum()  # as the Trainer counts
    torch.testing.assert_close(func({"logits": logits}, labels, num_items_in_batch=counted), loss(logits, labels))
    torch.testing.assert_close(func({"logits": logits}, labels), loss(logits, labels))
    halves = sum(func({"logits": logits[i : i + 2]}, labels[i : i + 2], num_items_in_batch=counted) for i in (0, 2))
    torch.testing.assert_close(halves, loss(logits, labels))


def test_the_trainer_evaluates_with_our_loss_and_metrics(tmp_path):
    run = trainer(tmp_path, loss=loss_for_trainer(FocalLoss(gamma=1.0)))
    run.compute_metrics = metrics_for_trainer([900, 50, 5])
    found = run.evaluate(data())
    assert {"eval_loss", "eval_balanced_accuracy", "eval_many", "eval_medium", "eval_few"} <= found.keys()


def test_metrics_by_hand():
    seen = EvalPrediction(predictions=np.eye(3)[[0, 0, 1, 2]], label_ids=np.array([0, 1, 1, 2]))
    got = metrics_for_trainer([900, 50, 5])(seen)
    assert got["balanced_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert (got["many"], got["medium"], got["few"]) == (1.0, 0.5, 1.0)


@pytest.mark.fault("S4")
def test_labels_of_a_real_dataset_without_decoding():
    plain = data()
    assert labels_of(plain).tolist() == LABELS.tolist()
    assert labels_of(plain.select([3, 60, 41])).tolist() == [0, 2, 1]
    assert labels_of(plain.shuffle(seed=0).with_format("torch")).tolist() == plain.shuffle(seed=0)["labels"]
    assert labels_of(plain.rename_column("labels", "label").shard(4, 1)).tolist() == plain.shard(4, 1)["labels"]


def test_mistakes_are_named():
    with pytest.raises(CounterpoiseError, match="`loss` must be one of our loss modules; got CrossEntropyLoss"):
        loss_for_trainer(torch.nn.CrossEntropyLoss())
    with pytest.raises(CounterpoiseError, match="`class_counts` is missing"):
        loss_for_trainer(CrossEntropyLoss(weight=[1.0, 2.0]))
    with pytest.raises(CounterpoiseError, match="`class_counts` has 3 classes, the weights of `loss` 2"):
        loss_for_trainer(CrossEntropyLoss(weight=[1.0, 2.0]), class_counts=[1, 2, 3])
    with pytest.raises(CounterpoiseError, match="reduction 'mean' or 'batchmean'; got 'sum'"):
        loss_for_trainer(CrossEntropyLoss(reduction="sum"))
    run = trainer("unused", sampler=lambda labels: list(labels))
    with pytest.raises(CounterpoiseError, match="`train_sampler` must make one of our samplers; got list"):
        run.get_train_dataloader()
