"""From frames that the model made to frames of the result (Animate Anyone 2), and how well they match the video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.environment import keep_background
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.structures import Picture, Scene
from animate_anyone.workflows.scene_conditions import SceneConditions, inner_area


class Compositor:
    """Puts the frames that the model made into the source video.

    Args:
        scene: the video.
        crop: the area of it that the model was shown.
        conditions: what the model was given of that area.
        feather: pixels of the video over which the made region fades into the video's own pixels; ``None``: the result
            has the size of the conditions and shows what was made alone.

    Attributes:
        size: ``(width, height)`` of the result.
        environment_psnr: of every composed frame that has an environment: how well the model made it, dB.
    """

    def __init__(self, scene: Scene, crop: Crop, conditions: SceneConditions, feather: int | None) -> None:
        self.scene, self.crop, self.cropped = scene, crop, crop.of(scene)
        self.conditions, self.feather = conditions, feather
        self.size = conditions.letterbox.inner if feather is None else scene.pose.size
        self.environment_psnr: list[float] = []

    def compose(self, frames: Iterable[Picture]) -> Iterator[Picture]:
        """The frames ``(height, width, 3)`` of the result from all frames that the model made, in order."""
        for number, frame in enumerate(frames):
            if self.conditions.first_guess is None:
                self.environment_psnr += environment_psnr(frame, self.conditions, number)
            yield self.compose_frame(frame, number)

    def compose_frame(self, frame: Picture, number: int) -> Picture:
        """A frame of the result from one that the model made.

        At the size of the conditions its margins are cut off. At the video's size the made region is scaled up, and the
        rest is the video's own. A frame without a person is the video's own in either case.
        """
        area = inner_area(self.conditions.letterbox)
        person = self.cropped.person.masks[number]
        if self.feather is None:
            return (frame if person.any() else self.conditions.source[number])[area]
        size = self.cropped.pose.size
        large = np.asarray(Image.fromarray(frame[area]).resize(size, Image.Resampling.BICUBIC))
        made = Image.fromarray(self.conditions.made[number][area]).resize(size, Image.Resampling.NEAREST)
        region = np.asarray(made) | person
        result = self.scene.frames[number].copy()
        own = self.cropped.frames[number]
        result[self.crop.part] = keep_background(large[None], own[None], region[None], self.feather)[0]
        return result

    def environment_lines(self) -> list[str]:
        """How well the model made the environment of all frames, and what stands in the result."""
        if self.conditions.first_guess is not None:
            scaled = "" if self.feather is not None or self.size == self.scene.pose.size else ", scaled"
            return [f"environment outside the mask: the video's own pixels{scaled}"]
        psnr = self.environment_psnr
        made = f"{np.mean(psnr):.1f} dB as the model made it" if psnr else "nothing of it to be seen"
        kept = "to keep it exactly: --keep-background" if self.feather is None else "the video's own pixels were kept"
        return [f"environment outside the mask: {made}; {kept}"]


def environment_psnr(frame: Picture, conditions: SceneConditions, number: int) -> list[float]:
    """How well the model made the environment of a frame, dB; nothing where there is no region or nothing beside it."""
    area = inner_area(conditions.letterbox)
    region = conditions.region[number][area]
    if not region.any() or region.all():
        return []
    return [psnr_masked(frame[area], conditions.source[number][area], ~region)]


def background_lines(conditions: SceneConditions) -> list[str]:
    """How much of the region's background is the video's own, where the model is shown some of it."""
    if conditions.unseen is None:
        return []
    unseen, region = (sum(int(mask.sum()) for mask in masks) for masks in (conditions.unseen, conditions.region))
    known = 1 - unseen / max(region, 1)
    return [f"background around and behind the person: {known:.0%} of it seen in some frame, the rest is filled in"]
