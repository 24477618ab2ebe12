"""Pictures and videos that are small as files and would be huge, or endless, where they are believed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

SIDE = 64


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, content: bytes, more: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def _zeros(count: int) -> bytes:
    """``count`` zeros, compressed about a thousand times."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    packed = b"".join(packer.compress(block[: min(len(block), count - at)]) for at in range(0, count, len(block)))
    return packed + packer.flush()


def huge_png(path: Path) -> None:
    """A picture of 2.5 gigapixels."""
    path.write_bytes(_png(50_000, 50_000, _zeros(1 << 24)))


def png_of_much_more_data(path: Path) -> None:
    """A small picture behind whose lines come 2 GB of others."""
    path.write_bytes(_png(SIDE, SIDE, _zeros(1 << 31)))


def png_of_much_text(path: Path) -> None:
    """A small picture with a text of 1 GB and a colour profile of 1 GB."""
    more = _chunk(b"zTXt", b"Comment\0\0" + _zeros(1 << 30)) + _chunk(b"iCCP", b"profile\0\0" + _zeros(1 << 30))
    path.write_bytes(_png(SIDE, SIDE, zlib.compress(bytes((SIDE + 1) * SIDE)), more))


def huge_gif(path: Path) -> None:
    """An animation whose header says 65,535 by 65,535."""
    file = io.BytesIO()
    frames = [Image.new("L", (SIDE, SIDE), colour) for colour in (1, 90)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    path.write_bytes(file.getvalue()[:6] + b"\xff\xff\xff\xff" + file.getvalue()[10:])


def endless_gif(path: Path) -> None:
    """An animation of a hundred thousand frames."""
    file = io.BytesIO()
    frames = [Image.new("L", (SIDE, SIDE), colour) for colour in (1, 90, 180)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=40)
    content = file.getvalue()
    first = content.index(b"\x21\xf9\x04")
    second = content.index(b"\x21\xf9\x04", first + 4)
    third = content.index(b"\x21\xf9\x04", second + 4)
    path.write_bytes(content[:second] + content[second:third] * 100_000 + content[third:])


def huge_tiff(path: Path) -> None:
    """A picture of 3.6 gigapixels in one strip."""
    entries = [
        (256, 60_000),
        (257, 60_000),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, 60_000),
        (279, 64),
    ]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    path.write_bytes((b"II*\0" + struct.pack("<I", 8) + table + bytes(4)).ljust(300, b"\0"))


def poses_of_much(path: Path) -> None:
    """Poses that unpack to 1 GB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("keypoints.npy", "w") as entry:
        for _ in range(1024):
            entry.write(bytes(1 << 20))


def poses_that_lie(path: Path) -> None:
    """Poses that unpack to 1 GB and say 1 kB."""
    poses_of_much(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 1 << 30), struct.pack("<I", 1000)))


def poses_of_a_huge_array(path: Path) -> None:
    """Poses whose array says that it has 2 to the 60 numbers."""
    header = str({"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 18, 2)}).ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("keypoints.npy", array)


def _encode(sizes: list[tuple[int, int]], codec: str, frames: int) -> list[av.Packet]:
    packets = []
    for width, height in sizes:
        encoder = av.CodecContext.create(codec, "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = Fraction(1, 25)
        for _ in range(frames):
            picture = av.VideoFrame.from_ndarray(np.zeros((height * 3 // 2, width), np.uint8), "yuv420p")
            picture.pts = len(packets)
            packets += encoder.encode(picture)
        packets += encoder.encode(None)
    return packets


def growing_video(path: Path) -> None:
    """A video that says 64 by 64, whose frames are 16,000 by 16,000 from the third on."""
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".mpg" else None) as container:
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number, packet in enumerate(_encode([(SIDE, SIDE), (8000, 8000)], "mpeg4", 2)):
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1, 25)
            container.mux(packet)


def sparse_video(path: Path) -> None:
    """A video of three frames, the last of which is shown after a year."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for at in (0, 1, 25 * 3600 * 24 * 365):
            picture = av.VideoFrame.from_ndarray(np.zeros((SIDE * 3 // 2, SIDE), np.uint8), "yuv420p")
            picture.pts, picture.time_base = at, Fraction(1, 25)
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


PICTURE_BOMBS: dict[str, Callable[[Path], None]] = {
    "huge.png": huge_png,
    "more_data.png": png_of_much_more_data,
    "text.png": png_of_much_text,
    "huge.gif": huge_gif,
    "huge.tiff": huge_tiff,
}
VIDEO_BOMBS: dict[str, Callable[[Path], None]] = {
    "huge_animation.gif": huge_gif,
    "endless.gif": endless_gif,
    "growing.mp4": growing_video,
    "growing.mkv": growing_video,
    "sparse.mkv": sparse_video,
    "poses.npz": poses_of_much,
    "lying.npz": poses_that_lie,
    "array.npz": poses_of_a_huge_array,
}
