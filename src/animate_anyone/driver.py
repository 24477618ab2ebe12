"""What drives: a video, a skeleton video or poses; which of its frames, and when each is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_frames, draw_pose
from animate_anyone.conditions.placing import Placing
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.media import Sound, Video, VideoWriter, frame_range, is_picture, open_video, read_picture
from animate_anyone.media.timeline import spread
from animate_anyone.perception import load_estimator
from animate_anyone.perception.quality import report as quality_report
from animate_anyone.perception.skeleton_video import is_skeleton_video
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import PoseSequence

Picture = NDArray[np.uint8]
MOST_FRAMES = 1_000_000
"""Of a result whose frame rate is given."""

Timing = tuple[NDArray[np.intp], Fraction, NDArray[np.float64] | None]
"""Which source frame each frame of the result shows, its rate, and its times where they are uneven."""


@dataclass(frozen=True)
class Driver:
    """What drives: which frames of what, and when each is shown.

    Attributes:
        path: a video, a folder of frames, or ``.npz`` poses.
        size: ``(width, height)`` of its frames.
        source: the frames that are read.
        source_fps, source_times: the driver's own rate, and times where they are uneven.
        index: for each frame of the result, which of ``source`` it shows, counted from 0.
        fps: nominal frame rate of the result.
        times: when each is shown, seconds; ``None`` where evenly spaced.
        is_skeleton: the frames are finished skeleton drawings.
        ready: poses that were given as such.
        sound: where sound comes from, with ``start`` and ``stop`` in seconds of its video.
        duration: seconds from the first frame of the result to the end of its last.
        video: what is read, ``None`` for poses.
        remarks: what is unusual about it, lines for the user.
    """

    path: Path
    size: tuple[int, int]
    source: range
    source_fps: Fraction
    source_times: NDArray[np.float64] | None
    index: NDArray[np.intp]
    fps: Fraction
    times: NDArray[np.float64] | None = None
    is_skeleton: bool = False
    ready: PoseSequence | None = None
    sound: Sound | None = None
    start: float = 0.0
    stop: float | None = None
    duration: float | None = None
    video: Video | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    def pictures(self) -> Iterator[Picture]:
        """The frames of the result's driver, in order."""
        return self.pictures_of(range(len(self)))

    def pictures_of(self, numbers: range) -> Iterator[Picture]:
        """Some frames of the result's driver, by increasing numbers."""
        shown = self.index[numbers.start : numbers.stop : numbers.step]
        positions, times = np.unique(shown, return_counts=True)
        for (_, frame), count in zip(self.read(positions), times, strict=True):
            for _ in range(count):
                yield frame

    def read(self, positions: Sequence[int] | NDArray[np.intp]) -> Iterator[tuple[float, Picture]]:
        """Some of the source's frames, by increasing numbers, with their times in the video."""
        assert self.video is not None, "poses have no pictures"
        return self.video.frames([self.source[int(position)] for position in positions])

    def poses(self, estimator: str, progress: Progress = SILENT) -> tuple[PoseSequence, list[str]]:
        """The poses of the result's frames, and remarks on their quality for the user.

        Raises :class:`InputError` where too few frames show a person.
        """
        if self.ready is not None:
            return self._on_own_clock(self.ready), []
        found = load_estimator(estimator).estimate(
            SourceFrames(self), self.size, self.source_fps, self.source_times, progress=progress
        )
        quality = quality_report(found)
        quality.check()
        return self._on_own_clock(clean(found)), quality.lines()

    def _on_own_clock(self, poses: PoseSequence) -> PoseSequence:
        """The source's poses as the result shows them."""
        return replace(poses[self.index], fps=self.fps, times=self.times)


def open_driver(path: str | Path, frames: slice | None = None, fps: Fraction | None = None) -> Driver:
    """Look at what drives, and choose its frames.

    Args:
        path: a video, a folder of frames, a skeleton video, or poses (``.npz``).
        frames: which of its frames; ``None`` for all.
        fps: frame rate of the result; ``None`` keeps the driver's timing.

    Raises:
        InputError: it cannot be read, or has not those frames.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        ready = PoseSequence.load(path)
        source = frame_range(frames, len(ready), path)
        times = np.arange(len(ready) + 1) / float(ready.fps) if ready.times is None else _with_end(ready.times)
        own, own_fps = _part(times, source), ready.fps / source.step
        timing = _timing(own, own_fps, fps)
        ready = ready[source.start : source.stop : source.step]
        uneven = _timing(own, own_fps, None)[2]
        return Driver(path, ready.size, source, own_fps, uneven, *timing, ready=ready, duration=_end(own, timing))
    video = open_video(path)
    info, times = video.info, video.times
    source = frame_range(frames, info.num_frames, path)
    own, own_fps = _part(times, source), info.fps / source.step
    timing = _timing(own, own_fps, fps)
    skeleton = is_skeleton_video(frame for _, frame in video.frames(source[:: max(1, len(source) // 8)][:8]))
    return Driver(
        path,
        (info.width, info.height),
        source,
        own_fps,
        _timing(own, own_fps, None)[2],
        *timing,
        is_skeleton=skeleton,
        sound=video.sound,
        start=float(times[source.start]),
        stop=float(times[source.start] + own[-1]),
        duration=_end(own, timing),
        video=video,
        remarks=video.remarks,
    )


def _part(times: NDArray[np.float64], frames: range) -> NDArray[np.float64]:
    """Times of some frames, seconds from the first of them, with the end of the last one; ``times`` has an end too."""
    end = min(frames[-1] + frames.step, len(times) - 1)
    return times[[*frames, end]] - times[frames.start]


def _end(times: NDArray[np.float64], timing: Timing) -> float:
    """When the last frame of the result ends: as the source does, or evenly where the rate was given."""
    index, fps, own = timing
    return float(times[-1]) if own is not None or len(index) == len(times) - 1 else len(index) / float(fps)


def _with_end(times: NDArray[np.float64]) -> NDArray[np.float64]:
    last = times[-1] - times[-2] if len(times) > 1 else 1 / 24
    return spread(np.append(times, times[-1] + last))  # closer ones than a file can tell apart


def _timing(times: NDArray[np.float64], fps: Fraction, wanted: Fraction | None) -> Timing:
    """Which source frame each result frame shows, the rate, and times where they are uneven.

    ``times`` are the source's, seconds from 0, with the end of the last frame after them.
    """
    count = len(times) - 1
    if wanted is not None:
        if times[-1] * float(wanted) > MOST_FRAMES:
            raise InputError(
                f"--fps {wanted}: {times[-1]:.0f} s would be more than {MOST_FRAMES} frames; give a lower rate, or "
                "fewer frames with --frames"
            )
        shown = np.arange(max(1, round(times[-1] * float(wanted)))) / float(wanted)
        index = np.searchsorted(times[:-1], shown + 1e-6, side="right") - 1
        return index.clip(0, count - 1).astype(np.intp), wanted, None
    even = np.abs(times[:-1] - np.arange(count) / float(fps)).max() < 0.25 / float(fps)
    return np.arange(count), fps, None if even else times[:-1]


class SourceFrames(Iterable[Picture]):
    """A driver's own frames, read one by one; their number is known."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def __len__(self) -> int:
        return len(self.driver.source)

    def __iter__(self) -> Iterator[Picture]:
        return (frame for _, frame in self.driver.read(range(len(self))))


class DrawnPoses(Sequence[Picture]):
    """Pose pictures that are drawn when they are asked for, so that long clips need no memory.

    Args:
        poses: what to draw.
        size: ``(width, height)`` of the pictures.
        style: a name in ``conditions.draw.STYLES``.
    """

    def __init__(self, poses: PoseSequence, size: tuple[int, int], style: str) -> None:
        self.poses, self.size, self.style = poses, size, style

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return DrawnPoses(self.poses[number], self.size, self.style)
        number = range(len(self))[number]
        return draw_pose(self.poses[number : number + 1], self.size, style=self.style)[0]

    def __iter__(self) -> Iterator[Picture]:
        return draw_frames(self.poses, self.size, style=self.style)


class SkeletonPictures(Sequence[Picture]):
    """The frames of a finished skeleton video, put into the frame as the character is: scaled, on black.

    Args:
        driver: the skeleton video.
        size: ``(width, height)`` of the video to be made.
        scale: how much larger the pictures are than that.
    """

    def __init__(self, driver: Driver, size: tuple[int, int], scale: float) -> None:
        drawn = (round(size[0] * scale), round(size[1] * scale))
        self.driver, self.placing = driver, Placing.into(driver.size, drawn)

    def __len__(self) -> int:
        return len(self.driver)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            part = range(*number.indices(len(self)))
            return [self.placing.apply(frame, black=True) for frame in self.driver.pictures_of(part)]
        _, frame = next(self.driver.read([self.driver.index[number]]))
        return self.placing.apply(frame, black=True)

    def __iter__(self) -> Iterator[Picture]:
        return (self.placing.apply(frame, black=True) for frame in self.driver.pictures())


def estimate_file(
    source: str | Path,
    frames: slice | None = None,
    estimator: str = "mediapipe",
    smooth: bool = True,
    preview: Path | None = None,
    progress: Progress = SILENT,
) -> tuple[PoseSequence, list[str]]:
    """The poses in a video or a picture, and remarks on them; ``preview`` is a video to lay them over.

    Raises :class:`InputError` where nobody is found.
    """
    source, times, end = Path(source), None, None
    remarks: tuple[str, ...] = ()
    if is_picture(source):
        picture = read_picture(source)
        found = load_estimator(estimator).estimate_picture(picture)
        if found is None:
            raise InputError(f"{source}: no person was found in it; give a picture in which the body shows")
        pictures = iter([picture])
    else:
        driver = open_driver(source, frames)
        if driver.ready is not None:
            raise InputError(f"{source}: holds poses already; give a video or a picture")
        if driver.is_skeleton:
            raise InputError(f"{source}: is a skeleton video; `animate` takes it as --driving as it is")
        found = load_estimator(estimator).estimate(
            SourceFrames(driver),
            driver.size,
            driver.source_fps,
            driver.source_times,
            progress=progress,
        )
        pictures, times, end = driver.pictures(), driver.times, driver.duration
        remarks = tuple(line for line in driver.remarks if not line.startswith("sound:"))  # poses have none
    quality = quality_report(found)
    quality.check()
    if smooth and len(found) > 1:
        found = clean(found)
    if preview is not None:
        with VideoWriter(preview, found.size, found.fps, duration=end) as video:
            drawn = draw_frames(found, found.size, style="scaled")
            shown = zip(pictures, drawn, strict=True)
            for number, (picture, skeleton) in enumerate(progress.track(shown, len(found), "preview")):
                laid_over = np.where(skeleton.any(-1, keepdims=True), skeleton, picture)
                video.write(laid_over, None if times is None else float(times[number]))
    return found, [*remarks, *quality.lines()]
