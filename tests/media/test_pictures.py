"""Pictures of every kind become upright RGB; what is too small, too large or broken is said so."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.media import contact_sheet, read_picture, write_picture


def gradient(size: tuple[int, int] = (96, 80)) -> np.ndarray:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    return np.stack([x * 2, y * 2, x + y], axis=-1).astype(np.uint8)


def test_round_trip(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", gradient())
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), gradient())
    write_picture(tmp_path / "a.jpg", gradient())
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - gradient()).mean() < 2
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.jpg", "a.png"]
    with pytest.raises(InputError, match=r"end the name in \.png"):
        write_picture(tmp_path / "a.gif", gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = gradient()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), upright)


def test_transparency_is_seen_through(tmp_path: Path) -> None:
    pixels = np.dstack([gradient(), np.full((80, 96), 255, np.uint8)])
    pixels[:40, :, 3] = 0
    pixels[40:50, :, 3] = 128
    Image.fromarray(pixels).save(tmp_path / "a.png")
    on_white, on_red = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "a.png", background=(255, 0, 0))
    assert (on_white[:40] == 255).all()
    assert (on_red[:40] == (255, 0, 0)).all()
    np.testing.assert_array_equal(on_white[50:], gradient()[50:])
    half = gradient()[40:50] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(on_white[40:50] - half).max() <= 1


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([9, 9, 9, 10, 200, 30])
    image.paste(0, (0, 0, 64, 32))
    image.save(tmp_path / "a.png", transparency=0)
    picture = read_picture(tmp_path / "a.png")
    assert (picture[:32] == 255).all()
    assert (picture[32:] == (10, 200, 30)).all()


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    grey = np.repeat(np.linspace(0, 65535, 128)[None], 64, axis=0).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        picture = read_picture(tmp_path / name)
        np.testing.assert_allclose(picture[0, :, 1], np.linspace(0, 255, 128), atol=1)
    colour = np.stack([grey, grey[:, ::-1], np.zeros_like(grey)], axis=-1)
    (tmp_path / "c.png").write_bytes(_png_of_16_bits(colour))
    np.testing.assert_allclose(read_picture(tmp_path / "c.png"), colour / 257, atol=1)


def test_cmyk_and_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), (200, 30, 30), np.uint8)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - (200, 30, 30)).max() < 12
    Image.new("L", (64, 64), 77).save(tmp_path / "b.png")
    assert (read_picture(tmp_path / "b.png") == 77).all()
    Image.new("1", (64, 64), 1).save(tmp_path / "c.png")
    assert (read_picture(tmp_path / "c.png") == 255).all()


def test_sizes_out_of_range_are_refused_from_the_header(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    Image.new("L", (63, 100)).save(tmp_path / "narrow.png")
    Image.new("1", (9000, 100)).save(tmp_path / "wide.png")
    for name, size in (("huge.png", 20000), ("large.png", 7500)):
        (tmp_path / name).write_bytes(_png_header(size, size) + _chunk(b"IDAT", b""))  # there are no pixels to decode
    for name, reason in {
        "dot.png": "1×1 pixels; both sides must be at least 64",
        "narrow.png": "63×100 pixels; both sides must be at least 64",
        "wide.png": "9000×100 pixels; at most 8192 a side",
        "huge.png": "more than 50 megapixels",
        "large.png": "7500×7500 pixels; at most 8192 a side and 50 megapixels",
    }.items():
        with pytest.raises(InputError, match=reason) as error:
            read_picture(tmp_path / name)
        assert "\n" not in str(error.value)
    assert read_picture(tmp_path / "dot.png", min_side=1).shape == (1, 1, 3)


def test_what_is_no_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8))
    write_picture(tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8))
    for suffix in ("png", "jpg"):
        data = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<svg/>")
    for name, reason in {
        "cut.png": "damaged",
        "cut.jpg": "damaged",
        "empty.png": "the file is empty",
        "text.png": "not a picture",
        "none.png": "no such file",
        "x" * 300 + ".png": "no such file",
        "": "is a folder",
    }.items():
        with pytest.raises(InputError, match=reason) as error:
            read_picture(tmp_path / name)
        assert "\n" not in str(error.value)


def test_contact_sheet_keeps_every_pixel() -> None:
    small, wide = np.full((10, 20, 3), 7, np.uint8), np.full((12, 30, 3), 9, np.uint8)
    sheet = contact_sheet([[small, wide], [wide]], gap=4)
    assert sheet.shape == (4 + 12 + 4 + 12 + 4, 4 + 30 + 4 + 30 + 4, 3)
    np.testing.assert_array_equal(sheet[4:14, 4:24], small)
    np.testing.assert_array_equal(sheet[4:16, 38:68], wide)
    np.testing.assert_array_equal(sheet[20:32, 4:34], wide)
    assert (sheet == 7).sum() + 2 * 0 == small.size
    assert (sheet == 9).sum() == 2 * wide.size
    labelled = contact_sheet([[small, wide], [wide]], labels=["ours", "truth"])
    assert labelled.shape[0] > sheet.shape[0]
    assert (labelled[:20] < 128).any(), "no text above the first row"
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        contact_sheet([[small], [wide]], labels=["one"])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_header(width: int, height: int, bits: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)


def _png_of_16_bits(pixels: np.ndarray) -> bytes:
    """PIL writes no 16-bit RGB."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    height, width = pixels.shape[:2]
    return _png_header(width, height, 16) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
