"""Settings of a training run: every number besides the strategy, the same for all strategies of a comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from counterpoise.core.checks import checked_choice, checked_count, checked_number
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, DatasetError
from counterpoise.core.images import LabeledImages
from counterpoise.core.names import did_you_mean
from counterpoise.core.text import described
from counterpoise.metrics import METRICS
from counterpoise.workflow.training.custom import (
    Augmentation,
    ModelFactory,
    OptimizerFactory,
    checked_augment,
    checked_model,
    checked_optimizer,
    not_picklable,
)

if TYPE_CHECKING:
    from counterpoise.models import CustomModel, WeightFile

SMALL_IMAGE = 64
"""Images whose shorter side has at most this many pixels keep their size and get a small network."""
PHOTO_SIZE, PRETRAINED_SIZE = 128, 224
FULL_BATCH, SMALL_BATCH, SMALL_DATASET = 128, 32, 2048
EPOCHS, FROZEN_EPOCHS = 30, 15
_WEIGHT_DECAY: dict[Any, float] = {"sgd": 5e-4, "adamw": 0.05}
Precision = Literal["no", "bf16", "fp16"]
Resize = Literal["crop", "pad", "squash"]
Keep = Literal["last", "best"]
_OTHER_NAMES = {"bs": "batch_size", "wd": "weight_decay", "amp": "precision", "opt": "optimizer", "aug": "augment"}
_OTHER_NAMES |= {"arch": "model", "net": "model", "network": "model", "backbone": "model", "checkpoint": "weights"}
_OTHER_NAMES |= {"transform": "augment", "transforms": "augment", "img_size": "image_size", "imgsz": "image_size"}
"""Names of settings in other libraries, for hints; `did_you_mean` finds those that are more alike."""
UNRECORDED: dict[str, Any] = {"resize": "crop", "optimizer": "sgd", "keep": "last", "patience": None}
UNRECORDED |= {"select_by": None, "weights": None}
"""Settings that runs of earlier versions do not record, with the value that they had."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training run that the caller may choose; `resolve` derives None and "auto" from the data.

    Attributes:
        model: a name for `counterpoise.models.build_model`; "auto", a small residual network for images of up to 64
            pixels, else ``timm:resnet18``; or a function that makes a new `torch.nn.Module` from the number of classes,
            which it gets as ``num_classes`` if it takes that: a class, ``lambda num_classes: …``, or
            ``functools.partial(timm.create_model, "resnet18")``. The module maps images ``(N, 3, S, S)`` to logits
            ``(N, C)``; Counterpoise normalizes the images before it.
        epochs: number of epochs; an epoch has as many images as the training split, whatever the strategy. None is 30;
            if ``frozen`` 15, or as many as give 600 steps.
        batch_size: images per optimiser step, over all processes; at most the number of training images, to which a
            larger one is lowered. None is 128 from 2,048 training images on, else 32.
        optimizer: "sgd", "adamw", or a function that makes a `torch.optim.Optimizer` from the parameters, and from
            ``lr`` if it takes one: ``torch.optim.Adam``, ``lambda params, lr: …``.
        learning_rate: the highest learning rate, reached after the warm-up; ``lr`` is another name for it. None is
            0.1 · batch_size / 128 for "sgd" and 0.001 · √(batch_size / 128) for "adamw", a tenth of it if
            ``pretrained``, and the function's own for an optimiser of yours. The schedule multiplies the rate of each
            parameter group.
        momentum: Nesterov momentum of SGD; above 0, because Nesterov momentum of 0 is not defined in PyTorch.
        weight_decay: of "sgd" and "adamw". None is 5e-4 and 0.05, with which learning rate times weight decay is
            the same for both at their default learning rates and 128 images per batch.
        warmup: share of all steps in which the learning rate rises linearly; it then follows a cosine to 0.
        image_size: height and width in pixels that images are resized to. None is 224 if ``pretrained``, else the
            median shorter side of a sample of training images if that is at most 64, else 128.
        resize: how an image becomes a square: "crop" scales the shorter side and crops the centre, "pad" scales the
            longer side and adds black borders, "squash" scales both sides and changes the proportions. Use "pad" or
            "squash" where the objects reach the border of elongated images.
        augment: any of "crop", "hflip", "vflip" and "rot90", as a list or as one string with commas; "none"; or
            functions of one image: transforms of torchvision.transforms.v2, which get a tensor uint8 ``(3, S, S)``, and
            of albumentations. "auto" is the crop and, where flips do not change the class, the horizontal flip.
        pretrained: start from published weights of timm or torchvision, which are downloaded once. With a function as
            ``model``: its modules have weights of ImageNet already.
        weights: start from a file of weights for ``model``: .safetensors, or .pth, .pt, .bin or .ckpt of `torch.save`
            with tensors only, also within a dictionary ("state_dict", "model") and with a prefix ("module."). The head
            is new in any case; tensors that do not fit are listed in a warning. Learning rate, image size (of models
            of timm and torchvision, and of your own) and normalization are as with ``pretrained``.
        precision: "no" (float32), "bf16" or "fp16".
        cache_gib: memory for decoded images in GiB, a third for each of train, val and test; a split that needs more
            than its third is decoded anew in every epoch. With ``frozen`` the same for features, which are then read
            from the cache in every step, and for the heads that are trained at a time.
        keep: the epoch whose weights the model has: "last", or "best" by ``select_by`` on the validation images.
        patience: stop the training when this many epochs in a row were not better by ``select_by`` on the validation
            images; None to train for all epochs. The learning rate follows the schedule of all ``epochs``.
        select_by: the metric for ``keep`` and ``patience``: "balanced_accuracy", "macro_f1", "accuracy",
            "geometric_mean" or "worst_recall". A comparison chooses the strategy by it, too.
        frozen: compute the features of every image once with pretrained weights that stay as they are, and train only
            the last layer, the head, with AdamW. Without ``weights`` and ``features`` it implies ``pretrained``.
        views: with ``frozen``, the number of augmented views of each training image, of which a step sees one.
        features: with ``frozen``, an .npz file of features that were computed elsewhere; see
            `counterpoise.workflow.training.frozen.features.load_features`.
        tree: the class tree of hierarchical strategies: a YAML, JSON or CSV file; "folders" (class names such as
            animal/dog); "balanced" (from the class counts); saved predictions (.npz; from their confusion matrix);
            "auto" is "folders" where class names have a slash, else "balanced".

    Raises:
        ArgumentError: a value out of its bounds.
        ArgumentTypeError: a value of the wrong type.

    Example:
        >>> Settings(epochs=10).learning_rate is None
        True
    """

    model: str | ModelFactory = "auto"
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | OptimizerFactory = "sgd"
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    warmup: float = 0.05
    image_size: int | None = None
    resize: Resize = "crop"
    augment: Augmentation | Sequence[Augmentation] = "auto"
    pretrained: bool = False
    weights: str | os.PathLike[str] | None = None
    precision: Precision = "no"
    cache_gib: float = 4.0
    keep: Keep = "last"
    patience: int | None = None
    select_by: str = "balanced_accuracy"
    frozen: bool = False
    views: int = 0
    features: str | None = None
    tree: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "image_size", "patience"):
            if (value := getattr(self, name)) is not None:
                checked_count(name, value)
        checked_number("warmup", self.warmup, minimum=0, below=1)
        checked_number("cache_gib", self.cache_gib, minimum=0)
        checked_choice("precision", self.precision, get_args(Precision))
        checked_choice("resize", self.resize, get_args(Resize))
        checked_choice("keep", self.keep, get_args(Keep))
        checked_choice("select_by", self.select_by, tuple(METRICS))
        checked_model(self.model)
        if not isinstance(self.tree, str):
            raise ArgumentTypeError(f"`tree` must be a string; got {type(self.tree).__name__}")
        if not isinstance(self.pretrained, bool):
            raise ArgumentTypeError(f"`pretrained` must be True or False; got {self.pretrained!r:.60}")
        if self.weights is not None and not isinstance(self.weights, str | os.PathLike):
            raise ArgumentTypeError(f"`weights` must be the path of a file; got {type(self.weights).__name__}")
        if self.weights is not None and self.pretrained:
            raise ArgumentError("`weights` and `pretrained` exclude each other; give one of them")
        object.__setattr__(self, "augment", checked_augment(self.augment))
        self._check_optimizer()
        self._check_frozen()

    @property
    def num_epochs(self) -> int:
        """The number of epochs, the default where none is given."""
        return self.epochs if self.epochs is not None else FROZEN_EPOCHS if self.frozen else EPOCHS

    def _check_frozen(self) -> None:
        """Raise `ArgumentError` for settings that belong to frozen features alone, or that do nothing with them."""
        checked_count("views", self.views, minimum=0)
        if not isinstance(self.frozen, bool):
            raise ArgumentTypeError(f"`frozen` must be True or False; got {self.frozen!r:.60}")
        if not self.frozen:
            for name in ("views", "features"):
                if getattr(self, name):
                    raise ArgumentError(f"`{name}` needs `frozen` (--frozen): only then features are computed once")
            return
        if self.features is not None and (self.pretrained or self.views or self.weights is not None):
            name = "pretrained" if self.pretrained else "views" if self.views else "weights"
            raise ArgumentError(f"`{name}` has no effect on `features` of your own; leave one of them out")
        if self.optimizer != "sgd" or self.selects_epochs:
            name = "optimizer" if self.optimizer != "sgd" else "keep" if self.keep == "best" else "patience"
            raise ArgumentError(
                f"`{name}` has no effect with `frozen`, which trains heads with AdamW and keeps the last epoch; omit it"
            )

    def _check_optimizer(self) -> None:
        checked_optimizer(self.optimizer)
        if self.learning_rate is not None:
            checked_number("learning_rate", self.learning_rate, above=0)
        checked_number("momentum", self.momentum, above=0, below=1)
        if self.weight_decay is not None:
            checked_number("weight_decay", self.weight_decay, minimum=0)
            if callable(self.optimizer):
                raise ArgumentError(
                    "`weight_decay` has no effect on an optimiser of your own; give it to the function, such as "
                    "optimizer=functools.partial(torch.optim.Adam, weight_decay=0.01)"
                )

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, arguments: Iterable[str] = ()) -> Settings:
        """Settings from keyword arguments; an unknown one is an `ArgumentError` with the nearest name.

        ``arguments`` are those of the function that takes the settings: one of them may be meant, too.
        """
        if "lr" in options:
            if "learning_rate" in options:
                raise ArgumentError("`lr` and `learning_rate` are the same setting; give one of them")
            options = {"learning_rate" if key == "lr" else key: value for key, value in options.items()}
        names = [f.name for f in dataclasses.fields(cls)]
        for key in options:
            if key not in names:
                hint = did_you_mean(_OTHER_NAMES.get(key, key), [*names, *arguments])
                raise ArgumentError(f"`{key}` is an unknown training setting; {hint}")
        return cls(**options)

    @property
    def selects_epochs(self) -> bool:
        """Whether validation decides about the epochs of a run."""
        return self.keep == "best" or self.patience is not None

    def resolve(self, data: LabeledImages) -> ResolvedSettings:
        """Derive what is unset from the training split of ``data``."""
        train = data.subset("train")
        if len(train) < 2:
            raise ArgumentError(f"{data.name} has {len(train)} training images; training needs at least two")
        large = self.pretrained or (self.weights is not None and not _is_small_network(self.model))
        size = self.image_size or (PRETRAINED_SIZE if large else native_size(train))
        batch = min(self.batch_size or (FULL_BATCH if len(train) >= SMALL_DATASET else SMALL_BATCH), len(train))
        default = "resnet20" if size <= SMALL_IMAGE else "timm:resnet18"
        model = (
            default if self.model == "auto" else self.model if isinstance(self.model, str) else described(self.model)
        )
        rate, decay = self._learning_rate(batch), self.weight_decay
        unresolved = ("tree", "weights", "features")
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in unresolved}
        derived: dict[str, Any] = {"model": model, "image_size": size, "batch_size": batch, "learning_rate": rate}
        derived["epochs"] = self.num_epochs
        derived["own_rate"] = callable(self.optimizer) and self.learning_rate is None
        derived["weight_decay"] = _WEIGHT_DECAY.get(self.optimizer, 0.0) if decay is None else decay
        derived["select_by"] = self.select_by if self.selects_epochs or self.frozen else None
        steps = -(-len(train) // batch)
        return ResolvedSettings(**{**given, **derived, "augment": self._augment(data)}, steps_per_epoch=steps)

    def _learning_rate(self, batch: int) -> float:
        if callable(self.optimizer):
            from counterpoise.workflow.training.optimizers import learning_rate_of

            return learning_rate_of(self.optimizer, self.learning_rate)
        if self.learning_rate is not None:
            return self.learning_rate
        # AdamW normalises the gradient, and its noise shrinks with the square root of the batch, as in timm.
        rate = 0.1 * batch / FULL_BATCH if self.optimizer == "sgd" else 1e-3 * math.sqrt(batch / FULL_BATCH)
        return rate * (0.1 if self.pretrained or self.weights is not None else 1.0)

    def _augment(self, data: LabeledImages) -> tuple[Augmentation, ...]:
        augment = checked_augment(self.augment)
        if augment == "auto":
            return ("crop", "hflip") if "hflip" in data.symmetries else ("crop",)
        for name in augment:
            if isinstance(name, str) and name != "crop" and name not in data.symmetries:
                allowed = ", ".join(sorted(data.symmetries)) or "none"
                raise ArgumentError(
                    f"`augment`: {name!r} is not label-preserving for {data.name} (label-preserving transforms: "
                    f"{allowed}); leave it out, or pass `symmetries` when you load the dataset"
                )
        return augment


@dataclass(frozen=True)
class ResolvedSettings:
    """`Settings` with nothing unset, as run.json records them.

    ``own_rate``: the function that makes the optimiser chooses the learning rate. ``custom``: the function that makes
    the model, which ``model`` only names.
    """

    model: str
    epochs: int
    batch_size: int
    optimizer: str | OptimizerFactory
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    image_size: int
    resize: Resize
    augment: tuple[Augmentation, ...]
    pretrained: bool
    precision: str
    cache_gib: float
    steps_per_epoch: int
    own_rate: bool = False
    custom: CustomModel | None = None
    weights: WeightFile | None = None
    keep: Keep = "last"
    patience: int | None = None
    select_by: str | None = None
    """None if it has no influence: the last epoch of a training of all epochs is kept, and nothing else is chosen."""
    frozen: bool = False
    views: int = 0
    pairs: tuple[tuple[float, float], ...] = ()
    """With ``frozen``, the pairs of learning rate and weight decay that every strategy chooses from."""

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training run: the budget, equal for every strategy."""
        return self.epochs * self.steps_per_epoch

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up to the highest value, then a cosine to zero."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))

    def not_picklable(self) -> str | None:
        """A function of the caller that cannot be sent to another process, as text; None if all can."""
        functions: list[tuple[str, Any]] = [("augment", step) for step in self.augment if callable(step)]
        functions += [("optimizer", self.optimizer)] if callable(self.optimizer) else []
        functions += [] if self.custom is None else [("model", self.custom.factory)]
        return not_picklable(functions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, comparable with those of another run; functions as their names."""
        values = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("own_rate", "custom")
        }
        values["weights"] = None if self.weights is None else self.weights.to_dict()
        if self.custom is not None:
            values["model_digest"] = self.custom.digest
        values["augment"] = [step if isinstance(step, str) else described(step) for step in self.augment]
        only_frozen = ("frozen", "views", "pairs")
        only_networks = ("optimizer", "learning_rate", "momentum", "weight_decay", "keep", "patience")
        for name in only_networks if self.frozen else only_frozen:
            del values[name]
        if self.frozen:
            return {**values, "optimizer": "adamw", "pairs": [list(pair) for pair in self.pairs]}
        if self.optimizer != "sgd":
            values["momentum"] = None
        if callable(self.optimizer):
            values |= {"optimizer": described(self.optimizer), "weight_decay": None}
        return values


def _is_small_network(model: str | ModelFactory) -> bool:
    """Whether a model is one of the residual networks for small images, which keep the size of the images."""
    return isinstance(model, str) and model != "auto" and ":" not in model


def native_size(images: LabeledImages) -> int:
    """The median shorter side of a sample of images, if small; else the size for photos."""
    sample = np.linspace(0, len(images) - 1, num=min(len(images), 32)).astype(int)
    sides = []
    for row in sample.tolist():
        # Images that cannot be decoded are reported when all images are decoded.
        with contextlib.suppress(DatasetError):
            sides.append(min(images[row].shape[:2]))
    size = int(np.median(sides)) if sides else PHOTO_SIZE
    return size if size <= SMALL_IMAGE else PHOTO_SIZE
