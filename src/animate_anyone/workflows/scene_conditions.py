"""The conditions of Animate Anyone 2: from a decomposed video to what the model is given, at its own size."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from animate_anyone.first_guess.character import figure_of, outlines
from animate_anyone.first_guess.collage import Collage
from animate_anyone.first_guess.frames import scaled
from animate_anyone.first_guess.inpainting import complete
from animate_anyone.media import write_picture
from animate_anyone.perception.person.background_motion import Background
from animate_anyone.perception.person.occluders import find_occluders
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.structures import Mask, Picture, Scene, Size, Subject
from animate_anyone.system.whole_files import whole_files
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.settings import write_video
from animate_anyone.workflows.skeletons import reference_skeleton

AROUND = 1 / 30
"""How far around its mask a person may be, and around the character the model may paint, of the person's height."""

MADE_UP = 3
"""Frames of a video in which the background is made up that no frame shows."""

_KEPT_VIDEOS = ("source", "masks", "environment", "objects", "skeletons", "depth")
KEPT = ("poses.npz", "character.png", "report.json", *(f"{name}.mp4" for name in _KEPT_VIDEOS))
"""What ``keep`` writes of ``replace``."""


@dataclass(frozen=True, kw_only=True)
class SceneConditions(SceneInputs):
    """What the model is given, at its networks' size: a pipeline's scene, and what a call takes beside it.

    What is at the size of the result has its name after it; for models without a first guess it is the networks' size.

    Attributes:
        letterbox: how the video's frames are put into a frame of the result.
        reference, reference_pose: the character, and its skeleton picture where the model wants it.
        skeletons: ``(frames, h, w, 3)``, skeleton pictures.
        source: ``(frames, height, width, 3)``, the video, at the size of the result.
        region: ``(frames, height, width)`` bool, ``mask`` at the size of the result.
        made: as ``region``, the part of it whose background is not the video's own: all of it, or, where the first
            guess says what is, the body, and the character with some room around.
        first_guess: at the size of the result, composed of all that (``first_guess.collage``); ``None`` where the model
            does without.
        unseen: as ``region``: where no frame shows the background behind the person; ``None`` likewise.
    """

    letterbox: Letterbox
    reference: Picture
    reference_pose: Picture | None
    skeletons: Picture
    source: Picture
    region: Mask
    made: Mask
    first_guess: Collage | None = None
    unseen: Mask | None = None


def make_conditions(
    scene: Scene, subject: Subject, letterbox: Letterbox, size: Size, pipeline: AnimateAnyone2Pipeline
) -> SceneConditions:
    """Everything that a model is given, and the first guess at the result where it begins with one.

    Args:
        letterbox: puts the video's frames into a frame of the result.
        size: ``(width, height)`` at which the networks work; that of the result for models without a first guess.
    """
    small = letterbox.scaled_to(size)
    source = np.empty((len(scene.frames), letterbox.size[1], letterbox.size[0], 3), np.uint8)
    for number, frame in enumerate(scene.frames):
        source[number] = letterbox.apply(frame)
    poses, has_first_guess = letterbox.move(scene.pose), bool(pipeline.config["carried_reference"])
    person, object_mask = letterbox_masks(scene.person.masks, letterbox), letterbox_objects(scene, letterbox)
    # Depth orders limbs in the guess, against constants that are taken as heights of the video.
    moves = replace(poses, depth=scene.pose.depth)
    figure = figure_of(subject, moves) if has_first_guess else None
    character = np.zeros_like(person)
    if figure is not None and subject.silhouette is not None:
        character = outlines(figure, moves) & person.any(axis=(1, 2), keepdims=True)
        character &= ~letterbox_masks(find_occluders(scene.pose, scene.person.masks), letterbox) | person
    region = formulate(person | without_margins(character, letterbox), pipeline.config["formulation"])

    made, first_guess, unseen = region, None, None
    if has_first_guess:
        room = max(2, round(tallest(person) * AROUND))
        body = region & (feather(person, room) > 0)
        background, unseen, missing = complete_background(scene, letterbox, source, body, object_mask)
        if subject.silhouette is not None:
            made = body | (region & (feather(character, room) > 0))
        objects = () if object_mask is None else (empty(source, ~object_mask), object_mask)
        first_guess = Collage(figure, moves, background, region, *objects, unknown=missing, made=made)

    seen, mask = shrunk(source, size), shrunk_masks(region, size)
    held = None if object_mask is None else shrunk_masks(object_mask, size)
    reference_letterbox = Letterbox.into((subject.picture.shape[1], subject.picture.shape[0]), size)
    style, skeleton_size = pipeline.config["skeleton_style"], pipeline.pose_picture_size(size)
    drawn = small.move(scene.pose)
    return SceneConditions(
        letterbox=letterbox,
        reference=reference_letterbox.apply(subject.picture),
        reference_pose=(
            reference_skeleton(subject, reference_letterbox, pipeline) if pipeline.config["reference_pose"] else None
        ),
        source=source,
        region=region,
        mask=mask,
        made=made,
        environment=empty(seen, mask),
        skeletons=draw_pose(drawn, skeleton_size, style=style),
        objects=None if held is None else empty(seen, ~held),
        object_mask=held,
        depth=draw_limb_depth(drawn, skeleton_size, style=style) if pipeline.config["uses_depth"] else None,
        first_guess=first_guess,
        unseen=unseen,
    )


def shrunk(frames: Picture, size: Size) -> Picture:
    """Frames ``(frames, height, width, 3)`` at another ``(width, height)``."""
    if size == (frames.shape[2], frames.shape[1]):
        return frames
    return np.stack([scaled(frame, size) for frame in frames])


def shrunk_masks(masks: Mask, size: Size) -> Mask:
    """Masks ``(frames, height, width)`` at another ``(width, height)``: a pixel that holds anything is masked."""
    if size == (masks.shape[2], masks.shape[1]):
        return masks
    return letterbox_masks(masks, Letterbox.stretched(size))


def tallest(masks: Mask) -> int:
    """The largest height of the boxes around ``(frames, height, width)`` masks, pixels; 0 where nothing is masked."""
    return max((rows.stop - rows.start for rows, _ in filter(None, map(bounding_box, masks))), default=0)


def without_margins(masks: Mask, letterbox: Letterbox) -> Mask:
    """Masks ``(frames, height, width)`` less the drawn-out margins."""
    inside = np.zeros_like(masks)
    area = (slice(None), *inner_area(letterbox))
    inside[area] = masks[area]
    return inside


def complete_background(
    scene: Scene,
    letterbox: Letterbox,
    source: Picture,
    body: Mask,
    object_mask: Mask | None = None,
) -> tuple[Picture, Mask, Mask]:
    """The source without the body ``(frames, height, width)``: what it hides is taken from other frames that show it.

    What no frame shows is made up in the frame where most of it is missing, and taken from there; :data:`MADE_UP` times
    at most. This is for the first guess alone, which has the character's outline already. The environment is empty in
    the whole region, so that the model does not see the outline of the source's person.

    Returns:
        As ``source``; as ``body``, the part of it where no frame shows anything, and that where nothing is made up
        either.
    """
    background = Background(scene.frames, scene.person.masks, scene.pose)  # type: ignore[arg-type]
    matrix = letterbox.matrix(scene.pose.size)

    def moved(start: int, end: int) -> NDArray[np.float64] | None:
        motion = background.between(start, end)
        return None if motion is None else matrix @ motion @ np.linalg.inv(matrix)

    margins = ~without_margins(np.ones_like(body), letterbox)
    unusable = margins if object_mask is None else margins | object_mask
    shown, unseen = fill_hidden(source, body, moved, unusable)
    missing = unseen.copy()
    for _ in range(MADE_UP):
        most = int(missing.sum(axis=(1, 2)).argmax())
        if not missing[most].any():
            break
        shown[most] = complete(shown[most], missing[most])
        missing[most] = False
        shown, missing = fill_hidden(shown, missing, moved, unusable, most)
    return empty(shown, missing), unseen, missing


def letterbox_objects(scene: Scene, letterbox: Letterbox) -> Mask | None:
    """Where any object is in the model's frame, ``(frames, height, width)``; ``None`` where there are no objects."""
    if not scene.objects:
        return None
    union = scene.objects[0].masks.copy()
    for track in scene.objects[1:]:
        union |= track.masks
    return letterbox_masks(union, letterbox)


def letterbox_masks(masks: Mask, letterbox: Letterbox) -> Mask:
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
    """Write the source video's poses and the model's conditions, at the networks' size: all or nothing.

    Raises:
        InputError: they cannot be written.
    """
    height, width = conditions.mask.shape[1:]
    skeleton_size = (conditions.skeletons.shape[2], conditions.skeletons.shape[1])
    person = shrunk_masks(letterbox_masks(scene.person.masks, conditions.letterbox), (width, height))
    source = (scaled(frame, (width, height)) for frame in conditions.source)
    grey = np.where(person, np.uint8(255), np.where(conditions.mask, np.uint8(127), np.uint8(0)))
    depth = None if conditions.depth is None else np.rint(conditions.depth * 255).astype(np.uint8)
    videos = (source, grey, conditions.environment, conditions.objects, conditions.skeletons, depth)
    with whole_files(folder) as hidden:
        scene.pose.save(hidden / "poses.npz")
        write_picture(hidden / "character.png", conditions.reference)
        for name, frames in zip(_KEPT_VIDEOS, videos, strict=True):
            if frames is not None:
                side = skeleton_size if name in ("skeletons", "depth") else (width, height)
                pictures = (frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2) for frame in frames)
                write_video(hidden / f"{name}.mp4", pictures, side, driver)
