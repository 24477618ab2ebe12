"""Write videos: h264, yuv420p, BT.709, an index at the front; playable in browsers while they load."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import av.filter
import numpy as np
from av.video.frame import PictureType

from animate_anyone.media.files import check_writable
from animate_anyone.media.opening import BROKEN, moving_pictures, open_media
from animate_anyone.media.sound import Sound, SoundTrack, find_sound
from animate_anyone.media.video_reading import open_video
from animate_anyone.structures import Picture, Size
from animate_anyone.system.whole_files import part_of, writing

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
_MUXERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_TICKS = 90_000  # per second, where frames bring their own times
_BT709, _LIMITED = 1, 1  # the same number for matrix, primaries and transfer in ITU-T H.273
_THREADS = 4  # fixed: x264's output depends on how many there are


class VideoWriter:
    """A video file that is written frame by frame and appears under its name only when complete.

        with VideoWriter("out.mp4", (512, 768), fps, audio_from="dance.mp4", audio_start=2.0) as video:
            for frame in frames:
                video.write(frame)

    An exception or an interrupt inside the ``with`` leaves nothing behind. The same frames and
    sound give the same file, byte for byte, however long each frame takes. An odd width or height
    is made even, as yuv420p needs it, by repeating the last column or row.

    Args:
        path: ``.mp4``, ``.mov`` or ``.mkv``; in a folder that is there.
        size: ``(width, height)`` of the frames, pixels.
        fps: frames per second. Frames that bring their own times (see :meth:`write`) need it too:
            it is the nominal rate.
        audio_from: a file whose sound comes along, or its track as :func:`open_video` found it; one without sound
            is no error. ``None``: silent.
        audio_start: seconds since that file's first picture; what sounds then sounds at 0 here.
        audio_end: seconds on the same clock at which the sound stops; ``None`` lets it go on. In any
            case it ends with the pictures.
        duration: seconds from the start of this file at which the last frame ends; ``None`` shows it as long as the
            one before.
        crf: x264's quality, 0 (lossless) to 51 (worst); 18 looks lossless.
        comment: text in the file's metadata; ``None`` for none.
        gop_size: at most so many frames from one key frame to the next; short makes seeking quick.

    Attributes:
        remarks: what did not go as it was meant, lines for the user; complete after the end.

    Raises:
        InputError: on construction, hence before any long work: the file cannot be written (see
            :func:`check_writable`), would replace ``audio_from``, or that cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        size: Size,
        fps: Fraction | int,
        *,
        audio_from: str | Path | Sound | None = None,
        audio_start: float = 0.0,
        audio_end: float | None = None,
        duration: float | None = None,
        crf: int = 18,
        gop_size: int = 48,
        comment: str | None = None,
    ) -> None:
        source = audio_from.path if isinstance(audio_from, Sound) else audio_from
        self._path = check_writable(path, VIDEO_SUFFIXES, () if source is None else (source,))
        self._size, self._fps, self._duration = size, Fraction(fps), duration
        self._crf, self._gop_size, self._comment = crf, gop_size, comment
        if min(size) < 2 or max(size) > 16384 or self._fps <= 0:
            raise ValueError(f"a video of {size[0]}×{size[1]} pixels at {fps} frames per second cannot be written")
        self.remarks: list[str] = []
        self._audio_from = audio_from if isinstance(audio_from, Sound) else self._find_sound(audio_from)
        self._audio_start = Fraction(audio_start).limit_denominator(10**6)
        self._audio_length = math.inf if audio_end is None else audio_end - audio_start
        self._num_frames = 0
        self._last_pts = -1
        self._waiting: av.VideoFrame | None = None  # the last frame: whether it is held, the end tells
        self._held: tuple[int, int] | None = None  # when it is shown, and for how long, ticks

    def _find_sound(self, source: str | Path | None) -> Sound | None:
        if source is None or os.path.isdir(source):  # a folder of pictures is silent
            return None
        with open_media(Path(source)) as container:
            pictures = bool(moving_pictures(container))
        if pictures:
            return open_video(source).sound
        sound, remark = find_sound(Path(source))
        self.remarks += [remark] if remark else []
        return sound

    def __enter__(self) -> VideoWriter:
        suffix = self._path.suffix.lower()
        width, height = (side + side % 2 for side in self._size)
        with writing(self._path), ExitStack() as stack:
            part = stack.enter_context(part_of(self._path))
            # Matroska files are given a random number each, unless bitexact is set.
            options = {"fflags": "+bitexact"} if suffix == ".mkv" else {"movflags": "+faststart"}
            self._output = av.open(f"file:{part}", "w", format=_MUXERS[suffix], options=options)
            stack.push(self._close)
            self._output.metadata.update({} if self._comment is None else {"comment": self._comment})
            coding = {"crf": str(self._crf)} | ({"x264-params": "asm=avx2"} if _has_avx512() else {})
            self._stream = self._output.add_stream("libx264", rate=self._fps, options=coding)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            coder = self._stream.codec_context
            coder.thread_count, coder.gop_size = _THREADS, self._gop_size
            coder.color_range = _LIMITED
            coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
            self._converter = _rgb_to_yuv(width, height)
            self._sound = None
            if self._audio_from is not None and self._audio_length > 0:
                zero = self._audio_from.zero + self._audio_start
                try:
                    source = stack.enter_context(open_media(self._audio_from.path))
                    self._sound = SoundTrack(source, self._audio_from.track, zero, self._audio_length, self._output)
                except (*BROKEN, ValueError, IndexError):  # it was there at the start: changed or moved since
                    self.remarks.append(f"sound: {self._audio_from.path} can be read no more; the result is silent")
            self._open = stack.pop_all()
        return self

    def write(self, frame: Picture, time: float | None = None) -> None:
        """Append a frame.

        Args:
            frame: ``(height, width, 3)`` uint8, RGB, of the size given to the constructor.
            time: seconds from the start of this file, larger than the one before; ``None`` spaces
                frames evenly at ``fps``. All frames of a file bring a time, or none does.
        """
        width, height = self._size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype} {frame.shape}; it must be uint8 {(height, width, 3)}")
        if self._num_frames == 0:
            self._timed = time is not None
            self._time_base = Fraction(1, _TICKS) if self._timed else 1 / self._fps
            self._stream.codec_context.time_base = self._time_base
        if self._timed != (time is not None):
            raise ValueError("either every frame brings a time or none does")
        pts = self._num_frames if time is None else round(time * _TICKS)
        if self._waiting is not None and pts <= self._last_pts:
            raise ValueError(f"frame {self._num_frames} at {time} s does not come after the one before it")
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._converter.push(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        picture = self._converter.vpull()
        picture.pts, picture.time_base = pts, self._time_base
        self._num_frames += 1
        first = self._waiting is None
        self._step = round(1 / self._fps / self._time_base) if first else pts - self._last_pts
        picture.duration = self._step
        if self._waiting is not None:
            self._mux(self._waiting)
        self._waiting, self._last_pts = picture, pts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with writing(self._path), self._open:
            if self._num_frames == 0:
                raise ValueError(f"{self._path}: a video of no frames")
            assert self._waiting is not None
            length = shown = self._step
            if self._duration is not None:
                shown = max(1, round(self._duration / self._time_base) - self._last_pts)
            if abs(shown - length) > length / 2:
                length = shown
                self._waiting.pict_type = PictureType.I  # last in the file too, whose length is the one written
                self._held = (self._last_pts, length)
            end = self._last_pts + length
            self._mux(self._waiting)
            self._mux(None)
            if self._sound is not None:
                self._sound.mux_until(float(end * self._time_base))
                if self._sound.broken:
                    self.remarks.append("sound: it breaks off on the way; the rest of the result is silent")

    def _mux(self, picture: av.VideoFrame | None) -> None:
        """Encode, and let the sound keep up, so that the file is interleaved."""
        with writing(self._path):
            for packet in self._stream.encode(picture):
                if self._held is not None and packet.pts == self._held[0]:
                    packet.duration = self._held[1]
                if self._sound is not None and packet.dts is not None and packet.time_base is not None:
                    self._sound.mux_until(float(packet.dts * packet.time_base))
                self._output.mux(packet)

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the end of the file. An earlier error is raised rather than one that arises here."""
        with suppress(*(() if kind is None else (av.error.FFmpegError, OSError))):
            self._output.close()


def _has_avx512() -> bool:
    """Whether x264 must be kept from AVX-512.

    With it x264 (165) decides on bits by memory that it has not written to, unless the width is a multiple of 128:
    the same frames give other files as soon as other memory is handed out. Without it encoding takes 4 % longer.
    """
    show: Any = np.show_config  # NumPy's own types do not know what it returns
    extensions = show(mode="dicts").get("SIMD Extensions", {})
    names = {name for kind in ("baseline", "found") for name in extensions.get(kind, ())}
    return any(name.startswith("AVX512") or name == "X86_V4" for name in names)  # NumPy 2.4 names levels


def _rgb_to_yuv(width: int, height: int) -> av.filter.Graph:
    """RGB → yuv420p with chroma sited left, as h264 decoders take it; PyAV's own conversion sites it centrally."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/{_TICKS}:pixel_aspect=1/1"),
        graph.add("scale", "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags=bicubic+accurate_rnd"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ).configure()
    return graph
