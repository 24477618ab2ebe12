"""What Animate Anyone 2 (section 3) is trained on: a clip split into character, environment, objects and motion,
from which it is to be put together again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.environment import EMPTY, empty, feather, formulate
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.conditions.rescale_character import Rescaled, draw_scale, rescale_character
from animate_anyone.conditions.shape_agnostic import draw_shares
from animate_anyone.structures import PoseSequence, Size
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.clips import pose_of
from animate_anyone.training.config import Data, Environment

MARGIN = 1.15
"""Side of the reference's square crop, over the longer side of the character's box."""

_CELLS = range(2, 7)  # a side, of a random background that is no plain colour
_EDGE = 1  # pixels at a mask's edge in which both sides mix


@dataclass(frozen=True)
class SplitScene:
    """``k`` frames of a scene: what the networks are given, and what they are to make of it.

    Attributes:
        frames: ``(k, H, W, 3)`` uint8, the target.
        environment: as ``frames``, the region emptied and nothing of the person outside it.
        region: what is taken out of it, ``(k, H, W)`` bool.
        masks: the target's person, ``(k, H, W)`` bool.
        objects: as ``frames``, empty where no object is.
        object_masks: where objects are, ``(k, H, W)`` bool.
        poses: the target's, drawn, ``(k, h, w, 3)`` uint8.
        depth: their structured depth in [0, 1], ``(k, h, w)`` float32.
        pose: the target's, in pixels of ``frames``.
    """

    frames: NDArray[np.uint8]
    environment: NDArray[np.uint8]
    region: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    objects: NDArray[np.uint8]
    object_masks: NDArray[np.bool_]
    poses: NDArray[np.uint8]
    depth: NDArray[np.float32]
    pose: PoseSequence

    def part(self, frames: slice) -> SplitScene:
        """Some of these frames."""
        return SplitScene(**{field.name: getattr(self, field.name)[frames] for field in fields(self)})


def split_scene(
    clip: ClipArrays, frames: NDArray[np.int64], rng: np.random.Generator, settings: Environment, data: Data
) -> SplitScene:
    """Split some frames of a scene.

    The fineness of the mask's blocks and the character's scale are drawn once for all frames. The region that is taken
    out comes from the masks before scaling: it may be smaller than the character that is to be made.

    Args:
        clip: from ``clips.render_scene``.
        frames: which of its frames.
        data: how poses are drawn.
    """
    shares = draw_shares(rng)
    scale = draw_scale(rng, settings.smallest_scale, settings.largest_scale)
    if rng.random() >= settings.scaled_share:
        scale = 1.0
    before = clip["masks"][frames].astype(bool)
    region = formulate(before, settings.formulation, shares)
    made = _scaled(clip, frames, before, scale)
    assert made.pose is not None

    beside = made.frames
    if scale != 1:
        person = feather(made.person, _EDGE) > 0
        beside = np.where(person[..., None], clip["environment"][frames], beside)
    objects, size = made.objects.any(axis=0), _pose_size(before[0], data)
    return SplitScene(
        frames=made.frames,
        environment=empty(beside, region),
        region=region,
        masks=made.person,
        objects=np.where(objects[..., None], made.frames, np.uint8(EMPTY)),
        object_masks=objects,
        poses=draw_pose(made.pose, size, style=data.skeleton_style),
        depth=draw_limb_depth(made.pose, size, style=data.skeleton_style),
        pose=made.pose,
    )


@dataclass(frozen=True)
class Character:
    """The reference.

    Attributes:
        picture: ``(H, W, 3)`` uint8.
        pose: one frame, in its pixels; ``drawn``: its picture ``(h, w, 3)`` uint8.
        silhouette: ``(H, W)`` bool, the person.
    """

    picture: NDArray[np.uint8]
    pose: PoseSequence
    drawn: NDArray[np.uint8]
    silhouette: NDArray[np.bool_]


def character_reference(clip: ClipArrays, frame: int, rng: np.random.Generator, data: Data) -> Character:
    """The reference: the character of a frame alone, in the middle of the picture, before a random background.

    A frame without the person gives the background alone.
    """
    mask, picture = clip["masks"][frame].astype(bool), clip["frames"][frame]
    height, width = mask.shape
    rows, columns = bounding_box(mask) or (slice(0, height), slice(0, width))
    tall = MARGIN * max(rows.stop - rows.start, (columns.stop - columns.start) * height / width)
    left = (columns.start + columns.stop) / 2 - tall * (width / height) / 2
    top, scale = (rows.start + rows.stop) / 2 - tall / 2, tall / height
    layer = np.dstack([picture, mask * np.uint8(255)])
    to_source = (scale, 0, left, 0, scale, top)
    size, how = (width, height), Image.Resampling.BILINEAR
    cut = np.asarray(Image.fromarray(layer).transform(size, Image.Transform.AFFINE, to_source, how), np.float32)
    cover = cut[..., 3:] / 255
    background = random_background(rng, size)
    reference = np.rint(cover * cut[..., :3] + (1 - cover) * background).astype(np.uint8)

    pose = pose_of(clip["points"][[frame]], size)
    corner = np.array([left, top], np.float32)
    pose = replace(pose, keypoints=(pose.keypoints - corner) * np.float32(height / tall))
    drawn = draw_pose(pose, _pose_size(mask, data), style=data.skeleton_style)[0]
    return Character(reference, pose, drawn, cover[..., 0] > 0.5)


def _pose_size(mask: NDArray[np.bool_], data: Data) -> Size:
    """``(width, height)`` of pose pictures beside frames of this mask's size."""
    return (mask.shape[1] * data.pose_scale, mask.shape[0] * data.pose_scale)


def pass_over(rng: np.random.Generator, settings: Environment) -> None:
    """Draw what :func:`split_scene` and then :func:`character_reference` draw for one clip, whatever is in it."""
    draw_shares(rng)
    draw_scale(rng, settings.smallest_scale, settings.largest_scale)
    rng.random()
    random_background(rng, (1, 1))


def random_background(rng: np.random.Generator, size: Size) -> NDArray[np.uint8]:
    """A picture ``(height, width, 3)`` uint8 of nothing: a plain colour, soft patches or tiles, each as often."""
    kind = int(rng.integers(3))
    cells = 1 if kind == 0 else int(rng.choice(_CELLS))
    colours = rng.integers(0, 256, (cells, cells, 3), np.uint8)
    how = Image.Resampling.NEAREST if kind == 2 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(colours).resize(size, how))


def _scaled(clip: ClipArrays, frames: NDArray[np.int64], person: NDArray[np.bool_], scale: float) -> Rescaled:
    """The frames with a larger or smaller character, behind what stands in front of it."""
    pictures, environment = clip["frames"][frames], clip["environment"][frames]
    objects = clip["objects"][frames].astype(bool)[None]
    pose = pose_of(clip["points"][frames], (person.shape[2], person.shape[1]))
    made = rescale_character(pictures, person, objects, pose, scale, background=environment)
    if scale == 1:
        return made
    # Where the character was, its edge is mixed with what lies behind.
    layer = person | objects[0]
    edge = (feather(layer, _EDGE) > 0) & ~layer & ~made.person & ~made.objects[0]
    hidden = clip["occluders"][frames].astype(bool)
    back = edge | hidden
    shown = np.where(back[..., None], environment, made.frames)
    return replace(made, frames=shown, person=made.person & ~hidden, objects=made.objects & ~hidden)
