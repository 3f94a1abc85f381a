"""The training of all heads of a comparison on frozen features, epoch by epoch, and what is known of each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.artifacts import LogitTransform, Predictions
from counterpoise.core.images import Split
from counterpoise.posthoc import apply_transforms
from counterpoise.weights import AdaptiveWeights, DeferredWeights
from counterpoise.workflow.evaluation import FittedMethod
from counterpoise.workflow.training.data import EpochBatches, SampleOrder
from counterpoise.workflow.training.frozen.arms import Arm
from counterpoise.workflow.training.frozen.setup import FrozenSetup
from counterpoise.workflow.training.frozen.stack import HeadGroup, HeadLoss, ViewChoice, initial_head
from counterpoise.workflow.training.posthoc import HistoryRow, LinearHead, apply_posthoc, validation_metrics
from counterpoise.workflow.training.recipe import ClassPrior, Recipe, build_recipe
from counterpoise.workflow.training.run_folder import linear_head
from counterpoise.workflow.training.trainer import class_logits

Step = Callable[[int], None]
"""Called after every epoch of a group with the number of optimiser steps of heads done."""


@final
@dataclass
class TrainedHead:
    """One arm of the stack: what `final_predictions` and the files of a run need of it."""

    setup: FrozenSetup
    arm: Arm
    recipe: Recipe
    group: HeadGroup
    index: int
    history: list[HistoryRow] = field(default_factory=list)
    class_weight_history: list[list[float]] = field(default_factory=list)
    error: str | None = None

    @property
    def prior(self) -> ClassPrior:
        """The class prior of the strategy."""
        return self.recipe.prior

    @property
    def transforms(self) -> tuple[LogitTransform, ...]:
        """The steps from the output of the head to logits of the classes."""
        steps = () if self.arm.strategy.scores != "sigmoid" else (LogitTransform("log_sigmoid"),)
        return (*steps, *class_logits(self.setup.counts, self.recipe.tree))

    @property
    def linear_head(self) -> LinearHead | None:
        """Weight and bias of the head, if it is linear."""
        return linear_head(self.model_state()) if self.arm.strategy.head == "linear" else None

    def model_state(self) -> dict[str, Tensor]:
        """The tensors of the head and of the standardisation before it."""
        own = {
            f"head.{name}": value[self.index].detach().cpu().clone() for name, value in self.group.parameters.items()
        }
        return {**own, "standardize.mean": self.setup.mean, "standardize.scale": self.setup.scale}

    def predictions(self, raw: Mapping[Split, NDArray[np.floating[Any]]]) -> dict[Split, Predictions]:
        """Outputs of the head for each split → logits of the classes, before any post-hoc method."""
        return {split: self.setup.predictions(split, apply_transforms(z, self.transforms)) for split, z in raw.items()}

    def final_predictions(
        self, raw: Mapping[Split, NDArray[np.floating[Any]]]
    ) -> tuple[dict[Split, Predictions], FittedMethod]:
        """Outputs of the head for each split → final logits, and what the post-hoc method has fitted on validation."""
        return apply_posthoc(self.arm.strategy, self.prior, self.predictions(raw), self.linear_head)

    @property
    def adaptive(self) -> AdaptiveWeights | None:
        """The class weights that adapt to validation, if the strategy has them."""
        rule = self.recipe.reweighting
        return rule if isinstance(rule, AdaptiveWeights) else None


@dataclass(frozen=True)
class _Place:
    """Heads of one group that have one loss: their range in the group, and the first of them in the stack."""

    group: HeadGroup
    heads: slice
    start: int


@final
class HeadStack:
    """Heads for all arms, trained together.

    Args:
        setup: the features and the settings, shared by all arms.
        arms: the heads to train.
        validate: add the metrics on validation to the history of every epoch.
        dtype: float32, or float64.
    """

    def __init__(
        self,
        setup: FrozenSetup,
        arms: Sequence[Arm],
        *,
        validate: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.setup, self.arms, self.validate, self.epoch = setup, tuple(arms), validate, 0
        self.train = setup.tensors("train", dtype)
        self._recipes: dict[tuple[Any, ...], Recipe] = {}
        order = sorted(range(len(arms)), key=lambda i: (repr(arms[i].batch_key), arms[i].loss_key, i))
        self.groups: list[HeadGroup] = []
        self.heads: list[TrainedHead] = []
        places: dict[tuple[Any, ...], list[_Place]] = {}
        for _, members in groupby(order, key=lambda i: arms[i].batch_key):
            self._add_group([arms[i] for i in members], dtype, places)
        device = self.train.device
        self.losses: list[tuple[HeadLoss, list[_Place]]] = []
        for same in places.values():
            head = self.heads[same[0].start]
            self.losses.append((HeadLoss(head.recipe.loss.to(device), _family(head.arm)), same))

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.setup.settings.epochs

    @property
    def largest_product(self) -> int:
        """Multiplications of the largest matrix product of a step."""
        return max(group.batches.batch_size * group.weight.numel() for group in self.groups)

    def run_epoch(self, progress: Step) -> None:
        """Train every head for one epoch; class weights that change do so between epochs."""
        settings = self.setup.settings
        for group in self.groups:
            self._begin_epoch(group)
        self._reweight()
        first = self.epoch * settings.steps_per_epoch
        totals = torch.zeros(len(self.heads), dtype=torch.float64)
        for offset, rows in enumerate(zip(*(group.batches for group in self.groups), strict=True)):
            totals += self._train_step(rows, first + offset)
            progress(len(self.heads))
        self._end_epoch((totals / settings.steps_per_epoch).numpy())
        self.epoch += 1
        if self.validate or any(head.adaptive is not None for head in self.heads):
            self._validate()

    def _train_step(self, rows: Sequence[list[int]], step: int) -> Tensor:
        """One optimiser step of every head on the next batch of its group; the losses in the order of ``heads``."""
        device = self.train.labels.device
        batches = {
            id(group): group.forward(self.train, torch.as_tensor(part, device=device), step)
            for group, part in zip(self.groups, rows, strict=True)
        }
        found: list[tuple[list[_Place], Tensor]] = []
        for loss, places in self.losses:
            # Mixing may leave some batches unmixed: their targets are class ids.
            for _, same in groupby(sorted(places, key=lambda place: batches[id(place.group)].target.dim()),
                                   key=lambda place: batches[id(place.group)].target.dim()):  # fmt: skip
                members = list(same)
                parts = [(batches[id(place.group)], place.heads) for place in members]
                logits = torch.stack([batch.logits[:, heads] for batch, heads in parts])
                found.append((members, loss(logits, torch.stack([batch.target for batch, _ in parts]))))
        torch.cat([losses.flatten() for _, losses in found]).sum().backward()  # type: ignore[no-untyped-call]
        for group in self.groups:
            group.update(step)
        values = torch.zeros(len(self.heads), dtype=torch.float64)
        for members, losses in found:
            for place, row in zip(members, losses.detach().double().cpu(), strict=True):
                values[place.start : place.start + len(row)] = row
        return values

    def outputs(self, split: Split) -> dict[int, NDArray[np.floating[Any]]]:
        """The outputs of every head, by its position in ``heads``, for the images of a split."""
        tensors = self.setup.tensors(split, self.train.dtype)
        found: dict[int, NDArray[np.floating[Any]]] = {}
        with torch.inference_mode():
            for group in self.groups:
                parts = [group.logits(part) for part in tensors.chunks()]
                logits = torch.cat(parts).cpu().numpy()
                found |= {i: logits[:, head.index] for i, head in enumerate(self.heads) if head.group is group}
        return found

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors and the metadata of a checkpoint."""
        tensors = {f"group{i}.{k}": v for i, group in enumerate(self.groups) for k, v in group.state_dict().items()}
        for i, head in enumerate(self.heads):
            state = {} if head.adaptive is None else head.adaptive.state_dict()
            tensors |= {f"adaptive{i}.{name}": torch.from_numpy(np.array(value)) for name, value in state.items()}
        record = [[head.history, head.class_weight_history, head.error] for head in self.heads]
        return tensors, {"epoch": str(self.epoch), "heads": json.dumps(record)}

    def load_state_dict(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Restore `state_dict`; raises ValueError if it is of other heads."""
        expected = self.state_dict()[0]
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in expected.items()}:
            raise ValueError("its tensors are of other heads")
        record = json.loads(metadata["heads"])
        self.epoch = int(metadata["epoch"])
        for i, group in enumerate(self.groups):
            prefix = f"group{i}."
            group.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for i, (head, (history, weights, error)) in enumerate(zip(self.heads, record, strict=True)):
            head.history, head.class_weight_history, head.error = history, weights, error
            self._restart_stage(head)
            if head.adaptive is not None:
                prefix = f"adaptive{i}."
                state = {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
                head.adaptive.load_state_dict(state)

    def _add_group(self, arms: list[Arm], dtype: torch.dtype, loss_places: dict[tuple[Any, ...], list[_Place]]) -> None:
        """Make the heads of arms that share their batches; ``arms`` are in the order of their losses."""
        first, settings = arms[0], self.setup.settings
        recipes = [self._recipe(arm) for arm in arms]
        cosine, tree = first.strategy.head == "cosine", recipes[0].tree
        outputs = self.setup.counts.num_classes if tree is None else tree.num_edges
        heads = [_initial(arm, self.setup.width, outputs, dtype) for arm in arms]
        device = self.train.device
        retraining, strength = recipes[0].retraining, recipes[0].transform.strength
        shape = settings if retraining is None else replace(settings, epochs=retraining.start_epoch)
        group = HeadGroup(
            weight=torch.stack([head["weight"] for head in heads]).to(device),
            bias=None if cosine else torch.stack([head["bias"] for head in heads]).to(device),
            rates=torch.tensor([arm.learning_rate for arm in arms], dtype=dtype, device=device),
            decays=torch.tensor([arm.weight_decay for arm in arms], dtype=dtype, device=device),
            batches=self._batches(recipes[0].order),
            schedule=replace(shape, learning_rate=1.0).learning_rate_at,
            views=ViewChoice(self.train.views, strength),
            mix=recipes[0].transform.mix,
            seed=first.seed,
        )
        self.groups.append(group)
        start = 0
        for key, same in groupby(arms, key=lambda arm: arm.loss_key):
            number = len(list(same))
            loss_places.setdefault((key, number), []).append(
                _Place(group, slice(start, start + number), len(self.heads) + start)
            )
            start += number
        for index, (arm, recipe) in enumerate(zip(arms, recipes, strict=True)):
            self.heads.append(TrainedHead(self.setup, arm, recipe, group, index))

    def _recipe(self, arm: Arm) -> Recipe:
        """The recipe of an arm; arms with the same loss and seed share it."""
        key, setup = (arm.loss_key, arm.seed), self.setup
        if key not in self._recipes:
            self._recipes[key] = build_recipe(
                arm.strategy, setup.train_labels, setup.counts, symmetries=frozenset(), seed=arm.seed,
                epochs=setup.settings.epochs, tree=setup.class_tree(arm.strategy),
            )  # fmt: skip
        return self._recipes[key]

    def _batches(self, order: SampleOrder) -> EpochBatches:
        settings = self.setup.settings
        return EpochBatches(order, steps=settings.steps_per_epoch, batch_size=settings.batch_size)

    def _begin_epoch(self, group: HeadGroup) -> None:
        """Start the second stage of decoupled training when it is due, and set the class weights of the epoch."""
        members = [head for head in self.heads if head.group is group]
        retraining = members[0].recipe.retraining
        if retraining is not None and self.epoch == retraining.start_epoch:
            with torch.no_grad():
                for head in members:
                    fresh = _initial(head.arm, self.setup.width, group.weight.shape[1], group.weight.dtype)
                    for name, parameter in group.parameters.items():
                        parameter[head.index] = fresh[name]
            self._restart_stage(members[0], moments=True)
        group.batches.set_epoch(self.epoch)

    def _reweight(self) -> None:
        """Set the class weights of the epoch that begins, where a strategy changes them."""
        for loss, places in self.losses:
            rule = self.heads[places[0].start].recipe.reweighting
            if rule is None:
                continue
            epochs = self.setup.settings.epochs
            weight = rule.weight_at(self.epoch, epochs=epochs) if isinstance(rule, DeferredWeights) else rule.weight
            cast("Any", loss.loss).reweight(weight)
            for place in places:
                for head in self.heads[place.start : place.start + place.heads.stop - place.heads.start]:
                    head.class_weight_history.append(weight.tolist())

    def _restart_stage(self, head: TrainedHead, *, moments: bool = False) -> None:
        """Give a group the order and the schedule of the second stage, if it is in it."""
        retraining, group, settings = head.recipe.retraining, head.group, self.setup.settings
        if retraining is None or self.epoch < retraining.start_epoch:
            return
        group.batches = self._batches(retraining.order)
        last = replace(settings, epochs=settings.epochs - retraining.start_epoch, warmup=0.0, learning_rate=1.0)
        group.schedule = last.learning_rate_at
        group.first_step = retraining.start_epoch * settings.steps_per_epoch
        if moments:
            group.restart(first_step=group.first_step)

    def _end_epoch(self, losses: NDArray[np.float64]) -> None:
        """Write the history of the epoch; a head whose loss or weights are not finite is stopped and marked."""
        step = (self.epoch + 1) * self.setup.settings.steps_per_epoch
        for group in self.groups:
            members = [(i, head) for i, head in enumerate(self.heads) if head.group is group]
            finite = np.isfinite(losses[[i for i, _ in members]])
            for tensor in group.parameters.values():
                finite &= torch.isfinite(tensor.detach()).flatten(1).all(1).cpu().numpy()
            rate = group.schedule(step - 1 - group.first_step)
            for i, head in members:
                if not finite[head.index] and head.error is None:
                    head.error = (
                        f"the loss or a weight of the head became infinite or NaN in epoch {self.epoch + 1}; lower "
                        f"`learning_rate`, now {head.arm.learning_rate:g}"
                    )
                loss = float(losses[i]) if math.isfinite(losses[i]) else None
                row = {"epoch": self.epoch + 1, "step": step, "loss": loss}
                head.history.append({**row, "learning_rate": head.arm.learning_rate * rate})
            if not finite.all():
                group.stop(~finite)

    def _validate(self) -> None:
        """Add the metrics on validation to the last row of every history, and adapt class weights to them."""
        if not len(self.setup.data.subset("val")):
            for head in self.heads:
                head.history[-1] |= validation_metrics(None)
            return
        for i, outputs in self.outputs("val").items():
            head = self.heads[i]
            if head.error is not None or not (self.validate or head.adaptive is not None):
                head.history[-1] |= validation_metrics(None)
                continue
            final = head.final_predictions({"val": outputs})[0]["val"]
            if head.adaptive is not None:
                head.adaptive.update(final.labels, final.logits.argmax(1))
            head.history[-1] |= validation_metrics(final)


def _initial(arm: Arm, width: int, outputs: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The untrained head of an arm; with sigmoids every class starts at probability 1/C, as in the ordinary loop."""
    head = initial_head(width, outputs, seed=arm.seed, cosine=arm.strategy.head == "cosine")
    if arm.strategy.scores == "sigmoid" and "bias" in head:
        torch.nn.init.constant_(head["bias"], -math.log(max(1, outputs - 1)))
    return {name: value.to(dtype) for name, value in head.items()}


def _family(arm: Arm) -> str:
    if arm.strategy.loss == "hierarchical":
        return "hierarchical"
    return "sigmoid" if arm.strategy.scores == "sigmoid" else "softmax"
