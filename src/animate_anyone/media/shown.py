"""From a decoded frame to the picture that is meant: turned, mirrored, of square pixels, RGB, nothing seen through."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.media.opening import BROKEN
from animate_anyone.media.pictures import check_size
from animate_anyone.structures import Picture, Size

BACKGROUND = (0, 0, 0)
"""RGB, seen through transparent parts of videos: black, as finished skeletons are drawn on."""

# Without these the colours come out a whole step of 255 too dark, at every reading.
_TO_RGB = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_UNSPECIFIED_MATRIX = 2  # AVCOL_SPC_UNSPECIFIED
# Matrices of ITU-T H.273 that the converter does not know, and the nearest that it does.
_READ_AS = {8: Colorspace.ITU709, 10: Colorspace.BT2020, 14: Colorspace.BT2020}
_HIGH_RANGE = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
_SQUARE = 0.005  # a pixel aspect so close to 1 changes nothing that could be seen
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave the transparency of WebM out


@dataclass(frozen=True)
class Shown:
    """How the frames of a video are shown.

    Attributes:
        size: ``(width, height)`` in pixels as stored.
        aspect: width of a stored pixel over its height; 1 where that makes no difference.
        transposed: rows are columns.
        mirrored: ``(x, y)``: whether left and right, top and bottom are swapped, after that.
        rotation: degrees that the stored pictures are turned by, anticlockwise: 0, 90, 180 or 270.
    """

    size: Size
    aspect: Fraction
    transposed: bool
    mirrored: tuple[bool, bool]
    rotation: int

    @classmethod
    def by(cls, path: Path, frame: av.VideoFrame, stream: VideoStream) -> Shown:
        """As the first frame and its stream say. Raises :class:`InputError` for a size out of range."""
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if abs(aspect - 1) < _SQUARE:
            aspect = Fraction(1)
        transposed, mirrored = _turned(frame)
        shown = cls((frame.width, frame.height), aspect, transposed, mirrored, round(frame.rotation / 90) * 90 % 360)
        check_size(path, *shown.outer)
        return shown

    @property
    def scaled(self) -> Size:
        """``(width, height)`` with square pixels, not yet turned."""
        return max(1, round(self.size[0] * self.aspect)), self.size[1]

    @property
    def outer(self) -> Size:
        """``(width, height)`` as shown."""
        return self.scaled[::-1] if self.transposed else self.scaled

    def picture(self, path: Path, frame: av.VideoFrame) -> Picture:
        """``(height, width, 3)`` uint8, RGB. Untagged HD is read with the HD matrix (BT.709), as players do.

        Raises :class:`InputError` for colours that cannot be converted.
        """
        untagged_hd = frame.colorspace == _UNSPECIFIED_MATRIX and (frame.width >= 1280 or frame.height > 576)
        matrix = Colorspace.ITU709 if untagged_hd else _READ_AS.get(frame.colorspace)  # None: as the frame says
        kind = "rgba" if has_alpha(frame) else "rgb24"
        width, height = self.scaled
        try:
            picture = frame.to_ndarray(
                format=kind, width=width, height=height, src_colorspace=matrix, interpolation=_TO_RGB
            )
        except (*BROKEN, ValueError):
            kind = f"{frame.format.name}, matrix {frame.colorspace}"
            raise InputError(f"{path}: its kind of pixels ({kind}) is unknown here; convert it to h264") from None
        if kind == "rgba":
            picture = _on_background(picture)
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        across, down = self.mirrored
        return np.ascontiguousarray(picture[:: -1 if down else 1, :: -1 if across else 1])


def remarks_on(frame: av.VideoFrame, stream: VideoStream, shown: Shown) -> list[str]:
    """What is unusual about a video's pictures and what is done about it, by its first frame; one line each."""
    lines = []
    if shown.aspect != 1:
        (width, height), stored = shown.scaled, shown.size
        aspect = f"{shown.aspect.numerator}:{shown.aspect.denominator}"
        lines.append(
            f"video: its pixels are not square ({aspect}); {stored[0]}x{stored[1]} is taken as {width}x{height}"
        )
    if frame.color_trc in _HIGH_RANGE:
        lines.append(
            f"video: high dynamic range ({_HIGH_RANGE[frame.color_trc]}) is not tone-mapped, its colours look flat; "
            "for true ones convert it to SDR first"
        )
    if frame.colorspace in _READ_AS:
        lines.append(f"video: its colours (matrix {frame.colorspace}) are read as {_READ_AS[frame.colorspace].name}")
    if has_alpha(frame) and int(frame.to_ndarray(format="rgba")[..., 3].min()) < 255:
        lines.append("video: its transparent parts are shown on black")
    elif says_alpha(stream) and not has_alpha(frame):
        lines.append("video: its transparency cannot be read here; what lies under it is shown")
    if frame.interlaced_frame:
        lines.append("video: it is interlaced; both fields are shown in one frame")
    return lines


def decoder_of(stream: VideoStream) -> av.VideoCodecContext:
    """What decodes a stream: its own decoder, or one that gives its transparency too."""
    own = stream.codec_context
    name = _ALPHA_DECODERS.get(own.name)
    if not says_alpha(stream) or name not in av.codecs_available:
        return own
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata = own.extradata
    return decoder


def says_alpha(stream: VideoStream) -> bool:
    """Whether a WebM or Matroska stream says that transparency lies beside its pictures."""
    return stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether a frame's pixels can be transparent."""
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


def _on_background(picture: NDArray[Any]) -> Picture:
    """``(height, width, 4)`` uint8 RGBA, colours not multiplied by alpha, laid on the background."""
    alpha = picture[..., 3:].astype(np.uint16)
    if (alpha == 255).all():
        return picture[..., :3]
    under = np.array(BACKGROUND, np.uint16)
    return ((picture[..., :3] * alpha + under * (255 - alpha) + 127) // 255).astype(np.uint8)


def _turned(frame: av.VideoFrame) -> tuple[bool, tuple[bool, bool]]:
    """Whether rows become columns, and which directions are mirrored after that, by the frame's display matrix.

    The matrix is ``(a b u; c d v; x y w)``: a pixel ``(p, q)`` is shown at ``(a p + c q, b p + d q)``. Angles between
    are taken as the nearest of the eight ways to lay a rectangle on itself.
    """
    try:
        side_data: Any = frame.side_data  # whose type knows one kind of it
        matrix = np.frombuffer(side_data[Type.DISPLAYMATRIX], np.int32).tolist()
    except (KeyError, ValueError):  # no matrix, or beside it side data that PyAV has no name for
        quarters = round(frame.rotation / 90) % 4
        return quarters % 2 == 1, (quarters in (2, 3), quarters in (1, 2))
    a, b, c, d = (matrix[k] for k in (0, 1, 3, 4))
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if transposed else (a, d)
    return transposed, (across < 0, down < 0)
