"""Export of a trained model as ONNX or as a program of `torch.export`, with its classes and its preprocessing."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterpoise.core.errors import ArgumentError, MissingExtraError, install_command
from counterpoise.core.files import atomic_write

if TYPE_CHECKING:
    from counterpoise.workflow.deployment.model import TrainedModel

METADATA = "counterpoise.json"
"""The name of the metadata in an ONNX model and in a .pt2 file."""


class _WithProbabilities(nn.Module):
    """The module of a model with two outputs: final logits and probabilities, each ``(N, C)``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.module(images)
        return logits, logits.softmax(1)


def export_model(model: TrainedModel, path: str | os.PathLike[str]) -> Path:
    """Write a model as ONNX (``.onnx``) or as a program of `torch.export` (``.pt2``).

    The input is ``images``: float32 ``(N, 3, S, S)``, RGB in [0, 1], of any number of images N, prepared as
    `TrainedModel.transform` does; the mean and the standard deviation are in the graph. The outputs are ``logits`` and
    ``probabilities``, ``(N, C)``, with every correction of the strategy. The metadata ``counterpoise.json`` has the
    classes, the preprocessing, the strategy and the class prior in the logits as JSON: in ``metadata_props`` of an ONNX
    model, in the extra files of a .pt2 file.

    Args:
        model: a model of `counterpoise.load_model`.
        path: a file that ends in .onnx or .pt2; an existing file is replaced.

    Returns:
        The path.

    Raises:
        ArgumentError: another ending, or an architecture that cannot be exported.
        MissingExtraError: the packages for ONNX are not installed.

    Example:
        >>> load_model("runs/focal-seed0").export("model.onnx")  # doctest: +SKIP
    """
    target = Path(path)
    if target.suffix not in _EXPORTERS:
        raise ArgumentError(f"`path` must end in {' or '.join(_EXPORTERS)}; got {str(path)!r}")
    size = model.transform.size
    module = _WithProbabilities(model.module).eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 3, size, size, device=model.device)
    try:
        content = _EXPORTERS[target.suffix](module, example, json.dumps(export_metadata(model)))
    except MissingExtraError:
        raise
    except Exception as error:  # the exporters raise many types of errors for what they do not support
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArgumentError(f"`path`: {model.run.model} cannot be exported as {target.suffix}: {reason}") from error
    with atomic_write(target) as file:
        file.write(content)
    return target


def export_metadata(model: TrainedModel) -> dict[str, Any]:
    """The metadata of an exported model: classes, preprocessing, strategy, class prior and version."""
    run, size = model.run, model.transform.size
    return {
        "classes": list(model.classes),
        "input": {
            "name": "images",
            "shape": ["batch", 3, size, size],
            "dtype": "float32",
            "color": "RGB",
            "range": [0.0, 1.0],
            "resize": _RESIZE[model.transform.resize],
        },
        "outputs": {"logits": ["batch", len(model.classes)], "probabilities": ["batch", len(model.classes)]},
        "strategy": run.strategy.name,
        "tuning": model.tuning,
        "architecture": run.model,
        "prior": list(run.prior),
        "train_counts": list(run.train_counts),
        "counterpoise": version("counterpoise"),
    }


def _onnx(module: nn.Module, example: Tensor, metadata: str) -> bytes:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the export as ONNX needs {' and '.join(missing)}: {install_command('onnx')}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own future
        program = torch.onnx.export(
            module, (example,), dynamo=True, input_names=["images"], output_names=["logits", "probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}}, external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None, "dynamo=True returns the program"
    program.model.metadata_props[METADATA] = metadata
    return bytes(program.model_proto.SerializeToString())


def _pt2(module: nn.Module, example: Tensor, metadata: str) -> bytes:
    shapes = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(module, (example,), dynamic_shapes=shapes)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA: metadata})
    return content.getvalue()


_RESIZE = {
    "crop": "scale the shorter side to the size (bilinear, antialiased), crop the centre",
    "pad": "scale the longer side to the size (bilinear, antialiased), centre it on black",
    "squash": "scale both sides to the size (bilinear, antialiased)",
}
_EXPORTERS = {".onnx": _onnx, ".pt2": _pt2}
