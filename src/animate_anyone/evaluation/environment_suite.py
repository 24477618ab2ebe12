"""The suite of Animate Anyone 2: held-out synthetic characters, each put back into its own scene.

The truth is the scene with the character in it. The baselines are ``copy_source``, the source with the
character's region left empty; where a model of Animate Anyone is given, ``paste``,
its result pasted through the character's outline; and, where the model makes its pictures from a collage
(``carried_reference``), ``collage``, that as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.environment import empty, feather, formulate, keep_background
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.evaluation.suites import aligned, cell, mean_of, sampling_settings
from animate_anyone.first_guess.character import CharacterFrames, figure_of
from animate_anyone.first_guess.collage import Collage
from animate_anyone.first_guess.frames import mended
from animate_anyone.media import contact_sheet
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.structures import Mask, Picture, Size, Subject
from animate_anyone.synthetic.scene_setup import unlike
from animate_anyone.synthetic.scenes import SceneClip, character_picture, sample_scene_clip

SCENES = 24
FRAMES = 16
BAND = 4
"""Half the width of the band about the region's edge, pixels."""
OCCLUDED = 0.05
"""A frame counts as occluded where scenery or objects hide this share of the person."""
PLAIN = 12
"""How far a colour may lie from that behind the character and still be it, of 255."""
FIRST_CAST, CANDIDATES = 1000, 24
"""Seeds of the characters that take another's place: of so many for each scene one, see ``unlike``."""
MOST = 99.0
"""PSNR of pixels that are alike, dB: what a report can hold in place of infinity."""

TITLES = {
    "person": "person",
    "person_occluded": "(occluded)",
    "body_occluded": "(front)",
    "environment": "environment",
    "objects": "objects",
    "objects_inside": "(inside)",
    "edge": "edge",
}
"""Measures and how the table calls them. ``person_occluded``: of the person what is seen, in frames in which part of it
is hidden; ``body_occluded``: all of it there, with what stands in front. ``objects_inside``: in the region, where the
environment shows no object."""
MEASURES = tuple(TITLES)
WHO = ("model", "copy_source", "paste", "collage")


@dataclass(frozen=True)
class SuiteScene:
    """A scene of the suite and what a model is given of it.

    Attributes:
        truth: the rendered clip.
        source: the same scene with who is to be replaced, from which environment, region and objects come; it is the
            truth where the character is put back into its own scene.
        frames, environment: ``(frames, H, W, 3)`` uint8: the truth, and the source with ``region`` emptied.
        region: ``(frames, H, W)`` bool, where the character is to be made.
        character: its picture, alone, and its pose there.
    """

    truth: SceneClip
    source: SceneClip
    frames: Picture
    environment: Picture
    region: Mask
    character: Subject

    @classmethod
    def of(
        cls,
        seed: int,
        size: Size,
        formulation: str,
        frames: int = FRAMES,
        another_body: bool = False,
        *,
        backwards: bool = False,
    ) -> SuiteScene:
        """Scene ``seed`` of the held-out split at ``size`` (width, height).

        ``another_body``: a character of another body than the source's takes its place; what of the source's mask
        shows the outline of the source's body misleads then. ``backwards``: the last frame first.
        """
        how: dict[str, Any] = {"split": "held_out", "num_frames": frames, "size": size}
        order = range(frames)[::-1] if backwards else None
        clip = source = sample_scene_clip(seed, frame_indices=order, **how)
        cast = seed
        if another_body:
            cast = unlike("held_out", seed, range(FIRST_CAST + seed * CANDIDATES, FIRST_CAST + (seed + 1) * CANDIDATES))
            clip = sample_scene_clip(seed, cast=cast, frame_indices=order, **how)
        region = formulate(source.mask.cpu().numpy(), formulation)
        character = character_picture(cast, **how)
        environment = empty(source.frames.cpu().numpy(), region)
        return cls(clip, source, clip.frames.cpu().numpy(), environment, region, character)

    @property
    def objects(self) -> tuple[Picture, Mask] | tuple[None, None]:
        """Frames of the source's objects and where they are seen; ``None`` where there are none."""
        held = self.source.object_mask.cpu().numpy()
        return (self.source.object_frames.cpu().numpy(), held) if held.any() else (None, None)

    def where(self) -> dict[str, Mask]:
        """The pixels ``(frames, H, W)`` that each of ``MEASURES`` looks at."""
        person, whole = self.truth.mask.cpu().numpy(), self.truth.person_full_mask.cpu().numpy()
        hidden = (whole & ~person).sum((1, 2)) > OCCLUDED * np.maximum(whole.sum((1, 2)), 1)
        objects = self.truth.object_mask.cpu().numpy()
        edge = (feather(self.region, BAND) > 0) & (feather(~self.region, BAND) > 0)
        return {
            "person": person,
            "person_occluded": person & hidden[:, None, None],
            "body_occluded": whole & hidden[:, None, None],
            "environment": ~self.region & ~person,
            "objects": objects,
            "objects_inside": objects & self.region,
            "edge": edge,
        }


def measure(result: Picture, scene: SuiteScene) -> dict[str, float | None]:
    """PSNR over the pixels of every measure, dB, mean over the frames that have some; ``None`` where none has."""
    figures: dict[str, float | None] = {}
    for name, pixels in scene.where().items():
        frames = zip(result, scene.frames, pixels, strict=True)
        figures[name] = mean_of(min(psnr_masked(a, b, mask), MOST) for a, b, mask in frames if mask.any())
    return figures


def network_frames(
    pipeline: AnimateAnyone2Pipeline,
    scene: SuiteScene,
    guess: Collage | None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    **options: Any,
) -> Picture:
    """What a model's networks make of a scene; ``guess``: the first one, ``None`` without; else as :func:`put_back`."""
    config, truth = pipeline.config, scene.truth
    size = (scene.frames.shape[2], scene.frames.shape[1])
    drawn, style = pipeline.pose_picture_size(size), config["skeleton_style"]
    objects, held = scene.objects if config["uses_objects"] else (None, None)
    character = scene.character
    made: Picture = pipeline(  # type: ignore[assignment]
        character.picture,
        draw_pose(truth.pose, drawn, style=style),
        SceneInputs(
            scene.environment,
            scene.region,
            objects,
            held,
            draw_limb_depth(truth.pose, drawn, style=style) if config["uses_depth"] else None,
        ),
        reference_pose=_own_pose(character, drawn, style) if config["reference_pose"] else None,
        carried=guess,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
        **options,
    )[0]
    return made


def put_back(
    pipeline: AnimateAnyone2Pipeline, scene: SuiteScene, *, guess_objects: bool = True, **options: Any
) -> Picture:
    """What a model makes of a scene.

    Args:
        guess_objects: whether the first guess, where the model has one, holds the objects.
        options: ``steps`` and ``guidance`` (``None`` takes the model's defaults), ``seed``, ``progress``, and further
            ones of its call, such as ``window``.
    """
    with_objects = pipeline.config["uses_objects"] and guess_objects
    guess = first_guess(scene, with_objects) if pipeline.config["carried_reference"] else None
    made = network_frames(pipeline, scene, guess, **options)
    return made if guess is None else np.stack(list(mended(guess, guess, made)))


def first_guess(scene: SuiteScene, with_objects: bool = True) -> Collage:
    """What is laid together for models with ``carried_reference``, and a baseline of their own."""
    subject = replace(scene.character, silhouette=alone(scene.character.picture))
    parts = figure_of(subject, scene.truth.pose), scene.truth.pose, scene.environment, scene.region
    return Collage(*parts, *scene.objects) if with_objects else Collage(*parts, left_out=scene.objects[1])


def alone(picture: Picture) -> Mask:
    """The character of a picture on a plain colour, ``(height, width)``."""
    found: Mask = np.abs(picture.astype(int) - picture[0, 0]).max(-1) > PLAIN
    return found


def paste(animator: AnimateAnyonePipeline, scene: SuiteScene, seed: int = 0, progress: Progress = SILENT) -> Picture:
    """The baseline: what a model of Animate Anyone makes of the character's picture, pasted through the character's own
    outline: that method does not know what stands in front of it."""
    config, character = animator.config, scene.character
    size = (scene.frames.shape[2], scene.frames.shape[1])
    drawn, style = animator.pose_picture_size(size), config["skeleton_style"]
    picture, moves = character.picture, scene.truth.pose
    carried = CharacterFrames(picture, character.pose, moves, silhouette=alone(picture))
    made = animator(
        character.picture,
        draw_pose(scene.truth.pose, drawn, style=style),
        reference_pose=_own_pose(character, drawn, style) if config["reference_pose"] else None,
        carried=carried if config["carried_reference"] else None,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )[0]
    if config["carried_reference"]:
        made = np.stack(list(mended(carried, carried, made)))
    return keep_background(made, scene.environment, scene.truth.person_full_mask.cpu().numpy())


def evaluate_environment(
    pipeline: AnimateAnyonePipeline,
    animator: AnimateAnyonePipeline | None = None,
    *,
    characters: int = SCENES,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    guess_objects: bool = True,
    another_body: bool = False,
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], Picture]:
    """Run the suite.

    Args:
        pipeline: a model of Animate Anyone 2.
        animator: one of Animate Anyone, for the baseline ``paste``; ``None`` goes without.
        guess_objects: whether the first guess of a model that has one holds the objects.
        another_body: put characters into scenes whose own has another body.
        characters: how many scenes. steps, guidance: ``None`` takes the model's default.

    Returns:
        The report (plain dictionaries: settings, means of model and baselines, every scene) and the contact sheet
        ``(H, W, 3)`` uint8: of every scene the reference, then of three frames source, truth and result.

    Raises:
        InputError: ``pipeline`` is a model of Animate Anyone.
    """
    if not isinstance(pipeline, AnimateAnyone2Pipeline):
        raise InputError(
            "suite puppet-environment: this model knows no environment; give one of Animate Anyone 2, or --suite puppet"
        )
    width, height = pipeline.config["size"]
    size, formulation = (width, height), pipeline.config["formulation"]
    with_objects = pipeline.config["uses_objects"] and guess_objects
    makers: dict[str, Callable[[SuiteScene, int], Picture]] = {
        "model": lambda scene, number: put_back(
            pipeline,
            scene,
            steps=steps,
            guidance=guidance,
            seed=seed + number,
            guess_objects=guess_objects,
            progress=progress,
        ),
        "copy_source": lambda scene, number: scene.environment,
    }
    if animator is not None:
        makers["paste"] = lambda scene, number: paste(animator, scene, seed + number, progress)
    if pipeline.config["carried_reference"]:
        makers["collage"] = lambda scene, number: np.stack(list(first_guess(scene, with_objects)))
    started = time.perf_counter()
    scenes: list[dict[str, Any]] = []
    rows: list[list[Picture]] = []
    for number in progress.track(range(characters), characters, "suite"):
        scene = SuiteScene.of(number, size, formulation, another_body=another_body)
        made = {who: make(scene, number) for who, make in makers.items()}
        scenes.append(
            {
                "seed": number,
                "object": scene.truth.description["object"],
                **{who: measure(frames, scene) for who, frames in made.items()},
            }
        )
        shown = np.linspace(0, FRAMES - 1, 3).round().astype(int)
        pictures = (p[i] for i in shown for p in (scene.environment, scene.frames, made["model"]))
        rows.append([scene.character.picture, *pictures])
    report: dict[str, Any] = {
        "suite": "puppet-environment",
        "settings": {
            "scenes": characters,
            "frames": FRAMES,
            **sampling_settings(pipeline, steps, guidance, seed),
            "formulation": formulation,
            "guess_objects": guess_objects,
            "another_body": another_body,
            "reference": "the character alone on a plain colour",
            "psnr": f"mean over frames, in dB, of 8-bit RGB; {MOST:g} where alike",
            "edge": f"{2 * BAND} pixels about the region's edge",
            "occluded": f"frames in which more than {OCCLUDED:g} of the person are hidden",
        },
        "seconds": round(time.perf_counter() - started, 1),
        **{who: {m: mean_of(s[who][m] for s in scenes) for m in MEASURES} for who in makers},
        "scenes": scenes,
    }
    labels = [f"{s['seed']}: object {s['object']}, person {cell(s['model']['person'], '{:.1f} dB')}" for s in scenes]
    return report, contact_sheet(rows, labels)


def environment_table(report: Mapping[str, Any]) -> str:
    """The means of a report as lines of text, dB."""
    rows = [["PSNR, dB", *TITLES.values()]]
    rows += [[who, *(cell(report[who][m], "{:.2f}") for m in MEASURES)] for who in WHO if who in report]
    return aligned(rows)


def _own_pose(character: Subject, drawn: Size, style: str) -> Picture:
    assert character.pose is not None
    return draw_pose(character.pose, drawn, style=style)[0]
