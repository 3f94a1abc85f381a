"""read_header: what is an image and what is not, without decoding it."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoise.workflow.dataset import decoding
from counterpoise.workflow.dataset.decoding import MAX_PIXELS, UnreadableImage, read_header


@pytest.mark.parametrize(
    ("format", "extension"),
    [("JPEG", "jpg"), ("PNG", "png"), ("BMP", "bmp"), ("GIF", "gif"), ("WEBP", "webp"), ("TIFF", "tif")],
)
def test_format_and_size_are_those_that_pillow_finds(tmp_path, encoded, format, extension):
    file = tmp_path / f"x.{extension}"
    file.write_bytes(encoded(format, size=(31, 17)))
    header = read_header(str(file))
    with Image.open(file) as image:
        assert (header.format, header.width, header.height) == (image.format, *image.size)


@pytest.mark.fault("D9")
@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "JPEG"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG")],
)
def test_colour_mode_is_known_without_decoding(tmp_path, mode, format):
    file = tmp_path / "x"
    Image.new(mode, (5, 4)).save(file, format)
    assert read_header(str(file)).mode == mode


def test_progressive_jpeg_and_one_with_large_metadata_are_sound(tmp_path, encoded):
    file = tmp_path / "x.jpg"
    file.write_bytes(encoded("JPEG", size=(300, 200), progressive=True, exif=b"Exif\0\0" + b"\1" * 60_000))
    assert read_header(str(file))[2:4] == (300, 200)


def test_jpeg_whose_huffman_tables_come_before_its_frame(tmp_path, encoded):
    whole, moved, rest, offset = encoded("JPEG", size=(31, 17)), b"", b"", 2
    while whole[offset + 1] != 0xDA:
        end = offset + 2 + int.from_bytes(whole[offset + 2 : offset + 4], "big")
        moved, rest = (
            (moved + whole[offset:end], rest) if whole[offset + 1] == 0xC4 else (moved, rest + whole[offset:end])
        )
        offset = end
    (tmp_path / "x.jpg").write_bytes(whole[:2] + moved + rest + whole[offset:])
    assert moved
    assert read_header(str(tmp_path / "x.jpg"))[:4] == ("JPEG", "RGB", 31, 17)


@pytest.mark.parametrize(("format", "tail"), [("JPEG", b"\0" * 40), ("JPEG", b"ftypmp42" * 999), ("PNG", b"\n")])
def test_bytes_appended_behind_the_end_are_no_fault(tmp_path, encoded, format, tail):
    file = tmp_path / "x.jpg"
    file.write_bytes(encoded(format) + tail)
    assert read_header(str(file)).format == format


@pytest.mark.fault("D1")
def test_empty_file(tmp_path):
    (tmp_path / "x.jpg").touch()
    with pytest.raises(UnreadableImage, match="is empty"):
        read_header(str(tmp_path / "x.jpg"))


@pytest.mark.fault("D2")
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("keep", [1, 3, 20, 0.3, 0.5, 0.9, -2, -1])
def test_truncated_file(tmp_path, encoded, format, keep):
    whole = encoded(format, size=(40, 30))
    part = whole[: int(len(whole) * keep)] if isinstance(keep, float) else whole[:keep]
    (tmp_path / "x.jpg").write_bytes(part)
    with pytest.raises(UnreadableImage, match=r"truncated|not an image"):
        read_header(str(tmp_path / "x.jpg"))


@pytest.mark.fault("D2")
def test_truncated_jpeg_whose_thumbnail_has_an_end_of_its_own(tmp_path, encoded):
    thumbnail = b"Exif\0\0" + encoded("JPEG", size=(4, 4))
    whole = encoded("JPEG", size=(64, 64), exif=thumbnail)
    assert whole.count(b"\xff\xd9") == 2
    (tmp_path / "x.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UnreadableImage, match="truncated JPEG"):
        read_header(str(tmp_path / "x.jpg"))


@pytest.mark.fault("D2")
def test_truncated_webp(tmp_path, encoded):
    (tmp_path / "x.webp").write_bytes(encoded("WEBP", size=(40, 30))[:-10])
    with pytest.raises(UnreadableImage, match="truncated WEBP"):
        read_header(str(tmp_path / "x.webp"))


@pytest.mark.fault("D3")
def test_html_says_with_which_bytes_it_starts(tmp_path):
    (tmp_path / "x.jpg").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(UnreadableImage, match="is not an image: it starts with b'<!DOCTYPE html><'"):
        read_header(str(tmp_path / "x.jpg"))


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = zlib.compress(b"\0" * (1 + 3 * min(width, 100)))
    parts = [chunk(b"IHDR", ihdr), *(chunk(*c) for c in chunks), chunk(b"IDAT", row), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.fault("D5")
@pytest.mark.parametrize("size", [(30_000, 30_000), (12_000, 12_000), (MAX_PIXELS + 1, 1), (1, 89_000_000)])
def test_bomb_is_refused_by_its_header(tmp_path, size):
    (tmp_path / "x.png").write_bytes(_png(*size))
    with pytest.raises(UnreadableImage, match=f"refused: it has {size[0]}×{size[1]} pixels"):
        read_header(str(tmp_path / "x.png"))


@pytest.mark.fault("D5")
@pytest.mark.parametrize("format", ["GIF", "TIFF", "BMP"])
def test_bomb_is_refused_by_its_header_in_every_format(tmp_path, monkeypatch, encoded, format):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    (tmp_path / "x").write_bytes(encoded(format, size=(11, 10)))
    with pytest.raises(UnreadableImage, match="refused: it has 11×10 pixels"):
        read_header(str(tmp_path / "x"))


@pytest.mark.fault("D5")
def test_the_limit_itself_is_allowed(tmp_path):
    width, height = 16_385, 5_461
    assert width * height == MAX_PIXELS
    (tmp_path / "x.png").write_bytes(_png(width, height) + b"\0" * 300_000)
    assert read_header(str(tmp_path / "x.png")).width == width


@pytest.mark.fault("D5")
@pytest.mark.fault("D2")
@pytest.mark.parametrize("size", [(5000, 5000), (300, 300), (1_000_000, 1), (1, 1_000_000)])
def test_a_png_too_short_for_its_pixels_is_truncated(tmp_path, size):
    (tmp_path / "x.png").write_bytes(_png(*size))
    with pytest.raises(UnreadableImage, match=f"is a truncated PNG: .* bytes cannot hold {size[0]}×{size[1]} pixels"):
        read_header(str(tmp_path / "x.png"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (64, 64), (2500, 2500)])
def test_a_png_of_one_colour_is_complete_in_every_mode(tmp_path, mode, size):
    Image.new(mode, size).save(tmp_path / "x.png", compress_level=9)
    assert read_header(str(tmp_path / "x.png"))[2:] == size


@pytest.mark.fault("D5")
def test_other_formats_hold_a_bounded_number_of_pixels_per_byte(tmp_path):
    for format, options in (("WEBP", {"lossless": True}), ("TIFF", {"compression": "group4"}), ("GIF", {})):
        Image.new("1" if format == "TIFF" else "L", (4000, 4000)).save(tmp_path / "x", format, **options)
        assert read_header(str(tmp_path / "x"))[2:] == (4000, 4000)
    start = (tmp_path / "x").read_bytes()[:6] + struct.pack("<HH", 9000, 9000)
    (tmp_path / "x").write_bytes(start + b"\0\0\0,\0\0\0\0" + struct.pack("<HH", 9000, 9000) + b"\0\2\0;")
    with pytest.raises(UnreadableImage, match=r"is a truncated GIF: \d\d bytes cannot hold 9000×9000 pixels"):
        read_header(str(tmp_path / "x"))


@pytest.mark.fault("D6")
def test_text_chunks_frames_and_directories_cost_nothing(tmp_path):
    text = zlib.compress(b"A" * 200_000_000, 9)
    (tmp_path / "text.png").write_bytes(_png(8, 8, (b"zTXt", b"Comment\0\0" + text)))
    frames = [Image.fromarray(np.full((2, 2), i % 256, dtype=np.uint8)) for i in range(2000)]
    frames[0].save(tmp_path / "many.gif", save_all=True, append_images=frames[1:])
    loop = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    (tmp_path / "loop.tif").write_bytes(loop)
    start = time.perf_counter()
    assert read_header(str(tmp_path / "text.png")).width == 8
    assert read_header(str(tmp_path / "many.gif")).width == 2
    with pytest.raises(UnreadableImage):
        read_header(str(tmp_path / "loop.tif"))
    assert time.perf_counter() - start < 2


@pytest.mark.fault("D12")
def test_fifo_socket_and_folder_never_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    found: list[str] = []

    def look() -> None:
        for name in ("fifo.jpg", "folder.jpg", "socket.jpg"):
            try:
                read_header(str(tmp_path / name))
            except UnreadableImage as error:
                found.append(str(error))

    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        listener.bind("socket.jpg")
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(timeout=10)
    assert found[:2] == ["The file is not a regular file. Move it out of the dataset."] * 2
    assert found[2].startswith("The file cannot be opened")


@pytest.mark.fault("D11")
@pytest.mark.parametrize(
    ("raised", "reason"),
    [(PermissionError(13, "Permission denied"), "cannot be opened: Permission denied"), (OSError(5, "EIO"), "EIO")],
)
def test_a_file_that_cannot_be_opened_is_a_reason(monkeypatch, raised, reason):
    def refuse(*arguments: object) -> int:
        raise raised

    monkeypatch.setattr(decoding.os, "open", refuse)
    with pytest.raises(UnreadableImage, match=reason):
        read_header("secret.jpg")


@pytest.mark.fault("D11")
def test_an_error_while_reading_is_a_reason_and_closes_the_file(tmp_path, monkeypatch, encoded):
    (tmp_path / "x.jpg").write_bytes(encoded())
    closed: list[int] = []
    close = os.close

    def fail(*arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decoding.os, "read", fail)
    monkeypatch.setattr(decoding.os, "close", lambda handle: (closed.append(handle), close(handle)))
    with pytest.raises(UnreadableImage, match="cannot be read: Input/output error"):
        read_header(str(tmp_path / "x.jpg"))
    assert len(closed) == 1


@pytest.mark.parametrize("name", ["gone.jpg", "n" * 300 + ".jpg", "nul\0.jpg"])
@pytest.mark.fault("D11")
def test_a_name_that_leads_nowhere_is_a_reason(tmp_path, name):
    with pytest.raises(UnreadableImage, match=r"does not exist|cannot be opened"):
        read_header(f"{tmp_path}/{name}")


@settings(max_examples=300, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"]
    ),
    rest=st.binary(max_size=300),
)
def test_any_bytes_give_a_header_or_a_reason(tmp_path: Path, start: bytes, rest: bytes):
    (tmp_path / "x").write_bytes(start + rest)
    try:
        header, reason = read_header(str(tmp_path / "x")), ""
    except UnreadableImage as error:
        header, reason = None, str(error)
    assert (header is None) == bool(reason)
    assert str(tmp_path) not in reason
    assert header is None or 0 < header.width * header.height <= MAX_PIXELS


def test_a_header_agrees_with_pillow_on_any_size(tmp_path):
    for width, height in [(1, 1), (255, 256), (256, 255), (1, 4097)]:
        buffer = io.BytesIO()
        Image.new("L", (width, height)).save(buffer, "JPEG")
        (tmp_path / "x").write_bytes(buffer.getvalue())
        assert read_header(str(tmp_path / "x"))[1:4] == ("L", width, height)
