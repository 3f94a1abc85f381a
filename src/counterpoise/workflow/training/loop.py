"""The training loop: train → run_epoch → train_step → loss. There is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from counterpoise.augment import random_crop, random_symmetry
from counterpoise.core.errors import TrainingError
from counterpoise.losses import global_normalizer
from counterpoise.losses.base import Loss
from counterpoise.workflow.training.environment import processes
from counterpoise.workflow.training.pixels import Batch, Part, Pixels, collate
from counterpoise.workflow.training.settings import Resolved
from counterpoise.workflow.training.stream import BatchStream, Order, PairedStream
from counterpoise.workflow.training.treatment import Treatment

__all__ = ["Loop", "Progress", "validation_loss"]

Progress = Callable[[int], None]
"""Called after every step with the number of steps done."""


@dataclass
class Loop:
    """A model, its optimiser and its data on whatever devices there are; knows nothing of strategies or files.

    ``step`` counts optimiser steps from the start of the training, also over interruptions. A stage of a training has
    its own ``schedule`` of learning rates, from ``begins`` on; ``only_head`` leaves the backbone as it is, its batch
    statistics included.
    """

    model: nn.Module
    loss: nn.Module
    settings: Resolved
    seed: int
    train: Pixels | Part
    order: Order
    treatment: Treatment = field(default_factory=Treatment)
    schedule: Resolved | None = None
    begins: int = 0
    only_head: bool = False
    accelerator: Accelerator = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        s = self.settings
        # split_batches: a batch is the global batch, whatever the number of processes.
        config = DataLoaderConfiguration(split_batches=True)
        processes()
        self.accelerator = Accelerator(mixed_precision=s.precision, dataloader_config=config)
        self.stream = self._stream()
        loader = DataLoader(self.train, batch_sampler=self.stream, collate_fn=collate, num_workers=self.train.workers)
        self.model = self.model.to(memory_format=torch.channels_last)
        if self.only_head:
            self.model.backbone.requires_grad_(False)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(
            learning, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, nesterov=True
        )
        self.model, self.optimizer, self.loader = self.accelerator.prepare(self.model, optimizer, loader)
        self.loss = self.loss.to(self.accelerator.device)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.settings.steps_per_epoch

    @property
    def bare(self) -> nn.Module:
        """The model without what several processes or mixed precision have put around it."""
        model: nn.Module = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return model

    def _rate_at(self, step: int) -> float:
        return (self.schedule or self.settings).rate_at(step - self.begins)

    def run_epoch(self, progress: Progress) -> dict[str, float | None]:
        """Train for one epoch; the mean training loss and the last learning rate.

        Raises:
            TrainingError: a loss was not finite; names the step and the rows of its batch.
        """
        self.model.train()
        if self.only_head:
            cast("nn.Module", self.bare.backbone).eval()
        # Both: with one process accelerate counts epochs itself, with several it does not reach the stream.
        self.stream.set_epoch(self.epoch)
        self.loader.set_epoch(self.epoch)
        values, rows = [], []
        for batch in self.loader:
            values.append(self.train_step(batch))
            rows.append(batch["rows"])
            self.step += 1
            progress(self.step)
        epoch_losses = self.accelerator.reduce(torch.stack(values).float(), "mean").cpu()
        self._check_finite(epoch_losses, rows)
        rate = self._rate_at(self.step - 1)
        return {"epoch": self.epoch, "step": self.step, "loss": epoch_losses.mean().item(), "learning_rate": rate}

    def train_step(self, batch: Batch) -> Tensor:
        """One optimiser step on one batch; the loss, detached, still on its device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate_at(self.step)
        images, target = self.prepared(batch["images"], batch["labels"])
        with self.accelerator.autocast():
            logits = self.model(images)
        loss = self.loss_of(logits, target)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def loss_of(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of this process's share; a weighted mean divides by the weights of the whole batch."""
        loss = self.loss
        weighted = isinstance(loss, Loss) and "weight" in loss.vectors
        if self.accelerator.num_processes == 1 or not weighted:
            return cast("Tensor", loss(logits, target))
        loss = cast("Loss", loss)
        if loss.options.get("reduction", "mean") != "mean":
            return cast("Tensor", loss(logits, target))
        return cast("Tensor", loss(logits, target, normalizer=global_normalizer(target, weight=loss.weight)))

    def prepared(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch in [0, 1] with this step's random changes, drawn from (seed, step, process), and its target."""
        entropy = np.random.SeedSequence((self.seed, self.step, self.accelerator.process_index))
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))
        for name in self.settings.augment:
            if name == "crop":
                images = random_crop(images, padding=max(1, images.shape[-1] // 8), generator=generator)
            else:
                images = random_symmetry(images, name, generator=generator)  # type: ignore[arg-type]
        images, target = self.treatment.apply(images.float().div_(255), labels, generator)
        return images.contiguous(memory_format=torch.channels_last), target

    def predict(self, pixels: Pixels) -> NDArray[np.float32]:
        """Raw logits float32 ``(N, C)`` in the order of the split, gathered from every process."""
        size = 4 * self.settings.batch_size
        loader = self.accelerator.prepare(
            DataLoader(pixels, batch_size=size, collate_fn=collate, num_workers=pixels.workers)
        )
        self.model.eval()
        pieces = []
        with torch.inference_mode():
            for batch in loader:
                with self.accelerator.autocast():
                    logits = self.model(as_input(batch["images"]))
                pieces.append(self.accelerator.gather_for_metrics(logits.float().contiguous()).cpu())
        return torch.cat(pieces).numpy()

    def state(self) -> dict[str, Tensor]:
        """All that a continuation needs: weights, momentum, and the state of torch's own generator (dropout)."""
        model = self.accelerator.unwrap_model(self.model)
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        for i, momentum in self.optimizer.state_dict()["state"].items():
            tensors[f"momentum.{i}"] = momentum["momentum_buffer"]
        return {**tensors, "rng": torch.get_rng_state()}

    def load_state(self, tensors: dict[str, Tensor], *, step: int) -> None:
        """Go on from `state` as if nothing had happened."""
        model = self.accelerator.unwrap_model(self.model)
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        state: dict[str, Any] = self.optimizer.state_dict()
        state["state"] = {int(k[9:]): {"momentum_buffer": v} for k, v in tensors.items() if k.startswith("momentum.")}
        self.optimizer.load_state_dict(state)
        torch.set_rng_state(tensors["rng"])
        self.step = step

    def _stream(self) -> BatchStream | PairedStream:
        steps, size = self.settings.steps_per_epoch, self.settings.batch_size
        first = BatchStream(self.order, steps=steps, batch_size=size)
        if self.treatment.foreground is None:
            return first
        return PairedStream(first, BatchStream(self.treatment.foreground, steps=steps, batch_size=size))

    def _check_finite(self, values: Tensor, rows: list[Tensor]) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten()
        if len(bad):
            first = int(bad[0])
            step = self.step - len(values) + first
            raise TrainingError(
                f"the loss is {values[first].item()} at step {step} of {self.settings.steps} (training images "
                f"{rows[first][:5].tolist()}, …); lower the learning rate, now {self.settings.learning_rate:g}"
            )


def as_input(images: Tensor) -> Tensor:
    """uint8 → float in [0, 1], channels last in memory."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


def validation_loss(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float | None:
    """Plain unweighted cross-entropy of the final scores: comparable between strategies."""
    if not len(labels):
        return None
    return F.cross_entropy(torch.from_numpy(logits).double(), torch.tensor(labels)).item()
