"""The conditions of Animate Anyone 2: from a decomposed video to what the model is given, at its own size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.environment import empty, feather, formulate
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.first_guess.background import fill_hidden
from animate_anyone.first_guess.collage import chunks, collage
from animate_anyone.first_guess.limb_warp import warp_limbs
from animate_anyone.media import write_picture
from animate_anyone.perception.person.background_motion import Background
from animate_anyone.perception.person.occluders import find_occluders
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.structures import Picture, PoseSequence, Scene, Subject
from animate_anyone.system.whole_files import whole_files
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.settings import write_video
from animate_anyone.workflows.skeletons import reference_skeleton

AROUND = 1 / 30
"""How far around its mask a person may be, and around the character the model may paint, of the person's height."""

_KEPT_VIDEOS = ("source", "masks", "environment", "objects", "skeletons", "depth")
KEPT = ("poses.npz", "character.png", "report.json", *(f"{name}.mp4" for name in _KEPT_VIDEOS))
"""What ``keep`` writes of ``replace``."""


@dataclass(frozen=True, kw_only=True)
class SceneConditions(SceneInputs):
    """What the model is given, at its own size: a pipeline's scene, and what a call takes beside it.

    Attributes:
        letterbox: how the video's frames were put into the model's frame.
        reference, reference_pose: the character, and its skeleton picture where the model wants it.
        source: ``(frames, height, width, 3)``, the video.
        made: as ``mask``, the part of it whose background is not the video's own: all of it, or, where the first
            guess says what is, the body, and the character with some room around.
        skeletons: ``(frames, h, w, 3)``, skeleton pictures.
        first_guess: as ``source``, composed of all that (``first_guess.collage``); ``None`` where the model does
            without.
        unseen: as ``mask``: where no frame shows the background behind the person; ``None`` likewise.
    """

    letterbox: Letterbox
    reference: Picture
    reference_pose: Picture | None
    source: Picture
    made: NDArray[np.bool_]
    skeletons: Picture
    first_guess: Picture | None = None
    unseen: NDArray[np.bool_] | None = None


def make_conditions(
    scene: Scene, subject: Subject, size: tuple[int, int], pipeline: AnimateAnyone2Pipeline
) -> SceneConditions:
    """Everything at the size ``(width, height)`` that the model works at; the skeletons as large as it wants them."""
    letterbox = Letterbox.into(scene.pose.size, size)
    reference_letterbox = Letterbox.into((subject.picture.shape[1], subject.picture.shape[0]), size)
    source = np.empty((len(scene.frames), size[1], size[0], 3), np.uint8)
    for number, frame in enumerate(scene.frames):
        source[number] = letterbox.apply(frame)
    reference, poses = reference_letterbox.apply(subject.picture), letterbox.move(scene.pose)
    person, object_mask = letterbox_masks(scene.person.masks, letterbox), letterbox_objects(scene, letterbox)
    objects = None if object_mask is None else empty(source, ~object_mask)

    has_first_guess = bool(pipeline.config["carried_reference"])
    pose = reference_letterbox.move(subject.pose) if has_first_guess and subject.pose is not None else None
    silhouette = None
    if subject.silhouette is not None:
        silhouette = letterbox_masks(subject.silhouette[None], reference_letterbox)[0]
    character = np.zeros_like(person)
    if pose is not None and silhouette is not None:
        character = warp_silhouette(pose, poses, silhouette) & person.any(axis=(1, 2), keepdims=True)
        character &= ~letterbox_masks(find_occluders(scene.pose, scene.person.masks), letterbox) | person
    region = formulate(person | without_margins(character, letterbox), pipeline.config["formulation"])

    made, first_guess, unseen = region, None, None
    if has_first_guess:
        room = max(2, round(tallest(person) * AROUND))
        body = region & (feather(person, room) > 0)
        background, unseen = complete_background(scene, letterbox, source, body, object_mask)
        first_guess = collage(reference, pose, poses, background, region, silhouette, objects, object_mask, unseen)
        if silhouette is not None:
            made = body | (region & (feather(character, room) > 0))
    style, skeleton_size = pipeline.config["skeleton_style"], pipeline.pose_picture_size(size)
    return SceneConditions(
        letterbox=letterbox,
        reference=reference,
        reference_pose=(
            reference_skeleton(subject, reference_letterbox, pipeline) if pipeline.config["reference_pose"] else None
        ),
        source=source,
        mask=region,
        made=made,
        environment=empty(source, region),
        skeletons=draw_pose(poses, skeleton_size, style=style),
        objects=objects,
        object_mask=object_mask,
        depth=draw_limb_depth(poses, skeleton_size, style=style) if pipeline.config["uses_depth"] else None,
        first_guess=first_guess,
        unseen=unseen,
    )


def warp_silhouette(own: PoseSequence, poses: PoseSequence, silhouette: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A character's silhouette ``(height, width)`` warped limb by limb into poses, ``(frames, height, width)``."""
    white = np.full((*silhouette.shape, 3), 255, np.uint8)
    found = np.empty((len(poses), *silhouette.shape), bool)
    for some in chunks(len(poses), (silhouette.shape[1], silhouette.shape[0])):
        black = np.zeros((*found[some].shape, 3), np.uint8)
        found[some] = warp_limbs(white, own, poses[some], black, silhouette)[..., 0] > 127
    return found


def tallest(masks: NDArray[np.bool_]) -> int:
    """The largest height of the boxes around ``(frames, height, width)`` masks, pixels; 0 where nothing is masked."""
    return max((rows.stop - rows.start for rows, _ in filter(None, map(bounding_box, masks))), default=0)


def without_margins(masks: NDArray[np.bool_], letterbox: Letterbox) -> NDArray[np.bool_]:
    """Masks ``(frames, height, width)`` less the drawn-out margins."""
    inside = np.zeros_like(masks)
    area = (slice(None), *inner_area(letterbox))
    inside[area] = masks[area]
    return inside


def complete_background(
    scene: Scene,
    letterbox: Letterbox,
    source: Picture,
    body: NDArray[np.bool_],
    object_mask: NDArray[np.bool_] | None = None,
) -> tuple[Picture, NDArray[np.bool_]]:
    """The source without the body ``(frames, height, width)``: what it hides is taken from other frames that show it.

    This is for the first guess alone, which has the character's outline already. The environment is empty in the whole
    region, so that the model does not see the outline of the source's person.

    Returns:
        As ``source``, and, as ``body``, the part of it where no frame shows anything.
    """
    background = Background(scene.frames, scene.person.masks, scene.pose)  # type: ignore[arg-type]
    matrix = letterbox.matrix(scene.pose.size)

    def moved(start: int, end: int) -> NDArray[np.float64] | None:
        motion = background.between(start, end)
        return None if motion is None else matrix @ motion @ np.linalg.inv(matrix)

    margins = ~without_margins(np.ones_like(body), letterbox)
    shown, unseen = fill_hidden(source, body, moved, margins if object_mask is None else margins | object_mask)
    return empty(shown, unseen), unseen


def letterbox_objects(scene: Scene, letterbox: Letterbox) -> NDArray[np.bool_] | None:
    """Where any object is in the model's frame, ``(frames, height, width)``; ``None`` where there are no objects."""
    if not scene.objects:
        return None
    union = scene.objects[0].masks.copy()
    for track in scene.objects[1:]:
        union |= track.masks
    return letterbox_masks(union, letterbox)


def letterbox_masks(masks: NDArray[np.bool_], letterbox: Letterbox) -> NDArray[np.bool_]:
    """Masks ``(frames, height, width)`` put into the model's frame: a pixel that holds anything of it is masked."""
    letterboxed = np.zeros((len(masks), *letterbox.size[::-1]), bool)
    rows, columns = inner_area(letterbox)
    for number, mask in enumerate(masks):
        small = Image.fromarray(mask.astype(np.uint8) * 255).resize(letterbox.inner, Image.Resampling.BOX)
        letterboxed[number, rows, columns] = np.asarray(small) > 0
    return letterboxed


def inner_area(letterbox: Letterbox) -> tuple[slice, slice]:
    """Rows and columns of the model's frame that show the video, not the drawn-out margins."""
    width, height = letterbox.inner
    return slice(letterbox.top, letterbox.top + height), slice(letterbox.left, letterbox.left + width)


def keep_conditions(folder: Path, scene: Scene, conditions: SceneConditions, driver: Driver) -> None:
    """Write the source video's poses and the model's conditions, at its size: all or nothing.

    Raises:
        InputError: they cannot be written.
    """
    person = letterbox_masks(scene.person.masks, conditions.letterbox)
    grey = np.where(person, np.uint8(255), np.where(conditions.mask, np.uint8(127), np.uint8(0)))
    depth = None if conditions.depth is None else np.rint(conditions.depth * 255).astype(np.uint8)
    videos = (conditions.source, grey, conditions.environment, conditions.objects, conditions.skeletons, depth)
    with whole_files(folder) as hidden:
        scene.pose.save(hidden / "poses.npz")
        write_picture(hidden / "character.png", conditions.reference)
        for name, frames in zip(_KEPT_VIDEOS, videos, strict=True):
            if frames is not None:
                height, width = frames[0].shape[:2]
                pictures = (frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2) for frame in frames)
                write_video(hidden / f"{name}.mp4", pictures, (width, height), driver)
