"""The training loop: run_epoch → train_step → compute_loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from counterpoise.core.errors import DatasetError, TrainingError
from counterpoise.losses import global_normalizer, softmax_loss
from counterpoise.losses.base import Loss
from counterpoise.models import set_memory_format
from counterpoise.workflow.training.augmentation import augmented
from counterpoise.workflow.training.data import EpochBatches, ImageBatch, ImageTensors, SampleOrder, collate
from counterpoise.workflow.training.devices import distributed_state
from counterpoise.workflow.training.optimizers import (
    group_values,
    load_state_tensors,
    make_optimizer,
    state_tensors,
)
from counterpoise.workflow.training.settings import ResolvedSettings
from counterpoise.workflow.training.transforms import BatchTransform

Progress = Callable[[int], None]
"""Called after every step with the number of steps done."""


@dataclass
class TrainingLoop:
    """A model, its optimiser and its data on the available devices; independent of strategies and files.

    ``step`` counts optimiser steps from the start of training, also across interruptions. A stage of training has its
    own ``schedule`` of learning rates, a function of the steps since ``first_step``; None for that of the settings.
    ``head_only`` freezes the backbone, including its BatchNorm running statistics.
    """

    model: nn.Module
    loss: nn.Module
    settings: ResolvedSettings
    seed: int
    train_images: ImageTensors
    order: SampleOrder
    transform: BatchTransform = field(default_factory=BatchTransform)
    schedule: Callable[[int], float] | None = None
    first_step: int = 0
    head_only: bool = False
    accelerator: Accelerator = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        s = self.settings
        # split_batches: a batch is the global batch, whatever the number of processes.
        config = DataLoaderConfiguration(split_batches=True)
        distributed_state()
        self.accelerator = Accelerator(mixed_precision=s.precision, dataloader_config=config)
        orders = [order for order in (self.order, self.transform.foreground) if order is not None]
        self.batches = EpochBatches(*orders, steps=s.steps_per_epoch, batch_size=s.batch_size)
        loader = DataLoader(
            self.train_images, batch_sampler=self.batches, collate_fn=collate, num_workers=self.train_images.workers
        )
        set_memory_format(self.model)
        if self.head_only:
            self.model.backbone.requires_grad_(False)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = make_optimizer(s, parameters)
        # Of each parameter group: its share of the learning rate of the settings, and its other numbers.
        self.rate_shares = [float(group["lr"]) / s.learning_rate for group in optimizer.param_groups]
        self.initial_groups = group_values(optimizer)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(self.model, optimizer, loader)
        self.loss = self.loss.to(self.accelerator.device)

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return self.step // self.settings.steps_per_epoch

    @property
    def unwrapped_model(self) -> nn.Module:
        """The model without the wrappers of distributed training and mixed precision."""
        model: nn.Module = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return model

    def run_epoch(self, progress: Progress) -> dict[str, float | None]:
        """Train for one epoch; return the mean training loss and the last learning rate.

        Raises:
            TrainingError: a loss was not finite, which is checked at the end of the epoch so that no step waits for the
                device; names the step and the images of its batch.
        """
        self.model.train()
        if self.head_only:
            cast("nn.Module", self.unwrapped_model.backbone).eval()
        # Both: with one process accelerate counts epochs itself, with several it does not call our batch sampler.
        self.batches.set_epoch(self.epoch)
        self.loader.set_epoch(self.epoch)
        values, rows = [], []
        for batch in _read(self.loader):
            values.append(self.train_step(batch))
            rows.append(batch["rows"])
            self.step += 1
            progress(self.step)
        epoch_losses = self.accelerator.reduce(torch.stack(values).float(), "mean").cpu()
        self._check_finite(epoch_losses, rows)
        rate = self._learning_rate_at(self.step - 1)
        return {"epoch": self.epoch, "step": self.step, "loss": epoch_losses.mean().item(), "learning_rate": rate}

    def train_step(self, batch: ImageBatch) -> Tensor:
        """One optimiser step on one batch; the loss, detached, still on its device."""
        for group, share in zip(self.optimizer.param_groups, self.rate_shares, strict=True):
            group["lr"] = self._learning_rate_at(self.step) * share
        images, target = self.prepare_batch(batch["images"], batch["labels"])
        with self.accelerator.autocast():
            logits = self.model(images)
        loss = self.compute_loss(logits, target)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def compute_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of this process's part of the batch.

        The weighted mean of a softmax loss divides by the weights of the whole batch. That of a sigmoid loss divides by
        the number of elements, which is the same for every process.
        """
        loss, options = self.loss, {}
        if self.accelerator.num_processes > 1 and isinstance(loss, Loss):
            weighted = loss.weight is not None and loss.reduction == "mean"
            if weighted and loss.equation is softmax_loss:
                options["normalizer"] = global_normalizer(target, weight=loss.weight)
        return cast("Tensor", loss(logits, target, **options))

    def prepare_batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch as float in [0, 1], augmented by random numbers of (seed, step, process), and its target."""
        entropy = np.random.SeedSequence((self.seed, self.step, self.accelerator.process_index))
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))
        seed = int(entropy.generate_state(2)[1])
        images = augmented(images, self.settings.augment, generator=generator, seed=seed)
        images, target = self.transform.apply(images, labels, generator)
        return images.contiguous(memory_format=torch.channels_last), target

    def predict(self, images: ImageTensors) -> NDArray[np.float32]:
        """Logits float32 ``(N, C)`` in the order of the split, gathered from every process."""
        size = 4 * self.settings.batch_size
        loader = self.accelerator.prepare(
            DataLoader(images, batch_size=size, collate_fn=collate, num_workers=images.workers)
        )
        self.model.eval()
        parts = []
        with torch.inference_mode():
            for batch in _read(loader):
                inputs = batch["images"].float().div_(255).contiguous(memory_format=torch.channels_last)
                with self.accelerator.autocast():
                    logits = self.model(inputs)
                parts.append(self.accelerator.gather_for_metrics(logits.float().contiguous()).cpu())
        return torch.cat(parts).numpy()

    def state_dict(self) -> dict[str, Tensor]:
        """All that is needed to resume: weights, optimiser, and the state of torch's own generator (dropout)."""
        model = self.accelerator.unwrap_model(self.model)
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        return {**tensors, **state_tensors(self.optimizer, self.initial_groups), "rng": torch.get_rng_state()}

    def load_state_dict(self, tensors: dict[str, Tensor], *, step: int) -> None:
        """Restore `state_dict`; training then continues as if it had not been interrupted."""
        model = self.accelerator.unwrap_model(self.model)
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        load_state_tensors(self.optimizer, tensors)
        torch.set_rng_state(tensors["rng"])
        self.step = step

    def _learning_rate_at(self, step: int) -> float:
        return (self.schedule or self.settings.learning_rate_at)(step - self.first_step)

    def _check_finite(self, values: Tensor, rows: list[Tensor]) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten()
        if len(bad):
            first = int(bad[0])
            step = self.step - len(values) + first
            raise TrainingError(
                f"the loss is {values[first].item()} at step {step} of {self.settings.steps} (training images "
                f"{rows[first][:5].tolist()}, …); lower `learning_rate`, now {self.settings.learning_rate:g}"
            )


def _read(loader: Any) -> Iterator[Any]:
    """The batches of a loader; an error of a worker process without the traceback that torch puts into its message."""
    try:
        yield from loader
    except DatasetError as error:
        *traceback, last = str(error).strip().splitlines()
        raise DatasetError(last.partition(": ")[2] if traceback else last) from error
