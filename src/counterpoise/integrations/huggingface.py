"""Hugging Face's Trainer with the losses, samplers and metrics of Counterpoise.

The Trainer (transformers 5) normalizes a loss as follows:

- It counts the labels that are not −100 in all micro-batches of one optimizer step, with
  ``average_tokens_across_devices`` (the default) over all processes, and passes the count to ``compute_loss_func``.
- It multiplies the result by the number of processes, because DDP averages the gradients over them. The sum of the
  row losses divided by the count is therefore the mean over the whole step.
- A label row of C numbers counts C times.
- With several GPUs in one process (DataParallel) it passes one count per GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.checks import checked_vector
from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, MissingExtraError, install_command
from counterpoise.losses.arguments import Vector, vector_tensor
from counterpoise.losses.base import Loss
from counterpoise.losses.sigmoid import sigmoid_loss
from counterpoise.losses.softmax import softmax_loss
from counterpoise.metrics import accuracy, average_precision, balanced_accuracy, macro_f1, shot_accuracy
from counterpoise.samplers import ClassBalancedSampler, OrderedSampler, labels_of

try:
    from transformers import Trainer
except ImportError as error:
    raise MissingExtraError(
        "`counterpoise.integrations.huggingface` needs transformers, which cannot be imported here "
        f"({error}); {install_command('huggingface')}"
    ) from error

LossFunction = Callable[..., Tensor]
SamplerChoice = OrderedSampler | Callable[[Any], OrderedSampler]
IGNORED = -100  # the label that the Trainer does not count; it has no option for another


def loss_for_trainer(loss: Loss, *, prior: Vector | None = None) -> LossFunction:
    """Wrap a loss module as ``compute_loss_func`` of the Trainer.

    A step with one batch of 32, with four accumulated micro-batches of 8 and with four processes of 8 is the same, and
    the evaluation loss does not depend on the batch size. The reduction "mean" of a weighted softmax loss divides by
    the sum of the weights; the Trainer counts rows, so their expected sum, ``rows · Σ π_c w_c``, is used instead.

    Args:
        loss: a module of `counterpoise.losses` with reduction "mean" or "batchmean". For an overlap loss (Dice,
            Tversky), the losses of the micro-batches are averaged, weighted by their numbers of labels.
        prior: ``(C,)`` class shares in training, in any scale: the class counts of the training set, or the ``prior``
            of the sampler. Required for a softmax loss with class weights and reduction "mean".

    Returns:
        ``compute_loss_func(outputs, labels, num_items_in_batch=None)``, where ``outputs`` has ``logits`` or is a tuple
        that starts with them.

    Raises:
        ArgumentTypeError: ``loss`` is not a module of `counterpoise.losses`.
        ArgumentError: a reduction that is not a mean, an ``ignore_index`` other than −100, or a missing ``prior``.

    Example:
        >>> from counterpoise.losses import CrossEntropyLoss
        >>> compute_loss = loss_for_trainer(CrossEntropyLoss(weight=[1.0, 3.0]), prior=[90, 30])  # 1.5 on average
        >>> compute_loss({"logits": torch.zeros(2, 2)}, torch.tensor([0, 1]), num_items_in_batch=8)  # 4 log 2/(8 · 1.5)
        tensor(0.2310)
    """
    if not isinstance(loss, Loss):
        raise ArgumentTypeError(
            f"`loss` must be a module of counterpoise.losses, such as FocalLoss(); got {type(loss).__name__}"
        )
    reduction = loss.reduction
    if reduction not in ("mean", "batchmean"):
        raise ArgumentError(
            f'`loss` must have reduction "mean" or "batchmean", because the Trainer averages; got {reduction!r}'
        )
    if loss.ignore_index != IGNORED:
        raise ArgumentError(
            f"`loss` must have ignore_index={IGNORED}, the label that the Trainer does not count; got "
            f"{loss.ignore_index}"
        )
    return partial(_loss_of_step, loss=loss, mean_weight=_mean_weight(loss, reduction, prior))


def _mean_weight(loss: Loss, reduction: str, prior: Vector | None) -> float:
    """Σ π_c w_c, the expected weight of a row: the denominator of a weighted mean per counted row."""
    if reduction != "mean" or loss.equation is not softmax_loss or loss.weight is None:
        return 1.0
    weight = loss.weight.double().cpu()
    if prior is None:
        raise ArgumentError(
            '`prior` is required: the Trainer counts rows, but the "mean" of this loss divides by the sum of their '
            "weights. Give the class counts of training (prior=counts.counts) or the prior of the sampler, or give the "
            'loss reduction="batchmean", which divides by the number of rows'
        )
    shares = vector_tensor(np.array(prior) if isinstance(prior, np.ndarray) else prior, "prior").double().cpu()
    if shares.shape != weight.shape:
        raise ArgumentError(
            f"`prior` must have one value for each of the {len(weight)} classes; got shape {tuple(shares.shape)}"
        )
    checked_vector("prior", shares.numpy())
    weighted = float((weight * shares).sum())
    if weighted == 0:
        raise ArgumentError("`prior` must be above 0 for a class that has a weight in `loss`; nothing would be learned")
    return weighted / float(shares.sum())


def _loss_of_step(
    outputs: Any,
    labels: Tensor | None,
    num_items_in_batch: Tensor | float | None = None,
    *,
    loss: Loss,
    mean_weight: float,
) -> Tensor:
    """The part of this micro-batch in the mean over the whole optimizer step."""
    logits = _logits_of(outputs)
    if labels is None:
        raise ArgumentError(
            '`labels` is missing from the batch: name the column of the dataset "label" or "labels", or let the data '
            'collator return "labels"'
        )
    loss.to(logits.device)
    counted = labels.ne(IGNORED).sum()
    # DataParallel passes one count per GPU, and the Trainer multiplies by the number of GPUs: hence the sum.
    items = counted if num_items_in_batch is None else torch.as_tensor(num_items_in_batch).sum()
    if loss.equation not in (softmax_loss, sigmoid_loss):
        share: Tensor = loss(logits, labels) * counted / items.to(counted.device).clamp(min=1)
        return share
    value: Tensor = loss(logits, labels, normalizer=_denominator(loss, logits, labels, items) * mean_weight)
    return value


def _denominator(loss: Loss, logits: Tensor, labels: Tensor, items: Tensor) -> Tensor:
    """The denominator of the reduction: the number of rows, or of elements for the "mean" of a sigmoid loss."""
    classes = logits.shape[1] if logits.dim() > 1 else 1
    rows = items / classes if labels.dim() == logits.dim() else items
    by_element = loss.equation is not softmax_loss and loss.reduction == "mean"
    return rows * classes if by_element else rows


def _logits_of(outputs: Any) -> Tensor:
    if isinstance(outputs, Mapping) and "logits" in outputs:
        logits = outputs["logits"]
    else:
        logits = outputs[0] if isinstance(outputs, tuple | list) and outputs else getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor):
        raise ArgumentTypeError(
            f"`outputs` of the model must have `logits`, or start with them; got {type(outputs).__name__}"
        )
    return logits


class BalancedTrainerMixin:
    """Mixin that gives any Trainer a sampler: ``class MyTrainer(BalancedTrainerMixin, Seq2SeqTrainer)``.

    All processes share one global order, of which accelerate gives each its part, and every epoch has an order of its
    own. A run resumed from a checkpoint continues with the images that would have come next.

    Args:
        *args: arguments of the Trainer.
        train_sampler: a sampler of `counterpoise.samplers`, or a function that takes the labels ``(N,)`` or ``(N, C)``
            and returns one. None is `ClassBalancedSampler` with ``data_seed`` or else ``seed`` of the training
            arguments. The labels are read from ``train_dataset`` by `labels_of`, without decoding images.
        **kwargs: keyword arguments of the Trainer.

    Raises:
        ArgumentError: the sampler is for another number of items or in the middle of an epoch, or the training
            arguments name another sampling strategy.
        ArgumentTypeError: ``train_sampler`` is neither a sampler nor a function.
    """

    args: Any
    train_dataset: Any

    def __init__(self, *args: Any, train_sampler: SamplerChoice | None = None, **kwargs: Any) -> None:
        if not (train_sampler is None or isinstance(train_sampler, OrderedSampler) or callable(train_sampler)):
            raise ArgumentTypeError(
                "`train_sampler` must be a sampler of counterpoise.samplers, or a function of the labels that returns "
                f"one; got {type(train_sampler).__name__}"
            )
        self.train_sampler = train_sampler
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> OrderedSampler:
        # The Trainer passes the dataset without the columns that the model does not take, perhaps without labels.
        dataset = train_dataset if self.train_dataset is None else self.train_dataset
        strategy = getattr(self.args, "train_sampling_strategy", "random")
        if strategy != "random":
            raise ArgumentError(
                f'`train_sampling_strategy` must be "random" (the default) for a Trainer with `train_sampler`; '
                f"got {strategy!r}"
            )
        if isinstance(self.train_sampler, OrderedSampler):
            sampler = copy.deepcopy(self.train_sampler)  # the next call of train() starts at the first epoch
        else:
            sampler = (self.train_sampler or self._balanced)(labels_of(dataset))
        items = sampler.state_dict()["items"]
        if items != len(dataset):
            raise ArgumentError(
                f"`train_sampler` is for {items} items; `train_dataset` has {len(dataset)}. "
                "Make the sampler from labels_of(train_dataset)"
            )
        if sampler._start:
            raise ArgumentError(
                f"`train_sampler` has a loaded state, {sampler._start} samples into an epoch; give a sampler without "
                "one, because the Trainer itself skips the samples that a checkpoint has used"
            )
        return sampler

    def _balanced(self, labels: Any) -> OrderedSampler:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ClassBalancedSampler(labels, seed=seed)

    def get_train_dataloader(self) -> Any:
        """The DataLoader of the Trainer, whose sampler receives the epoch under every wrapper.

        When resuming within an epoch with several processes, accelerate calls ``set_epoch`` on the sampler of its
        shard, which has none; without this method the rest of the epoch would have the order of epoch 0.
        """
        loader = super().get_train_dataloader()  # type: ignore[misc]
        shard = getattr(loader, "batch_sampler", None)
        sampler = getattr(getattr(shard, "batch_sampler", None), "sampler", None)
        if isinstance(sampler, OrderedSampler):
            shard.sampler = sampler  # type: ignore[union-attr]
        return loader


class BalancedTrainer(BalancedTrainerMixin, Trainer):
    """``transformers.Trainer`` with the additional argument ``train_sampler``; see `BalancedTrainerMixin`."""


def metrics_for_trainer(
    class_counts: CountsLike | None = None, *, many: int = MANY, few: int = FEW
) -> Callable[[Any], dict[str, float]]:
    """Make ``compute_metrics`` of the Trainer: accuracy, balanced accuracy, macro F1, and recall by group of classes.

    Args:
        class_counts: training images per class; None for no groups.
        many: a class with more training images than this is in the group "many".
        few: a class with fewer training images than this is in the group "few".

    Returns:
        A function of an ``EvalPrediction`` that returns "accuracy", "balanced_accuracy", "macro_f1" and, with counts,
        the mean recall of each group that has images: "recall_many", "recall_medium", "recall_few". For multi-label
        targets ``(N, C)`` of 0 and 1 it returns "mean_average_precision" only. Labels of −100 are ignored.

    Example:
        >>> compute_metrics = metrics_for_trainer([500, 5])
        >>> compute_metrics((np.array([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), np.array([0, 0, 1, 1])))
        {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'macro_f1': 0.733..., 'recall_many': 1.0, 'recall_few': 0.5}
    """
    return partial(_metrics, class_counts=class_counts, many=many, few=few)


def _metrics(prediction: Any, *, class_counts: CountsLike | None, many: int, few: int) -> dict[str, float]:
    logits, labels = prediction[0], np.asarray(prediction[1])
    logits = np.asarray(logits[0] if isinstance(logits, tuple) else logits)
    if logits.ndim == labels.ndim and logits.dtype.kind == "f":
        return {"mean_average_precision": average_precision(labels.astype(np.int64), logits)}
    # preprocess_logits_for_metrics may have taken the argmax already
    predicted = logits if logits.ndim == labels.ndim else logits.argmax(1)
    y, p = labels[labels != IGNORED], predicted[labels != IGNORED]
    metrics = {"accuracy": accuracy(y, p), "balanced_accuracy": balanced_accuracy(y, p), "macro_f1": macro_f1(y, p)}
    if class_counts is not None:
        if logits.ndim > labels.ndim and len(ClassCounts(class_counts)) != logits.shape[1]:
            raise ArgumentError(
                f"`class_counts` has {len(ClassCounts(class_counts))} classes; the logits have {logits.shape[1]}"
            )
        groups = shot_accuracy(y, p, class_counts, many=many, few=few)
        metrics |= {f"recall_{group}": recall for group, recall in groups.items() if not np.isnan(recall)}
    return metrics
