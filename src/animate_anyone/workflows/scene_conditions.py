"""What a model of Animate Anyone 2 is told of a scene, at its own size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.environment import empty, feather, formulate
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.conditions.placing import Placing
from animate_anyone.conditions.shape_agnostic import bounding_box
from animate_anyone.first_guess.background import complete_background
from animate_anyone.first_guess.collage import chunks, collage
from animate_anyone.first_guess.limb_warp import warp_limbs
from animate_anyone.perception.person.background_motion import Background
from animate_anyone.perception.person.occluders import in_front
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import PoseSequence, Scene, Subject
from animate_anyone.workflows.animate import draw_own_pose

Picture = NDArray[np.uint8]

AROUND = 1 / 30
"""How far around its mask a person may be, and around the character the model may paint, of the person's height."""


@dataclass(frozen=True)
class Told:
    """What the model is told, at its own size.

    Attributes:
        placing: how the video's frames were put into the model's frame.
        reference, reference_pose: the character, and its pose picture where the model wants it.
        source: ``(frames, height, width, 3)``, the video.
        region: ``(frames, height, width)`` bool, where the character is made.
        made: as ``region``, the part of it whose background is not the video's own: all of it, or, where the first
            guess says what is, the body, and the character with some room around.
        environment: as ``source``, without that region.
        objects, object_mask: as ``environment``, of the objects; ``None`` where there are none.
        poses: ``(frames, h, w, 3)``, drawn.
        depth: ``(frames, h, w)``; ``None`` where the model does without.
        carried: as ``source``: a first guess laid together of all that (``first_guess.collage``); ``None`` likewise.
        unknown: as ``region``: where no frame shows what is there without the person; ``None`` likewise.
    """

    placing: Placing
    reference: Picture
    reference_pose: Picture | None
    source: Picture
    region: NDArray[np.bool_]
    made: NDArray[np.bool_]
    environment: Picture
    objects: Picture | None
    object_mask: NDArray[np.bool_] | None
    poses: Picture
    depth: NDArray[np.float32] | None
    carried: Picture | None
    unknown: NDArray[np.bool_] | None


def tell(scene: Scene, subject: Subject, size: tuple[int, int], pipeline: AnimateAnyone2Pipeline) -> Told:
    """Everything at the size ``(width, height)`` that the model works at; the skeletons as large as it wants them."""
    placing = Placing.into(scene.pose.size, size)
    own = Placing.into((subject.picture.shape[1], subject.picture.shape[0]), size)
    source = np.empty((len(scene.frames), size[1], size[0], 3), np.uint8)
    for placed, frame in zip(source, scene.frames, strict=True):
        placed[:] = placing.apply(frame)
    person, reference = place_masks(scene.person.masks, placing), own.apply(subject.picture)
    poses, drawn = placing.move(scene.pose), pipeline.pose_picture_size(size)
    objects, object_mask = None, None
    if scene.objects:
        held = scene.objects[0].masks.copy()
        for thing in scene.objects[1:]:
            held |= thing.masks
        object_mask = place_masks(held, placing)
        objects = empty(source, ~object_mask)
    guessed = bool(pipeline.config["carried_reference"])
    pose = own.move(subject.pose) if guessed and subject.pose is not None else None
    cut = None if subject.silhouette is None else place_masks(subject.silhouette[None], own)[0]
    character = np.zeros_like(person)
    if pose is not None and cut is not None:
        character = outline(pose, poses, cut) & person.any(axis=(1, 2), keepdims=True)
        character &= ~place_masks(in_front(scene.pose, scene.person.masks), placing) | person
    region = formulate(person | within(character, placing), pipeline.config["formulation"])
    environment, made, carried, unknown = empty(source, region), region, None, None
    if guessed:
        room = max(2, round(tallest(person) * AROUND))
        body = region & (feather(person, room) > 0)
        background, unknown = uncovered(scene, placing, source, body, object_mask)
        carried = collage(reference, pose, poses, background, region, cut, objects, object_mask, unknown)
        if cut is not None:
            made = body | (region & (feather(character, room) > 0))
    style = pipeline.config["skeleton_style"]
    return Told(
        placing,
        reference,
        draw_own_pose(subject, own, pipeline) if pipeline.config["reference_pose"] else None,
        source,
        region,
        made,
        environment,
        objects,
        object_mask,
        draw_pose(poses, drawn, style=style),
        draw_limb_depth(poses, drawn, style=style) if pipeline.config["uses_depth"] else None,
        carried,
        unknown,
    )


def outline(own: PoseSequence, poses: PoseSequence, silhouette: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a character is whose silhouette ``(height, width)`` is carried into poses, ``(frames, height, width)``."""
    white = np.full((*silhouette.shape, 3), 255, np.uint8)
    found = np.empty((len(poses), *silhouette.shape), bool)
    for some in chunks(len(poses), (silhouette.shape[1], silhouette.shape[0])):
        black = np.zeros((*found[some].shape, 3), np.uint8)
        found[some] = warp_limbs(white, own, poses[some], black, silhouette)[..., 0] > 127
    return found


def tallest(masks: NDArray[np.bool_]) -> int:
    """The largest height of the boxes around ``(frames, height, width)`` masks, pixels; 0 where nothing is masked."""
    return max((rows.stop - rows.start for rows, _ in filter(None, map(bounding_box, masks))), default=0)


def within(masks: NDArray[np.bool_], placing: Placing) -> NDArray[np.bool_]:
    """Masks ``(frames, height, width)`` less the drawn-out margins."""
    inside = np.zeros_like(masks)
    part = (slice(None), *inner_part(placing))
    inside[part] = masks[part]
    return inside


def uncovered(
    scene: Scene,
    placing: Placing,
    source: Picture,
    body: NDArray[np.bool_],
    object_mask: NDArray[np.bool_] | None = None,
) -> tuple[Picture, NDArray[np.bool_]]:
    """The source without the body ``(frames, height, width)``, of which other frames show what it hides.

    The model is told the region alone, so that nothing tells it the outline of the source's person; this is for the
    first guess, which has an outline already, the character's.

    Returns:
        As ``source``, and, as ``body``, the part of it where no frame shows anything.
    """
    background = Background(scene.frames, scene.person.masks, scene.pose)  # type: ignore[arg-type]
    into = placing.matrix(scene.pose.size)

    def moved(start: int, end: int) -> NDArray[np.float64] | None:
        motion = background.between(start, end)
        return None if motion is None else into @ motion @ np.linalg.inv(into)

    margins = ~within(np.ones_like(body), placing)
    shown, unknown = complete_background(source, body, moved, margins if object_mask is None else margins | object_mask)
    return empty(shown, unknown), unknown


def place_masks(masks: NDArray[np.bool_], placing: Placing) -> NDArray[np.bool_]:
    """Masks ``(frames, height, width)`` put into the model's frame: a pixel that holds anything of it is masked."""
    placed = np.zeros((len(masks), *placing.size[::-1]), bool)
    rows, columns = inner_part(placing)
    for number, mask in enumerate(masks):
        small = Image.fromarray(mask.astype(np.uint8) * 255).resize(placing.inner, Image.Resampling.BOX)
        placed[number, rows, columns] = np.asarray(small) > 0
    return placed


def inner_part(placing: Placing) -> tuple[slice, slice]:
    """Rows and columns of the model's frame that show the video, not the drawn-out margins."""
    width, height = placing.inner
    return slice(placing.top, placing.top + height), slice(placing.left, placing.left + width)
