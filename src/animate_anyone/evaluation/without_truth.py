"""Measures of a video whose truth nobody has, as of one person driven by another: beside what it was made from.

Each looks at one complaint: ``face`` and ``clothes`` at who it is, ``pose_error`` and ``pose_found`` at whether they do
what was asked, ``background`` at whether the place stands still, ``flicker`` at change from frame to frame that is no
movement, ``drift`` at colours that change over time. Poses and masks are handed in: nothing here looks at pixels with a
network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from animate_anyone.conditions.body_lengths import clip_torso_length
from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.evaluation.body_regions import CLOTHES, HEAD, body_regions
from animate_anyone.evaluation.identity import describe
from animate_anyone.structures import BODY, Mask, Picture, PoseSequence, Scene

MEASURES = {
    "face": ("face", "up", 3),
    "clothes": ("clothes", "up", 3),
    "pose_error": ("pose error", "down", 3),
    "pose_found": ("pose found", "up", 3),
    "background": ("background", "down", 2),
    "flicker": ("flicker", "down", 2),
    "drift": ("drift", "down", 2),
}
"""Each measure's name for people, where better is, and digits that are shown."""
NEAR = 0.2
"""A joint within so many torso lengths of where it was asked for is found there."""
FARTHEST = 1.0
"""Torso lengths that a joint counts as being off at most, and that one counts as that is not found."""
_MARGIN = 1 / 64  # of the larger side: around a person nothing counts as background
_STANDS = 0.75  # of the frames in which a pixel must be background to be looked at
_LEAST = 20  # pixels


def measure(result: Scene, reference: Scene, asked: PoseSequence | None = None, segments: int = 4) -> dict[str, Any]:
    """All measures of one video; ``None`` for what cannot be said of it.

    Args:
        result: its frames, the poses found in them and the person's masks; frames are read twice, in order.
        reference: the picture it was made from, as a video of one frame.
        asked: the poses that were asked for, in pixels of a frame of any size, one a frame; ``None``: not known.
        segments: of equal length into which the video is divided, to see drift.

    Returns:
        ``face``: likeness of the head's colours (face, hair, hat) to the reference's, 0 to 1, mean over the frames;
        higher is better. ``clothes``: the same of torso, arms and legs, weighted by their pixels.
        ``pose_error``: mean distance of the body's joints from where they were asked for, torso lengths, 0 to 1; lower
        is better. ``pose_found``: share of them within 0.2 torso lengths; higher is better.
        ``background``: mean difference of the background from its own mean over time, 8-bit units, 0 to 255; 0 stands
        still, lower is better. It says nothing where the camera was to move.
        ``flicker``: the person's change from frame to frame that is no movement: half the second difference in time,
        median over the pixels within the person, mean over frames, 8-bit units; lower is better.
        ``drift``: CIEDE2000 between the person's mean colours, part by part, in the first and the last segment; 0 stays
        the same, lower is better.
        ``segments``: of each, its frames, ``face``, ``clothes`` and ``colour``, the CIEDE2000 of its mean colours to
        the reference's.
    """
    looks = [_Look(*one) for one in _seen(result)]
    own = _Look(*next(_seen(reference)))
    faces, clothes = [look.like(own, (HEAD,)) for look in looks], [look.like(own, CLOTHES) for look in looks]
    parts = [part for part in np.array_split(np.arange(len(looks)), min(segments, len(looks))) if len(part)]
    colours = [_mean_colours([looks[n] for n in part]) for part in parts]
    reference_colours = _mean_colours([own])
    error, found = pose_agreement(result.pose, asked) if asked is not None else (None, None)
    return {
        "face": _mean(faces),
        "clothes": _mean(clothes),
        "pose_error": error,
        "pose_found": found,
        "background": background_change(result),
        "flicker": person_flicker(result),
        "drift": colour_difference(colours[0], colours[-1]) if len(colours) > 1 else None,
        "segments": [
            {
                "frames": [int(part[0]), int(part[-1]) + 1],
                "face": _mean(faces[n] for n in part),
                "clothes": _mean(clothes[n] for n in part),
                "colour": colour_difference(of, reference_colours),
            }
            for part, of in zip(parts, colours, strict=True)
        ],
    }


def pose_agreement(found: PoseSequence, asked: PoseSequence) -> tuple[float | None, float | None]:
    """``pose_error`` and ``pose_found`` of :func:`measure`, over the body's joints that were asked for.

    Raises ``ValueError`` where the two have not as many frames.
    """
    if len(found) != len(asked):
        raise ValueError(f"poses of {len(found)} frames were found, and of {len(asked)} asked for")
    asked = asked.scaled_to(found.size)
    unit = clip_torso_length(asked)
    wanted = asked.scores[:, BODY] >= MIN_SCORE
    inside = (asked.keypoints[:, BODY] >= 0).all(-1) & (asked.keypoints[:, BODY] < found.size).all(-1)
    wanted &= inside
    if not wanted.any() or not unit:
        return None, None
    apart = np.linalg.norm(found.keypoints[:, BODY] - asked.keypoints[:, BODY], axis=-1) / unit
    apart = np.where(found.scores[:, BODY] >= MIN_SCORE, apart, np.inf)[wanted]
    return _rounded(np.minimum(apart, FARTHEST).mean()), _rounded((apart <= NEAR).mean())


def background_change(scene: Scene) -> float | None:
    """``background`` of :func:`measure`; ``None`` where hardly a pixel is background most of the time."""
    outside = [~_grown(mask) for mask in scene.person.masks]
    count = np.sum(outside, 0)
    place = count >= max(2, _STANDS * len(outside))
    if place.sum() < _LEAST:
        return None
    total = np.zeros((*place.shape, 3))
    for frame, shown in zip(scene.frames, outside, strict=True):
        total += np.where(shown[..., None], frame, 0)
    mean = total / np.maximum(count, 1)[..., None]
    changes = [
        float(np.abs(frame.astype(np.float64) - mean)[here].mean())
        for frame, shown in zip(scene.frames, outside, strict=True)
        if (here := shown & place).any()
    ]
    return _mean(changes)


def person_flicker(scene: Scene) -> float | None:
    """``flicker`` of :func:`measure`; ``None`` where no three frames show the person in one place."""
    changes: list[float] = []
    kept: list[tuple[NDArray[np.float32], Mask]] = []
    for frame, mask in zip(scene.frames, scene.person.masks, strict=True):
        kept = [*kept[-2:], (frame.astype(np.float32), binary_erosion(mask))]
        if len(kept) == 3:
            (before, _), (now, _), (after, _) = kept
            inside = np.logical_and.reduce([shown for _, shown in kept])
            if inside.sum() >= _LEAST:
                changes.append(float(np.median(np.abs(before - 2 * now + after)[inside].mean(-1) / 2)))
    return _mean(changes)


class _Look:
    """What of one frame is kept: its parts' pixels counted, their colours summed, and their descriptors."""

    def __init__(self, frame: Picture, regions: NDArray[np.uint8]) -> None:
        parts = (HEAD, *CLOTHES)
        self.pixels = {part: int((regions == part).sum()) for part in parts}
        self.sums = {part: frame[regions == part].sum(0, dtype=np.float64) for part in parts}
        self.described = {part: describe(frame, regions == part) for part in parts}

    def like(self, other: _Look, parts: Sequence[int]) -> float | None:
        """Likeness to another frame, weighted by this one's pixels; ``None`` where they have no such part both."""
        both = [p for p in parts if self.described[p].any() and other.described[p].any()]
        weights = np.array([self.pixels[p] for p in both], float)
        if not both:
            return None
        alike = np.array([float(self.described[p] @ other.described[p]) for p in both])
        return float((alike * weights).sum() / weights.sum())


def colour_difference(
    one: Mapping[int, tuple[NDArray[np.float64], int]], other: Mapping[int, tuple[NDArray[np.float64], int]]
) -> float | None:
    """CIEDE2000 between the mean colours of the parts that both have, weighted by the pixels of the lesser."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    both = [part for part in one if part in other]
    if not both:
        return None
    colours = (rgb2lab(np.stack([of[part][0] for part in both])[None] / 255)[0] for of in (one, other))
    weights = np.array([min(one[part][1], other[part][1]) for part in both], float)
    return _rounded((deltaE_ciede2000(*colours) * weights).sum() / weights.sum())


def _mean_colours(looks: Sequence[_Look]) -> dict[int, tuple[NDArray[np.float64], int]]:
    """Of every part that is shown: its mean colour over some frames, and how many pixels that is of, per frame."""
    found = {}
    for part in (HEAD, *CLOTHES):
        pixels = sum(look.pixels[part] for look in looks)
        if pixels >= _LEAST:
            total = np.sum([look.sums[part] for look in looks], 0)
            found[part] = (total / pixels, max(pixels // len(looks), 1))
    return found


def _seen(scene: Scene) -> Any:
    """Every frame and the parts of the person in it."""
    for number, (frame, mask) in enumerate(zip(scene.frames, scene.person.masks, strict=True)):
        yield frame, body_regions(mask, scene.pose.keypoints[number], scene.pose.scores[number])


def _grown(mask: Mask) -> Mask:
    grown: Mask = binary_dilation(mask, iterations=max(2, round(max(mask.shape) * _MARGIN))) if mask.any() else mask
    return grown


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return _rounded(np.mean(there)) if there else None


def _rounded(value: Any) -> float:
    # The last digits depend on the order of summation, which differs with the arrays' alignment.
    return round(float(value), 6)


def means(videos: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The mean of every measure over the videos that have it."""
    return {name: _mean(video[name] for video in videos) for name in MEASURES}


def without_truth_table(report: Mapping[str, Any]) -> str:
    """A report's figures as lines of text: a row a video, their mean, segments, and what could not be measured."""
    head = ("video", *(f"{title} ({where})" for title, where, _ in MEASURES.values()))
    rows = [head] + [_row(video["name"], video) for video in report["videos"]]
    if len(report["videos"]) > 1:
        rows.append(_row("mean", report["metrics"]))
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    lines += [f"needs {what}" for what in report.get("needs", {}).values()]
    lines += [f"not measured: {name}: {why}" for name, why in report.get("failed", {}).items()]
    return "\n".join(lines)


def _row(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    shown = (
        "–" if figures[measure] is None else f"{figures[measure]:.{digits}f}"
        for measure, (_, _, digits) in MEASURES.items()
    )
    return (name, *shown)
