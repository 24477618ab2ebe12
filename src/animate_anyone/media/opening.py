"""Files of video, sound or both, opened for reading with FFmpeg's library; what cannot be opened is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from animate_anyone.errors import InputError
from animate_anyone.media.pictures import check_size, is_picture

WANTED = "give a video (mp4, mov, mkv, webm, avi, gif) or a folder of pictures"
BROKEN = (av.error.FFmpegError, OSError)
"""What the library raises for files that are not as they should be."""

# Playlists and such, which name further files or addresses, are left out on purpose.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,mp3,wav,flac,aac"


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """A container of video, sound or both, open for reading. Raises :class:`InputError`."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; {WANTED}")
    if not path.is_file() or path.stat().st_size == 0:
        raise InputError(f"{path}: {'the file is empty' if path.is_file() else 'is no file'}; {WANTED}")
    try:
        container = av.open(
            f"file:{path}",  # so that a colon in a name is no protocol
            metadata_errors="replace",
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
        )
    except PermissionError:
        raise InputError(f"{path}: not allowed to read it; change its permissions or {WANTED}") from None
    except (*BROKEN, ValueError):
        _refuse(path)
    with container:
        yield container


def read_comment(path: Path) -> str | None:
    """The comment in the metadata of a file; ``None`` where it has none. Raises :class:`InputError`."""
    with open_media(path) as container:
        return next((text for name, text in container.metadata.items() if name.lower() == "comment"), None)


def _refuse(path: Path) -> NoReturn:
    """Say why a file could not be opened, from its name and first bytes."""
    with path.open("rb") as file:
        start = file.read(12)
    if is_picture(path):
        raise InputError(f"{path}: is a picture, not a video; {WANTED}")
    if start[4:8] in (b"ftyp", b"moov", b"mdat"):
        raise InputError(f"{path}: the file is cut off, its index (moov) is missing; copy or download it again")
    raise InputError(f"{path}: not a video; {WANTED}")


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first moving pictures of a container that have a decoder, a cover picture not counted.

    Raises :class:`InputError`.
    """
    streams = moving_pictures(container)
    if not streams:
        raise InputError(f"{path}: holds no video stream, only sound; {WANTED}")
    stream = next((s for s in streams if s.codec_context is not None), None)
    if stream is None:
        raise InputError(f"{path}: its video codec is unknown here; convert it to h264")
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO"
    return stream


def moving_pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams of a container without cover pictures."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
