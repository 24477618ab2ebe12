"""The part of a scene around a person, so that a model of few pixels spends them there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.shape_agnostic import check_masks
from animate_anyone.structures import Masks, MaskTrack, PoseSequence, Scene, Size
from animate_anyone.system.frame_sequence import MadeFrames

MARGIN = 1.3
"""Sides of the part, over those of the box around all masks: room for a larger character and for surroundings."""


@dataclass(frozen=True)
class Crop:
    """A part of every frame, pixels: ``width`` x ``height`` from ``left``, ``top``."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, masks: Masks, size: Size, margin: float = MARGIN) -> Crop:
        """The part that holds what is masked in any frame, one for the whole clip, so that nothing in it moves.

        It has the shape of ``size`` ``(width, height)`` as far as the frame allows, and is the whole frame where
        nothing is masked.

        Args:
            masks: ``(frames, height, width)`` bool.
            size: what the part will be scaled to.
        """
        check_masks(masks)
        _, height, width = masks.shape
        anywhere = np.zeros((height, width), bool)
        for mask in masks:
            anywhere |= mask
        box = bounding_box(anywhere)
        if box is None:
            return cls.whole((width, height))
        rows, columns = box
        wanted = [margin * (columns.stop - columns.start), margin * (rows.stop - rows.start)]
        wanted[0] = max(wanted[0], wanted[1] * size[0] / size[1])
        wanted[1] = max(wanted[1], wanted[0] * size[1] / size[0])
        left, wide = _inside(columns, wanted[0], width)
        top, tall = _inside(rows, wanted[1], height)
        return cls(left, top, wide, tall)

    @classmethod
    def whole(cls, size: Size) -> Crop:
        """All of a frame of ``size`` ``(width, height)``."""
        return cls(0, 0, *size)

    @classmethod
    def filling(cls, size: Size, shape: Size) -> Crop:
        """The largest part in the middle of a frame of ``size`` that has the aspect of ``shape``."""
        scale = min(size[0] / shape[0], size[1] / shape[1])
        width, height = (min(max(round(side * scale), 1), most) for side, most in zip(shape, size, strict=True))
        return cls((size[0] - width) // 2, (size[1] - height) // 2, width, height)

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def move(self, poses: PoseSequence) -> PoseSequence:
        """Poses in pixels of this part, their depth in heights of it; a limb outside it stays outside its frame."""
        depth = None if poses.depth is None else poses.depth * np.float32(poses.size[1] / self.height)
        keypoints = poses.keypoints - np.array([self.left, self.top], np.float32)
        return replace(poses, keypoints=keypoints, size=(self.width, self.height), depth=depth)

    def of(self, scene: Scene) -> Scene:
        """The scene as if the video showed this part alone; its frames are cut when asked for."""
        count, size = len(scene.frames), (self.height, self.width)

        def cut(track: MaskTrack) -> MaskTrack:
            return replace(track, masks=MadeFrames(count, size, bool, lambda n: track.masks[n][self.part]))

        return Scene(
            frames=MadeFrames(count, (*size, 3), np.uint8, lambda n: scene.frames[n][self.part]),
            pose=self.move(scene.pose),
            person=cut(scene.person),
            objects=tuple(cut(track) for track in scene.objects),
        )


def _inside(along: slice, wanted: float, available: int) -> tuple[int, int]:
    """Start and length of a stretch of about ``wanted`` pixels around the middle of ``along``, moved into the frame."""
    length = min(max(round(wanted), 1), available)
    start = round((along.start + along.stop - length) / 2)
    return min(max(start, 0), available - length), length
