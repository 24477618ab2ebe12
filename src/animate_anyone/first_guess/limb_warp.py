"""The reference carried into other poses: every limb of its picture moved, turned and stretched to where the
limb is wanted, the far ones first. (Not in the papers; for small models, which need not find by attention
what a ruler can: a first guess with holes, ghosts and seams, from which they make the picture.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.conditions.environment import fill
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import PoseSequence

Picture = NDArray[np.uint8]


class Part(NamedTuple):
    """A piece of the body that moves as one: it lies around the line between the means of two groups of joints.

    Attributes:
        start, end: those joints.
        radius: how far it reaches from the line, in lengths of the trunk.
        beyond: how far past ``end`` it goes on (hands, feet, hair), likewise.
        rigid: the line only tells where ``end`` is and which way is up: nothing is stretched along it.
        nearer: added to the order of what lies in front where depth is alike, or not known.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    radius: float
    beyond: float = 0.0
    rigid: bool = False
    nearer: float = 0.0


def _limb(start: str, end: str, radius: float, beyond: float = 0.0, nearer: float = 0.0) -> list[Part]:
    return [
        Part((JOINT[f"{side}_{start}"],), (JOINT[f"{side}_{end}"],), radius, beyond, nearer=nearer)
        for side in ("right", "left")
    ]


SHOULDERS = (JOINT["right_shoulder"], JOINT["left_shoulder"])
HIPS = (JOINT["right_hip"], JOINT["left_hip"])
KNEES = (JOINT["right_knee"], JOINT["left_knee"])
HEAD = tuple(JOINT[name] for name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear"))
TRUNK = Part(SHOULDERS, HIPS, 0.45)
PARTS = (
    *_limb("hip", "knee", 0.2),
    *_limb("knee", "ankle", 0.17, 0.16),
    TRUNK,
    Part((JOINT["neck"],), HEAD, 0.14, nearer=-0.02),  # the neck, where a head is wanted farther up than it was
    Part((JOINT["neck"],), HEAD, 0.3, 0.25, rigid=True, nearer=0.01),
    *_limb("shoulder", "elbow", 0.16, nearer=0.02),
    *_limb("elbow", "wrist", 0.15, 0.32, nearer=0.03),
)
FAR = 2.5  # radii that a part reaches where a silhouette bounds it and every pixel of it belongs to one part
THIGH = 0.9  # lengths of the trunk
ENOUGH = 4  # points of a head seen in both pictures that alone tell how it lies; with fewer, each by all that it has
SEAM = 0.25  # radii by which neighbours overlap there
EDGE = 12.0  # how steeply a part ends: its cover goes from 0.9 to 0.1 over 4.4 / EDGE of its radius


AT_ONCE = 2**16  # pixels that are carried together: 4 frames of 128x128
KEPT = 2**26  # bytes of carried pictures


class WarpedPictures(Sequence[Picture]):
    """The reference carried into poses, computed when asked for, a few at once, and kept as long as they are small.

    Args:
        reference: ``(height, width, 3)`` uint8.
        own: its pose, one frame, in pixels of ``reference``; ``None``: not known, and nothing is carried.
        poses: where to carry it, in pixels of the same frame; ``None``: not known.
        num_frames: how many pictures, where ``poses`` is ``None``.
    """

    def __init__(
        self, reference: Picture, own: PoseSequence | None, poses: PoseSequence | None, num_frames: int | None = None
    ) -> None:
        if poses is None and num_frames is None:
            raise ValueError("give poses, or num_frames")
        self.reference, self.own, self.poses = reference, own, poses
        self.num_frames = len(poses) if poses is not None else int(num_frames or 0)
        self._made: dict[int, Picture] = {}

    def __len__(self) -> int:
        return self.num_frames

    @overload
    def __getitem__(self, number: int) -> Picture: ...
    @overload
    def __getitem__(self, number: slice) -> WarpedPictures: ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            poses = None if self.poses is None else self.poses[number]
            return WarpedPictures(self.reference, self.own, poses, len(range(len(self))[number]))
        number = range(len(self))[number]
        if self.own is None or self.poses is None:
            return self.reference
        if number not in self._made:
            height, width = self.reference.shape[:2]
            count = max(1, AT_ONCE // (width * height))
            made = warp_limbs(self.reference, self.own, self.poses[number : number + count])
            if (len(self._made) + len(made)) * self.reference.nbytes > KEPT:
                self._made.clear()
            self._made.update(enumerate(made, number))
        return self._made[number]

    def __iter__(self) -> Iterator[Picture]:
        return (self[number] for number in range(len(self)))


def warp_limbs(
    reference: Picture,
    own: PoseSequence,
    poses: PoseSequence,
    under: Picture | None = None,
    silhouette: NDArray[np.bool_] | None = None,
) -> Picture:
    """Carry the limbs of a picture into other poses of the same body.

    Args:
        reference: ``(height, width, 3)`` uint8.
        own: its pose, one frame, in pixels of ``reference``.
        poses: wanted, ``f`` frames in pixels of a frame of that size. Joints with score 0 carry nothing.
        under: ``(f, height, width, 3)`` uint8, what the limbs are laid on; ``None``: the reference, the person in
            it too.
        silhouette: ``(height, width)`` bool, the person in the reference, where that is known: all of it is carried,
            clothes too, each pixel with the part that it is nearest to, and nothing else; the colours of its edge,
            mixed with what lies behind, are those next to it further in.

    Returns:
        ``(f, height, width, 3)`` uint8.

    Raises:
        InputError: a pose belongs to a frame of another size, or ``under`` or ``silhouette`` has another size.
    """
    height, width = reference.shape[:2]
    if under is not None and under.shape != (len(poses), height, width, 3):
        raise InputError(f"under has shape {under.shape}; it must be {(len(poses), height, width, 3)}")
    if silhouette is not None and silhouette.shape != (height, width):
        raise InputError(f"silhouette has shape {silhouette.shape}; the reference has {(height, width)}")
    for name, pose in (("own", own), ("poses", poses)):
        if pose.size != (width, height):
            raise InputError(f"{name} is for frames of {pose.size}; the reference has {(width, height)}")
    before, after = _joints(own), _with_knees(_joints(poses))
    scale = (_trunk_length(after) / _trunk_length(before)).clamp(0.25, 4.0)  # (f,)
    depth = torch.zeros(after.shape[:2]) if poses.depth is None else torch.from_numpy(poses.depth[:, :18])
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack([x, y], -1)  # (h, w, 2)

    if silhouette is not None:  # its edge is mixed with what lies behind it
        padded = np.pad(silhouette, 1)
        inner = silhouette & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
        reference = fill(reference[None], ~inner[None])[0]
    picture = torch.from_numpy(reference.copy()).permute(2, 0, 1)[None].float()
    owned = None if silhouette is None else _owned(before, places) * torch.from_numpy(silhouette)
    far = 1.0 if owned is None else FAR
    moved, covers, order = [], [], []
    for number, part in enumerate(PARTS):
        source, reach = _look_up(part, before, after, scale, places)
        looked_up = picture if owned is None else torch.cat([picture, owned[None, number : number + 1]], 1)
        grid = source / torch.tensor([width, height]) * 2 - 1
        looked_up = F.grid_sample(looked_up.expand(len(grid), -1, -1, -1), grid, "bilinear", "border", False)
        moved.append(looked_up[:, :3])
        cover = torch.sigmoid((far - reach) * EDGE)
        covers.append(cover if owned is None else cover * looked_up[:, 3])
        order.append(depth[:, [*part.start, *part.end]].mean(1) - part.nearer)
    ground = picture if under is None else torch.from_numpy(under.copy()).permute(0, 3, 1, 2).float()
    return _stack(ground, torch.stack(moved, 1), torch.stack(covers, 1), torch.stack(order, 1))


def _owned(before: Tensor, places: Tensor) -> Tensor:
    """How much of each pixel of the reference belongs to each part, ``(parts, h, w)``: the nearest one, and a seam."""
    reaches = torch.cat([_look_up(part, before, before, torch.ones(1), places)[1] for part in PARTS])
    reaches = reaches.clamp(max=1e3)  # those that are not there are all as far
    nearest, second = reaches.topk(2, 0, largest=False).values
    others = torch.where(reaches == nearest, second, nearest)
    return torch.sigmoid((others - reaches + SEAM) * EDGE)


def _stack(under: Tensor, pictures: Tensor, covers: Tensor, order: Tensor) -> Picture:
    """Lay ``(f, p, 3, h, w)`` pictures with ``(f, p, h, w)`` covers on others, the farthest of ``(f, p)`` first."""
    rows = torch.arange(len(order))
    out = under.expand(len(order), -1, -1, -1)
    for part in order.argsort(dim=1, descending=True, stable=True).unbind(1):
        cover = covers[rows, part][:, None]
        out = out + cover * (pictures[rows, part] - out)
    return out.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def _joints(pose: PoseSequence) -> Tensor:
    """Body joints ``(f, 18, 2)``; those that are not there are not a number, but for hips: they are below the neck."""
    points = torch.from_numpy(pose.keypoints[:, :18]).clone()
    points[torch.from_numpy(pose.scores[:, :18]) <= 0] = torch.nan
    neck = points[:, JOINT["neck"]]
    below = neck + torch.stack([torch.zeros(len(neck)), _trunk_length(points)], -1)
    for hip, shoulder in zip(HIPS, SHOULDERS, strict=True):
        aside = 0.6 * (points[:, shoulder] - neck).nan_to_num(0.0)
        points[:, hip] = torch.where(points[:, hip].isnan(), below + aside, points[:, hip])
    return points


def _with_knees(points: Tensor) -> Tensor:
    """Knees of ``(f, 18, 2)`` that are not there are taken to be below the hips: thighs go on out of the frame."""
    points = points.clone()
    for hip, knee in zip(HIPS, KNEES, strict=True):
        below = points[:, hip] + torch.stack([torch.zeros(len(points)), THIGH * _trunk_length(points)], -1)
        points[:, knee] = torch.where(points[:, knee].isnan(), below, points[:, knee])
    return points


def _trunk_length(joints: Tensor) -> Tensor:
    """Of ``(f, 18, 2)``, in pixels: trunk, or, where that is bent towards us or unseen, told from other lengths."""
    neck, hips = joints[:, JOINT["neck"]], joints[:, HIPS].mean(1)
    shoulders = (joints[:, SHOULDERS[0]] - joints[:, SHOULDERS[1]]).norm(dim=-1)
    head = (joints[:, JOINT["nose"]] - neck).norm(dim=-1)
    lengths = torch.stack([(neck - hips).norm(dim=-1), 1.2 * shoulders, 1.2 * head])
    return lengths.nan_to_num(0.0).amax(0).clamp(min=1.0)


def _look_up(part: Part, before: Tensor, after: Tensor, scale: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the reference a part's pixels come from, ``(f, h, w, 2)``; how far off it each is, ``(f, h, w)``: up to
    1 within its radius; endless where the part is not there."""
    unit, unit_before = _trunk_length(after)[:, None, None], _trunk_length(before)
    scale = scale[:, None, None]
    end, to = _alike(after[:, part.end], before[:, part.end].expand(len(after), -1, -1))
    start, from_ = after[:, part.start].mean(1), before[:, part.start].mean(1).expand_as(to)
    along, length = _direction(end - start)
    along_before, length_before = _direction(to - from_)
    there = torch.isfinite(torch.cat([start, end], -1)).all(-1) & torch.isfinite(torch.cat([from_, to], -1)).all(-1)
    radius: float | Tensor = part.radius
    if part.rigid:
        origin, origin_before = end, to
        radius = (0.75 * length[:, None, None] / unit).clamp(min=part.radius, max=1.5 * part.radius)
        low, length, length_before = -0.5 * length, torch.zeros_like(length), torch.zeros_like(length_before)
    else:
        origin, origin_before, low = start, from_, torch.zeros_like(length)

    offset = places - origin[:, None, None]  # (f, h, w, 2)
    u, v = (offset * along[:, None, None]).sum(-1), (offset * _across(along)[:, None, None]).sum(-1)
    length, length_before, low = (value[:, None, None] for value in (length, length_before, low))
    inside = u.clamp(min=0).minimum(length)
    u_before = inside * length_before / length.clamp(min=1e-3) + (u - inside) / scale
    v_before = v / scale
    if part is TRUNK:  # its width shows how far it is turned; the back of a front that is shown is a mirror image
        wide, wide_before = (
            _width(after, along, unit[:, 0, 0])[:, None, None],
            _width(before, along_before, unit_before)[:, None, None],
        )
        v_before = v * wide_before / wide
        radius = 0.5 * wide.abs() / unit + 0.2
    source = (
        origin_before[:, None, None]
        + u_before[..., None] * along_before[:, None, None]
        + v_before[..., None] * _across(along_before)[:, None, None]
    )
    reach = torch.hypot(u - u.maximum(low).minimum(length + part.beyond * unit), v) / (radius * unit)
    reach = torch.where(there[:, None, None], reach, torch.inf)
    return source.nan_to_num(0.0), reach.nan_to_num(torch.inf)


def _alike(after: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Means of two ``(f, n, 2)`` over the points that both have; where those are too few, over what each has."""
    both = torch.isfinite(after).all(-1) & torch.isfinite(before).all(-1)  # (f, n)
    taken = (both | (both.sum(1, keepdim=True) < min(ENOUGH, both.shape[1])))[..., None]
    return torch.where(taken, after, torch.nan).nanmean(1), torch.where(taken, before, torch.nan).nanmean(1)


def _direction(line: Tensor) -> tuple[Tensor, Tensor]:
    """``(f, 2)`` as unit vectors and lengths; downwards where there is no length."""
    length = line.norm(dim=-1)
    unit = line / length[:, None].clamp(min=1e-3)
    return torch.where(length[:, None] > 1e-3, unit, torch.tensor([0.0, 1.0])), length


def _across(along: Tensor) -> Tensor:
    """At a right angle to ``(f, 2)``."""
    return torch.stack([-along[:, 1], along[:, 0]], -1)


def _width(joints: Tensor, along: Tensor, unit: Tensor) -> Tensor:
    """Of the trunk across ``along``, from the person's right to its left, ``(f,)``: negative where seen from behind."""
    pairs = torch.stack([joints[:, b] - joints[:, a] for a, b in (SHOULDERS, HIPS)], 1)  # (f, 2, 2)
    wide = (pairs * _across(along)[:, None]).sum(-1).nanmean(1)
    least = 0.2 * unit  # seen from the side it still has some
    return torch.where(wide < 0, wide.minimum(-least), wide.maximum(least))
