"""Strategy: one way to treat class imbalance, as names and numbers that are checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from counterpoise.core.checks import checked_choice
from counterpoise.core.codec import Artifact
from counterpoise.core.errors import ArgumentError, CounterpoiseError
from counterpoise.core.hyperparameters import KINDS, Kind, check_options, hyperparameters
from counterpoise.core.names import did_you_mean

Head = Literal["linear", "cosine", "hierarchical"]
Scores = Literal["softmax", "sigmoid"]
HEADS: tuple[Head, ...] = get_args(Head)
SCORES: tuple[Scores, ...] = get_args(Scores)

_OPTIONS: dict[Kind, str] = {
    "loss": "loss_options",
    "weights": "weight_options",
    "sampler": "sampler_options",
    "posthoc": "posthoc_options",
    "augment": "augment_options",
    "mixing": "mixing_options",
    "reweighting": "reweighting_options",
    "retraining": "retraining_options",
}
_WORDS: dict[Kind, str] = {
    "weights": "weights {}",
    "sampler": "sampler {}",
    "reweighting": "reweighting {}",
    "augment": "augment {}",
    "mixing": "mixing {}",
    "retraining": "then a new {}",
    "posthoc": "then {}",
}


@dataclass(frozen=True)
class Strategy(Artifact):
    """One way to treat class imbalance, as data: names and numbers, no functions.

    The names and the options of each component are those of `counterpoise.core.hyperparameters`.

    Attributes:
        name: unique within a comparison; part of the names of run folders.
        summary: one clause for tables and listings.
        loss, loss_options: the loss, and its hyperparameters.
        weights, weight_options: the scheme of the class weights; None for none.
        sampler, sampler_options: the sampler; None for every image once per epoch.
        posthoc, posthoc_options: the correction of the logits after training; None for none.
        reweighting, reweighting_options: class weights that change during training; None for none.
        retraining, retraining_options: a second stage of training; None for none.
        augment, augment_options: augmentation by class; None for the augmentation that every strategy gets.
        mixing, mixing_options: how images are mixed; None for not at all.
        head: the last layer of the model.
        separate: whether a model is trained for each inner node of the class tree; needs the hierarchical head.
        scores: what the outputs of the model are normalised by.
        reuses: the strategy whose trained model this one takes. Such a strategy changes logits and trains nothing.
        reference: the paper.
        reason: filled in by `counterpoise.plan`.

    Raises:
        ArgumentError: an unknown component or hyperparameter, a value out of bounds, or components that exclude each
            other.
        ArgumentTypeError: a hyperparameter of the wrong type.

    Example:
        >>> print(Strategy("mine", "milder focal loss", loss="focal", loss_options={"gamma": 1.0}))
        mine: focal(gamma=1.0)
    """

    name: str
    summary: str = ""
    loss: str = "cross_entropy"
    loss_options: dict[str, float | str] = field(default_factory=dict)
    weights: str | None = None
    weight_options: dict[str, float | str] = field(default_factory=dict)
    sampler: str | None = None
    sampler_options: dict[str, float | str] = field(default_factory=dict)
    posthoc: str | None = None
    posthoc_options: dict[str, float] = field(default_factory=dict)
    reweighting: str | None = None
    reweighting_options: dict[str, float | str] = field(default_factory=dict)
    retraining: str | None = None
    retraining_options: dict[str, float] = field(default_factory=dict)
    augment: str | None = None
    augment_options: dict[str, float] = field(default_factory=dict)
    mixing: str | None = None
    mixing_options: dict[str, float] = field(default_factory=dict)
    head: Head = "linear"
    separate: bool = False
    scores: Scores = "softmax"
    reuses: str | None = None
    reference: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ArgumentError("`name` of a strategy must not be empty; tables and folders show it")
        try:
            checked_choice("head", self.head, HEADS)
            checked_choice("scores", self.scores, SCORES)
            for kind in KINDS:
                self._check_component(kind)
            self._check_combination()
        except CounterpoiseError as error:
            raise type(error)(f"strategy {self.name!r}: {error}") from None

    def component(self, kind: Kind) -> tuple[str | None, dict[str, Any]]:
        """The method and the options of a component."""
        return getattr(self, kind), getattr(self, _OPTIONS[kind])

    def with_options(self, options: Mapping[str, Any]) -> Strategy:
        """The strategy with other values of hyperparameters, named after them: ``focal:gamma=1``.

        A hyperparameter belongs to every component that the strategy already gives a value for it; otherwise to the
        first component that has it.

        Raises:
            ArgumentError: no component has the hyperparameter, or the value is out of bounds.

        Example:
            >>> focal = Strategy("focal", "", loss="focal", loss_options={"gamma": 2.0})
            >>> print(focal.with_options({"gamma": 1.0}))
            focal:gamma=1: focal(gamma=1.0)
        """
        changes: dict[str, dict[str, Any]] = {}
        for name, value in options.items():
            for kind in self._owners(name):
                field_name = _OPTIONS[kind]
                changes[field_name] = {**changes.get(field_name, getattr(self, field_name)), name: value}
        shown = ",".join(f"{name}={_short(value)}" for name, value in options.items())
        kept: dict[str, Any] = dict(changes)
        return replace(self, name=f"{self.name}:{shown}", **kept) if shown else self

    @property
    def folder_name(self) -> str:
        """The name as part of a file name, without the colon that Windows refuses."""
        if set(self.name) & set("/\\\0") or self.name.startswith("."):
            raise ArgumentError(f"strategy {self.name!r}: a name that starts with a dot or has a slash is no file name")
        return self.name.replace(":", "-")

    def __str__(self) -> str:
        parts = [_call(self.loss, self.loss_options)]
        for kind, words in _WORDS.items():
            method, options = self.component(kind)
            parts += [words.format(_call(method, options))] if method else []
        parts += [f"{self.head} head"] if self.head == "cosine" else []
        parts += ["one model per node"] if self.separate else []
        start = f"from {self.reuses}: " if self.reuses else ""
        return f"{self.name}: {start}{', '.join(parts)}"

    def _check_component(self, kind: Kind) -> None:
        method, options = self.component(kind)
        if method is not None:
            check_options(kind, method, options)
        elif options:
            raise ArgumentError(f"`{_OPTIONS[kind]}` {options} are given without `{kind}`; name the method, too")

    def _check_combination(self) -> None:
        self._check_loss()
        balanced = self.loss == "class_balanced"
        if balanced and self.weights:
            raise ArgumentError(
                f"loss 'class_balanced' brings its own class weights, so `weights` {self.weights!r} would be a second "
                "set; leave `weights` out, or use loss 'cross_entropy' or 'focal'"
            )
        if self.reweighting and (self.weights or balanced):
            raise ArgumentError(
                f"it has both fixed class weights and reweighting {self.reweighting!r}; keep one of the two"
            )
        if self.loss == "hierarchical" and (self.head != "hierarchical" or self.weights or self.reweighting):
            raise ArgumentError(
                "loss 'hierarchical' needs `head` 'hierarchical' and balances each node of the class tree by itself; "
                "leave `weights` and `reweighting` out and choose `balance`"
            )
        if self.retraining and (
            self.loss != "cross_entropy"
            or self.head != "linear"
            or any((self.weights, self.reweighting, self.mixing, self.augment))
        ):
            raise ArgumentError(
                f"retraining {self.retraining!r} changes the class prior between its stages and therefore works only "
                "with plain cross-entropy on a linear head; leave the other components out"
            )

        if self.separate and (
            self.head != "hierarchical"
            or self.loss == "hierarchical"
            or self.reweighting
            or self.posthoc in ("adjust_logits", "tau_normalize")
        ):
            raise ArgumentError(
                "`separate` trains one model per node of the class tree for a fixed number of steps; use `head` "
                "'hierarchical' and a loss of flat classes, such as 'cross_entropy', and leave out `reweighting`, "
                "`retraining`, and the posthoc methods 'adjust_logits' and 'tau_normalize'"
            )

    def _check_loss(self) -> None:
        """Raise for a head or a posthoc method that the loss rules out."""
        if self.loss == "ldam" and self.head != "cosine":
            raise ArgumentError(
                f"loss 'ldam' subtracts its margins from cosines and diverges with the logits of `head` {self.head!r}; "
                "use `head` 'cosine'"
            )
        adjusts = self.loss in ("logit_adjusted", "balanced_softmax") and self.loss_options.get("tau", 1.0) == 1.0
        if adjusts and self.posthoc == "adjust_logits":
            raise ArgumentError(
                f"loss {self.loss!r} already corrects for the whole class prior, so that posthoc 'adjust_logits' would "
                "be a second correction; keep one of the two"
            )

    def _owners(self, name: str) -> tuple[Kind, ...]:
        """The components that an override of a hyperparameter changes."""
        used = [kind for kind in KINDS if self.component(kind)[0] is not None]
        if self.reuses is not None:
            used = ["posthoc"]
        stated = tuple(kind for kind in used if name in self.component(kind)[1])
        tables = {kind: hyperparameters(kind, str(self.component(kind)[0])) for kind in used}
        owners = stated or tuple(kind for kind, table in tables.items() if name in table)[:1]
        if not owners:
            names = dict.fromkeys(key for table in tables.values() for key in table)
            hint = did_you_mean(name, names) if names else "it has none"
            raise ArgumentError(f"strategy {self.name!r} has no hyperparameter `{name}`; {hint}")
        return owners


def _call(name: str | None, options: Mapping[str, Any]) -> str:
    inside = ", ".join(f"{key}={value}" for key, value in options.items())
    return f"{name}({inside})" if inside else str(name)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
