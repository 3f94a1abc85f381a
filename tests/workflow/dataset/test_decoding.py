"""read_image: RGB, upright, from every mode; and a reason for whatever cannot be decoded."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoise.workflow.dataset import decoding
from counterpoise.workflow.dataset.decoding import UnreadableImage, read_image


def _saved(tmp_path: Path, image: Image.Image, format: str = "PNG", **options: object) -> np.ndarray:
    image.save(tmp_path / "x", format, **options)
    pixels = read_image(tmp_path / "x")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*pixels.shape[:2], 3)
    return pixels


def test_rgb_comes_back_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    decoded = _saved(tmp_path, Image.fromarray(pixels))
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.flags.writeable


@pytest.mark.fault("D9")
@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 0), (77, 77, 77)),
        ("RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 99, (99, 99, 99)),
        ("I;16", 300, (1, 1, 1)),
        ("I;16", 65335, (254, 254, 254)),  # 254.2: divided by 257, not 256
    ],
)
def test_every_mode_becomes_rgb_by_its_rule(tmp_path, mode, colour, expected):
    decoded = _saved(tmp_path, Image.new(mode, (3, 2), colour))
    np.testing.assert_array_equal(decoded, np.broadcast_to(np.uint8(expected), (2, 3, 3)))


@pytest.mark.fault("D9")
def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    decoded = _saved(tmp_path, image, transparency=bytes([0, 128]))
    np.testing.assert_array_equal(decoded[0, 0], (9, 8, 7))


@pytest.mark.fault("D9")
def test_cmyk_jpeg(tmp_path):
    decoded = _saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert decoded[0, 0, 0] > 240
    assert decoded[0, 0, 1:].max() < 15


@pytest.mark.fault("D9")
def test_32_bit_grey_is_clipped_to_16_bits_and_floats_are_refused(tmp_path):
    decoded = _saved(tmp_path, Image.fromarray(np.array([[0, 65535, 1_000_000, -5]], dtype=np.int32)), "TIFF")
    np.testing.assert_array_equal(decoded[0, :, 0], (0, 255, 255, 0))
    with pytest.raises(UnreadableImage, match="floating-point"):
        _saved(tmp_path, Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")


@pytest.mark.fault("D8")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = 255  # white top left corner
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose values that undo what EXIF asks for
    image = Image.fromarray(upright)
    stored = image if orientation == 1 else image.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = _saved(tmp_path, stored, "PNG", exif=exif)
    np.testing.assert_array_equal(decoded, upright)


_TIFF = b"Exif\0\0MM\0*\0\0\0\x08"


@pytest.mark.fault("D8")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        _TIFF + b"\xff\xff",  # Pillow warns of this one,
        _TIFF + b"\0\1" + struct.pack(">HHII", 0x010F, 2, 500, 9000) + b"\0\0\0\0",  # and of this one
        _TIFF + b"\0\1" + struct.pack(">HHII", 0x0112, 3, 1, 99 << 16) + b"\0\0\0\0",
    ],
)
def test_corrupt_exif_turns_nothing_and_warns_nobody(tmp_path, exif):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        decoded = _saved(tmp_path, Image.new("RGB", (8, 4), (200, 200, 200)), "JPEG", exif=exif)
    assert decoded.shape == (4, 8, 3)
    assert not warned


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    decoded = _saved(tmp_path, frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decoded[0, 0], (255, 0, 0))


@pytest.mark.fault("D10")
@pytest.mark.fault("D2")
def test_a_partial_image_is_a_failure_not_a_grey_half(tmp_path, encoded):
    jpeg, png = encoded("JPEG", size=(64, 64)), bytearray(encoded("PNG", size=(64, 64)))
    png[len(png) // 2] ^= 0xFF
    for damaged in (jpeg[: len(jpeg) // 2], bytes(png)):
        (tmp_path / "x").write_bytes(damaged)
        with pytest.raises(UnreadableImage, match="cannot be decoded"):
            read_image(tmp_path / "x")


def _png(pixels: np.ndarray, height: int) -> bytes:
    """A well-formed PNG of ``height`` rows that has data for those of ``pixels`` only."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    halves = (rows[: len(rows) // 2], rows[len(rows) // 2 :])
    header = struct.pack(">IIBBBBB", pixels.shape[1], height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *(chunk(b"IDAT", half) for half in halves), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.fault("D2")
@pytest.mark.parametrize("rows", [1, 30, 47, 48])
def test_a_png_whose_data_end_early_is_truncated_though_it_has_an_end(tmp_path, rows):
    pixels = np.zeros((rows, 64, 3), dtype=np.uint8)  # black, as Pillow leaves rows that are missing
    (tmp_path / "x").write_bytes(_png(pixels, height=48))
    if rows == 48:
        assert read_image(tmp_path / "x").shape == (48, 64, 3)
        return
    with pytest.raises(UnreadableImage, match="is a truncated PNG: it has no data for its last rows"):
        read_image(tmp_path / "x")


@pytest.mark.fault("D2")
@pytest.mark.parametrize("rows", [1, 3, 11, 12])
def test_an_interlaced_png_whose_data_end_early_is_truncated(tmp_path, rows):
    passes = [(1, 1), (1, 1), (1, 2), (2, 2), (1, 4), (3, 4), (3, 8)]  # rows and columns of each, for 8×6 pixels
    lines = [bytes([0, *[9] * columns]) for height, columns in passes for _ in range(height)]
    whole = bytearray(_png(np.zeros((1, 8, 3), dtype=np.uint8), height=6)[:33])
    whole[25], whole[28] = 0, 1
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    data = zlib.compress(b"".join(lines[:rows]))
    for kind, content in ((b"IDAT", data), (b"IEND", b"")):
        whole += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "x").write_bytes(whole)
    if rows == len(lines):
        assert (read_image(tmp_path / "x") == 9).all()
        return
    with pytest.raises(UnreadableImage, match="is a truncated PNG: it has no data for its last rows"):
        read_image(tmp_path / "x")


SCANS = [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 1}]


@pytest.mark.fault("D2")
@pytest.mark.fault("D10")
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", SCANS, ids=str)
def test_a_jpeg_whose_data_end_early_is_truncated_though_it_has_an_end(tmp_path, encoded, mode, options):
    with Image.open(io.BytesIO(encoded("PNG", size=(61, 49)))) as image:
        pixels = image.convert(mode)
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", **options)
    whole = buffer.getvalue()
    start = whole.index(b"\xff\xda") + 2
    start += int.from_bytes(whole[start : start + 2], "big")
    end = re.compile(rb"\xff[\xc4\xd9\xda]").search(whole, start).start()
    for share in (0, 0.2, 0.5, 0.7):
        cut = whole[: start + int(share * (end - start))].rstrip(b"\xff") + b"\xff\xd9"
        (tmp_path / "x").write_bytes(cut)
        with pytest.raises(UnreadableImage, match="is a truncated JPEG: it has no data for its last rows"):
            read_image(tmp_path / "x")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", SCANS, ids=str)
@pytest.mark.parametrize("colour", ["black", "gray"])
def test_an_image_that_ends_in_black_or_grey_is_complete(tmp_path, mode, options, colour):
    for size in ((1, 1), (17, 9), (64, 48)):
        plain = Image.new("RGB", size, colour).convert(mode)
        assert _saved(tmp_path, plain, "JPEG", **options).shape == (size[1], size[0], 3)
        if mode != "CMYK":
            assert _saved(tmp_path, plain).shape == (size[1], size[0], 3)


@pytest.mark.fault("D7")
@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.7\n", b"\0\0\1\0\1\0"]
)
def test_no_other_decoder_is_tried(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content + b"\0" * 200)
    with pytest.raises(UnreadableImage, match="cannot be decoded: it is no JPEG") as caught:
        read_image(tmp_path / "x.jpg")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.fault("D5")
def test_a_bomb_that_grew_after_loading_is_refused_before_its_pixels_are_decoded(tmp_path, monkeypatch, encoded):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    (tmp_path / "x").write_bytes(encoded("PNG", size=(11, 10)))
    with pytest.raises(UnreadableImage, match="refused: it has 11×10"):
        read_image(tmp_path / "x")


@pytest.mark.fault("D6")
def test_png_text_bomb_is_a_reason(tmp_path, encoded):
    text = b"Comment\0\0" + zlib.compress(b"A" * 80_000_000, 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    whole = encoded("PNG")
    (tmp_path / "x").write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(UnreadableImage, match="too large"):
        read_image(tmp_path / "x")


def test_a_vanished_file_is_a_reason_without_its_absolute_path(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file") as caught:
        read_image(tmp_path / "gone.jpg")
    assert str(tmp_path) not in str(caught.value)


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(format=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), data=st.data())
def test_damaged_bytes_give_an_image_or_a_reason(tmp_path: Path, encoded, format, data):
    whole = bytearray(encoded(format))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x").write_bytes(whole)
    try:
        outcome = read_image(tmp_path / "x").shape[2]
    except UnreadableImage as error:
        outcome = str(error)
    assert outcome == 3 or (outcome and str(tmp_path) not in str(outcome))
