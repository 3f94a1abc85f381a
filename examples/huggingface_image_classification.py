"""Fine-tune an image classifier of Hugging Face on imbalanced images: as it comes, then with our sampler and loss."""

import os
import socket
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PrinterCallback,
    ResNetConfig,
    Trainer,
    TrainingArguments,
    ViTImageProcessor,
    set_seed,
)
from transformers.utils import logging

import counterpoise as cp
from counterpoise.integrations.huggingface import ImbalancedTrainerMixin, loss_for_trainer, metrics_for_trainer

NAME, STEPS = "microsoft/resnet-50", int(os.environ.get("STEPS", "60"))
logging.set_verbosity_error()
digits = cp.load("digits")
counts = digits.counts("train")

try:  # the published model, where the hub can be reached
    socket.create_connection(("huggingface.co", 443), timeout=2).close()
    processor = AutoImageProcessor.from_pretrained(NAME)
except OSError:  # else a small one of the same kind, from scratch
    processor = ViTImageProcessor(do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    NAME = ""


def new_model() -> torch.nn.Module:
    set_seed(0)
    if NAME:
        return AutoModelForImageClassification.from_pretrained(
            NAME, num_labels=counts.num_classes, ignore_mismatched_sizes=True
        )
    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=counts.num_classes
    )
    return AutoModelForImageClassification.from_config(config)


class Images(Dataset):
    def __init__(self, split: str) -> None:
        self.images = digits.subset(split)
        self.targets = self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        pixels = processor(self.images[index], return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": int(self.targets[index])}


class ImbalancedTrainer(ImbalancedTrainerMixin, Trainer):
    pass


def balanced_accuracy_with(**remedy) -> float:
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=STEPS,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = ImbalancedTrainer(
        new_model(), arguments, train_dataset=Images("train"), compute_metrics=metrics_for_trainer(counts), **remedy
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.evaluate(Images("test"))["eval_balanced_accuracy"]


print("plain:             ", np.round(balanced_accuracy_with(), 3))
adjusted = loss_for_trainer(cp.losses.LogitAdjustedLoss(prior=counts.prior()))
print("logit-adjusted:    ", np.round(balanced_accuracy_with(compute_loss_func=adjusted), 3))
print("balanced sampling: ", np.round(balanced_accuracy_with(train_sampler=cp.samplers.ClassBalancedSampler), 3))
