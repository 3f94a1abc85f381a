"""Hugging Face: our losses, samplers and metrics in a `transformers.Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.losses import softmax_loss
from counterpoise.losses.stored import StoredLoss
from counterpoise.metrics import balanced_accuracy, macro_f1, shot_accuracy
from counterpoise.samplers import labels_of
from counterpoise.samplers.sampler import OrderedSampler

__all__ = ["ImbalancedTrainerMixin", "loss_for_trainer", "metrics_for_trainer"]

LossFunc = Callable[..., Tensor]


def loss_for_trainer(loss: StoredLoss, *, class_counts: CountsLike | None = None) -> LossFunc:
    """One of our loss modules as the ``compute_loss_func`` of a `Trainer`.

    The Trainer counts the labels of a whole accumulation window, over all processes, and divides by nothing itself: so
    the sum of the losses is divided by that count here, and 4 micro-batches of 8 give the gradient of one batch of 32.
    A count knows nothing of class weights. With ``class_counts`` they are scaled so that their mean over the *images*
    is 1: then the count is the weights' own sum on average, and the learning rate means what it meant without weights.

    Args:
        loss: such as ``FocalLoss(gamma=2.0)`` or ``CrossEntropyLoss(weight=...)``; "mean" or "batchmean".
        class_counts: of the training split, ``(C,)``; needed only with class weights.

    Returns:
        ``compute_loss_func(outputs, labels, num_items_in_batch=None)``; without a count it is the loss itself.

    Raises:
        ArgumentTypeError: not one of our loss modules.
        ArgumentError: class weights without counts, or a reduction that is none of the two.

    Example:
        >>> import torch
        >>> from counterpoise.losses import CrossEntropyLoss
        >>> func = loss_for_trainer(CrossEntropyLoss(weight=[0.2, 1.8]), class_counts=[90, 10])
        >>> value = func({"logits": torch.zeros(2, 2)}, torch.tensor([0, 1]), num_items_in_batch=torch.tensor(4))
        >>> round(value.item(), 4)  # (0.5556 + 5.0) log 2 / 4
        0.9627
    """
    if not isinstance(loss, StoredLoss):
        raise ArgumentTypeError(f"`loss` must be one of our loss modules; got {type(loss).__name__}")
    reduction = str(loss.options.get("reduction", "mean"))
    if reduction not in ("mean", "batchmean"):
        raise ArgumentError(f"`loss` must have the reduction 'mean' or 'batchmean'; got {reduction!r}")
    if "weight" in loss.vectors:
        _scale_to_images(loss, class_counts)

    def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs.logits
        moved = loss.to(logits.device)
        if num_items_in_batch is None:
            value: Tensor = moved(logits, labels)
            return value
        items = torch.as_tensor(num_items_in_batch, device=logits.device, dtype=torch.float32).reshape(-1)[0]
        whole: Tensor = moved(logits, labels, normalizer=items * _terms_of_a_label(loss, logits, labels, reduction))
        return whole

    return compute_loss


def _scale_to_images(loss: StoredLoss, class_counts: CountsLike | None) -> None:
    if class_counts is None:
        raise ArgumentError("`class_counts` is missing: with class weights it says what their mean over the images is")
    counts = class_counts if isinstance(class_counts, ClassCounts) else ClassCounts(class_counts)
    if counts.counts.shape != tuple(loss.weight.shape):
        raise ArgumentError(
            f"`class_counts` has {counts.num_classes} classes, the weights of `loss` {len(loss.weight)}"
        )
    prior = torch.from_numpy(counts.prior()).to(loss.weight)
    loss.reweight(loss.weight / (prior * loss.weight).sum())


def _terms_of_a_label(loss: StoredLoss, logits: Tensor, labels: Tensor, reduction: str) -> float:
    """The Trainer counts the elements of the labels; how many terms of our mean each of them stands for."""
    dense = labels.dim() == logits.dim()
    by_image = loss.equation is softmax_loss or reduction == "batchmean"
    if by_image:
        return 1.0 / logits.shape[1] if dense else 1.0
    return 1.0 if dense else float(logits.shape[1])


class ImbalancedTrainerMixin:
    """Puts one of our samplers into a `Trainer`: ``class MyTrainer(ImbalancedTrainerMixin, Trainer): ...``.

    The order is one global order from (seed, epoch), which the Trainer shards over the processes; the epochs differ,
    and a training resumed in the middle of an epoch goes on with the images that were left, because the Trainer skips
    what it has used.

    Args:
        train_sampler: a sampler, or what makes one from the labels of the training set: ``ClassBalancedSampler``,
            or ``lambda labels: ClassBalancedSampler(labels, power=0.5)``.

    Example:
        >>> from transformers import Trainer
        >>> class MyTrainer(ImbalancedTrainerMixin, Trainer): ...
        >>> trainer = MyTrainer(model, args, train_sampler=ClassBalancedSampler)  # doctest: +SKIP
    """

    def __init__(
        self, *args: Any, train_sampler: OrderedSampler | Callable[[Any], OrderedSampler] | None = None, **kwargs: Any
    ) -> None:
        self.train_sampler = train_sampler
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset  # type: ignore[attr-defined]
        given = self.train_sampler
        if given is None:
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        if isinstance(given, OrderedSampler):
            return given
        made = given(labels_of(dataset))
        if not isinstance(made, OrderedSampler):
            raise ArgumentTypeError(f"`train_sampler` must make one of our samplers; got {type(made).__name__}")
        return made


def metrics_for_trainer(class_counts: CountsLike) -> Callable[[Any], dict[str, float]]:
    """The ``compute_metrics`` of a `Trainer`: balanced accuracy, macro F1, mean recall of the shot groups.

    Args:
        class_counts: of the training split, which decides the groups.

    Returns:
        ``compute_metrics(eval_prediction)``; a group without images is left out.

    Example:
        >>> from types import SimpleNamespace
        >>> seen = SimpleNamespace(predictions=np.eye(3)[[0, 0, 2]], label_ids=np.array([0, 1, 2]))
        >>> metrics_for_trainer([900, 50, 5])(seen)["few"]
        1.0
    """
    counts = class_counts if isinstance(class_counts, ClassCounts) else ClassCounts(class_counts)

    def compute_metrics(evaluation: Any) -> dict[str, float]:
        scores = evaluation.predictions[0] if isinstance(evaluation.predictions, tuple) else evaluation.predictions
        labels, predicted = np.asarray(evaluation.label_ids), np.asarray(scores).argmax(1)
        found = {
            "accuracy": float((labels == predicted).mean()),
            "balanced_accuracy": balanced_accuracy(labels, predicted),
            "macro_f1": macro_f1(labels, predicted),
            **shot_accuracy(labels, predicted, counts),
        }
        return {name: float(value) for name, value in found.items() if np.isfinite(value)}

    return compute_metrics
