"""Image files: check the header and the end of a file without decoding it, and decode it to RGB.

The headers of JPEG and PNG are read here, which takes a tenth of the time of opening the file with Pillow; the other
formats are opened, but not decoded, by Pillow.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import re
import stat
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import DatasetError
from counterpoise.core.files import READ_FLAGS

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded: Pillow's own limit, a quarter of a GiB as RGB."""

_LEAST_ROW = 64
_MAX_PIXELS_PER_BYTE = 1 << 15
_ALWAYS_DECODED = 1 << 22
_MAX_DEFLATE = 1032

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
FORMATS |= {".tif": "TIFF", ".tiff": "TIFF"}
"""The extensions that are read, in lower case, and the format that each stands for."""

UNSUPPORTED: tuple[str, ...] = (".eps", ".ps", ".pdf", ".svg", ".heic", ".heif", ".avif", ".ico", ".jp2", ".jxl")
UNSUPPORTED += (".psd", ".raw", ".dng", ".cr2", ".nef", ".arw")
"""Extensions of image formats that are never opened; such files are listed as quarantined."""

UNSUPPORTED_REASON = "The format {extension} is not supported, and the file was not opened. Convert it to PNG or JPEG."

_HEAD = 1 << 14
_MAX_SEGMENTS = 4096
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_SCAN = frozenset({0xDA})
_START_OF_SCAN = b"\xff\xda"
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NOISE = bytes(i * 37 % 251 for i in range(1, 100))
_MORE_DATA = _NOISE + b"".join(bytes((0xFF, restart)) + _NOISE for restart in range(0xD0, 0xD8))
_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"IEND\xaeB`\x82"
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


class UnreadableImage(DatasetError):
    """An image file cannot be used; the message says why and what to do, without the path."""


def _unreadable(problem: str, advice: str = "Copy it again, or remove it") -> UnreadableImage:
    return UnreadableImage(f"The file {problem}. {advice}.")


class Header(NamedTuple):
    """Format and colour mode by Pillow's names, and size in pixels."""

    format: str
    mode: str
    width: int
    height: int


def extension_of(path: str) -> str:
    """The extension in lower case with its dot, such as ``".jpg"``; ``""`` if there is none."""
    stem, _, extension = path.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if stem.strip(".") else ""


def read_header(path: str) -> Header:
    """Read the header of an image file and look for its end.

    Raises:
        UnreadableImage: the file cannot be opened, is empty, truncated, not an image, not a regular file, or too large.
    """
    return examine(path)[0]


def examine(path: str) -> tuple[Header, os.stat_result, bytes]:
    """The header as `read_header` returns it, the status of the file, and its first 16 KiB: all of a small file.

    Raises:
        UnreadableImage: as `read_header`.
    """
    try:
        handle = os.open(path, READ_FLAGS)
    except FileNotFoundError as error:
        raise _unreadable("does not exist", "Restore it, or delete the row that names it") from error
    except (OSError, ValueError) as error:  # ValueError: a name that this system cannot have
        reason = getattr(error, "strerror", error)
        raise _unreadable(f"cannot be opened: {reason}", "Check its name and its permissions") from error
    try:
        return _read(handle, path)
    except OSError as error:
        raise _unreadable(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def _read(handle: int, path: str) -> tuple[Header, os.stat_result, bytes]:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable("is not a regular file", "Move it out of the dataset")
    file = _File(handle, os.read(handle, _HEAD), status.st_size)
    if not file.head:
        raise _unreadable("is empty (0 bytes)")
    if file.head.startswith(b"\xff\xd8\xff"):
        header, end = _jpeg(file), _END_OF_JPEG
    elif file.head.startswith(b"\x89PNG\r\n\x1a\n"):
        header, end = _png(file.head), _END_OF_PNG
    else:
        format, end = _other_format(file.head, file.length), b""
        with _opened(path, (format,)) as image:
            header = Header(format, image.mode, image.width, image.height)
    if end:
        _expect_end(file, header.format, end)
    _expect_content(file, header)
    return header, status, file.head


class _File(NamedTuple):
    """An open file, its first bytes and its length."""

    handle: int
    head: bytes
    length: int

    def at(self, offset: int, size: int) -> bytes:
        if offset + size <= len(self.head):
            return self.head[offset : offset + size]
        os.lseek(self.handle, offset, os.SEEK_SET)
        return os.read(self.handle, size)


def _jpeg(file: _File) -> Header:
    frame = file.at(_segment(file, _FRAMES), 10)
    if len(frame) < 10:
        raise _unreadable("is a truncated JPEG: it ends within its header")
    height, width = frame[5] << 8 | frame[6], frame[7] << 8 | frame[8]
    return Header("JPEG", _JPEG_MODES.get(frame[9], f"{frame[9]} channels"), width, height)


def _segment(file: _File, wanted: frozenset[int]) -> int:
    """The offset of the first segment of a wanted kind; segments follow each other, each with its length."""
    head, offset = file.head, 2
    for _ in range(_MAX_SEGMENTS):
        start = head[offset : offset + 4] if offset + 4 <= len(head) else file.at(offset, 4)
        if len(start) < 4:
            raise _unreadable("is a truncated JPEG: it ends within its header")
        if start[0] != 0xFF:
            break
        if start[1] in wanted:
            return offset
        if start[1] == 0xFF:  # a fill byte
            offset += 1
            continue
        offset += 2 + max(2, start[2] << 8 | start[3])
    raise _unreadable("is a damaged JPEG: its header is not valid")


def _png(head: bytes) -> Header:
    if len(head) < 33:
        raise _unreadable("is a truncated PNG: it ends within its header")
    if head[12:16] != b"IHDR":
        raise _unreadable("is a damaged PNG: its header is not valid")
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    depth, colour = head[24], head[25]
    mode = "I;16" if (depth, colour) == (16, 0) else _PNG_MODES.get(colour, f"colour type {colour}")
    return Header("PNG", mode, width, height)


def _expect_end(file: _File, format: str, end: bytes) -> None:
    """Raise unless the file contains its end marker; phones append data after it."""
    if file.head.endswith(end) if file.length == len(file.head) else file.at(file.length - len(end), len(end)) == end:
        return
    # An embedded thumbnail has its own end marker: search after the start of the pixels.
    pixels = _segment(file, _SCAN) if format == "JPEG" else 8
    with mmap.mmap(file.handle, 0, access=mmap.ACCESS_READ) as content:
        if content.find(end, pixels) >= 0:
            return
    raise _unreadable(f"is a truncated {format}: its end is missing")


def _expect_content(file: _File, header: Header) -> None:
    """Raise if the image has no pixels, too many of them, or more than a file of this length can hold."""
    format, _, width, height = header
    if width < 1 or height < 1:
        raise _unreadable(f"is a damaged {format} of {width}×{height} pixels")
    _expect_size(width, height)
    held = max(_ALWAYS_DECODED, _MAX_PIXELS_PER_BYTE * file.length)
    if format == "PNG":  # Pillow would decode missing rows as black
        bits = file.head[24] * _PNG_CHANNELS.get(file.head[25], 1)
        held = 8 * _MAX_DEFLATE * file.length // max(1, bits)
    if width * height > held:
        raise _unreadable(f"is a truncated {format}: {file.length:,} bytes cannot hold {width}×{height} pixels")


def _expect_size(width: int, height: int) -> None:
    """Raise if the image is too large; a row of a few pixels takes as long as one of 64, and counts as such."""
    if height * max(width, _LEAST_ROW) > MAX_PIXELS:
        limit = f"{MAX_PIXELS:,}" if width >= _LEAST_ROW else f"{MAX_PIXELS // _LEAST_ROW:,} rows"
        problem = f"is refused: it has {width}×{height} pixels, and the limit is {limit}"
        raise _unreadable(problem, "Scale it down, or remove it")


def _other_format(head: bytes, length: int) -> str:
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        if int.from_bytes(head[4:8], "little") + 8 > length:
            raise _unreadable("is a truncated WEBP: its end is missing")
        return "WEBP"
    if head[:2] == b"BM" and len(head) >= 26:
        return "BMP"
    raise _unreadable(f"is not an image: it starts with {head[:16]!r}", "Replace it, or remove it")


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode an image file to RGB, uint8 ``(H, W, 3)``, rotated as its EXIF orientation requires.

    Of an animation, only the first frame is read. See `to_rgb` for the conversion of other colour modes.

    Raises:
        UnreadableImage: the file cannot be decoded, or has no data for some of its rows.
    """
    with _opened(path, tuple(dict.fromkeys(FORMATS.values()))) as image:
        _expect_size(image.width, image.height)
        image.load()
        _expect_last_pixel(image, Path(path))
        return decoded(image)


def read_reduced(path: str | os.PathLike[str], size: int) -> Image:
    """Decode an image file to RGB, upright, a JPEG at a fraction of its size that is at least twice ``size``.

    Raises:
        UnreadableImage: the file cannot be decoded; rows without data are not looked for.
    """
    with _opened(path, tuple(dict.fromkeys(FORMATS.values()))) as image:
        _expect_size(image.width, image.height)
        image.draft(None, (2 * size, 2 * size))
        image.load()
        return to_rgb(_upright(image))


def decoded(image: Image) -> NDArray[np.uint8]:
    """The pixels of an image of Pillow as RGB, uint8 ``(H, W, 3)``, rotated as its EXIF orientation requires.

    Raises:
        UnreadableImage: the pixels cannot be converted.
        OSError: the image is truncated.
    """
    return np.array(to_rgb(_upright(image)), dtype=np.uint8)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], formats: tuple[str, ...]) -> Iterator[Image]:
    """Open an image with Pillow, and turn every error in the block into an `UnreadableImage`.

    Only the formats given are tried: Pillow would run Ghostscript on an EPS file named x.jpg.
    """
    from PIL import Image, UnidentifiedImageError

    # Pillow warns of damaged metadata, which does not affect the pixels. With threads the filter may outlive the block;
    # it names Pillow only, so no other warnings are lost.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            with Image.open(path, formats=formats) as image:
                yield image
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:  # its message has the absolute path
            raise _unreadable(f"cannot be decoded: it is no {'/'.join(formats)}", "Replace it, or remove it") from error
        except Exception as error:  # damaged bytes make decoders raise anything: struct.error, SyntaxError …
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise _unreadable(f"cannot be decoded: {reason.rstrip('.')}") from error


def _expect_last_pixel(image: Image, path: Path) -> None:
    """Raise if a PNG or JPEG is well formed but has no data for its last pixels, for which decoders make up values.

    Pillow leaves them zero in a PNG, and libjpeg makes them grey (luma 128) in a JPEG, or smooths them if there is but
    one scan of a progressive one. Only an image whose last pixel has this value is examined further.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    values = last if isinstance(last, tuple) else (last or 0,)
    is_short = False
    if image.format == "PNG" and (image.info.get("interlace") or not any(values)):
        is_short = _is_short_png(path.read_bytes())
    elif image.format in ("JPEG", "MPO"):
        red, green, blue = values[:3] if len(values) > 2 else values[:1] * 3
        if abs(0.299 * red + 0.587 * green + 0.114 * blue - 128) < 2 or "progressive" in image.info:
            is_short = _is_short_jpeg(path.read_bytes(), image)
    if is_short:
        raise _unreadable(f"is a truncated {image.format}: it has no data for its last rows")


def _is_short_png(content: bytes) -> bool:
    """Whether the compressed data end before the last row."""
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    bits, missing = content[24] * _PNG_CHANNELS[content[25]], 0
    for x, y, step_x, step_y in _ADAM7 if content[28] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        missing += max(0, rows) * (1 + -(-columns * bits // 8)) if columns > 0 else 0
    stream, offset = zlib.decompressobj(), 8
    while missing > 0 and offset < len(content) and not stream.eof:
        size = int.from_bytes(content[offset : offset + 4], "big")
        part = content[offset + 8 : offset + 8 + size] if content[offset + 4 : offset + 8] == b"IDAT" else b""
        while part and missing > 0:
            missing -= len(stream.decompress(part, _HEAD * 16))
            part = stream.unconsumed_tail
        offset += 12 + size
    return missing > 0


def _is_short_jpeg(content: bytes, image: Image) -> bool:
    """Whether the first scan ends early: only then does the decoder use data that are appended to the scan."""
    from PIL import Image as pillow

    file = _File(-1, content, len(content))
    if content[_segment(file, _FRAMES) + 1] not in _HUFFMAN_FRAMES:
        return False
    start = _segment(file, _SCAN)
    end = _END_OF_SCAN.search(content, start + 2 + int.from_bytes(content[start + 2 : start + 4], "big"))
    if end is None:
        return True
    if "progressive" in image.info and content.find(_START_OF_SCAN, end.start()) >= 0:
        return False
    longer = content[: end.start()] + _MORE_DATA + content[end.start() :]
    with pillow.open(io.BytesIO(longer), formats=("JPEG",)) as again:
        return not np.array_equal(np.asarray(again), np.asarray(image))


def to_rgb(image: Image) -> Image:
    """Convert an image of any colour mode to RGB.

    Grey (``1``, ``L``) is repeated in three channels; palettes are looked up; transparency is dropped, as in
    torchvision; CMYK, YCbCr, LAB and HSV are converted; 16-bit grey (``I;16``, and ``I`` clipped to 16 bits) is divided
    by 257, where Pillow would clip every value above 255 to white. Floating point (``F``) is refused, because its range
    is unknown.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise _unreadable("has floating-point pixels, whose range is unknown", "Save it with 8 or 16 bits per channel")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_16_bits(image: Image) -> Image:
    from PIL import Image as pillow

    grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
    return pillow.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")


def _upright(image: Image) -> Image:
    """Rotate the image as its EXIF orientation requires; damaged EXIF data are ignored."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data can raise anything; the pixels do not depend on it
        return image
