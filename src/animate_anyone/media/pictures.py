"""Read and write pictures: ``uint8`` arrays ``(height, width, 3)``, RGB."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from animate_anyone.errors import InputError
from animate_anyone.media.files import check_writable, whole_file

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # what PIL may try: no more than we promise

MIN_SIDE = 64
MAX_SIDE = 8192
MAX_PIXELS = 50_000_000

WHITE = (255, 255, 255)
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error)  # what PIL raises


def read_picture(
    path: str | Path, background: tuple[int, int, int] = WHITE, min_side: int = MIN_SIDE
) -> NDArray[np.uint8]:
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
        raise InputError(f"{path}: is a folder; give a picture ({', '.join(PICTURE_SUFFIXES)})")
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; give a picture ({', '.join(PICTURE_SUFFIXES)})")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; give a picture ({', '.join(PICTURE_SUFFIXES)})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise InputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale it down first") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a picture; give one of {', '.join(PICTURE_SUFFIXES)}") from None
    except _BROKEN as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)}); save it again or give another") from None
    with image:
        check_size(path, *image.size, min_side=min_side)
        try:
            return _to_rgb(ImageOps.exif_transpose(image), background)
        except _BROKEN as error:
            raise InputError(f"{path}: damaged ({_one_line(error)}); save it again or give another") from None


def check_size(path: Path, width: int, height: int, min_side: int = 1) -> None:
    """Refuse sizes in pixels that are of no use or would fill the memory, with :class:`InputError`."""
    if min(width, height) < min_side:
        raise InputError(f"{path}: {width}×{height} pixels; both sides must be at least {min_side}")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: {width}×{height} pixels; at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 10**6} megapixels: scale it down first"
        )


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey; PIL's own conversion clips at 255 instead of scaling
        grey = np.asarray(image).astype(np.float64).clip(0, 65535)
        return np.repeat((grey / 257).round().astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.has_transparency_data:
        backdrop = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(backdrop, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def write_picture(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write ``(height, width, 3)`` uint8 RGB as PNG, or as JPEG of quality 95, by the name's ending.

    The file appears only when complete. Raises :class:`InputError` where it cannot be written.
    """
    path = check_writable(path, WRITTEN_SUFFIXES)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    content = io.BytesIO()  # written to a file, PIL does not see where the last bytes found no room
    Image.fromarray(picture).save(content, format=kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    with whole_file(path) as part:
        part.write_bytes(content.getvalue())


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]], labels: Sequence[str] | None = None, gap: int = 4
) -> NDArray[np.uint8]:
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
    sheet = np.full(
        (gap + sum(text + height + gap for height in heights), gap + sum(width + gap for width in widths), 3),
        255,
        np.uint8,
    )
    lines: list[tuple[int, str]] = []
    top = gap
    for number, row in enumerate(rows):
        if labels is not None:
            lines.append((top, labels[number]))
        left = gap
        for picture, width in zip(row, widths, strict=False):
            height = picture.shape[0]
            sheet[top + text : top + text + height, left : left + picture.shape[1]] = picture
            left += width + gap
        top += text + heights[number] + gap
    if not lines:
        return sheet
    image = Image.fromarray(sheet)
    for y, line in lines:
        ImageDraw.Draw(image).text((gap, y), line, fill=(0, 0, 0), font=ImageFont.load_default(size=13))
    return np.array(image)
