"""What drives: a video, a skeleton video or poses; which of its frames, and when each is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from animate_anyone.perception import PoseEstimator, load_estimator
from animate_anyone.perception.person.people import follow
from animate_anyone.perception.pose.frames_in_reach import FramesInReach
from animate_anyone.perception.pose.quality import ranges, runs
from animate_anyone.perception.pose.quality import report as quality_report
from animate_anyone.perception.pose.skeleton_look import SkeletonLook
from animate_anyone.perception.pose.skeleton_video import find_skeletons
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import PoseSequence

Picture = NDArray[np.uint8]
MOST_FRAMES = 1_000_000
"""Of a result whose frame rate is given."""
LONGEST = 6 * 3600
"""Seconds that a frame of uneven times may be shown: MP4 has 31 bits for them, in ticks of 1/90,000 s 6.6 hours."""

Timing = tuple[NDArray[np.intp], Fraction, NDArray[np.float64] | None]
"""Which source frame each frame of the result shows, its rate, and its times where they are uneven."""
REACH = 1.8
"""Seconds of a video that are held while one of several people is looked for; a third where frames are large."""
KINDS = ("auto", "video", "skeleton")
"""What a video that drives may be said to show: let it be looked at, somebody, finished skeletons."""
LARGE = 1920 * 1088
"""Pixels."""


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
        skeletons: how the frames, which are finished skeleton drawings, are brought into the usual form; ``None``
            where they are none.
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
    skeletons: SkeletonLook | None = None
    ready: PoseSequence | None = None
    sound: Sound | None = None
    start: float = 0.0
    stop: float | None = None
    duration: float | None = None
    video: Video | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def is_skeleton(self) -> bool:
        """Whether the frames are finished skeleton drawings."""
        return self.skeletons is not None

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

    def poses(
        self, estimator: str | Callable[[], PoseEstimator], progress: Progress = SILENT, person: int = 0
    ) -> tuple[PoseSequence, list[str]]:
        """The poses of one person in the result's frames, and remarks on them for the user.

        Args:
            estimator: of poses: its name, or what loads it.
            progress: shown how far it is.
            person: who, 0 is the largest in the first frame where anybody is. All scores are 0 in frames without
                them; where there is never anybody else, whoever is found is the person.

        Raises:
            InputError: too few frames show the person, or there are not so many people.
        """
        if self.ready is not None:
            return self._on_own_clock(self.ready), []
        looks = load_estimator(estimator) if isinstance(estimator, str) else estimator()
        followed = follow(self._in_reach(), self.source_fps, looks, person, self.source_times, progress)
        found, alone = followed.poses, followed.alone()
        if alone and followed.whole is not None and followed.dropped:  # a cut, or other light
            scores = found.scores.copy()
            scores[list(followed.dropped)] = followed.whole.scores[list(followed.dropped)]
            found = replace(found, scores=scores)
        quality = quality_report(found)
        quality.check(hint="; for a finished skeleton video: --driving-kind skeleton")
        lines = [*getattr(looks, "remarks", ()), *quality.lines()]
        if not alone:
            lines += followed.lines(person)
        missed = np.isin(np.arange(len(found)), followed.dropped)
        if not alone and missed.any():
            lines.append(f"only somebody else was found, and left out, in frame {ranges(runs(missed))}")
        return self._on_own_clock(clean(found)), lines

    def _in_reach(self) -> FramesInReach:
        """The frames of ``source`` by number; as many stay at hand as looking for one person among others goes back."""

        video = self.video
        assert video is not None

        def read(start: int) -> Iterator[Picture]:
            return (frame for _, frame in video.frames(self.source[start:]))

        seconds = REACH if self.size[0] * self.size[1] <= LARGE else REACH / 3
        return FramesInReach(read, len(self.source), kept=round(seconds * float(self.source_fps)) + 2)

    def _on_own_clock(self, poses: PoseSequence) -> PoseSequence:
        """The source's poses as the result shows them."""
        return replace(poses[self.index], fps=self.fps, times=self.times)


def open_driver(
    path: str | Path, frames: slice | None = None, fps: Fraction | None = None, kind: str = "auto"
) -> Driver:
    """Look at what drives, and choose its frames.

    Args:
        path: a video, a folder of frames, a skeleton video, or poses (``.npz``).
        frames: which of its frames; ``None`` for all.
        fps: frame rate of the result; ``None`` keeps the driver's timing.
        kind: a name in :data:`KINDS`: whether a video shows somebody or finished skeletons; ``auto`` looks.

    Raises:
        InputError: it cannot be read, or has not those frames.
    """
    path = Path(path)
    if kind not in KINDS:
        raise InputError(f"there is no kind of driver {kind!r}; there are: {', '.join(KINDS)}")
    if kind != "auto" and path.suffix.lower() == ".npz":
        raise InputError(f"{path}: holds poses, and is no {kind}; leave --driving-kind out")
    if path.suffix.lower() == ".npz":
        ready = PoseSequence.load(path)
        source = frame_range(frames, len(ready), path)
        times = np.arange(len(ready) + 1) / float(ready.fps) if ready.times is None else _with_end(ready.times)
        own, own_fps = _part(times, source), ready.fps / source.step
        timing = _timing(own, own_fps, fps)
        _check_lengths(path, own, timing)
        ready = ready[source.start : source.stop : source.step]
        uneven = _timing(own, own_fps, None)[2]
        return Driver(path, ready.size, source, own_fps, uneven, *timing, ready=ready, duration=_end(own, timing))
    video = open_video(path)
    info, times = video.info, video.times
    source = frame_range(frames, info.num_frames, path)
    own, own_fps = _part(times, source), info.fps / source.step
    timing = _timing(own, own_fps, fps)
    _check_lengths(path, own, timing)
    look = None
    if kind != "video":
        samples = [frame for _, frame in video.frames(source[:: max(1, len(source) // 8)][:8])]
        look = find_skeletons(samples, told=kind == "skeleton")
    return Driver(
        path,
        (info.width, info.height),
        source,
        own_fps,
        _timing(own, own_fps, None)[2],
        *timing,
        skeletons=look,
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


def _check_lengths(path: Path, own: NDArray[np.float64], timing: Timing) -> None:
    """See that the result can hold frames of uneven times; ``own`` as in :func:`_timing`."""
    lengths = np.diff(own)
    if timing[2] is not None and lengths.max() > LONGEST:
        raise InputError(
            f"{path}: by its times frame {int(lengths.argmax())} is shown for {lengths.max() / 3600:.0f} hours, and at "
            f"most {LONGEST // 3600} are possible; give --fps, or fewer frames with --frames"
        )


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
            return [self._placed(frame) for frame in self.driver.pictures_of(part)]
        _, frame = next(self.driver.read([self.driver.index[number]]))
        return self._placed(frame)

    def __iter__(self) -> Iterator[Picture]:
        return (self._placed(frame) for frame in self.driver.pictures())

    def _placed(self, frame: Picture) -> Picture:
        assert self.driver.skeletons is not None
        return self.placing.apply(self.driver.skeletons.usual(frame), black=True)


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
