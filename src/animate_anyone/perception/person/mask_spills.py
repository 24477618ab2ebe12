"""Spills: parts of a person's mask that belong to the background, found by their movement and colours.

Two frames some time apart are registered twice: by the movement of the background, and by that of the limbs nearby.
A pixel is a spill where only the background's movement matches and the colour is more frequent in the surroundings
than on the body. Where body and background do not move against each other, or their colours are alike, no decision is
possible, and the mask is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.skeleton import HEAD, JOINT, MIN_SCORE, SURE_SCORE, is_person
from animate_anyone.perception.classical import cv2, grow
from animate_anyone.perception.colour_histogram import colour_bins, colour_histogram
from animate_anyone.perception.person.background_motion import Background
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.mask_checks import BESIDE, CUT
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, Mask, Masks, Picture, PoseSequence
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames, StoredFrames

Window = tuple[slice, slice]

_APART_SECONDS = (1 / 3, 2 / 3)  # between the two frames that are compared
_SHARED_SECONDS = (1 / 12, 1 / 6, 1 / 3, 1 / 2)  # between frames that share the spills found in one of them
_MIN_JOINTS = 4
_LIMBS_NEARBY = 3  # joints, any of whose movements may be that of a pixel

# Torso lengths.
_SKIN = 0.06  # around what is body for sure: never cut
_TRUNK, _THIGH, _SHIN, _HEAD = 0.26, 0.16, 0.12, 0.22  # half as wide as these are at least
_HAT, _FOOT = 0.4, 0.2  # above the middle of the head, below the ankle
_FAR, _FARTHER = 0.12, 0.2  # a spill that is cut off, or flagged, reaches out farther than this
_SURROUNDINGS = 0.4  # outside the mask and farther than this the colours are the background's
_PATCH = 0.06  # half the side of the patches that are compared
_MOVED = 0.03  # by which body and background must have parted
_NEXT = 0.5  # from where it was found a spill may go on, in its colours
_RIM = 0.04  # thinner than twice this, beside a spill: its edge
_WIDE = 0.06  # half the least width of a part that is flagged

# Mean difference of a patch's colours, of 255.
_SAME, _OTHER = 10.0, 4.0

_LEAST, _MUCH = 0.003, 0.04  # of the mask: smaller is noise, larger is flagged
_SEEN_OUTSIDE = 1e-4  # share of the surroundings that has a colour, for it to be theirs
_BINS = (32, 32, 32)  # of CIELAB
_MARGIN = 8  # pixels around what is compared


def find_spills(
    frames: Sequence[Picture], masks: Masks, pose: PoseSequence, progress: Progress = SILENT
) -> tuple[FrameSequence[np.bool_], tuple[tuple[int, str], ...]]:
    """The parts of a person's masks that are background for certain, and masks that may hold more of it.

    Args:
        frames: ``(height, width, 3)`` uint8, RGB; some hundred pixels wide are enough.
        masks: ``(frames, height, width)`` bool, the person's.
        pose: the person's, in pixels of the frames.
        progress: shown how far it is.

    Returns:
        ``(frames, height, width)`` bool, true only where ``masks`` are and never on what is body for sure; and
        ``(frame, reason)`` for each mask that loses much so, or in which something wide beside the body, of the
        surroundings' colours, is not seen to move with it.
    """
    background = Background(frames, masks, pose)
    count, size = len(masks), masks.shape[1:]
    far = MadeFrames(count, size, np.float16, lambda number: _distance(pose, number), once=True)
    likely: StoredFrames[np.bool_] = StoredFrames(count, size, bool)
    for number, seen in enumerate(zip(frames, masks, far, strict=True)):
        likely[number] = _likely(*seen)
    found: StoredFrames[np.bool_] = StoredFrames(count, size, bool)
    alive: StoredFrames[np.bool_] = StoredFrames(count, size, bool)
    is_found = np.zeros(count, bool)
    for number in progress.track(range(count), description="beside the person"):
        still, own = np.zeros((2, *size), np.int16)
        if likely[number].sum() > _LEAST * masks[number].sum():
            window = bounding_box(likely[number], _MARGIN)
            assert window is not None
            for other in _others(number, pose, _APART_SECONDS):
                move = background.between(number, other)
                if move is not None:
                    votes = _compare(frames, pose, number, other, move, far[other], window)
                    still[window] += votes[0]
                    own[window] += votes[1]
        found[number], alive[number] = likely[number] & (still > own), own > still
        is_found[number] = found[number].any()
    spills: StoredFrames[np.bool_] = StoredFrames(count, size, bool)
    flagged: list[tuple[int, str]] = []
    for number, mask in enumerate(masks):
        torso = frame_torso_length(pose.keypoints[number], pose.scores[number])
        maybe, seed, area = likely[number], found[number].copy(), int(mask.sum())
        for other in _others(number, pose, _SHARED_SECONDS):
            move = background.between(number, other) if is_found[other] and maybe.any() else None
            if move is not None:
                seed |= maybe & _warped_spill(frames[number], frames[other], found[other], move)
        spill = _grown(frames[number], mask, far[number], torso, maybe, seed) if seed.any() else seed
        spills[number] = spill
        if spill.sum() > _MUCH * area:
            flagged.append((number, CUT))
        if _widest(maybe & ~spill & ~alive[number], far[number], torso) > _MUCH * area:
            flagged.append((number, BESIDE))
    return spills, tuple(flagged)


def _others(number: int, pose: PoseSequence, seconds: Sequence[float]) -> list[int]:
    """Frames so long before and after this one in which the person is there."""
    apart = {max(round(s * float(pose.fps)), 1) for s in seconds}
    others = sorted({number + sign * step for step in apart for sign in (-1, 1)})
    return [other for other in others if 0 <= other < len(pose) and is_person(pose.scores[other])]


def _likely(frame: Picture, mask: Mask, far: NDArray[np.float16]) -> Mask:
    """What of a mask lies beside the sure body and is rather of the surroundings' colours."""
    beside = mask & (far > _SKIN)
    if not beside.any():
        return beside
    own = _commonness(frame, mask & (far == 0))
    outside = _commonness(frame, ~grow(mask, 1) & (far > _SURROUNDINGS))
    return beside & (outside > np.maximum(own, _SEEN_OUTSIDE))


def _distance(pose: PoseSequence, number: int) -> NDArray[np.float16]:
    """How far pixels are from what is body for sure, torso lengths; 0 everywhere where nobody is."""
    points, scores = pose.keypoints[number], pose.scores[number]
    if not is_person(scores):
        return np.zeros(pose.size[::-1], np.float16)
    body, _ = body_hulls(points, scores, pose.size)
    torso = frame_torso_length(points, scores)
    solid = body.astype(np.uint8)
    for start, end, width in _solid_parts(points, scores, torso):
        ends = [tuple(int(v) for v in np.rint(np.clip(at, -4096, 4096))) for at in (start, end)]
        cv2.line(solid, ends[0], ends[1], 1, max(round(2 * width * torso), 1))
    distance: NDArray[np.float32] = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 3)
    return (distance / torso).astype(np.float16)


def _solid_parts(points: NDArray[np.floating], scores: NDArray[np.float32], torso: float) -> list[tuple]:
    """Head, trunk and legs as ``(start, end, half width in torso lengths)``, with hat and shoes.

    From the side their hulls are thin. Joints of the legs that are hidden are taken to be straight below.
    """
    if scores[JOINT["neck"]] < MIN_SCORE:
        return []
    neck = points[JOINT["neck"]]
    hips = [points[JOINT[name]] for name in ("right_hip", "left_hip") if scores[JOINT[name]] >= MIN_SCORE]
    down = np.array([0, torso])
    middle = np.mean(hips, axis=0) if hips else neck + down
    parts = [(neck, middle, _TRUNK)]
    for side in ("right", "left"):
        hip, knee, ankle = (JOINT[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        top = points[hip] if scores[hip] >= MIN_SCORE else middle
        bend = points[knee] if scores[knee] >= MIN_SCORE else top + down
        foot = points[ankle] if scores[ankle] >= MIN_SCORE else bend + down
        parts += [(top, bend, _THIGH), (bend, foot, _SHIN), (foot, foot + _FOOT * down, _SHIN)]
    head = [points[joint] for joint in HEAD if scores[joint] >= MIN_SCORE]
    if head:
        middle = np.mean(head, axis=0)
        up = (middle - neck) / max(float(np.hypot(*(middle - neck))), 1.0)
        parts.append((middle, middle + _HAT * torso * up, _HEAD))
    return parts


def _commonness(frame: Picture, where: Mask) -> NDArray[np.float32]:
    """For each pixel of a frame the share of the pixels ``where`` that have its colour, or nearly."""
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
    counts = colour_histogram(lab[where], _BINS, "wrap").astype(np.float32)
    return (counts / np.float32(max(int(where.sum()), 1))).ravel()[colour_bins(lab, _BINS)]


def _compare(
    frames: Sequence[Picture],
    pose: PoseSequence,
    number: int,
    other: int,
    move: NDArray[np.float64],
    far: NDArray[np.float16],
    window: Window,
) -> tuple[Mask, Mask]:
    """Which pixels of a window have surely moved as the background has, and which as a limb nearby has.

    ``far`` is of the other frame: pixels that are behind the body there are not counted for the body here.
    """
    y, x = np.mgrid[window].astype(np.float32)
    nothing = np.zeros(x.shape, bool)
    both = np.minimum(pose.scores[number], pose.scores[other])[BODY] >= SURE_SCORE
    if both.sum() < _MIN_JOINTS:
        return nothing, nothing
    start, end = pose.keypoints[number, BODY][both], pose.keypoints[other, BODY][both]
    torso = frame_torso_length(pose.keypoints[number], pose.scores[number])
    near = np.argsort([np.hypot(x - at[0], y - at[1]) for at in start], axis=0)[:_LIMBS_NEARBY]
    shifts = end - start
    ways = [(x + shifts[joint][..., 0], y + shifts[joint][..., 1]) for joint in near]
    whole, _ = cv2.estimateAffinePartial2D(start, end)
    if whole is not None:
        ways.append(_moved(whole, x, y))
    back_x, back_y = _moved(move, x, y)
    height, width = frames[other].shape[:2]
    apart = np.min([np.hypot(way_x - back_x, way_y - back_y) for way_x, way_y in ways], axis=0)
    decidable = (
        (apart > max(_MOVED * torso, 1.5)) & (back_x >= 0) & (back_x < width) & (back_y >= 0) & (back_y < height)
    )
    here, there = (cv2.blur(frames[n], (3, 3)).astype(np.float32) for n in (number, other))
    side = 2 * max(round(_PATCH * torso), 2) + 1

    def unlike(at_x: NDArray[np.float32], at_y: NDArray[np.float32]) -> NDArray[np.float32]:
        difference: NDArray[np.float32] = np.abs(here[window] - _fetch(there, at_x, at_y)).mean(axis=2)
        return cv2.blur(difference, (side, side))

    as_background = unlike(back_x, back_y)
    as_body = np.min([unlike(*way) for way in ways], axis=0)
    still = decidable & (as_background < _SAME) & (as_body > np.maximum(2 * as_background, _OTHER))
    seen = _fetch(far.astype(np.float32), back_x, back_y) > _SKIN + _PATCH
    return still, decidable & seen & (as_body < as_background) & (as_background > _OTHER)


def _moved(way: NDArray[np.float64], x: NDArray, y: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    at_x, at_y = (way[row, 0] * x + way[row, 1] * y + way[row, 2] for row in (0, 1))
    return at_x.astype(np.float32), at_y.astype(np.float32)


def _fetch(plane: NDArray[np.float32], at_x: NDArray, at_y: NDArray) -> NDArray[np.float32]:
    """A plane's values at these places; beyond its edge those of the edge."""
    return cv2.remap(
        plane, at_x.astype(np.float32), at_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _warped_spill(here: Picture, there: Picture, found: Mask, move: NDArray[np.float64]) -> Mask:
    """The spill found in another frame, warped by the background's movement, where the colours still match."""
    y, x = np.mgrid[: here.shape[0], : here.shape[1]].astype(np.float32)
    at = _moved(move, x, y)
    warped = _fetch(found.astype(np.float32), *at) > 0.5
    difference = np.abs(here.astype(np.float32) - _fetch(there.astype(np.float32), *at)).mean(axis=2)
    return warped & (cv2.blur(difference, (5, 5)) < _SAME)


def _grown(frame: Picture, mask: Mask, far: NDArray[np.float16], torso: float, likely: Mask, seed: Mask) -> Mask:
    """The spill around what was found: without specks, with more of the same colours, and its edge."""
    seed = _opened(seed, 1)
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(seed.astype(np.uint8), connectivity=4)
    least = _LEAST * mask.sum()
    good = [n > 0 and sizes[n, cv2.CC_STAT_AREA] >= least and far[parts == n].max() > _FAR for n in range(count)]
    seed = np.array(good)[parts]
    if not seed.any():
        return seed
    alike = _commonness(frame, seed) > 2 * _commonness(frame, mask & (far == 0))
    more = _opened(likely & alike & grow(seed, round(_NEXT * torso)), 1) | seed
    _, parts = cv2.connectedComponents(more.astype(np.uint8), connectivity=4)
    spill = np.isin(parts, np.unique(parts[seed]))
    rim = max(round(_RIM * torso), 1)
    rest = mask & ~spill
    thin = rest & ~_opened(rest, rim) & grow(spill, 2 * rim) & (far > _SKIN)
    return spill | thin


def _widest(part: Mask, far: NDArray[np.float16], torso: float) -> int:
    """Pixels of the largest piece that is wide and reaches out far."""
    if not part.any():
        return 0
    wide = _opened(part, max(round(_WIDE * torso), 1))
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(wide.astype(np.uint8), connectivity=4)
    reaches = np.unique(parts[wide & (far > _FARTHER)])
    return max((int(sizes[n, cv2.CC_STAT_AREA]) for n in reaches), default=0)


def _opened(mask: Mask, pixels: int) -> Mask:
    """Without what is thinner than twice so many pixels."""
    return grow(grow(mask, -pixels), pixels)
