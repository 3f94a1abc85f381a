"""Image files."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from counterpoise.workflow.dataset.decoding import read_header, read_image
from fuzzing.cases import Case
from fuzzing.inputs import place
from fuzzing.readings import check_png, png_chunks


def noise(rng: random.Random, mode: str) -> Image.Image:
    size = rng.choice(((1, 1), (3, 5), (17, 9), (40, 30)))
    pixels = np.frombuffer(rng.randbytes(size[0] * size[1] * 3), dtype=np.uint8).reshape(size[1], size[0], 3)
    return Image.fromarray(pixels).convert(mode)


def images_of(
    *formats: tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]],
) -> Callable[[random.Random, Path], Case]:
    """Inputs that are images in one of the formats, each with its modes and its options of saving."""

    def make(rng: random.Random, folder: Path) -> Case:
        format, modes, options = rng.choice(formats)
        image = noise(rng, rng.choice(modes))
        buffer = io.BytesIO()
        image.save(buffer, format, **rng.choice(options))
        data, is_exact = buffer.getvalue(), format != "JPEG"
        expected = np.asarray(image.convert("RGB")) if is_exact and image.mode not in ("I;16", "1") else None
        if rng.random() < 0.1 and image.height > 16:
            return Case(_written(folder, cut_short(rng, data, format)), must_fail=format in ("JPEG", "PNG"))
        path, is_valid = place(rng, folder / "image", data, links=False)
        return Case(path, is_valid, expected if is_valid else None)

    return make


def _written(folder: Path, data: bytes) -> Path:
    (folder / "image").write_bytes(data)
    return folder / "image"


def cut_short(rng: random.Random, data: bytes, format: str) -> bytes:
    """A well-formed image that has no data for its last rows."""
    if format == "JPEG":
        start = data.index(b"\xff\xda") + 2
        start += int.from_bytes(data[start : start + 2], "big")
        end = next(i for i in range(start, len(data)) if data[i] == 0xFF and data[i + 1] in (0xC4, 0xDA, 0xD9))
        return data[: start + int(0.6 * rng.random() * (end - start))].rstrip(b"\xff") + b"\xff\xd9"
    if format == "PNG":
        chunks = png_chunks(data)
        rows = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
        head = [(kind, content) for kind, content in chunks if kind not in (b"IDAT", b"IEND")]
        part = zlib.compress(rows[: rng.randrange(1, len(rows))])
        return data[:8] + b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in [*head, (b"IDAT", part), (b"IEND", b"")]
        )
    return data[: rng.randrange(len(data))]


def read_an_image(case: Case) -> tuple[Any, np.ndarray]:
    return read_header(str(case.given)), read_image(case.given)


def check_image(case: Case, found: tuple[Any, np.ndarray]) -> str:
    header, pixels = found
    if case.must_fail:
        return "an image without data for its last rows is accepted"
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return f"decoded to {pixels.dtype} {pixels.shape}"
    if sorted(pixels.shape[:2]) != sorted((header.width, header.height)):
        return f"{header} was decoded to {pixels.shape}"
    if case.expected is not None and not np.array_equal(case.expected, pixels):
        return "other pixels than were written"
    data = Path(case.given).read_bytes()
    if header.format == "PNG":
        return check_png(data, pixels)
    with Image.open(io.BytesIO(data), formats=(header.format,)) as image:
        again = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return "" if image.mode.startswith("I") or np.array_equal(again, pixels) else "other pixels than Pillow decodes"
