"""A look at an image file without decoding it: is it one, how large, and is its end there?

JPEG and PNG are read here by hand, since these few bytes cost a tenth of opening the file with Pillow;
the other formats are opened (not decoded) by Pillow.
"""

from __future__ import annotations

import mmap
import os
import stat
from typing import NamedTuple

from counterpoise.core.errors import DatasetError

__all__ = ["EXTENSIONS", "MAX_PIXELS", "UNSUPPORTED", "Header", "UnreadableImage", "extension_of", "read_header"]

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded: Pillow's own limit, a quarter of a GiB as RGB."""

EXTENSIONS: dict[str, str] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""The extensions that are read (in any case), and the format that each promises."""

UNSUPPORTED: frozenset[str] = frozenset(
    {".eps", ".ps", ".pdf", ".svg", ".heic", ".heif", ".avif", ".ico", ".jp2", ".jxl", ".psd"}
    | {".raw", ".dng", ".cr2", ".nef", ".arw"}
)
"""Pictures that we never open: listed by name, so that nobody's photos vanish silently."""

# Never block on a FIFO, never follow a link. Windows has neither flag, but needs O_BINARY.
_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
_HEAD = 4096
_MAX_SEGMENTS = 4096
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = frozenset({0xDA})
_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"IEND\xaeB`\x82"
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


class UnreadableImage(DatasetError):
    """One image file cannot be used; the message is the reason, without the path."""


class Header(NamedTuple):
    """What the first bytes say: format and mode in Pillow's words, size in pixels, length in bytes."""

    format: str
    mode: str
    width: int
    height: int
    length: int


def extension_of(path: str) -> str:
    """The extension in lower case with its dot: ``".jpg"``; ``""`` where there is none."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - called once a file, pathlib is ten times slower


def read_header(path: str) -> Header:
    """Read the header of an image file and look for its end.

    Raises:
        UnreadableImage: empty, truncated, not an image, no regular file, too many pixels, not to be opened.
    """
    try:
        handle = os.open(path, _FLAGS)
    except FileNotFoundError as error:
        raise UnreadableImage("missing on disk") from error
    except (OSError, ValueError) as error:  # ValueError: a name that this system cannot have
        raise UnreadableImage(f"cannot be opened: {getattr(error, 'strerror', error)}") from error
    try:
        header = _read(handle, path)
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)
    if header.width < 1 or header.height < 1:
        raise UnreadableImage(f"damaged {header.format}: {header.width}×{header.height} pixels")
    if header.width * header.height > MAX_PIXELS:
        raise UnreadableImage(f"refused: {header.width}×{header.height} pixels, the limit is {MAX_PIXELS:,}")
    return header


def _read(handle: int, path: str) -> Header:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("not a regular file")
    length = status.st_size
    head = os.read(handle, _HEAD)
    if not head:
        raise UnreadableImage("empty file (0 bytes)")

    file = _File(handle, head, length)
    if head.startswith(b"\xff\xd8\xff"):
        header = _jpeg(file)
        _expect_end(file, "JPEG", _END_OF_JPEG)
        return header
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        header = _png(file)
        _expect_end(file, "PNG", _END_OF_PNG)
        return header
    return _by_pillow(path, _other_format(head, length), length)


class _File(NamedTuple):
    """An open file whose first bytes are at hand."""

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
        raise UnreadableImage("truncated JPEG: it ends within its header")
    height, width = frame[5] << 8 | frame[6], frame[7] << 8 | frame[8]
    return Header("JPEG", _JPEG_MODES.get(frame[9], f"{frame[9]} channels"), width, height, file.length)


def _segment(file: _File, wanted: frozenset[int]) -> int:
    """The offset of the first segment of a wanted kind; segments lie end to end, each with its length."""
    head, offset = file.head, 2
    for _ in range(_MAX_SEGMENTS):
        start = head[offset : offset + 4] if offset + 4 <= len(head) else file.at(offset, 4)
        if len(start) < 4:
            raise UnreadableImage("truncated JPEG: it ends within its header")
        if start[0] != 0xFF:
            break
        if start[1] in wanted:
            return offset
        if start[1] == 0xFF:  # a fill byte
            offset += 1
            continue
        offset += 2 + max(2, start[2] << 8 | start[3])
    raise UnreadableImage("damaged JPEG: its header makes no sense")


def _png(file: _File) -> Header:
    head = file.head
    if len(head) < 33:
        raise UnreadableImage("truncated PNG: it ends within its header")
    if head[12:16] != b"IHDR":
        raise UnreadableImage("damaged PNG: its header makes no sense")
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    depth, colour = head[24], head[25]
    mode = "I;16" if (depth, colour) == (16, 0) else _PNG_MODES.get(colour, f"colour type {colour}")
    return Header("PNG", mode, width, height, file.length)


def _expect_end(file: _File, format: str, end: bytes) -> None:
    """The file ends with its end marker; or the marker is there and something was appended (phones do that)."""
    if file.head.endswith(end) if file.length == len(file.head) else file.at(file.length - len(end), len(end)) == end:
        return
    # An embedded thumbnail has an end marker of its own: look behind the start of the pixels.
    pixels = _segment(file, _SCAN) if format == "JPEG" else 8
    with mmap.mmap(file.handle, 0, access=mmap.ACCESS_READ) as content:
        if content.find(end, pixels) >= 0:
            return
    raise UnreadableImage(f"truncated {format}: its end is missing")


def _other_format(head: bytes, length: int) -> str:
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        if int.from_bytes(head[4:8], "little") + 8 > length:
            raise UnreadableImage("truncated WEBP: its end is missing")
        return "WEBP"
    if head[:2] == b"BM" and len(head) >= 26:
        return "BMP"
    raise UnreadableImage(f"not an image: it starts with {head[:16]!r}")


def _by_pillow(path: str, format: str, length: int) -> Header:
    from counterpoise.workflow.dataset.decoding import opened

    with opened(path, (format,)) as image:
        return Header(format, image.mode, image.width, image.height, length)
