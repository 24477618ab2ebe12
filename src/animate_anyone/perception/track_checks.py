"""Makes a tracker's masks a :class:`MaskTrack`: cut to the object's lifetime, doubtful frames flagged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import Mask, Masks, MaskTrack, ObjectMark
from animate_anyone.system.frame_sequence import MadeFrames

LOST, JUMPS, SIZE, UNMARKED = (
    "not found",
    "mask jumps",
    "much larger or smaller than where it was marked",
    "mask misses its mark",
)
_SIZE = 4.0  # times the area of the nearest mark
_LEAP = 1.6  # of the object's own size, from one frame to the next


def finished(
    masks: Masks, name: str, marks: Sequence[ObjectMark], flagged: Sequence[tuple[int, str]] = ()
) -> MaskTrack:
    """The track of the object ``name`` from masks ``(frames, height, width)``; ``flagged`` are the frames that the
    tracker itself flags."""
    own = [mark for mark in marks if mark.name == name]
    first, last = own[0].lifetime or (0, len(masks) - 1)
    size = masks.shape[1:]

    def within_lifetime(frame: int) -> Mask:
        return masks[frame] if first <= frame <= last else np.zeros(size, bool)

    whole = MadeFrames(len(masks), size, bool, within_lifetime)
    found = [(frame, reason) for frame, reason in flagged if first <= frame <= last]
    areas = [int(mask.sum()) for mask in whole]
    marked = {mark.frame: areas[mark.frame] for mark in own}
    for mark in own:
        if not _holds(whole[mark.frame], mark):
            found.append((mark.frame, UNMARKED))
    before: tuple[NDArray, float] | None = None
    for frame in range(first, last + 1):
        if areas[frame] == 0:
            found.append((frame, LOST))
            before = None
            continue
        at_mark = marked[min(marked, key=lambda f: abs(f - frame))]
        if at_mark and not 1 / _SIZE <= areas[frame] / at_mark <= _SIZE:
            found.append((frame, SIZE))
        middle, side = np.argwhere(whole[frame]).mean(axis=0), float(np.sqrt(areas[frame]))
        if before is not None and np.hypot(*(middle - before[0])) > _LEAP * max(side, before[1]):
            found.append((frame, JUMPS))
        before = middle, side
    return MaskTrack(whole, name, tuple(dict.fromkeys(sorted(found))))


def _holds(mask: Mask, mark: ObjectMark) -> bool:
    """Whether a mask lies where its mark says: most points, or half of it in the box."""
    if not mask.any():
        return False
    height, width = mask.shape
    at = [mask[min(int(y), height - 1), min(int(x), width - 1)] for x, y in mark.points]
    if at and np.mean(at) < 0.5:
        return False
    if mark.box is None:
        return True
    left, top, right, bottom = (max(round(v), 0) for v in mark.box)
    return bool(mask[top:bottom, left:right].sum() >= 0.5 * mask.sum())
