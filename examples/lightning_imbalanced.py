"""Training on imbalanced images with Lightning: sampler, loss, deferred weights and metrics by group of classes."""

import logging
import warnings

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import counterpoise as cp
from counterpoise.integrations.lightning import DeferredReweighting, SamplerEpochs, ShotGroupMetrics

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="lightning")

digits = cp.load("digits")
train, val = digits.subset("train"), digits.subset("val")
counts = digits.counts("train")


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = cp.models.build_model("resnet20", counts.num_classes)
        self.loss = cp.losses.CrossEntropyLoss(weight=torch.ones(counts.num_classes))

    def training_step(self, batch, index):
        images, labels = batch
        return self.loss(self.net(images), labels)

    def validation_step(self, batch, index):
        images, labels = batch
        return {"logits": self.net(images), "labels": labels}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def loader(images, **options) -> DataLoader:
    pixels = torch.stack([torch.from_numpy(images[i]) for i in range(len(images))]).permute(0, 3, 1, 2) / 255
    return DataLoader(TensorDataset(pixels, torch.tensor(np.array(images.labels))), batch_size=64, **options)


torch.manual_seed(0)
trainer = lightning.Trainer(
    max_epochs=3,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[SamplerEpochs(), ShotGroupMetrics(counts), DeferredReweighting(counts, start=0.5)],
)
sampler = cp.samplers.ClassBalancedSampler(train.labels, power=0.5)
trainer.fit(Model(), loader(train, sampler=sampler), loader(val))
for name, value in sorted(trainer.callback_metrics.items()):
    print(f"{name}: {value:.3f}")
