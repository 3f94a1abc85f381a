"""Hugging Face's Trainer with our losses, samplers and metrics.

What the Trainer divides by, and what is undone here (transformers 5):

- It counts the labels that are not −100 in all micro-batches of one optimiser step, with
  ``average_tokens_across_devices`` (the default) over all processes, and hands the count to ``compute_loss_func``. It
  then divides by nothing itself, but multiplies the loss by the number of processes, because DDP averages gradients
  over them. So the sum of the rows divided by that count is the mean over the whole step, however it is cut up.
- Labels of one number a class are counted C times an image.
- With several GPUs in one process (DataParallel) the count comes once for each GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, MissingExtraError
from counterpoise.losses.arguments import vector_tensor
from counterpoise.losses.base import Loss
from counterpoise.losses.options import Vector
from counterpoise.losses.sigmoid import sigmoid_loss, sigmoid_loss_by_class
from counterpoise.losses.softmax import softmax_loss
from counterpoise.metrics import accuracy, average_precision, balanced_accuracy, macro_f1, shot_accuracy
from counterpoise.samplers import ClassBalancedSampler, OrderedSampler, labels_of

try:
    from transformers import Trainer
except ImportError as error:
    raise MissingExtraError(
        "`counterpoise.integrations.huggingface` needs transformers, which cannot be imported here "
        f"({error}); pip install 'counterpoise[huggingface]'"
    ) from error

__all__ = ["BalancedTrainer", "BalancedTrainerMixin", "loss_for_trainer", "metrics_for_trainer"]

LossFunction = Callable[..., Tensor]
SamplerChoice = OrderedSampler | Callable[[Any], OrderedSampler]
IGNORED = -100  # the label that the Trainer leaves out of its count; it cannot be told another


def loss_for_trainer(loss: Loss, *, prior: Vector | None = None) -> LossFunction:
    """A loss module of ours as ``compute_loss_func`` of the Trainer.

    One batch of 32, four accumulated micro-batches of 8 and four processes of 8 give the same step, and the evaluation
    loss does not depend on the batch size. A weighted "mean" is divided by the summed weight; the Trainer knows only
    the number of rows, so their summed weight is taken to be ``rows · Σ π_c w_c``, what it is on average.

    Args:
        loss: a module of `counterpoise.losses`, with reduction "mean" or "batchmean".
        prior: ``(C,)`` how often each class is trained on: the class counts of the training set, or the ``prior`` of
            the sampler; its scale has no effect. Needed for a softmax loss with class weights and reduction "mean".

    Returns:
        ``compute_loss_func(outputs, labels, num_items_in_batch=None)``. ``outputs`` has ``logits``, or is a tuple that
        starts with them. Overlap losses (Dice, Tversky) are no sum over rows: theirs is the mean over micro-batches,
        each by its share of the labels.

    Raises:
        ArgumentTypeError: ``loss`` is not a loss module of ours.
        ArgumentError: a reduction without a mean, an ``ignore_index`` that the Trainer counts, or a missing ``prior``.

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
    reduction = loss.options.get("reduction", "mean")
    if reduction not in ("mean", "batchmean"):
        raise ArgumentError(
            f'`loss` must have reduction "mean" or "batchmean": the Trainer averages; its reduction is {reduction!r}'
        )
    ignored = loss.options.get("ignore_index", IGNORED)
    if ignored != IGNORED:
        raise ArgumentError(
            f"`loss` must have ignore_index={IGNORED}, the label that the Trainer does not count; got {ignored}"
        )
    return partial(_loss_of_step, loss=loss, mean_weight=_mean_weight(loss, reduction, prior))


def _mean_weight(loss: Loss, reduction: str, prior: Vector | None) -> float:
    """Σ π_c w_c, what a row weighs on average: the denominator of a weighted mean for each row that is counted."""
    if reduction != "mean" or loss.equation is not softmax_loss or "weight" not in loss.vectors:
        return 1.0
    weight = loss.get_buffer("weight").double().cpu()
    if prior is None:
        raise ArgumentError(
            '`prior` is needed: the Trainer counts rows, and the "mean" of this loss is over their summed weight. Give '
            "the class counts of training (prior=counts.counts) or the prior of the sampler; or give the loss "
            'reduction="batchmean", which divides by rows and takes the weights as they are'
        )
    shares = vector_tensor(np.array(prior) if isinstance(prior, np.ndarray) else prior, "prior").double().cpu()
    if shares.shape != weight.shape:
        raise ArgumentError(
            f"`prior` must have one value for each of the {len(weight)} classes; got shape {tuple(shares.shape)}"
        )
    if not (torch.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ArgumentError(f"`prior` must be finite, at least 0 and not 0 everywhere; got {shares.tolist()}")
    mean = float((weight * shares).sum() / shares.sum())
    if mean == 0:
        raise ArgumentError("`prior` is 0 for every class that has a weight in `loss`: nothing would be learnt")
    return mean


def _loss_of_step(
    outputs: Any,
    labels: Tensor | None,
    num_items_in_batch: Tensor | float | None = None,
    *,
    loss: Loss,
    mean_weight: float,
) -> Tensor:
    """This micro-batch's part of the mean over the whole optimiser step."""
    logits = _logits_of(outputs)
    if labels is None:
        raise ArgumentError(
            "`labels` is missing from the batch, so the Trainer has none for the loss: name the dataset's column "
            '"label" or "labels", or let the data collator return "labels"'
        )
    loss.to(logits.device)
    here = labels.ne(IGNORED).sum()
    # One count a GPU under DataParallel, and the Trainer will multiply by the number of GPUs: hence the sum.
    items = here if num_items_in_batch is None else torch.as_tensor(num_items_in_batch).sum()
    if loss.equation not in (softmax_loss, sigmoid_loss, sigmoid_loss_by_class):
        share: Tensor = loss(logits, labels) * here / items.to(here.device).clamp(min=1)
        return share
    value: Tensor = loss(logits, labels, normalizer=_denominator(loss, logits, labels, items) * mean_weight)
    return value


def _denominator(loss: Loss, logits: Tensor, labels: Tensor, items: Tensor) -> Tensor:
    """From the labels counted to what the reduction divides by: rows, or for the "mean" of a sigmoid loss elements."""
    classes = logits.shape[1] if logits.dim() > 1 else 1
    rows = items / classes if labels.dim() == logits.dim() else items
    by_element = loss.equation is not softmax_loss and loss.options.get("reduction", "mean") == "mean"
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
    """Gives a Trainer one of our samplers: ``class MyTrainer(BalancedTrainerMixin, Seq2SeqTrainer)``.

    Every process has the same global order and accelerate gives each its part; every epoch has an order of its own; a
    run resumed from a checkpoint goes on with the very images that would have come next.

    Args:
        train_sampler: a sampler of `counterpoise.samplers`, or a function of the labels that returns one. Default:
            `ClassBalancedSampler` with the seed of the arguments (``data_seed``, else ``seed``). The labels are read
            from ``train_dataset`` by `labels_of`, which decodes no image.

    Raises:
        ArgumentError: the sampler is for another number of items or is in the middle of an epoch, or the arguments ask
            for a sampling of the Trainer's own as well.
        ArgumentTypeError: ``train_sampler`` is neither.
    """

    args: Any
    train_dataset: Any

    def __init__(self, *args: Any, train_sampler: SamplerChoice | None = None, **kwargs: Any) -> None:
        if not (train_sampler is None or isinstance(train_sampler, OrderedSampler) or callable(train_sampler)):
            raise ArgumentTypeError(
                "`train_sampler` must be a sampler of counterpoise.samplers, which every process orders alike, or a "
                f"function of the labels that returns one; got {type(train_sampler).__name__}"
            )
        self.train_sampler = train_sampler
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> OrderedSampler:
        # The Trainer gives the dataset without the columns that the model does not take, perhaps without labels.
        dataset = train_dataset if self.train_dataset is None else self.train_dataset
        strategy = getattr(self.args, "train_sampling_strategy", "random")
        if strategy != "random":
            raise ArgumentError(
                f'`train_sampling_strategy` must be left at "random" where `train_sampler` orders the images; '
                f"got {strategy!r}"
            )
        if isinstance(self.train_sampler, OrderedSampler):
            sampler = copy.deepcopy(self.train_sampler)  # the next call of train() starts anew
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
                f"`train_sampler` has a loaded state, {sampler._start} samples into an epoch; the Trainer itself skips "
                "what a checkpoint has used: give it a sampler without one"
            )
        return sampler

    def _balanced(self, labels: Any) -> OrderedSampler:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ClassBalancedSampler(labels, seed=seed)

    def get_train_dataloader(self) -> Any:
        """The Trainer's, whose sampler is found under every wrapper.

        Resumed within an epoch and with several processes, accelerate looks for ``set_epoch`` on the sampler of its
        shard, which has none of its own: the rest of epoch 3 would be that of epoch 0.
        """
        loader = super().get_train_dataloader()  # type: ignore[misc]
        shard = getattr(loader, "batch_sampler", None)
        sampler = getattr(getattr(shard, "batch_sampler", None), "sampler", None)
        if isinstance(sampler, OrderedSampler):
            shard.sampler = sampler  # type: ignore[union-attr]
        return loader


class BalancedTrainer(BalancedTrainerMixin, Trainer):
    """transformers' ``Trainer`` with one more argument, ``train_sampler``: see `BalancedTrainerMixin`."""


def metrics_for_trainer(
    class_counts: CountsLike | None = None, *, many: int = MANY, few: int = FEW
) -> Callable[[Any], dict[str, float]]:
    """``compute_metrics`` of the Trainer: what accuracy hides.

    Args:
        class_counts: of the training set; adds the mean recall of its classes with many (> ``many``), medium and few
            (< ``few``) images.
        many: above it a class has many images.
        few: below it a class has few.

    Returns:
        A function of an ``EvalPrediction``: "accuracy", "balanced_accuracy", "macro_f1" and, with counts,
        "recall_many", "recall_medium", "recall_few"; a group without a class in the labels is left out. For multi-label
        targets ``(N, C)`` of 0 and 1: "mean_average_precision". Labels of −100 count nowhere.

    Example:
        >>> compute_metrics = metrics_for_trainer([500, 5])
        >>> compute_metrics((np.array([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), np.array([0, 0, 1, 1])))
        {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'macro_f1': 0.733..., 'recall_many': 1.0, 'recall_few': 0.5}
    """
    return partial(_metrics, class_counts=class_counts, many=many, few=few)


def _metrics(prediction: Any, *, class_counts: CountsLike | None, many: int, few: int) -> dict[str, float]:
    scores, labels = prediction[0], np.asarray(prediction[1])
    scores = np.asarray(scores[0] if isinstance(scores, tuple) else scores)
    if scores.ndim == labels.ndim and scores.dtype.kind == "f":
        return {"mean_average_precision": average_precision(labels.astype(np.int64), scores)}
    # preprocess_logits_for_metrics may have taken the argmax already
    predicted = scores if scores.ndim == labels.ndim else scores.argmax(1)
    y, p = labels[labels != IGNORED], predicted[labels != IGNORED]
    found = {"accuracy": accuracy(y, p), "balanced_accuracy": balanced_accuracy(y, p), "macro_f1": macro_f1(y, p)}
    if class_counts is not None:
        if scores.ndim > labels.ndim and len(ClassCounts(class_counts)) != scores.shape[1]:
            raise ArgumentError(
                f"`class_counts` has {len(ClassCounts(class_counts))} classes; the model scores {scores.shape[1]}"
            )
        groups = shot_accuracy(y, p, class_counts, many=many, few=few)
        found |= {f"recall_{group}": recall for group, recall in groups.items() if not np.isnan(recall)}
    return found
