"""The conditions of Animate Anyone 2: from a decomposed video to what the model is given, at its own size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.draw import drawn_frames
from animate_anyone.conditions.environment import empty, feather, formulate
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.limb_depth import limb_depth_frames
from animate_anyone.first_guess.background import fill_frame
from animate_anyone.first_guess.character import figure_of, outline
from animate_anyone.first_guess.collage import Collage
from animate_anyone.first_guess.frames import scaled
from animate_anyone.first_guess.inpainting import complete
from animate_anyone.first_guess.layers import Figure
from animate_anyone.media import write_picture
from animate_anyone.perception.person.background_motion import Background
from animate_anyone.perception.person.occluders import find_occluders
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.structures import Mask, Masks, Picture, Pictures, PoseSequence, Scene, Size, Subject
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames, StoredFrames, stored
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
    Frames and masks are sequences that read or make one when asked for.

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
    skeletons: Pictures
    source: Pictures
    region: Masks
    made: Masks
    first_guess: Collage | None = None
    unseen: Masks | None = None


def make_conditions(
    scene: Scene, subject: Subject, letterbox: Letterbox, size: Size, pipeline: AnimateAnyone2Pipeline
) -> SceneConditions:
    """Everything that a model is given, and the first guess at the result where it begins with one.

    Args:
        letterbox: puts the video's frames into a frame of the result.
        size: ``(width, height)`` at which the networks work; that of the result for models without a first guess.
    """
    count, shape = len(scene.frames), letterbox.size[::-1]
    source = stored(MadeFrames(count, (*shape, 3), np.uint8, lambda n: letterbox.apply(scene.frames[n])))
    poses, has_first_guess = letterbox.move(scene.pose), bool(pipeline.config["carried_reference"])
    person = letterbox_masks(scene.person.masks, letterbox)
    object_mask = letterbox_masks(scene.any_object(), letterbox) if scene.objects else None
    # Depth orders limbs in the guess, against constants that are taken as heights of the video.
    moves = replace(poses, depth=scene.pose.depth)
    figure = figure_of(subject, moves) if has_first_guess else None
    character: FrameSequence[np.bool_] | None = None
    if figure is not None and subject.silhouette is not None:
        character = seen_outlines(figure, moves, scene, person, letterbox)

    def region_of(number: int) -> Mask:
        covered = person[number]
        if character is not None:
            covered = covered | without_margins(character[number], letterbox)
        return formulate(covered[None], pipeline.config["formulation"])[0]

    region = stored(MadeFrames(count, shape, bool, region_of))
    made, first_guess, unseen = region, None, None
    if has_first_guess:
        room = max(2, round(tallest(person) * AROUND))

        def near(mask: Mask, number: int) -> Mask:
            return region[number] & (feather(mask[None], room)[0] > 0)

        body = stored(MadeFrames(count, shape, bool, lambda n: near(person[n], n)))
        background, unseen, missing = complete_background(scene, letterbox, source, body, object_mask)
        if subject.silhouette is not None:
            made = body
        if character is not None:
            outlines = character
            made = stored(MadeFrames(count, shape, bool, lambda n: body[n] | near(outlines[n], n)))
        objects = () if object_mask is None else (held_alone(source, object_mask), object_mask)
        first_guess = Collage(figure, moves, background, region, *objects, unknown=missing, made=made)

    seen, mask = shrunk(source, size), shrunk_masks(region, size)
    held = None if object_mask is None else shrunk_masks(object_mask, size)
    reference_letterbox = Letterbox.into((subject.picture.shape[1], subject.picture.shape[0]), size)
    style, skeleton_size = pipeline.config["skeleton_style"], pipeline.pose_picture_size(size)
    drawn = letterbox.scaled_to(size).move(scene.pose)
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
        environment=emptied(seen, mask),
        skeletons=drawn_frames(drawn, skeleton_size, style=style),
        objects=None if held is None else held_alone(seen, held),
        object_mask=held,
        depth=limb_depth_frames(drawn, skeleton_size, style=style) if pipeline.config["uses_depth"] else None,
        first_guess=first_guess,
        unseen=unseen,
    )


def seen_outlines(
    figure: Figure, moves: PoseSequence, scene: Scene, person: FrameSequence[np.bool_], letterbox: Letterbox
) -> FrameSequence[np.bool_]:
    """Where a character is seen in the place of the person, as ``person``: not behind what stands in front of them."""
    occluders = find_occluders(scene.pose, scene.person.masks)

    def outline_of(number: int) -> Mask:
        here = person[number]
        if not here.any():
            return here
        return outline(figure, moves, number) & (~letterbox_mask(occluders[number], letterbox) | here)

    return MadeFrames(len(person), person.shape[1:], bool, outline_of, once=True)


def shrunk(frames: Pictures, size: Size) -> Pictures:
    """Frames ``(frames, height, width, 3)`` at another ``(width, height)``."""
    if size == (frames.shape[2], frames.shape[1]):
        return frames
    return MadeFrames(len(frames), (*size[::-1], 3), np.uint8, lambda n: scaled(frames[n], size), once=True)


def shrunk_masks(masks: Masks, size: Size) -> Masks:
    """Masks ``(frames, height, width)`` at another ``(width, height)``: a pixel that holds anything is masked."""
    if size == (masks.shape[2], masks.shape[1]):
        return masks
    return letterbox_masks(masks, Letterbox.stretched(size))


def emptied(frames: Pictures, region: Masks) -> FrameSequence[np.uint8]:
    """:func:`~animate_anyone.conditions.environment.empty`, frame by frame when asked for."""
    return MadeFrames(len(frames), frames.shape[1:], np.uint8, lambda n: empty(frames[n][None], region[n][None])[0])


def held_alone(frames: Pictures, object_mask: Masks) -> FrameSequence[np.uint8]:
    """Frames that are empty but for the objects, frame by frame when asked for."""
    return MadeFrames(
        len(frames), frames.shape[1:], np.uint8, lambda n: empty(frames[n][None], ~object_mask[n][None])[0]
    )


def tallest(masks: Masks) -> int:
    """The largest height of the boxes around ``(frames, height, width)`` masks, pixels; 0 where nothing is masked."""
    return max((rows.stop - rows.start for rows, _ in filter(None, map(bounding_box, masks))), default=0)


def without_margins(mask: Mask, letterbox: Letterbox) -> Mask:
    """A mask ``(height, width)`` less the drawn-out margins."""
    inside, area = np.zeros_like(mask), inner_area(letterbox)
    inside[area] = mask[area]
    return inside


def complete_background(
    scene: Scene,
    letterbox: Letterbox,
    source: Pictures,
    body: Masks,
    object_mask: Masks | None = None,
) -> tuple[FrameSequence[np.uint8], FrameSequence[np.bool_], FrameSequence[np.bool_]]:
    """The source without the body ``(frames, height, width)``: what it hides is taken from other frames that show it.

    What no frame shows is made up in the frame where most of it is missing, and taken from there; :data:`MADE_UP` times
    at most. This is for the first guess alone, which has the character's outline already. The environment is empty in
    the whole region, so that the model does not see the outline of the source's person.

    Returns:
        As ``source``; as ``body``, the part of it where no frame shows anything, and that where nothing is made up
        either.
    """
    background = Background(scene.frames, scene.person.masks, scene.pose)
    matrix = letterbox.matrix(scene.pose.size)

    def moved(start: int, end: int) -> NDArray[np.float64] | None:
        motion = background.between(start, end)
        return None if motion is None else matrix @ motion @ np.linalg.inv(matrix)

    count, shape = len(body), body.shape[1:]
    margins = ~without_margins(np.ones(shape, bool), letterbox)

    def unusable_in(number: int) -> Mask:
        return margins if object_mask is None else margins | object_mask[number]

    unusable = MadeFrames(count, shape, bool, unusable_in)
    shown: StoredFrames[np.uint8] = StoredFrames(count, (*shape, 3), np.uint8)
    unseen: StoredFrames[np.bool_] = StoredFrames(count, shape, bool)
    for number in range(count):
        shown[number], unseen[number] = fill_frame(number, source, body, moved, unusable)
    missing = stored(unseen)
    areas = np.array([int(mask.sum()) for mask in missing])
    for _ in range(MADE_UP):
        most = int(areas.argmax())
        if not areas[most]:
            break
        shown[most] = complete(shown[most], missing[most])
        missing[most], areas[most] = np.zeros(shape, bool), 0
        # Of the others only this frame is looked at, so that they can be written in their own place.
        for number in map(int, np.flatnonzero(areas)):
            shown[number], missing[number] = fill_frame(number, shown, missing, moved, unusable, most)
            areas[number] = missing[number].sum()
    return emptied(shown, missing), unseen, missing


def letterbox_masks(masks: Masks, letterbox: Letterbox) -> FrameSequence[np.bool_]:
    """Masks ``(frames, height, width)`` put into the model's frame: a pixel that holds anything of it is masked."""
    size = letterbox.size[::-1]
    return stored(MadeFrames(len(masks), size, bool, lambda n: letterbox_mask(masks[n], letterbox)))


def letterbox_mask(mask: Mask, letterbox: Letterbox) -> Mask:
    """As :func:`letterbox_masks`, one ``(height, width)``."""
    letterboxed = np.zeros(letterbox.size[::-1], bool)
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(letterbox.inner, Image.Resampling.BOX)
    letterboxed[inner_area(letterbox)] = np.asarray(small) > 0
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
    height, width = conditions.mask[0].shape
    skeleton_size = (conditions.skeletons.shape[2], conditions.skeletons.shape[1])
    person = shrunk_masks(letterbox_masks(scene.person.masks, conditions.letterbox), (width, height))
    source = (scaled(frame, (width, height)) for frame in conditions.source)
    grey = (
        np.where(seen, np.uint8(255), np.where(mask, np.uint8(127), np.uint8(0)))
        for seen, mask in zip(person, conditions.mask, strict=True)
    )
    depth = None if conditions.depth is None else (np.rint(d * 255).astype(np.uint8) for d in conditions.depth)
    videos = (source, grey, conditions.environment, conditions.objects, conditions.skeletons, depth)
    with whole_files(folder) as hidden:
        scene.pose.save(hidden / "poses.npz")
        write_picture(hidden / "character.png", conditions.reference)
        for name, frames in zip(_KEPT_VIDEOS, videos, strict=True):
            if frames is not None:
                side = skeleton_size if name in ("skeletons", "depth") else (width, height)
                pictures = (frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2) for frame in frames)
                write_video(hidden / f"{name}.mp4", pictures, side, driver)
