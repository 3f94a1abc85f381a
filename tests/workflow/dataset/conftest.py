"""Small folders of images, made anew for each test."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Bytes = Callable[..., bytes]
Make = Callable[..., Path]


@pytest.fixture
def encoded() -> Bytes:
    """``encoded("JPEG", seed=1)``: an image file as bytes; noise, so that no two seeds agree."""

    def encode(format: str = "JPEG", *, seed: int = 0, size: tuple[int, int] = (8, 6), **options: object) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def make(tmp_path: Path, encoded: Bytes) -> Make:
    """``make({"cat": 3, "dog": 2})``: a folder with class folders of JPEGs, each image another."""

    def build(counts: dict[str, int], *, root: Path | None = None) -> Path:
        root = tmp_path / "photos" if root is None else root
        for c, (folder, n) in enumerate(sorted(counts.items())):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                (root / folder / f"{i:03d}.jpg").write_bytes(encoded("JPEG", seed=1000 * c + i))
        return root

    return build
