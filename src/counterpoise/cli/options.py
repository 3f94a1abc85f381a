"""Options that several commands share: each is declared once, with its help text."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from counterpoise.cli.output import print_note
from counterpoise.core.errors import ArgumentError
from counterpoise.core.files import read_json
from counterpoise.workflow.training.settings import Settings

if TYPE_CHECKING:
    from counterpoise.core.counts import ClassCounts
    from counterpoise.workflow.dataset import ImageDataset


def option(name: str, metavar: str, help: str, **more: Any) -> Any:
    """An option with a value, which the help calls ``metavar``.

    Typer would refuse a file that may not be read in a box of several lines; the commands name it in one.
    """
    return typer.Option(name, metavar=metavar, help=help, readable=False, **more)


def flag(name: str, help: str, **more: Any) -> Any:
    """An option without a value; the empty metavar keeps Typer from printing <bool>."""
    return typer.Option(name, metavar="", help=help, **more)


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder with one folder of images per class, alone or inside train/, val/ and test/; a CSV or Parquet "
        "file with the columns path, label and optionally split; or 'digits', the embedded dataset.",
    ),
]
Out = Annotated[Path, option("--out", "DIR", "Folder to write to; new or empty.")]
Resume = Annotated[bool, flag("--resume", "Continue from what DIR holds; from the beginning if it holds nothing.")]
Overwrite = Annotated[bool, flag("--overwrite", "Replace the files that an earlier run of Counterpoise left in DIR.")]

NoImages = Annotated[bool, flag("--no-images", "Write the report without small images of the data.")]

_data = functools.partial(option, rich_help_panel="Data")
_training = functools.partial(option, rich_help_panel="Training")
_NESTED = flag("--nested", "Make every folder within a class folder a class: animal/cat.", rich_help_panel="Data")
_KEEP_EMPTY = flag("--keep-empty-classes", "Keep a class without images, with count 0.", rich_help_panel="Data")
_EXCLUDE_DUPLICATES = flag(
    "--exclude-duplicates",
    "Exclude copies of images: all if their labels differ, else all but one (kept: test, then val, then train).",
    rich_help_panel="Data",
)
_ANNOUNCED = ("nested-folders", "images-at-two-levels", "empty-classes-excluded", "duplicates-excluded")
_PRETRAINED = flag("--pretrained", "Start from published weights (timm, torchvision).", rich_help_panel="Training")
_WEIGHTS = "Start from a file of weights for the model: .safetensors, or .pth with tensors only. The head is new."
_FROZEN = flag(
    "--frozen",
    "Compute the features of every image once with a pretrained network, and train only the last layer.",
    rich_help_panel="Training",
)
_SETTINGS = Settings()
Device = Annotated[str, _training("--device", "D", "cpu, cuda, cuda:N or mps; auto: a GPU if there is one.")]
_KEEP = "Epoch whose weights the model has: last, or best on the validation images by --select-by."
_PATIENCE = """Stop when this many epochs in a row were not better on the validation images by --select-by. Default:
train for all epochs."""
_SELECT_BY = """Metric on validation that --keep and --patience go by, and by which compare chooses the strategy:
balanced_accuracy, macro_f1, accuracy, geometric_mean or worst_recall (the smallest recall of a class)."""
Tracker = Annotated[
    str | None,
    _training("--tracker", "NAME", "tensorboard: write loss, learning rate and validation metrics per epoch."),
]
_TREE = """Class tree of the hierarchical strategies: a YAML, JSON or CSV file; folders (class names such as
animal/dog); balanced (from the class counts); predictions (.npz), which group the classes that are confused; auto is
folders where class names have a slash, otherwise balanced."""
Tree = Annotated[str, _training("--tree", "T", _TREE)]


@dataclass(frozen=True)
class OutputOptions:
    """Options of every command."""

    as_json: Annotated[bool, flag("--json", "Print the result as JSON, and nothing else, on stdout.")] = False
    debug: Annotated[bool, flag("--debug", "Print the traceback of an error.")] = False


@dataclass(frozen=True)
class DataOptions:
    """How a dataset is read and split: arguments of `counterpoise.load`."""

    val_fraction: Annotated[
        float, _data("--val-fraction", "F", "Fraction of each class to set aside if there is no validation split.")
    ] = 0.2
    split_seed: Annotated[int, _data("--split-seed", "S", "Seed of the splits that are set aside automatically.")] = 0
    nested: Annotated[bool, _NESTED] = False
    keep_empty_classes: Annotated[bool, _KEEP_EMPTY] = False
    exclude_duplicates: Annotated[bool, _EXCLUDE_DUPLICATES] = False
    path_column: Annotated[
        str | None, _data("--path-column", "NAME", "Column of the paths in a CSV or Parquet file. Default: path.")
    ] = None
    label_column: Annotated[
        str | None, _data("--label-column", "NAME", "Column of the labels in a CSV or Parquet file. Default: label.")
    ] = None

    def load(self, source: str, *, warn: bool = True, **arguments: Any) -> ImageDataset:
        """Read the dataset; ``warn`` on stderr about what was read otherwise than one may expect."""
        from counterpoise.workflow.dataset import load

        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)}
        dataset = load(source, seed=given.pop("split_seed"), **given, **arguments)
        for finding in dataset.findings:
            if warn and finding.kind in _ANNOUNCED:
                severity = "" if finding.severity == "info" else f"{finding.severity}: "
                print_note(f"{severity}{finding.reason}")
        return dataset

    def typed(self) -> str:
        """The options that differ from their defaults, each after a space, for a command to type."""
        words = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words.append(f"--{field.name.replace('_', '-')}")
                words += [] if value is True else [shlex.quote(str(value))]
        return "".join(f" {word}" for word in words)


@dataclass(frozen=True)
class TrainingDataOptions(DataOptions):
    """The same for commands that transform images."""

    symmetries: Annotated[
        str | None,
        _data(
            "--symmetries",
            "A,B",
            "Label-preserving transforms: hflip, vflip, rot90, or none. Default: hflip; digits: none.",
        ),
    ] = None

    def load(self, source: str, *, warn: bool = True, **arguments: Any) -> ImageDataset:
        """Read the dataset with the label-preserving transforms that the user named."""
        names = None if self.symmetries is None else names_in(self.symmetries)
        return super().load(source, warn=warn, symmetries=names, **arguments)


@dataclass(frozen=True)
class TrainingOptions:
    """How every model is trained: fields of `counterpoise.workflow.training.Settings`, which state the defaults."""

    model: Annotated[
        str, _training("--model", "M", "resnet20, resnet32, timm:NAME or torchvision:NAME; auto: by image size.")
    ] = "auto"
    pretrained: Annotated[bool, _PRETRAINED] = _SETTINGS.pretrained
    weights: Annotated[str | None, _training("--weights", "FILE", _WEIGHTS)] = None
    epochs: Annotated[
        int | None,
        _training("--epochs", "E", "Passes over the training images. Default: 30; with --frozen 15 or more.", min=1),
    ] = _SETTINGS.epochs
    frozen: Annotated[bool, _FROZEN] = _SETTINGS.frozen
    views: Annotated[
        int, _training("--views", "V", "With --frozen: augmented views of each training image.", min=0)
    ] = _SETTINGS.views
    features: Annotated[
        str | None, _training("--features", "FILE", "With --frozen: features computed elsewhere (.npz).")
    ] = _SETTINGS.features
    batch_size: Annotated[
        int | None, _training("--batch-size", "B", "Images per step. Default: by the number of images.", min=1)
    ] = _SETTINGS.batch_size
    optimizer: Annotated[str, _training("--optimizer", "NAME", "sgd (Nesterov momentum) or adamw.")] = "sgd"
    learning_rate: Annotated[
        float | None, _training("--lr", "LR", "Peak learning rate. Default: by the optimizer and the batch size.")
    ] = _SETTINGS.learning_rate
    image_size: Annotated[
        int | None,
        _training(
            "--image-size",
            "PX",
            "Side to resize images to. Default: their median shorter side if at most 64, else 128; pretrained: 224.",
            min=4,
        ),
    ] = _SETTINGS.image_size
    resize: Annotated[
        str,
        _training("--resize", "HOW", "crop (scale the shorter side, crop the centre), pad (black borders) or squash."),
    ] = _SETTINGS.resize
    augment: Annotated[
        str,
        _training("--augment", "A,B", "crop, hflip, vflip, rot90, or none; auto: crop, and hflip if it keeps labels."),
    ] = "auto"
    keep: Annotated[str, _training("--keep", "EPOCH", _KEEP)] = _SETTINGS.keep
    patience: Annotated[int | None, _training("--patience", "N", _PATIENCE, min=1)] = _SETTINGS.patience
    select_by: Annotated[str, _training("--select-by", "METRIC", _SELECT_BY)] = _SETTINGS.select_by
    precision: Annotated[str, _training("--precision", "P", "no (float32), bf16 or fp16.")] = _SETTINGS.precision
    tree: Tree = _SETTINGS.tree

    def settings(self, device: str) -> dict[str, Any]:
        """Keyword arguments of `train` and `compare`, checked with the device before any image is read."""
        from counterpoise.workflow.training import check_device

        chosen = dataclasses.asdict(self)
        check_device(Settings.from_options(chosen).precision, device)
        return chosen


def check_suffix(argument: str, file: Path, suffixes: Sequence[str]) -> None:
    """Raise `ArgumentError` for a file to write whose name does not end in one of the suffixes."""
    if file.suffix.lower() not in suffixes:
        raise ArgumentError(f"`{argument}` must end in one of {', '.join(suffixes)}; got {file.name!r}")


def spread_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """A function for Typer: options in place of the groups that ``command`` takes, such as `TrainingOptions`.

    Typer reads the options of a command from its signature. Every command gets `OutputOptions` as well.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        p.name: p.annotation for p in signature.parameters.values() if dataclasses.is_dataclass(p.annotation)
    }

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        return command(**values)

    always = inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, annotation=OutputOptions)
    options = [option for p in (*signature.parameters.values(), always) for option in _options_of(p)]
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return run


def _options_of(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The fields of a group of options, or the parameter itself."""
    if not dataclasses.is_dataclass(parameter.annotation):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    annotations = get_type_hints(parameter.annotation, include_extras=True)
    for field in dataclasses.fields(parameter.annotation):
        annotation = annotations[field.name]
        yield parameter.replace(
            name=field.name, kind=inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation
        )


def typed_command(context: typer.Context, *, without: Collection[str] = (), name: str | None = None) -> str:
    """The command line of a command, without the output options and the options of the arguments ``without``.

    ``name`` is that of another command to which the arguments are given; options that it does not have are left out.
    """
    words = ["counterpoise", name or str(context.info_name)]
    omitted = {*without, *(field.name for field in dataclasses.fields(OutputOptions))}
    group: Any = context.find_root().command
    accepted = {parameter.name for parameter in (context.command if name is None else group.commands[name]).params}
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in accepted - omitted or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[str(parameter.name)]
        words += [] if parameter.param_type_name == "argument" else [max(parameter.opts, key=len)]
        words += [] if value is True else [shlex.quote(str(value))]
    return " ".join(words)


def read_counts(text: str) -> ClassCounts:
    """Class counts as ``5000,500,50``, or from a JSON file with ``{name: count}`` or a list."""
    from counterpoise.core.counts import ClassCounts

    if text.endswith(".json"):
        value = read_json(text)
        if not isinstance(value, dict | list):
            raise ArgumentError(f"{text} must hold {{name: count}} or a list of counts")
        return ClassCounts(value)
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,300}", part) for part in parts):
        raise ArgumentError(f"counts must be whole numbers separated by commas, or a JSON file; got {text!r:.80}")
    return ClassCounts([int(part) for part in parts])


def names_in(text: str) -> list[str]:
    """The names in ``A,B``; none for ``none``."""
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]
