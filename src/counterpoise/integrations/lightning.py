"""Lightning: weights that change during a training, metrics by shot group, and samplers that keep their epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, MissingExtraError
from counterpoise.losses.base import Loss
from counterpoise.metrics import balanced_accuracy, shot_accuracy
from counterpoise.weights import AdaptiveWeights, Scheme, class_weights

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingExtraError(
        "counterpoise.integrations.lightning needs Lightning: pip install 'counterpoise[lightning]'"
    ) from error

__all__ = ["AdaptiveReweighting", "DeferredReweighting", "SamplerEpochs", "ShotGroupMetrics"]


def _loss_of(module: LightningModule, attribute: str) -> Loss:
    loss = getattr(module, attribute, None)
    if not isinstance(loss, Loss):
        raise ArgumentError(
            f"`attribute`: {type(module).__name__}.{attribute} must be one of our loss modules; got "
            f"{type(loss).__name__}. Name the attribute that holds it"
        )
    return loss


class DeferredReweighting(Callback):
    """No class weights at first, effective-number weights for the rest of the training: DRW.

    Cao et al., LDAM, NeurIPS 2019 (arXiv:1906.07413). The weights are a function of the epoch, so that a resumed
    training has the right ones. They are logged as ``deferred_reweighting`` (0 or 1).

    Args:
        class_counts: of the training split.
        start: share of ``max_epochs`` after which the weights apply, in [0, 1].
        scheme, options: of `counterpoise.weights.class_weights`.
        attribute: of the LightningModule, which holds the loss: one of ours, made with a ``weight`` of ones.

    Raises:
        ArgumentError: no such loss, or a ``start`` out of range.

    Example:
        >>> DeferredReweighting([900, 100], start=0.5).weights
        array([0.20725452, 1.79274548])
    """

    def __init__(
        self,
        class_counts: CountsLike,
        *,
        start: float = 0.8,
        scheme: Scheme = "effective_number",
        attribute: str = "loss",
        **options: Any,
    ) -> None:
        if not 0 <= start <= 1:
            raise ArgumentError(f"`start` is a share of the epochs, in [0, 1]; got {start}")
        self.start, self.attribute = start, attribute
        self.weights = class_weights(class_counts, scheme, **options)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ArgumentError("DeferredReweighting needs a Trainer with `max_epochs`: it begins at a share of them")
        begun = trainer.current_epoch >= round(self.start * epochs)
        weights = self.weights if begun else np.ones_like(self.weights)
        _loss_of(pl_module, self.attribute).reweight(weights)
        pl_module.log("deferred_reweighting", float(begun), sync_dist=True)


class _Validation(Callback):
    """Collects what ``validation_step`` returns: ``{"logits": (N, C), "labels": (N,)}``, from every process.

    Of several validation loaders the one numbered ``dataloader_idx``.
    """

    def __init__(self, class_counts: CountsLike, dataloader_idx: int) -> None:
        self.counts = class_counts if isinstance(class_counts, ClassCounts) else ClassCounts(class_counts)
        self.dataloader_idx = dataloader_idx
        self._seen: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(outputs, dict) or not {"logits", "labels"} <= outputs.keys():
            raise ArgumentError(
                f"{type(self).__name__} reads what validation_step returns: "
                "return {'logits': logits, 'labels': labels}"
            )
        if dataloader_idx != self.dataloader_idx:
            return
        logits, labels = outputs["logits"], outputs["labels"]
        if logits.dim() != 2 or labels.shape != logits.shape[:1]:
            raise ArgumentError(
                f"{type(self).__name__} needs `logits` (N, C) and class ids `labels` (N,), one class an image; got "
                f"{tuple(logits.shape)} and {tuple(labels.shape)}"
            )
        if logits.shape[1] != len(self.counts):
            raise ArgumentError(
                f"`class_counts` must have the images of each class, {logits.shape[1]} numbers; got {len(self.counts)}"
            )
        self._seen.append((logits.argmax(1).cpu(), labels.cpu()))

    def _collected(self, trainer: Trainer, pl_module: LightningModule) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels and predictions in the order of the dataset, without those that pad the last round of the ranks."""
        if not self._seen:
            raise ArgumentError(f"`dataloader_idx`: no validation loader has the number {self.dataloader_idx}")
        mine = torch.stack([torch.cat([pair[i] for pair in self._seen]) for i in (1, 0)])
        if trainer.world_size > 1:
            every = trainer.strategy.all_gather(mine.to(pl_module.device)).cpu()  # (ranks, 2, n)
            mine = every.permute(1, 2, 0).reshape(2, -1)
        loaders = trainer.val_dataloaders
        loader = loaders[self.dataloader_idx] if isinstance(loaders, list | tuple) else loaders
        images = getattr(loader, "dataset", None)
        total = mine.shape[1] if images is None or trainer.sanity_checking else len(images)
        labels, predicted = mine[:, :total].numpy()
        return labels, predicted


class ShotGroupMetrics(_Validation):
    """Logs balanced accuracy and the mean recall of the many-, medium- and few-shot classes after every validation.

    ``validation_step`` returns ``{"logits": logits, "labels": labels}``. Logged: ``val_balanced_accuracy``,
    ``val_many``, ``val_medium``, ``val_few``, those of groups that have images. Over several processes they are those
    of the whole validation set, without the images that Lightning repeats to fill the last round.

    Args:
        class_counts: of the training split, which decides the groups.
        prefix: of the names.
        many: above it a class has many images.
        few: below it a class has few.
        dataloader_idx: of several validation loaders, the one that counts.

    Raises:
        ArgumentError: ``validation_step`` returns something else, or scores other classes than were counted.

    Example:
        >>> ShotGroupMetrics([900, 50, 5]).numbers(np.array([0, 1, 2, 2]), np.array([0, 0, 2, 0]))
        {'val_balanced_accuracy': 0.5, 'val_many': 1.0, 'val_medium': 0.0, 'val_few': 0.5}
    """

    def __init__(
        self,
        class_counts: CountsLike,
        *,
        prefix: str = "val_",
        many: int = MANY,
        few: int = FEW,
        dataloader_idx: int = 0,
    ) -> None:
        super().__init__(class_counts, dataloader_idx)
        self.prefix, self.many, self.few = prefix, many, few

    def numbers(self, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
        """What is logged, by name."""
        groups = shot_accuracy(labels, predicted, self.counts, many=self.many, few=self.few)
        found = {"balanced_accuracy": balanced_accuracy(labels, predicted), **groups}
        return {f"{self.prefix}{name}": float(value) for name, value in found.items() if np.isfinite(value)}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict(self.numbers(*self._collected(trainer, pl_module)), sync_dist=True)  # equal on all ranks


class AdaptiveReweighting(_Validation):
    """Class weights that follow validation: `AdaptiveWeights` after every epoch; saved in the checkpoint.

    ``validation_step`` returns ``{"logits": logits, "labels": labels}``.

    Args:
        class_counts: of the training split.
        attribute: of the LightningModule, which holds the loss: one of ours, made with a ``weight`` of ones.
        dataloader_idx: of several validation loaders, the one to follow; never one that is tested on.
        **options: of `AdaptiveWeights`: ``budget``, ``eta``, ``eta_fp``, ``max_ratio``, ``start``, ``smoothing``.

    Raises:
        ArgumentError: a training without validation, or as `ShotGroupMetrics`.

    Example:
        >>> AdaptiveReweighting([900, 100], start="uniform").rule.weight
        array([1., 1.])
    """

    def __init__(
        self, class_counts: CountsLike, *, attribute: str = "loss", dataloader_idx: int = 0, **options: Any
    ) -> None:
        super().__init__(class_counts, dataloader_idx)
        self.rule, self.attribute = AdaptiveWeights(self.counts, **options), attribute

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.enable_validation:
            raise ArgumentError("AdaptiveReweighting follows validation, and this training has none: give a val loader")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _loss_of(pl_module, self.attribute).reweight(self.rule.weight)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.rule.update(*self._collected(trainer, pl_module))

    def state_dict(self) -> dict[str, Any]:
        return {name: value.tolist() for name, value in self.rule.state_dict().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rule.load_state_dict(state_dict)


class SamplerEpochs(Callback):
    """Tells our samplers which epoch it is, where Lightning has wrapped them for several processes.

    Lightning's wrapper deals any sampler's indices to the ranks, in an order of its own, but passes the epoch on only
    in newer releases; without it every epoch has the draws of the first. Where it does, this changes nothing.

    Example:
        >>> trainer = Trainer(callbacks=[SamplerEpochs()], logger=False)  # doctest: +SKIP
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = trainer.train_dataloader
        for sampler in _samplers(loader):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(trainer.current_epoch)


def _samplers(loader: Any) -> list[Any]:
    """The sampler of a loader, of its batch sampler, and what wrappers hold inside."""
    found: list[Any] = []
    waiting = [getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)]
    while waiting:
        sampler = waiting.pop()
        if sampler is None or any(sampler is known for known in found):
            continue
        found.append(sampler)
        waiting += [getattr(sampler, "sampler", None), getattr(getattr(sampler, "dataset", None), "_sampler", None)]
    return found
