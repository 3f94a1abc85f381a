"""One new image: a function of its source, the operations drawn for it, and its seed, on whichever process."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from counterpoise.augment.operations import OPERATIONS, OperationName
from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import atomic_write
from counterpoise.workflow.dataset.decoding import read_image

__all__ = ["Item", "drawn_operations", "make"]

QUALITY = 95


@dataclass(frozen=True)
class Item:
    """A file to write: a copy of ``source`` where there are no operations, else an image made from it.

    ``path`` is the source's name within its dataset.
    """

    target: str
    source: str
    path: str
    operations: tuple[OperationName, ...] = ()
    strength: float = 0.0
    seed: int = 0


def drawn_operations(seed: int, allowed: tuple[OperationName, ...]) -> tuple[OperationName, ...]:
    """Each with probability ½, in their order; at least one that is drawn anew for every image."""
    rng = np.random.default_rng(seed)
    taken = [name for name in allowed if rng.random() < 0.5]
    continuous = [name for name in allowed if name not in ("hflip", "vflip", "rot90")]
    if not set(taken) & set(continuous):
        taken.append(continuous[int(rng.integers(len(continuous)))])
    return tuple(name for name in allowed if name in taken)


def make(item: Item) -> None:
    """Write one file, whole or not at all; what is there already stays.

    Raises:
        ArtifactError: the source has gone, or the disk refused; names the file.
    """
    target = Path(item.target)
    if target.exists() and target.stat().st_size:  # a file without content is no finished one of ours
        return
    content = content_of(item, "JPEG" if target.suffix.lower() in (".jpg", ".jpeg") else "PNG")
    with atomic_write(target) as file:
        file.write(content)


def content_of(item: Item, kind: str) -> bytes:
    """The file to write: the original's own bytes, or the changed pixels encoded again."""
    try:
        if not item.operations:
            return Path(item.source).read_bytes()
        pixels = changed(item)
    except OSError as error:
        raise ArtifactError(f"cannot read {item.source}: {error.strerror or error}") from error
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {}))
    return buffer.getvalue()


def changed(item: Item) -> np.ndarray:
    """The source's pixels after the operations, uint8 ``(H, W, 3)``."""
    pixels = torch.from_numpy(np.array(read_image(item.source))).permute(2, 0, 1)[None].float() / 255
    generator = torch.Generator().manual_seed(item.seed)
    for name in item.operations:
        pixels = OPERATIONS[name](pixels, torch.tensor([item.strength]), generator)
    return (pixels[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
