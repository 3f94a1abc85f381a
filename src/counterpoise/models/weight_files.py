"""Weights from a file of the caller: read without running code, and matched with the backbone of a model by name."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import listed, plural
from counterpoise.models.build import Classifier

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_NESTED = ("state_dict", "model", "model_state_dict", "module", "net", "network", "weights", "params")
_HEADS = ("head", "heads", "fc", "classifier", "mean", "std")
"""Beginnings of names that belong to a classifier, or to the normalization of a model of Counterpoise."""


@dataclass(frozen=True)
class WeightFile:
    """A file of weights and the SHA-256 of its content, as run.json records it."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> WeightFile:
        """The file as it is now.

        Raises:
            ArgumentError: the file cannot be read, or is of another kind.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise ArgumentError(f"`weights` must be a file ending in {', '.join(SUFFIXES)}; got {path.name!r}")
        try:
            return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            raise ArgumentError(f"`weights` {path} cannot be read: {error.strerror}; name another file") from error

    def to_dict(self) -> dict[str, str]:
        """Name and digest for run.json, which has no path of a machine."""
        return {"file": self.path.name, "sha256": self.sha256}

    def tensors(self) -> dict[str, Tensor]:
        """The named tensors of the file, from within the dictionaries that training programs put around them.

        Raises:
            ArgumentError: the file has changed, is damaged, has no tensors, or has objects that could run code.
        """
        if WeightFile.of(self.path) != self:
            raise ArgumentError(f"`weights` {self.path} has changed since the training began; restore the file")
        content = _read_safetensors(self.path) if self.path.suffix.lower() == ".safetensors" else _read_torch(self.path)
        found = _state_dict(content)
        if not found:
            raise ArgumentError(
                f"`weights` {self.path} has no named tensors; save model.state_dict() and name the file"
            )
        return found


@dataclass(frozen=True)
class Matched:
    """Which tensors of a model came from a file, which did not, and which of the file were not used."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def advice(self, file: WeightFile) -> str | None:
        """A warning if something did not fit; None if all did."""
        if not self.missing and not self.unexpected:
            return None
        parts = [
            f"{plural(len(names), 'tensor')} {what} ({listed(names, 5)})"
            for what, names in (
                ("of the model not in the file or of another shape", self.missing),
                ("of the file not used", self.unexpected),
            )
            if names
        ]
        number = len(self.loaded)
        return (
            f"`weights` {file.path.name}: {number} of {plural(number + len(self.missing), 'tensor')} "
            f"of the backbone were loaded; {', '.join(parts)}; check that `model` is the architecture of the file"
        )


def load_weights(model: Classifier, file: WeightFile) -> Matched:
    """Load the weights of a file into the backbone of a model; the head stays new.

    Names are matched after the prefix that most of them share, such as "module." or "backbone.". The mean and standard
    deviation are those of the file if it is a model of Counterpoise.

    Args:
        model: changed in place.
        file: a .safetensors file, or one of `torch.save` with tensors only.

    Returns:
        What was loaded, missing and unexpected.

    Raises:
        ArgumentError: the file cannot be used, or no tensor of it fits.
    """
    tensors, own = file.tensors(), dict(model.backbone.state_dict())
    theirs, ours = _prefixes(tensors, own)
    fitting = {
        name: tensors[key]
        for name, target in own.items()
        if (key := theirs + name.removeprefix(ours)) in tensors and tensors[key].shape == target.shape
    }
    if not any(tensor.ndim for tensor in fitting.values()):
        raise ArgumentError(
            f"`weights` {file.path} does not fit the model: no name and shape of its {plural(len(tensors), 'tensor')} "
            f"({listed(tensors, 3)}) is in the backbone ({listed(own, 3)}); choose the `model` that the file belongs to"
        )
    model.backbone.load_state_dict(fitting, strict=False)
    for name in ("mean", "std"):
        if name in tensors and tensors[name].shape == getattr(model, name).shape:
            getattr(model, name).copy_(tensors[name])
    used = {theirs + name.removeprefix(ours) for name in own}
    classifier = _classifier_prefixes(model)
    unexpected = (key for key in tensors if key not in used and not _begins(key.removeprefix(theirs), classifier))
    unexpected = (key for key in unexpected if not _begins(key, classifier))
    return Matched(tuple(fitting), tuple(name for name in own if name not in fitting), tuple(unexpected))


def _classifier_prefixes(model: Classifier) -> tuple[str, ...]:
    """Names of the classifier that the backbone had: what timm states, and the usual ones."""
    stated = getattr(model.backbone, "default_cfg", None) or {}
    names = stated.get("classifier") or () if isinstance(stated, Mapping) else ()
    return (*_HEADS, *((names,) if isinstance(names, str) else names))


def _begins(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _prefixes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, str]:
    """The prefixes of the names in the file and in the model under which most tensors have equal names and shapes."""
    found: Counter[tuple[str, str]] = Counter()
    for longer, shorter, swap in ((tensors, own, False), (own, tensors, True)):
        for key, tensor in longer.items():
            parts = key.split(".")
            for i in range(len(parts)):
                rest = ".".join(parts[i:])
                if rest in shorter and shorter[rest].shape == tensor.shape and (i or not swap):
                    prefix = "".join(f"{part}." for part in parts[:i])
                    found[("", prefix) if swap else (prefix, "")] += 1
    return max(found, key=lambda pair: (found[pair], -len(pair[0]) - len(pair[1])), default=("", ""))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ArgumentError(f"`weights` {path} is damaged ({error}); copy or download it again") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise ArgumentError(
            f"`weights` {path} is refused, because it has other objects than tensors{what}, and reading these could "
            "run code; save the tensors alone, where you trust the file: torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArgumentError(f"`weights` {path} is damaged ({reason}); copy or download it again") from error


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, from within the usual nestings."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        return tensors
    return next((found for name in _NESTED if (found := _state_dict(content.get(name)))), {})
