"""Position error of limbs: each limb of the truth is searched in the result by template matching.

For each limb of the truth Fisher's linear discriminant gives the direction in colour space that best separates its
pixels from a rim around it. Projected on that direction, the limb's outline is a template: positive inside, negative
on the rim. The place of the largest response in the result is the limb's position. The filter is linear: blur lowers
the response and does not move it. Limbs that the same search does not find in the truth itself, as it is and blurred,
are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.structures import Picture
from animate_anyone.synthetic.figure.bricks import Label

LIMBS = tuple(range(int(Label.LEFT_UPPER_ARM), int(Label.RIGHT_FOOT) + 1))
REACH = 1 / 16  # of the frame's height: how far is searched, each way
BLUR = 1.5 / 128  # of the frame's height, the standard deviation of a blur under which a limb must still be found
RIM = 3 / 128  # of the frame's height: how wide a rim round a limb it must stand out from
LEAST_PIXELS = 20
NOISE = 6.0  # 8-bit units by which a colour may be off without being another
LEAST_CONTRAST = 2.0  # of a limb to its rim in the truth, in standard deviations of their colours
RIVAL = 0.8  # in the truth no place further off than 4/3 of the rim's width may answer so much of the peak
LEAST_ANSWER = 0.2  # of the truth's answer: a limb whose answer is weaker is not found


def limb_error(result: Picture, truth: Picture, labels: NDArray[np.uint8], every: int = 3) -> dict[str, Any]:
    """Find each limb of the truth in the result.

    Left out are limbs that show fewer than 20 pixels, and those that cannot be recognised in the truth itself:
    the like of what is round them, or with the same again within reach, as one bare foot beside the other.

    Args:
        result, truth: ``(frames, H, W, 3)`` uint8 RGB.
        labels: ``(frames, H, W)`` uint8 of the truth, :class:`Label`.
        every: look at every so many frames.

    Returns:
        ``limb_px``: mean distance, pixels; a limb that is not found, or farther off, counts as how far is searched.
        ``limb_found``: share of the limbs that were found, 0 to 1. Both ``None`` where no limb of the truth differs
        enough from what is round it. ``limbs``: how many were looked for, all frames together.

    Raises:
        ValueError: the three do not belong to one clip.
    """
    if result.shape != truth.shape or labels.shape != truth.shape[:3]:
        raise ValueError(f"result {result.shape}, truth {truth.shape} and labels {labels.shape} are of different clips")
    rim = max(2, round(truth.shape[1] * RIM))
    reach = max(rim + 2, round(truth.shape[1] * REACH))
    distances: list[float | None] = []
    for t in range(0, len(truth), every):
        distances += _distances(result[t], truth[t], labels[t], reach, rim)
    if not distances:
        return {"limb_px": None, "limb_found": None, "limbs": 0}
    found = sum(d is not None for d in distances) / len(distances)
    pixels = float(np.mean([reach if d is None else min(d, reach) for d in distances]))
    return {"limb_px": pixels, "limb_found": found, "limbs": len(distances)}


def _distances(
    result: Picture, truth: Picture, labels: NDArray[np.uint8], reach: int, rim: int
) -> Iterator[float | None]:
    """Of every limb that can be recognised: how far it is from its place, ``None`` where it is not found."""
    room = reach + rim
    right, other = (torch.from_numpy(picture).permute(2, 0, 1).float() for picture in (truth, result))
    blurred = _blurred(right, len(truth) * BLUR)
    pictures = F.pad(torch.stack([right, blurred, other]), [room] * 4, "replicate")
    shapes = F.pad(torch.from_numpy(labels), [room] * 4)
    for limb in LIMBS:
        inside = shapes == limb
        if int(inside.sum()) < LEAST_PIXELS:
            continue
        (top, bottom), (left, right_end) = (torch.nonzero(inside.any(axis))[[0, -1], 0].tolist() for axis in (1, 0))
        part = (slice(top - room, bottom + 1 + room), slice(left - room, right_end + 1 + room))
        about = pictures[:, :, part[0], part[1]]  # (3 pictures, 3 channels, h + 2 reach, w + 2 reach)
        template = _template(inside[part][reach:-reach, reach:-reach], rim)  # (h, w)
        direction = _direction(about[0, :, reach:-reach, reach:-reach], template)
        if direction is None:
            continue
        seen = torch.einsum("nchw,c->nhw", about, direction)
        sharp, soft, found = F.conv2d(seen[:, None], template[None, None])[:, 0]  # each (2 reach + 1, 2 reach + 1)
        if not (_is_certain(sharp, rim) and _is_certain(soft, rim)):
            continue
        home, there = _peak(sharp), _peak(found)
        if found[there] < LEAST_ANSWER * sharp[home]:
            yield None
        else:
            yield float(np.hypot(there[0] - home[0], there[1] - home[1]))


def _template(inside: Tensor, width: int) -> Tensor:
    """Plus within the limb, minus on the rim of ``width`` pixels round it, each of sum 1; same shape."""
    near = F.max_pool2d(inside[None, None].float(), 2 * width + 1, 1, width)[0, 0].bool()
    rim = near & ~inside
    return inside.float() / inside.sum() - rim.float() / rim.sum()


def _direction(colours: Tensor, template: Tensor) -> Tensor | None:
    """``(3,)``: what tells the limb's pixels of ``(3, h, w)`` from its rim's; ``None`` where too little does."""
    own, other = colours[:, template > 0], colours[:, template < 0]
    apart = own.mean(1) - other.mean(1)
    spread = (own.cov(correction=0) + other.cov(correction=0)) / 2 + NOISE**2 * torch.eye(3)
    direction = torch.linalg.solve(spread, apart)
    return direction if float(direction @ apart) >= LEAST_CONTRAST**2 else None


def _is_certain(answer: Tensor, rim: int) -> bool:
    """Whether a limb in its place is found there, and nothing further off answers nearly as much."""
    peak, middle = _peak(answer), len(answer) // 2
    near = max(abs(peak[0] - middle), abs(peak[1] - middle)) <= 1
    return near and bool(answer[_far(answer) > (4 * rim / 3) ** 2].max() < RIVAL * answer[peak])


def _peak(answer: Tensor) -> tuple[int, int]:
    """Row and column of the greatest answer; of nearly equal ones the one nearest to the middle."""
    far = _far(answer)
    place = int((answer - 0.05 * answer.max().abs() * far / far.max()).argmax())
    return place // len(answer), place % len(answer)


def _far(answer: Tensor) -> Tensor:
    """Squared distance of each place from the middle, pixels; same shape."""
    at = torch.arange(len(answer)) - len(answer) // 2
    return at[:, None] ** 2 + at[None] ** 2


def _blurred(picture: Tensor, sigma: float) -> Tensor:
    """``(3, H, W)`` through a Gaussian of ``sigma`` pixels."""
    side = int(3 * sigma) + 1
    bell = torch.exp(-0.5 * (torch.arange(-side, side + 1) / sigma) ** 2)
    bell = (bell / bell.sum())[None, None]
    wide = F.pad(picture[:, None], [side] * 4, "replicate")
    return F.conv2d(F.conv2d(wide, bell[..., None]), bell[:, :, None])[:, 0]
