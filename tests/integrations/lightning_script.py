"""Trains under Lightning on N processes and writes what each rank saw: run by test_lightning.py, not collected."""

import json
import os
import sys
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from counterpoise.integrations.lightning import (
    AdaptiveReweighting,
    DeferredReweighting,
    SamplerEpochs,
    ShotGroupMetrics,
)
from counterpoise.losses import CrossEntropyLoss
from counterpoise.samplers import ClassBalancedSampler

LABELS = np.repeat([0, 1, 2], [40, 9, 4])
VAL = np.repeat([0, 1, 2], [6, 3, 2])  # 11: not divisible by two ranks


class Points(Dataset):
    def __init__(self, labels):
        self.labels = labels
        rng = np.random.default_rng(len(labels))
        self.x = torch.from_numpy(np.eye(3)[labels] + rng.normal(0, 1.5, (len(labels), 3))).float()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.x[index], int(self.labels[index]), index


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 3)
        self.loss = CrossEntropyLoss(weight=torch.ones(3))
        self.seen: list[list[int]] = []
        self.weights: list[list[float]] = []

    def on_train_epoch_start(self):
        self.seen.append([])

    def training_step(self, batch, index):
        x, y, rows = batch
        self.seen[-1] += rows.tolist()
        self.weights.append(self.loss.weight.tolist())
        return self.loss(self.net(x), y)

    def validation_step(self, batch, index):
        x, y, _ = batch
        return {"logits": self.net(x), "labels": y}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def fit(processes, epochs=3, callbacks=(), sampler=None, model=None, val=None, **options):
    torch.manual_seed(0)
    model = model or Model()
    np.random.seed(os.getpid())  # noqa: NPY002 - ranks with generators of their own
    sampler = sampler or ClassBalancedSampler(LABELS, seed=7)
    given = {"strategy": "ddp" if processes > 1 else "auto", "max_epochs": epochs, **options}
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=processes,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **given,
    )
    trainer.fit(
        model,
        DataLoader(Points(LABELS), batch_size=4, sampler=sampler),
        val or DataLoader(Points(VAL), batch_size=4),
        weights_only=False,
    )
    return model, trainer


def main(folder):
    shots = ShotGroupMetrics([400, 90, 4])
    model, trainer = fit(
        2,
        callbacks=[SamplerEpochs(), shots, DeferredReweighting([40, 9, 4], start=0.5), AdaptiveReweighting([40, 9, 4])],
    )
    with torch.no_grad():
        logits = model.net(Points(VAL).x)
    record = {
        "seen": model.seen,
        "metrics": {k: float(v) for k, v in trainer.callback_metrics.items()},
        "predicted": logits.argmax(1).tolist(),
    }
    Path(folder, f"{trainer.global_rank}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1])
