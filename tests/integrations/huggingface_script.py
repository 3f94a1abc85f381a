"""A tiny model under the Trainer of transformers; with an argument, one rank of several that writes what it saw."""

import json
import os
import sys
import tempfile
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.modeling_outputs import ImageClassifierOutput

from counterpoise.integrations.huggingface import ImbalancedTrainerMixin, loss_for_trainer
from counterpoise.losses import CrossEntropyLoss
from counterpoise.samplers import ClassBalancedSampler

LABELS = np.repeat([0, 1, 2], [40, 16, 8])


class Config(PretrainedConfig):
    model_type = "points"


class Points(PreTrainedModel):
    config_class = Config
    seen: list[list[int]]

    def __init__(self, config=None):
        super().__init__(config or Config())
        self.net = torch.nn.Linear(3, 3)
        self.seen = []
        self.post_init()

    def forward(self, x, row=None, labels=None):
        if self.training and row is not None:
            self.seen.append(row.tolist())
        return ImageClassifierOutput(logits=self.net(x))


class BalancedTrainer(ImbalancedTrainerMixin, Trainer):
    pass


def data(labels=LABELS):
    x = np.eye(3)[labels] + np.random.default_rng(0).normal(0, 0.5, (len(labels), 3))
    features = datasets.Features(
        x=datasets.List(datasets.Value("float32")),
        row=datasets.Value("int64"),
        labels=datasets.ClassLabel(names=["a", "b", "c"]),
    )
    return datasets.Dataset.from_dict({"x": x.tolist(), "row": list(range(len(labels))), "labels": labels}, features)


def trainer(folder, *, loss=None, sampler=None, model=None, rows=None, **options):
    torch.manual_seed(0)
    defaults = {
        "per_device_train_batch_size": 8,
        "max_steps": 1,
        "learning_rate": 0.1,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "report_to": [],
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }
    weighted = loss or loss_for_trainer(CrossEntropyLoss(weight=[0.4, 1.0, 1.6]), class_counts=[40, 16, 8])
    return BalancedTrainer(
        model=model or Points(),
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **options}),
        train_dataset=data() if rows is None else data().select(rows),
        compute_loss_func=weighted,
        train_sampler=sampler,
    )


def main(folder):
    run = trainer(tempfile.mkdtemp(), sampler=ClassBalancedSampler(LABELS, seed=3), max_steps=-1, num_train_epochs=2)
    run.train()
    record = {"seen": run.model.seen, "weight": run.model.net.weight.detach().tolist()}
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1])
