"""Small trainings by the Trainer that remember which images they saw; as a script, one process of several.

``torchrun trainer_runs.py FOLDER`` runs them all and leaves one file of results for each process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from counterpoise.integrations.huggingface import BalancedTrainer, loss_for_trainer
from counterpoise.losses import AsymmetricLoss, CrossEntropyLoss
from counterpoise.samplers import ClassBalancedSampler

COUNTS = [60, 24, 12]
WEIGHT = [0.5, 1.0, 4.0]
EPOCHS = {"max_steps": -1, "num_train_epochs": 3, "per_device_train_batch_size": 8}
STOPPED = {
    "max_steps": 8,
    "save_strategy": "steps",
    "save_steps": 8,
}  # two steps of two processes into the second epoch


class Points(Dataset[Any]):
    """96 points of three classes, 60 : 24 : 12, each with its index; or with three labels of 0 and 1."""

    def __init__(self, *, multilabel: bool = False) -> None:
        draw = torch.Generator().manual_seed(0)
        self.targets = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
        self.x = torch.randn(96, 5, generator=draw, dtype=torch.float64) + self.targets[:, None]
        if multilabel:
            self.targets = (torch.rand(96, 3, generator=draw) < torch.tensor([0.6, 0.3, 0.1])).to(torch.int64)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = self.targets[index]
        return {"x": self.x[index], "index": index, "labels": label if label.dim() == 0 else label.double()}


class Linear(nn.Module):
    """A linear classifier in float64 that keeps the indices it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3, dtype=torch.float64)
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-0.3, 0.3, 15).reshape(3, 5))
            self.head.bias.zero_()
        self.seen: list[list[int]] = []

    def forward(self, x: Tensor, index: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        if self.training:
            self.seen.append(index.tolist())
        return {"logits": self.head(x)}


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    chosen = {
        "per_device_train_batch_size": 32,
        "max_steps": 3,
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "ddp_find_unused_parameters": False,
        "seed": 3,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(folder), **(chosen | changes))


def trainer(folder: Path, *, loss: Any = None, data: Any = None, sampler: Any = None, **changes: Any) -> Any:
    loss = loss_for_trainer(CrossEntropyLoss(weight=WEIGHT), prior=COUNTS) if loss is None else loss
    return BalancedTrainer(
        Linear(),
        arguments(folder, **changes),
        train_dataset=Points() if data is None else data,
        compute_loss_func=loss,
        train_sampler=sampler,
    )


def trained(folder: Path, *, resume: str | None = None, **changes: Any) -> tuple[Tensor, list[list[int]]]:
    """The parameters after training (weights and biases in a row), and the indices of each micro-batch."""
    host = trainer(folder, **changes)
    host.train(resume_from_checkpoint=resume)
    parameters = torch.cat([p.detach().flatten() for p in host.model.parameters()])
    return parameters, host.model.seen


def sampler_of_points() -> ClassBalancedSampler:
    return ClassBalancedSampler(Points().targets, power=0.5, seed=7)


def multilabel_loss() -> Any:
    return loss_for_trainer(AsymmetricLoss(pos_weight=[1.0, 2.0, 6.0], reduction="batchmean"))


def runs_of_a_rank(folder: Path) -> dict[str, Any]:
    """What test_huggingface.py compares with one process: steps of two ranks, epochs, and a resumed epoch."""
    results = {
        "whole": trained(folder / "a", per_device_train_batch_size=16),
        "accumulated": trained(folder / "b", per_device_train_batch_size=8, gradient_accumulation_steps=2),
        "counted apart": trained(folder / "c", per_device_train_batch_size=16, average_tokens_across_devices=False),
        "multilabel": trained(
            folder / "d", loss=multilabel_loss(), data=Points(multilabel=True), per_device_train_batch_size=16
        ),
        "epochs": trained(folder / "e", sampler=sampler_of_points(), **EPOCHS),
        "saved": trained(folder / "f", sampler=sampler_of_points(), **EPOCHS | STOPPED),
    }
    resume = str(folder / "f" / "checkpoint-8")
    return results | {"resumed": trained(folder / "f", sampler=sampler_of_points(), **EPOCHS, resume=resume)}


if __name__ == "__main__":
    torch.save(runs_of_a_rank(Path(sys.argv[1])), Path(sys.argv[1]) / f"rank{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()
