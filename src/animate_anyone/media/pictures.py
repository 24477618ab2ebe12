"""Read and write pictures: ``uint8`` arrays ``(height, width, 3)``, RGB."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from animate_anyone.errors import InputError
from animate_anyone.media.bare_picture import bare_picture, orientation
from animate_anyone.media.files import check_writable
from animate_anyone.structures import Picture
from animate_anyone.system.silence import silent_stderr
from animate_anyone.system.whole_files import whole_file

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"),
    *(".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
)
KINDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # what PIL may try: no more than we promise

MIN_SIDE = 64
MAX_SIDE = 8192
MAX_PIXELS = 50_000_000

WHITE = (255, 255, 255)
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: str | Path, background: tuple[int, int, int] = WHITE, min_side: int = MIN_SIDE) -> Picture:
    """Read a picture, turned upright.

    The EXIF orientation is applied, transparency is composited on ``background``, 16-bit grey is
    scaled to 8 bits, CMYK and palettes are converted; an animation gives its first frame.

    Args:
        path: a PNG, JPEG, WebP, BMP, TIFF or GIF file.
        background: RGB, each 0 to 255, seen through transparent parts.
        min_side: refuse pictures with a shorter side, in pixels.

    Returns:
        ``(height, width, 3)`` uint8, RGB.

    Raises:
        InputError: missing, empty, not a picture, damaged, or of a size out of range: a side below
            ``min_side`` or over 8192, or more than 50 megapixels. The size is read from the
            header, before any pixel is decoded.
    """
    path = Path(path)
    if os.path.isdir(path):  # pathlib's own raises for names that are too long
        raise InputError(f"{path}: is a folder; give a picture ({KINDS})")
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; give a picture ({KINDS})")
    if not path.is_file():
        raise InputError(f"{path}: is no file; give a picture ({KINDS})")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; give a picture ({KINDS})")
    try:
        return _read(path, path, background, min_side)
    except _UnreadableError:
        bare = bare_picture(path)
        if bare is None:
            raise
    return _read(path, BytesIO(bare[0]), background, min_side, turned=bare[1])


def is_picture(path: str | Path) -> bool:
    """Whether a file is a still picture, whatever its name; where it cannot be opened, whether its name says so.

    A moving GIF is a video; WebP and PNG animations, whose first frame alone is read, are pictures.
    """
    path = Path(path)
    if not os.path.isfile(path):
        return False
    try:
        with _opened(path) as image:
            return image.format != "GIF" or not getattr(image, "is_animated", False)
    except Exception:
        return path.suffix.lower() in PICTURE_SUFFIXES and path.suffix.lower() != ".gif"


def _read(
    path: Path, source: Path | BinaryIO, background: tuple[int, int, int], min_side: int, turned: int | None = None
) -> Picture:
    """The picture in ``source``, called ``path`` in errors; ``turned`` is its EXIF orientation where it is known.

    Pillow raises whatever its parsers meet.
    """
    try:
        image = _opened(source)
    except Image.DecompressionBombError:
        raise InputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down first") from None
    except UnidentifiedImageError:
        raise _UnreadableError(f"{path}: not a picture; give {KINDS}") from None
    except Exception as error:
        raise _UnreadableError(f"{path}: cannot be read ({_one_line(error)}); save it again or give another") from None
    with image:
        check_size(path, *image.size, min_side=min_side)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with silent_stderr() if image.format == "TIFF" else nullcontext():
                    image.load()
                method = _TURNED.get(_orientation(image) if turned is None else turned)
                return _to_rgb(image if method is None else image.transpose(method), background)
        except _UnknownPixelsError as error:
            raise InputError(f"{path}: its pixels are {error}, which cannot be read; save it as PNG") from None
        except Exception as error:
            raise _UnreadableError(f"{path}: damaged ({_one_line(error)}); save it again or give another") from None


def _opened(source: Path | BinaryIO) -> Image.Image:
    """The header of a picture. Remarks on what nobody needs are not shown, and our own limit on size is lower."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(source, formats=FORMATS)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none; every other field is left alone, right or wrong."""
    exif = image.info.get("exif")
    found = orientation(exif) if isinstance(exif, bytes) else None
    if found is not None:
        return found
    try:
        return int(image.getexif().get(0x0112, 1))  # of TIFF, XMP and old PNG
    except Exception:  # not even a table of fields, or a value of another type
        return 1


def check_size(path: Path, width: int, height: int, min_side: int = 1) -> None:
    """Refuse sizes in pixels that are of no use or would fill the memory, with :class:`InputError`."""
    if min(width, height) < min_side:
        raise InputError(f"{path}: {width}×{height} pixels; both sides must be at least {min_side}")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: {width}×{height} pixels; at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 10**6} megapixels: scale it down first"
        )


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Picture:
    if image.mode.startswith("I"):  # 16-bit grey; PIL's own conversion clips at 255 instead of scaling
        grey = np.asarray(image).astype(np.float64).clip(0, 65535)
        return np.repeat((grey / 257).round().astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise _UnknownPixelsError("floating-point numbers")
    if image.mode == "LAB":
        raise _UnknownPixelsError("in the Lab colour space")
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(backdrop, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


class _UnreadableError(InputError):
    """No picture, or a damaged one, as far as Pillow can tell."""


class _UnknownPixelsError(ValueError):
    """A sound picture whose kind of pixels is not read."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write ``(height, width, 3)`` uint8 RGB as PNG, or as JPEG of quality 95, by the name's ending.

    The file appears only when complete. Raises :class:`InputError` where it cannot be written.
    """
    path = check_writable(path, WRITTEN_SUFFIXES)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    content = BytesIO()  # written to a file, PIL does not see where the last bytes found no room
    Image.fromarray(picture).save(content, format=kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    with whole_file(path) as part:
        part.write_bytes(content.getvalue())


def contact_sheet(rows: Sequence[Sequence[Picture]], labels: Sequence[str] | None = None, gap: int = 4) -> Picture:
    """Lay pictures out in rows on white, to look at them together.

    Args:
        rows: pictures ``(height, width, 3)`` uint8, RGB, of any sizes; rows may differ in length. A
            row is as high as its highest picture, a column as wide as its widest.
        labels: one line of text above each row; ``None`` for none.
        gap: white pixels between pictures and around them.

    Returns:
        One picture ``(height, width, 3)`` uint8, RGB.
    """
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows; give one a row")
    if not any(len(row) for row in rows):
        raise ValueError("a contact sheet of no pictures")
    text = 18 if labels is not None else 0
    heights = [max((picture.shape[0] for picture in row), default=0) for row in rows]
    widths = [max(row[k].shape[1] for row in rows if k < len(row)) for k in range(max(len(row) for row in rows))]
    size = gap + sum(width + gap for width in widths), gap + sum(text + height + gap for height in heights)
    sheet = Image.new("RGB", size, WHITE)
    top = gap
    for number, row in enumerate(rows):
        if labels is not None:
            ImageDraw.Draw(sheet).text((gap, top), labels[number], (0, 0, 0), ImageFont.load_default(size=13))
        for k, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (gap + sum(width + gap for width in widths[:k]), top + text))
        top += text + heights[number] + gap
    return np.array(sheet)
