"""Lightning callbacks: class weights that change during training, metrics by group, epochs of wrapped samplers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, MissingExtraError, install_command
from counterpoise.losses.base import Loss
from counterpoise.metrics import balanced_accuracy, shot_accuracy
from counterpoise.weights import AdaptiveWeights, DeferredWeights, Scheme

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingExtraError(
        f"counterpoise.integrations.lightning needs Lightning: {install_command('lightning')}"
    ) from error

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def _loss_of(module: LightningModule, attribute: str) -> Loss:
    loss = getattr(module, attribute, None)
    if not isinstance(loss, Loss):
        raise ArgumentError(
            f"`attribute`: {type(module).__name__}.{attribute} must be a loss module of counterpoise.losses; got "
            f"{type(loss).__name__}. Name the attribute that holds the loss"
        )
    return loss


class DeferredReweighting(Callback):
    """Deferred re-weighting (DRW): class weights that apply only towards the end of training.

    Every class weighs 1 at first; see `counterpoise.weights.DeferredWeights`. The weights depend on the epoch alone,
    so that a resumed training has the right ones. Logs ``deferred_reweighting``, 0 or 1.

    Args:
        class_counts: training images per class.
        start: share of ``max_epochs`` after which the weights apply, in [0, 1].
        scheme: scheme of the weights, or a ready vector ``(C,)``; see `counterpoise.weights.class_weights`.
        beta: hyperparameter β of the scheme "effective_number", in [0, 1], or "auto".
        power: exponent of the scheme "inverse"; None is 1.
        max_weight: largest weight; None for no bound.
        normalize: "mean" for an average weight of 1 over the classes, "sample" over the training images, None for the
            formula alone; "auto" is None for the scheme "balanced" and otherwise "mean".
        attribute: attribute of the LightningModule that holds the loss, a module of `counterpoise.losses` made with
            ``weight``, for example a weight of ones.

    Raises:
        ArgumentError: an argument is out of range, the LightningModule has no such loss, or the Trainer has no
            ``max_epochs``.

    Reference: Cao et al., Label-Distribution-Aware Margin Loss, NeurIPS 2019 (arXiv:1906.07413).

    Example:
        >>> DeferredReweighting([900, 100], start=0.5).weights
        array([0.20725452, 1.79274548])
    """

    def __init__(
        self,
        class_counts: CountsLike,
        *,
        start: float = 0.8,
        scheme: Scheme | FloatArray = "effective_number",
        beta: float | Literal["auto"] = 0.9999,
        power: float | None = None,
        max_weight: float | None = None,
        normalize: Literal["auto", "mean", "sample"] | None = "auto",
        attribute: str = "loss",
    ) -> None:
        options: dict[str, Any] = {"beta": beta, "power": power, "max_weight": max_weight, "normalize": normalize}
        self.deferred = DeferredWeights(class_counts, start=start, scheme=scheme, **options)
        self.attribute = attribute

    @property
    def weights(self) -> FloatArray:
        """Class weights ``(C,)`` of the last epochs."""
        return self.deferred.weight

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, epochs = trainer.current_epoch, trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ArgumentError("DeferredReweighting needs a Trainer with `max_epochs`, because it starts at a share")
        _loss_of(pl_module, self.attribute).reweight(self.deferred.weight_at(epoch, epochs=epochs))
        started = self.deferred.has_started(epoch, epochs=epochs)
        pl_module.log("deferred_reweighting", float(started), sync_dist=True)


class _Validation(Callback):
    """Collects the results of ``validation_step``, ``{"logits": (N, C), "labels": (N,)}``, from every process."""

    def __init__(self, class_counts: CountsLike, dataloader_idx: int) -> None:
        self.counts = class_counts if isinstance(class_counts, ClassCounts) else ClassCounts(class_counts)
        self.dataloader_idx = dataloader_idx
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = []

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
                f"{type(self).__name__} needs the result of validation_step to be "
                f"{{'logits': logits, 'labels': labels}}; got {type(outputs).__name__}"
            )
        if dataloader_idx != self.dataloader_idx:
            return
        logits, labels = outputs["logits"], outputs["labels"]
        if logits.dim() != 2 or labels.shape != logits.shape[:1]:
            raise ArgumentError(
                f"{type(self).__name__} needs `logits` (N, C) and class ids `labels` (N,), one class per image; got "
                f"{tuple(logits.shape)} and {tuple(labels.shape)}"
            )
        if logits.shape[1] != len(self.counts):
            raise ArgumentError(
                f"`class_counts` must have one number per class, {logits.shape[1]} for these logits; got "
                f"{len(self.counts)}"
            )
        self._batches.append((logits.argmax(1).cpu(), labels.cpu()))

    def _collected(self, trainer: Trainer, pl_module: LightningModule) -> tuple[IntArray, IntArray]:
        """Labels and predictions in the order of the dataset, without the images that pad the last batch of a rank."""
        if not self._batches:
            raise ArgumentError(f"`dataloader_idx` is {self.dataloader_idx}, but no validation loader has that index")
        mine = torch.stack([torch.cat([pair[i] for pair in self._batches]) for i in (1, 0)])
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
    """Logs balanced accuracy and the mean recall of the classes with many, medium and few training images.

    ``validation_step`` returns ``{"logits": logits, "labels": labels}`` with logits ``(N, C)`` and class indices
    ``(N,)``. After every validation ``val_balanced_accuracy``, ``val_many``, ``val_medium`` and ``val_few`` are logged,
    without the groups that have no image. With several processes they describe the whole validation set, without the
    images that Lightning repeats to fill the last batches.

    Args:
        class_counts: training images per class, which determine the groups.
        prefix: prefix of the logged names.
        many: a class with more training images than this is in the group "many".
        few: a class with fewer training images than this is in the group "few".
        dataloader_idx: index of the validation loader, where there are several.

    Raises:
        ArgumentError: ``few`` exceeds ``many``, ``validation_step`` returns something else, or the number of classes
            differs.

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
        self.counts.groups(many, few)  # raises now and not after the first epoch
        self.prefix, self.many, self.few = prefix, many, few

    def numbers(self, labels: IntArray, predicted: IntArray) -> dict[str, float]:
        """The logged metrics by name, from ``(N,)`` class indices."""
        groups = shot_accuracy(labels, predicted, self.counts, many=self.many, few=self.few)
        metrics = {"balanced_accuracy": balanced_accuracy(labels, predicted), **groups}
        return {f"{self.prefix}{name}": float(value) for name, value in metrics.items() if np.isfinite(value)}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict(self.numbers(*self._collected(trainer, pl_module)), sync_dist=True)  # equal on all ranks


class AdaptiveReweighting(_Validation):
    """Adapts the class weights after every epoch to the recall and false positives on validation.

    Applies `counterpoise.weights.AdaptiveWeights`, whose state is saved in the checkpoint. ``validation_step`` returns
    ``{"logits": logits, "labels": labels}``.

    Args:
        class_counts: training images per class.
        start: scheme of the first weights, or a ready vector ``(C,)``; see `counterpoise.weights.class_weights`.
        smoothing: share of the earlier estimate of recall and false positives kept after each epoch, in [0, 1).
        budget: share of false positives that a class may cost, at least 0.
        eta: rate η at which weights rise with lagging recall, at least 0.
        eta_fp: rate η' at which weights fall with false positives above the budget, at least 0.
        max_ratio: upper bound of the largest over the smallest weight, at least 1.
        attribute: attribute of the LightningModule that holds the loss, a module of `counterpoise.losses` made with
            ``weight``, for example a weight of ones.
        dataloader_idx: index of the validation loader, where there are several; not one of test images.

    Raises:
        ArgumentError: an argument is out of range, the training has no validation, or as `ShotGroupMetrics`.

    Example:
        >>> AdaptiveReweighting([900, 100], start="uniform").rule.weight
        array([1., 1.])
    """

    def __init__(  # noqa: PLR0913  the arguments of AdaptiveWeights
        self,
        class_counts: CountsLike,
        *,
        start: Scheme | FloatArray = "inverse_sqrt",
        smoothing: float = 0.5,
        budget: float = 0.05,
        eta: float = 0.2,
        eta_fp: float = 15.0,
        max_ratio: float = 100.0,
        attribute: str = "loss",
        dataloader_idx: int = 0,
    ) -> None:
        super().__init__(class_counts, dataloader_idx)
        rates = {"smoothing": smoothing, "budget": budget, "eta": eta, "eta_fp": eta_fp, "max_ratio": max_ratio}
        self.rule, self.attribute = AdaptiveWeights(self.counts, start=start, **rates), attribute

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.enable_validation:
            raise ArgumentError("AdaptiveReweighting needs validation, and this training has none: give a val loader")

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
    """Sets the epoch of the samplers of `counterpoise.samplers`, also inside Lightning's wrapper for several processes.

    Older releases of Lightning do not pass the epoch to a wrapped sampler, so that every epoch would repeat the order
    of the first. With newer releases this callback changes nothing.

    Example:
        >>> trainer = Trainer(callbacks=[SamplerEpochs()], logger=False)  # doctest: +SKIP
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = trainer.train_dataloader
        for sampler in _samplers(loader):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(trainer.current_epoch)


def _samplers(loader: Any) -> list[Any]:
    """The samplers of a loader and of its batch sampler, and those inside wrappers."""
    found: list[Any] = []
    waiting = [getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)]
    while waiting:
        sampler = waiting.pop()
        if sampler is None or any(sampler is other for other in found):
            continue
        found.append(sampler)
        waiting += [getattr(sampler, "sampler", None), getattr(getattr(sampler, "dataset", None), "_sampler", None)]
    return found
