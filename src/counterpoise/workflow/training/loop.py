"""The training loop: run_epoch → train_step → compute_loss."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, is_bf16_available, parse_flag_from_env
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from counterpoise.augment import random_crop, random_symmetry
from counterpoise.core.errors import ArgumentError, DatasetError, TrainingError
from counterpoise.losses import global_normalizer, softmax_loss
from counterpoise.losses.base import Loss
from counterpoise.workflow.training.data import EpochBatches, ImageBatch, ImageTensors, SampleOrder, collate
from counterpoise.workflow.training.settings import ResolvedSettings
from counterpoise.workflow.training.transforms import BatchTransform

Progress = Callable[[int], None]
"""Called after every step with the number of steps done."""


def distributed_state() -> PartialState:
    """The processes that share this run, joined on first use; without a launcher there is only this one."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (several and not torch.cuda.is_available())
    state = PartialState(cpu=cpu)
    if several:
        _leave_group_at_exit()
    return state


def check_device(precision: str) -> None:
    """Raise `ArgumentError` if the device of accelerate does not exist or has not this precision, before any work."""
    name = os.environ.get("ACCELERATE_TORCH_DEVICE")
    try:
        if name is not None:
            torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # an assertion of a torch that has no CUDA
        reason = str(error).strip().splitlines()[0]
        raise ArgumentError(
            f"the device {name!r} of the environment variable ACCELERATE_TORCH_DEVICE cannot be used ({reason}); unset "
            "it, or name another device, such as cpu or cuda:0"
        ) from error
    device = distributed_state().device
    if precision == "fp16" and device.type == "cpu":
        raise ArgumentError("`precision` 'fp16' needs a GPU, and this is a training on the CPU; choose 'no' or 'bf16'")
    if precision == "bf16" and not is_bf16_available():
        raise ArgumentError(f"`precision` 'bf16' is not supported by the device {str(device)!r}; choose 'no' or 'fp16'")


@contextmanager
def own_accelerator_state() -> Iterator[None]:
    """Let the block choose its precision, and leave an Accelerator of the caller as it was.

    accelerate keeps the precision of the first Accelerator of a process and refuses any other.
    """
    state = AcceleratorState._shared_state
    before = dict(state)
    AcceleratorState._reset_state()
    try:
        yield
    finally:
        state.clear()
        state.update(before)


@cache
def _leave_group_at_exit() -> None:
    """Leave the process group in order: if one process just ends, threads of the others that still listen abort."""
    atexit.register(PartialState().destroy_process_group)


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
        self.model = self.model.to(memory_format=torch.channels_last)
        if self.head_only:
            self.model.backbone.requires_grad_(False)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(
            parameters, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, nesterov=True
        )
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
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate_at(self.step)
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
        for name in self.settings.augment:
            if name == "crop":
                images = random_crop(images, padding=max(1, images.shape[-1] // 8), generator=generator)
            else:
                images = random_symmetry(images, name, generator=generator)  # type: ignore[arg-type]
        images, target = self.transform.apply(images.float().div_(255), labels, generator)
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
        """All that is needed to resume: weights, momentum, and the state of torch's own generator (dropout)."""
        model = self.accelerator.unwrap_model(self.model)
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        for i, momentum in self.optimizer.state_dict()["state"].items():
            tensors[f"momentum.{i}"] = momentum["momentum_buffer"]
        return {**tensors, "rng": torch.get_rng_state()}

    def load_state_dict(self, tensors: dict[str, Tensor], *, step: int) -> None:
        """Restore `state_dict`; training then continues as if it had not been interrupted."""
        model = self.accelerator.unwrap_model(self.model)
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        state: dict[str, Any] = self.optimizer.state_dict()
        state["state"] = {int(k[9:]): {"momentum_buffer": v} for k, v in tensors.items() if k.startswith("momentum.")}
        self.optimizer.load_state_dict(state)
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
