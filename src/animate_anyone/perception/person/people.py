"""Several people in a video: who there is, by size, and the poses of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import MIN_SCORE, is_person
from animate_anyone.errors import InputError
from animate_anyone.perception.classical import grow
from animate_anyone.perception.person.appearance import PersonAppearance, joints_apart
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.mask_checks import SOMEBODY_ELSE
from animate_anyone.perception.pose.protocol import PoseEstimator
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, NUM_KEYPOINTS, Mask, Picture, PoseSequence, Size

_CHUNK_SECONDS = 0.5  # after so long the window is put around the person anew
_PATIENCE_SECONDS = 1.0  # after so long without the person their last place says nothing
_MARGIN = 0.7  # torso lengths around the joints
_PAINT = 0.15  # torso lengths around a body that is painted over
_MADE_UP = 0.5  # share of a body that lies on paint
_SAME = 0.5  # torso lengths between the points of poses that are one person


def find_people(
    picture: Picture, estimator: PoseEstimator, most: int = 4, known: PoseSequence | None = None
) -> list[PoseSequence]:
    """The people in a picture ``(height, width, 3)``, the largest first; each one pose, in its pixels.

    An estimator that sees one person at a time is shown the picture again with that one painted over. ``known`` is
    the pose of somebody who was found there before.
    """
    shown = picture.copy()
    painted = np.zeros(picture.shape[:2], bool)
    people: list[PoseSequence] = []
    for _ in range(most):
        pose = estimator.estimate_picture(shown) if people or known is None else known
        if pose is None or any(_same(pose, other) for other in people):
            break
        sure, maybe = body_hulls(pose.keypoints[0], pose.scores[0], pose.size)
        if (sure & painted).sum() > _MADE_UP * sure.sum():  # the estimator found a person on the painted area
            break
        people.append(pose)
        painted |= maybe
        shown[maybe] = picture.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    return sorted(people, key=lambda pose: -_size(pose))


@dataclass(frozen=True)
class TrackedPerson:
    """The poses of one of several people, tracked through a video.

    Attributes:
        poses: the person's; all scores 0 in frames without them.
        people: who is there in frame ``first``, the largest first; one pose each.
        first: the first frame where anybody is.
        mended: frames in which the estimator's first answer was somebody else, and the person was found close up.
        dropped: frames in which only somebody else was found.
        whole: what the estimator saw in the whole frames, whoever it is; nobody in any where it was not asked.
    """

    poses: PoseSequence
    people: tuple[PoseSequence, ...]
    first: int
    mended: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    whole: PoseSequence | None = None

    def alone(self) -> bool:
        """Whether there was never anybody else beside the person."""
        return len(self.people) < 2 and not self.mended

    def lines(self, asked: int) -> list[str]:
        """Who was tracked, for the user, who asked for the person of this number."""
        lines = [who_was_taken(list(self.people), self.poses, self.first, asked)]
        if self.mended:
            numbers = ", ".join(map(str, self.mended))
            lines.append(f"poses: of somebody else at first, so looked for close to the person, in frame {numbers}")
        return lines

    def flagged(self) -> tuple[tuple[int, str], ...]:
        """``(frame, reason)`` for each frame to look at by eye."""
        return tuple((frame, SOMEBODY_ELSE) for frame in self.dropped)


def who_was_taken(people: list[PoseSequence], poses: PoseSequence, frame: int, asked: int) -> str:
    """A line on which of the people in a frame, the largest first, the poses are of."""
    if len(people) < 2:
        return f"people in frame {frame}: one"
    joints = poses.keypoints[frame, BODY]
    apart = [float(np.median(np.linalg.norm(p.keypoints[0, BODY] - joints, axis=1))) for p in people]
    taken = int(np.argmin(apart))
    line = f"people in frame {frame}: {len(people)}; person {taken} by size was taken"
    if taken == asked:
        return f"{line}; another: --person N"
    return f"{line}, though it should be {asked}: look at the skeletons (--keep DIR), and try other --frames"


def track_person(
    frames: Sequence[Picture],
    fps: Fraction,
    estimator: PoseEstimator,
    person: int = 0,
    times: NDArray[np.float64] | None = None,
    progress: Progress = SILENT,
) -> TrackedPerson:
    """Track one of several people: 0 is the largest in the first frame where anybody is, 1 the next.

    For 0 the estimator sees the whole frames first. Where its pose is not the person's, by place and by colours, and
    for all others, it sees a window around the person's last place, if need be with the other one painted over. Where
    that is not the person either, the person is looked for in the whole frame by their colours.

    Args:
        frames: ``(height, width, 3)`` uint8, RGB, all of one size.
        fps: nominal frame rate.
        estimator: any.
        person: number by size, from 0.
        times: as :class:`PoseSequence` has them.
        progress: shown how far it is.

    Raises:
        InputError: there are no frames, or not so many people.
    """
    if not len(frames):
        raise InputError("there are no frames to look for people in; give a video with 1 frame or more")
    if person < 0:
        raise InputError(f"there is no person {person}; give --person 0 for the largest, 1 for the next")
    size = (frames[0].shape[1], frames[0].shape[0])
    chunk = max(round(_CHUNK_SECONDS * float(fps)), 2)
    if person == 0:
        found = estimator.estimate(frames, size, fps, times, progress)
        there = np.flatnonzero(is_person(found.scores))
        if not len(there):
            return TrackedPerson(found, (), 0, whole=found)
        first = int(there[0])
        people = find_people(frames[first], estimator, known=found[first : first + 1])
    else:
        shape = (len(frames), NUM_KEYPOINTS)
        found = PoseSequence(np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32), size, fps, times)
        first, people = _first_people(frames, estimator, chunk)
    if person >= len(people):
        raise InputError(f"--person {person}: {len(people)} people were found in frame {first}; give 0 to the largest")
    chosen = people[person]
    others = [pose for pose in people if pose is not chosen]
    search = _Search(frames, estimator, found, PersonAppearance(frames[first], chosen, others), chunk)
    search.put(first, chosen)
    for start in progress.track(range(first + 1, len(frames), chunk), description="one person"):
        search.go_through(range(start, min(start + chunk, len(frames))))
    return TrackedPerson(search.poses(), tuple(people), first, tuple(search.mended), tuple(search.dropped), found)


class _Search:
    """Decides frame after frame who is the person.

    Args:
        frames, estimator: as :func:`track_person` has them.
        found: what the estimator sees in the whole frames; nobody in any where it was not asked.
        appearance: of the person and of the others.
        chunk: frames that share a window.
    """

    def __init__(
        self,
        frames: Sequence[Picture],
        estimator: PoseEstimator,
        found: PoseSequence,
        appearance: PersonAppearance,
        chunk: int,
    ) -> None:
        self._frames, self._estimator, self._found, self._appearance = frames, estimator, found, appearance
        self._asked = bool((found.scores > 0).any())
        self._chunk = chunk
        self._kept: dict[int, PoseSequence] = {}
        self._last, self._searched = 0, -chunk
        self._close_up = not self._asked  # whether the person is not whom the estimator sees in whole frames
        self.mended: list[int] = []
        self.dropped: list[int] = []

    def put(self, number: int, pose: PoseSequence) -> None:
        """The person is here in this frame."""
        self._appearance.accept(self._frames[number], pose)
        self._kept[number], self._last = pose, number

    def poses(self) -> PoseSequence:
        """The person's, of all frames."""
        points, scores = self._found.keypoints.copy(), self._found.scores.copy()
        depth = None if self._found.depth is None and self._asked else np.zeros_like(scores)
        if depth is not None and self._found.depth is not None:
            depth[:] = self._found.depth
        scores[self.dropped] = 0
        for number, pose in self._kept.items():
            points[number], scores[number] = pose.keypoints[0], pose.scores[0]
            if depth is not None and pose.depth is not None:
                depth[number] = pose.depth[0]
        if any(pose.depth is None for pose in self._kept.values()):
            depth = None
        return replace(self._found, keypoints=points, scores=scores, depth=depth)

    def go_through(self, part: range) -> None:
        """Decide on these frames, in order."""
        for number in part:
            whole = self._whole(number)
            if self._here(number, whole):
                self._keep(number, whole, whole)
            elif self._close_up or is_person(whole.scores[0]):
                self._look_closer(range(number, part.stop))
                return

    def _look_closer(self, part: range) -> None:
        """As :meth:`go_through` where the whole frames do not tell."""
        lost = self._seconds(part.start) > _PATIENCE_SECONDS
        close = {} if lost else self._look(part)
        behind: dict[int, PoseSequence] | None = {} if lost else None
        for number in part:
            seen = [pose for pose in (self._whole(number), close.get(number)) if pose is not None]
            here = next((pose for pose in seen if self._here(number, pose)), None)
            somebody = next((pose for pose in seen if is_person(pose.scores[0])), None)
            if here is None and somebody is not None and self._appearance.again(self._frames[number], seen[0]):
                here = seen[0]
            if here is None and somebody is not None and behind is None:
                behind = self._look(range(number, part.stop), hidden=somebody)
            if here is None and behind and self._here(number, behind[number]):
                here = behind[number]
            if here is None and (somebody is not None or not self._asked):
                here = self._anywhere(number)
                if here is not None:
                    self._go_back(number, here)
                    self._keep(number, here, seen[0])
                    self.go_through(range(number + 1, part.stop))
                    return
            if here is not None:
                self._keep(number, here, seen[0])
            elif somebody is not None:
                self.dropped.append(number)

    def _keep(self, number: int, pose: PoseSequence, whole: PoseSequence) -> None:
        self.put(number, pose)
        self._close_up = pose is not whole
        if pose is not whole and is_person(whole.scores[0]):
            self.mended.append(number)
            if not self._appearance.near(whole, 0.0):
                self._appearance.learn_other(self._frames[number], whole)

    def _whole(self, number: int) -> PoseSequence:
        return self._found[number : number + 1]

    def _seconds(self, number: int) -> float:
        return abs(number - self._last) / float(self._found.fps)

    def _here(self, number: int, pose: PoseSequence) -> bool:
        return self._appearance.here(self._frames[number], pose, self._seconds(number))

    def _look(self, part: range, hidden: PoseSequence | None = None) -> dict[int, PoseSequence]:
        """Poses in the window around the person's last place; with ``hidden`` painted over, where it moves too."""
        size = self._found.size
        last = self._appearance.last
        left, top, right, bottom = _window(last, size)
        own, _ = body_hulls(last.keypoints[0], last.scores[0], size)
        pictures = []
        for number in part:
            picture = self._frames[number]
            if hidden is not None:
                if is_person(self._whole(number).scores[0]):
                    hidden = self._whole(number)
                picture = _without(picture, hidden, own)
            pictures.append(np.ascontiguousarray(picture[top:bottom, left:right]))
        found = self._estimator.estimate(pictures, (right - left, bottom - top), self._found.fps)
        depth = None if found.depth is None else found.depth * np.float32((bottom - top) / size[1])
        moved = replace(found, keypoints=found.keypoints + np.array([left, top], np.float32), size=size, depth=depth)
        return {number: moved[k : k + 1] for k, number in enumerate(part)}

    def _go_back(self, number: int, pose: PoseSequence) -> None:
        """Find in the frames before it somebody who was found again only now, and may have been back for a while."""
        missed = [n for n in self.dropped if number - 2 * self._chunk <= n < number and n > self._last]
        if not missed:
            return
        self.put(number, pose)
        looks = self._look(range(missed[0], number))
        for n in reversed(missed):
            seen = [self._whole(n), looks[n]]
            here = next((one for one in seen if self._here(n, one)), None)
            if here is None:
                break
            self.dropped.remove(n)
            self._keep(n, here, seen[0])
        self.mended.sort()

    def _anywhere(self, number: int) -> PoseSequence | None:
        """The person in the whole frame, by their colours; looked for now and then, for it takes long."""
        if number - self._searched < 2 * self._chunk:
            return None
        self._searched = number
        people = find_people(self._frames[number], self._estimator)
        return next((pose for pose in people if self._appearance.again(self._frames[number], pose)), None)


def _first_people(frames: Sequence[Picture], estimator: PoseEstimator, chunk: int) -> tuple[int, list[PoseSequence]]:
    """The first of every so many frames in which there is anybody, and who."""
    people: list[PoseSequence] = []
    number = 0
    for number in range(0, len(frames), chunk):
        people = find_people(frames[number], estimator)
        if people:
            break
    return number, people


def _without(picture: Picture, other: PoseSequence, own: Mask) -> Picture:
    """A picture with somebody painted over, but for where the person was, ``own``."""
    body, _ = body_hulls(other.keypoints[0], other.scores[0], other.size)
    wide = grow(body, max(round(_PAINT * frame_torso_length(other.keypoints[0], other.scores[0])), 1))
    shown = picture.copy()
    shown[wide & ~own] = picture.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    return shown


def _window(pose: PoseSequence, size: Size) -> tuple[int, int, int, int]:
    """Left, top, right, bottom around a pose with a margin, inside the frame."""
    seen = pose.scores[0, BODY] >= MIN_SCORE
    points = pose.keypoints[0, BODY][seen]
    margin = _MARGIN * frame_torso_length(pose.keypoints[0], pose.scores[0])
    low, high = np.floor(points.min(axis=0) - margin), np.ceil(points.max(axis=0) + margin)
    left, top = (int(np.clip(v, 0, limit - 2)) for v, limit in zip(low, size, strict=True))
    right, bottom = (int(np.clip(v, start + 2, limit)) for v, start, limit in zip(high, (left, top), size, strict=True))
    return left, top, right, bottom


def _size(pose: PoseSequence) -> float:
    """Length of the body, pixels, so that somebody who is seen in part is as large as in whole; less where the joints
    that are seen are unsure."""
    seen = pose.scores[0, BODY] >= MIN_SCORE
    sure = float(pose.scores[0, BODY][seen].mean()) if seen.any() else 0.0
    return sure * frame_torso_length(pose.keypoints[0], pose.scores[0])


def _same(one: PoseSequence, other: PoseSequence) -> bool:
    return joints_apart(one, other) < _SAME * frame_torso_length(other.keypoints[0], other.scores[0])
