"""Pictures of every kind become upright RGB; what is too small, too large or broken is said so."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.media import PICTURE_SUFFIXES, contact_sheet, is_picture, read_picture, write_picture


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


def exif_block(fields: list[tuple[int, int, int, bytes]]) -> bytes:
    """An EXIF block, little-endian; fields are tag, type, count and content, in the order given."""
    table, content = struct.pack("<H", len(fields)), b""
    for tag, kind, count, value in fields:
        if len(value) > 4:
            place = 8 + 2 + 12 * len(fields) + 4 + len(content)
            value, content = struct.pack("<I", place), content + value
        table += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + table + bytes(4) + content


TURNED = (0x0112, 3, 1, struct.pack("<H", 6))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_fields_of_wrong_types_beside_the_orientation(tmp_path: Path, kind: str) -> None:
    """Among them those that phones, editors and messengers really write: text for numbers, lengths that cannot be."""
    dice = random.Random(0)
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(gradient(), 1)))
    tags = (0x0100, 0x010F, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x8298, 0x8769, 0x8825, 0xA005, 0x9003, 0x927C)
    for trial in range(40):
        fields = [TURNED]
        for tag in dice.sample(tags, dice.randrange(1, len(tags))):
            value = dice.randbytes(dice.choice([0, 1, 4, 8, 40]))
            fields.append((tag, dice.choice([0, 1, 2, 3, 5, 7, 10, 12, 99]), dice.choice([0, 1, 2, 2**31]), value))
        fields.sort(key=lambda field: field[0] if trial % 2 else 0)
        path = tmp_path / f"{trial}.{kind}"
        stored.save(path, kind, exif=exif_block(fields), quality=95)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = read_picture(path)
        assert picture.shape == gradient().shape, "not turned"
        assert np.abs(picture.astype(int) - gradient()).mean() < 4


def test_exif_that_is_none_at_all(tmp_path: Path) -> None:
    for number, block in enumerate((b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*" + bytes(40))):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(gradient()).save(path, exif=block)
        assert read_picture(path).shape == gradient().shape


LARGE = b"x" * 3_000_000


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([(b"zTXt", b"workflow\0\0" + zlib.compress(LARGE))], id="compressed text"),
        pytest.param([(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LARGE))], id="international text"),
        pytest.param([(b"tEXt", b"workflow%d\0" % n + b"y" * 1_000_000) for n in range(66)], id="much text"),
        pytest.param([(b"iCCP", b"profile\0\0" + zlib.compress(LARGE))], id="profile"),
        pytest.param([(b"iCCP", b"profile\0\1none")], id="broken profile"),
        pytest.param([(b"acTL", b"1")], id="broken animation"),
        pytest.param([(b"gAMA", b"1"), (b"pHYs", b"2"), (b"cHRM", b"3"), (b"zTXt", b"")], id="cut chunks"),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_what_a_png_carries_along_does_not_matter(
    tmp_path: Path, chunks: list[tuple[bytes, bytes]], after: bool
) -> None:
    carried = b"".join(_chunk(*chunk) for chunk in chunks)
    (tmp_path / "a.png").write_bytes(_png_with(b"" if after else carried, carried if after else b""))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), gradient())


def test_a_png_with_much_text_is_turned_as_it_says(tmp_path: Path) -> None:
    carried = _chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LARGE)) + _chunk(b"eXIf", exif_block([TURNED])[6:])
    (tmp_path / "a.png").write_bytes(_png_with(carried, b""))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.rot90(gradient(), -1))


def test_what_a_jpeg_carries_along_does_not_matter(tmp_path: Path) -> None:
    dice = random.Random(1)
    stored = BytesIO()
    Image.fromarray(gradient()).save(stored, "JPEG", quality=95)
    starts = (
        b"JFIF\0",
        b"MPF\0II*\0\x08\0\0\0\1\0",
        b"ICC_PROFILE\0",
        b"Photoshop 3.0\x008BIM\4\4",
        b"Adobe",
        b"FPXR\0",
    )
    for _ in range(60):
        carried = b""
        for marker in dice.choices([0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE], k=2):
            content = dice.choice(starts) + dice.randbytes(dice.choice([0, 1, 3, 12, 60]))
            if not (marker == 0xEE and content.startswith(b"Adobe")):  # it says how the colours are stored
                carried += bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        (tmp_path / "a.jpg").write_bytes(stored.getvalue()[:2] + carried + stored.getvalue()[2:])
        assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - gradient()).mean() < 4


def test_libtiff_does_not_speak_for_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[300:400] = bytes(100)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_picture(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""


def test_a_sound_picture_of_another_kind_of_pixels_is_not_called_damaged(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="its pixels are floating-point numbers, which cannot be read; save it as PNG"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "A.JFIF", "a.tif", "a.dib", "a.gif", "a", "a.mp4"])
def test_pictures_are_known_by_what_is_in_them(tmp_path: Path, name: str) -> None:
    kinds = {".tif": "TIFF", ".dib": "BMP", ".gif": "GIF"}
    Image.fromarray(gradient()).save(tmp_path / name, kinds.get(Path(name).suffix, "JPEG"))
    assert is_picture(tmp_path / name)
    assert read_picture(tmp_path / name).shape == gradient().shape


def test_what_is_a_picture(tmp_path: Path) -> None:
    pictures = [Image.fromarray(gradient()), Image.fromarray(255 - gradient())]
    for name, verdict in (("a.gif", False), ("a.webp", True), ("a.png", True)):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
        assert is_picture(tmp_path / name) == verdict
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    (tmp_path / "text.mp4").write_text("no film")
    assert is_picture(tmp_path / "broken.jpg")
    assert not any(is_picture(tmp_path / name) for name in ("text.mp4", "none.jpg", ""))
    assert {".jfif", ".tif", ".jpeg"} < set(PICTURE_SUFFIXES)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["exif_wrongtype.jpg", "exif_gps_text.jpg", "workflow.png", "char.jfif"])
def test_real_odd_pictures(shared_dir: Path, name: str) -> None:
    assert read_picture(shared_dir / "inputs" / name).shape == (256, 256, 3)
    assert is_picture(shared_dir / "inputs" / name)


def _png_with(before: bytes, after: bytes) -> bytes:
    """A PNG of :func:`gradient` with further chunks before and after the pixels."""
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in gradient()))
    return _png_header(96, 80) + before + _chunk(b"IDAT", pixels) + after + _chunk(b"IEND", b"")


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
