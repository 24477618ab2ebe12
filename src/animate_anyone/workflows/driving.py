"""The driving video: a video of somebody, a skeleton video or poses; which of its frames, and when each is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.frame_ranges import ranges, runs
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.media import Sound, Video, frame_range, open_video
from animate_anyone.media.timeline import spread
from animate_anyone.perception import PoseEstimator, load_estimator
from animate_anyone.perception.person.people import track_person
from animate_anyone.perception.pose.frames_in_reach import FramesInReach
from animate_anyone.perception.pose.quality import report as quality_report
from animate_anyone.perception.pose.skeleton_look import SkeletonLook
from animate_anyone.perception.pose.skeleton_video import find_skeletons
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Picture, PoseSequence

MOST_FRAMES = 1_000_000
"""The most frames of a result whose frame rate is given."""
LONGEST = 6 * 3600
"""Seconds that a frame of uneven times may be shown: MP4 has 31 bits for them, in ticks of 1/90,000 s 6.6 hours."""

REACH = 1.8
"""Seconds of a video that are held while one of several people is looked for; a third where frames are large."""
KINDS = ("auto", "video", "skeleton")
"""What a driving video shows: ``auto`` looks, a ``video`` of somebody, or a finished ``skeleton`` video."""
LARGE = 1920 * 1088
"""Pixels of a frame above which frames are large."""


@dataclass(frozen=True)
class Driver:
    """A driving video, skeleton video or poses: which of its frames drive, and when each is shown.

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
        ready: poses that were read from a file; ``None`` for a video.
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
        followed = track_person(self.source_frames(), self.source_fps, looks, person, self.source_times, progress)
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

    def source_frames(self) -> FramesInReach:
        """The frames of ``source`` by number; as many stay at hand as looking for one person among others goes back."""
        video = self.video
        assert video is not None

        def read(start: int) -> Iterator[Picture]:
            return (frame for _, frame in video.frames(self.source[start:]))

        return FramesInReach(read, len(self.source), self.in_reach)

    def result_frames(self, kept: int | None = None) -> FramesInReach:
        """The frames of the result's driver by number.

        Args:
            kept: how many stay at hand; ``None``: as of :meth:`source_frames`.
        """

        def read(start: int) -> Iterator[Picture]:
            return self.pictures_of(range(start, len(self)))

        return FramesInReach(read, len(self), self.in_reach if kept is None else kept)

    @property
    def in_reach(self) -> int:
        """How many frames looking for one person among others goes back."""
        seconds = REACH if self.size[0] * self.size[1] <= LARGE else REACH / 3
        return round(seconds * float(self.source_fps)) + 2

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
        return hold_driver(PoseSequence.load(path), frames, fps, name=path)
    return hold_driver(open_video(path), frames, fps, kind)


def hold_driver(
    held: Video | PoseSequence,
    frames: slice | None = None,
    fps: Fraction | None = None,
    kind: str = "auto",
    name: str | Path = "poses",
) -> Driver:
    """As :func:`open_driver`, of a video that is open or in memory, or of poses.

    Args:
        held: a video, such as :class:`~animate_anyone.media.held_video.HeldVideo`, or poses.
        frames, fps: as there.
        kind: as there, of a video.
        name: of poses, for messages.
    """
    if isinstance(held, PoseSequence):
        path, poses, video = Path(name), held, None
        size, source_fps, count = poses.size, poses.fps, len(poses)
        times = np.arange(count + 1) / float(poses.fps) if poses.times is None else _with_end(poses.times)
    else:
        path, poses, video = held.path, None, held
        size, source_fps, count = (video.info.width, video.info.height), video.info.fps, video.info.num_frames
        times = video.times
    source = frame_range(frames, count, path)
    own, own_fps = _part(times, source), source_fps / source.step
    uneven, duration = _uneven(own, own_fps), float(own[-1])
    driver = Driver(path, size, source, own_fps, uneven, np.arange(len(source)), own_fps, uneven, video=video)
    if fps is not None:
        index = _resampled(own, fps)
        duration = duration if len(index) == len(source) else len(index) / float(fps)
        driver = replace(driver, index=index, fps=fps, times=None)
    elif uneven is not None:
        _check_lengths(path, own)
    driver = replace(driver, duration=duration)
    if video is None:
        assert poses is not None
        return replace(driver, ready=poses[source.start : source.stop : source.step])
    look = None
    if kind != "video":
        samples = [frame for _, frame in video.frames(source[:: max(1, len(source) // 8)][:8])]
        look = find_skeletons(samples, told=kind == "skeleton")
    start = float(times[source.start])
    stop = float(times[source.start] + own[-1])
    return replace(driver, skeletons=look, sound=video.sound, start=start, stop=stop, remarks=video.remarks)


def _part(times: NDArray[np.float64], frames: range) -> NDArray[np.float64]:
    """Times of some frames, seconds from the first of them, with the end of the last one; ``times`` has an end too."""
    end = min(frames[-1] + frames.step, len(times) - 1)
    return times[[*frames, end]] - times[frames.start]


def _with_end(times: NDArray[np.float64]) -> NDArray[np.float64]:
    last = times[-1] - times[-2] if len(times) > 1 else 1 / 24
    return spread(np.append(times, times[-1] + last))  # closer ones than a file can distinguish


def _uneven(times: NDArray[np.float64], fps: Fraction) -> NDArray[np.float64] | None:
    """The times of frames, without the end of the last; ``None`` where they are even."""
    even = np.abs(times[:-1] - np.arange(len(times) - 1) / float(fps)).max() < 0.25 / float(fps)
    return None if even else times[:-1]


def _resampled(times: NDArray[np.float64], fps: Fraction) -> NDArray[np.intp]:
    """Which frame each frame of a result at ``fps`` shows."""
    if times[-1] * float(fps) > MOST_FRAMES:
        raise InputError(
            f"--fps {fps}: {times[-1]:.0f} s would be more than {MOST_FRAMES} frames; give a lower rate, or "
            "fewer frames with --frames"
        )
    shown = np.arange(max(1, round(times[-1] * float(fps)))) / float(fps)
    index = np.searchsorted(times[:-1], shown + 1e-6, side="right") - 1
    return index.clip(0, len(times) - 2).astype(np.intp)


def _check_lengths(path: Path, times: NDArray[np.float64]) -> None:
    """See that the result can hold frames of uneven times."""
    lengths = np.diff(times)
    if lengths.max() > LONGEST:
        raise InputError(
            f"{path}: by its times frame {int(lengths.argmax())} is shown for {lengths.max() / 3600:.0f} hours, and at "
            f"most {LONGEST // 3600} are possible; give --fps, or fewer frames with --frames"
        )
