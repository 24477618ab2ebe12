"""A PNG or JPEG file reduced to what its pixels need: without text, colour profiles and whatever else it carries."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_LARGEST_EXIF = 1 << 16
_APP0, _APP1, _APP14, _APP15, _COMMENT, _START_OF_SCAN = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0xDA
_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG


def bare_picture(path: Path) -> tuple[bytes, int] | None:
    """The needed parts of a picture, one after another, and its EXIF orientation, 1 where it has none.

    ``None`` for other files and those that cannot be read.

    Readers put a limit on a picture's text and profiles, as both are compressed, and some stop at a field of the wrong
    type: they refuse the picture for what is not a part of it. Nothing is decompressed here.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_PNG))
            if start == _PNG:
                kept, exif = _chunks(file)
            elif start.startswith(_JPEG):
                file.seek(len(_JPEG))
                kept, exif = _segments(file)
            else:
                return None
    except OSError:
        return None
    return b"".join(kept), orientation(exif) or 1


def orientation(exif: bytes) -> int | None:
    """EXIF orientation, 1 to 8; ``None`` where it is missing or broken. No other field is looked at."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], exif, entry + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:
        pass
    return None


def _chunks(file: BinaryIO) -> tuple[list[bytes], bytes]:
    """The needed chunks of a PNG (length, name, content, checksum), and its EXIF block."""
    kept, exif = [_PNG], b""
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name in _CHUNKS:
            kept += [head, file.read(length + 4)]
        elif name == b"eXIf" and length <= _LARGEST_EXIF:
            exif = file.read(length + 4)
        else:
            file.seek(length + 4, os.SEEK_CUR)
        if name == b"IEND":
            break
    return kept, exif


def _segments(file: BinaryIO) -> tuple[list[bytes], bytes]:
    """The needed segments of a JPEG, all of its scans, and its EXIF block."""
    kept, exif = [_JPEG], b""
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != _START_OF_SCAN:
        content = file.read(max(0, int.from_bytes(head[2:], "big") - 2))
        if head[1] == _APP1 and content.startswith(b"Exif\0"):
            exif = content
        elif head[1] == _APP14:  # which says how the colours are stored
            kept += [head, content] if content.startswith(b"Adobe") and len(content) >= 12 else []
        elif not (_APP0 <= head[1] <= _APP15 or head[1] == _COMMENT):
            kept += [head, content]
    return [*kept, head, file.read()], exif
