"""What a model in training is tried on: short clips that it is never trained on.

A case comes as a :class:`Case`, whatever its source; :data:`SOURCES` has a function for each ``data.source``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.evaluation.environment_suite import SuiteScene, put_back
from animate_anyone.evaluation.suites import SuiteClip, animate_clip, puppet_clip
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.structures import Mask, Picture
from animate_anyone.training.clips import pose_of
from animate_anyone.training.config import Data, Recipe
from animate_anyone.training.video_clips import VideoClips
from animate_anyone.training.wanted import Wanted

_LOG = logging.getLogger(__name__)

FIRST_SEED = 100_000
"""Of the studio's held-out characters; the suites measure others, from 0 on."""


@dataclass(frozen=True)
class Case:
    """A clip whose truth is known. ``n`` frames of ``H`` by ``W`` pixels.

    Attributes:
        name: of its files.
        reference: ``(H, W, 3)`` uint8.
        poses: the driving poses drawn, ``(n, h, w, 3)`` uint8.
        frames: the truth, ``(n, H, W, 3)`` uint8.
        masks: the person, ``(n, H, W)`` bool; true nowhere where it is not known.
        make: what a pipeline makes of it in so many denoising steps (``None``: the model's default), as ``frames``.
        fps: frames a second.
    """

    name: str
    reference: Picture
    poses: Picture
    frames: Picture
    masks: Mask
    make: Callable[[Any, int | None], Picture]
    fps: Fraction = Fraction(12)


def driven_case(name: str, clip: SuiteClip, fps: Fraction = Fraction(12)) -> Case:
    """A picture animated by poses (stages ``image`` and ``motion``); ``clip.labels`` is not looked at."""
    size = (clip.frames.shape[2], clip.frames.shape[1])

    def make(pipeline: Any, steps: int | None) -> Picture:
        return animate_clip(pipeline, clip, grid=size, steps=steps)

    return Case(name, clip.reference, clip.poses, clip.frames, clip.masks, make, fps)


def scene_case(name: str, scene: SuiteScene, poses: Picture, seed: int = 0) -> Case:
    """A character put into an environment (stage ``environment``); ``poses`` are its poses drawn, to be looked at."""

    def make(pipeline: Any, steps: int | None) -> Picture:
        return put_back(pipeline, scene, steps=steps, seed=seed)

    masks = scene.truth.mask.cpu().numpy().astype(bool)
    return Case(name, scene.character.picture, poses, scene.frames, masks, make)


def studio_case(recipe: Recipe, number: int, wanted: Wanted | None = None) -> Case:
    """Case ``number`` of the studio's held-out split; scenes are of the plain domain."""
    data, frames, seed = recipe.data, recipe.monitor.validation_frames, FIRST_SEED + number
    size, drawn, name = (data.size, data.size), (data.pose_size, data.pose_size), f"studio_{number}"
    if recipe.environment is None:
        return driven_case(
            name, puppet_clip(seed, size, drawn, data.skeleton_style, frames, data.domain, data.reference)
        )
    scene = SuiteScene.of(seed, size, recipe.environment.formulation, frames)
    return scene_case(name, scene, draw_pose(scene.truth.pose, size, style=data.skeleton_style), seed)


def video_case(recipe: Recipe, number: int, wanted: Wanted) -> Case:
    """Case ``number`` of the data set's splits ``val`` and ``test``: the first frames of a clip, from its last one.

    The studio's where there are no such clips, and for stage ``environment``, which needs the truth behind the person.
    """
    frames = recipe.monitor.validation_frames
    in_a_row = replace(wanted, targets=frames, in_a_row=True)
    clips = None if recipe.environment is not None else _held_out(recipe.data, recipe.seed, in_a_row)
    if clips is None:
        return studio_case(recipe, number, wanted)
    place = number % len(clips.clips)
    clip = clips.clips[place]
    read = clips.read(place, np.array([clip.num_frames - 1, *range(frames)]))
    pictures, masks = read["frames"], read["masks"].astype(bool)
    poses = pose_of(read["joints"], (pictures.shape[2], pictures.shape[1]))
    silhouette = masks[0] if masks[0].any() else None
    carried = CharacterFrames(pictures[0], poses[:1], poses[1:], silhouette=silhouette)
    drawn = read["poses"]
    labels = np.zeros(masks[1:].shape, np.uint8)
    made = SuiteClip(number, pictures[1:], masks[1:], drawn[1:], pictures[0], drawn[0], labels, carried)
    return driven_case(clip.id, made, clip.fps)


@lru_cache(maxsize=1)
def _held_out(data: Data, seed: int, wanted: Wanted) -> VideoClips | None:
    """The clips of a data set that are not trained on; ``None``, and a line says why, where none can be used."""
    try:
        return VideoClips(data, seed, wanted, held_out=True)
    except InputError as error:
        _LOG.warning("validation takes the studio's clips: %s", error)
        return None


SOURCES: dict[str, Callable[[Recipe, int, Wanted], Case]] = {"studio": studio_case, "videos": video_case}
"""By ``data.source``: the case of this number, from 0, of a recipe, at ``data.size`` and with
``monitor.validation_frames`` frames; the same every time. The last argument: what the stage takes of clips.
"""
