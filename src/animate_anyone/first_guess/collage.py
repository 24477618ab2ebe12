"""The first guess at the frames of a scene (Animate Anyone 2): environment, character and objects laid together.

(Not in the paper; for small models.) Where nothing was taken out the guess is the environment, pixel for pixel, so what
stands in front of the region stays in front of the character. Environment and objects are the video's own pixels in the
result too.
"""

from __future__ import annotations

import numpy as np

from animate_anyone.conditions.environment import check_alike, fill
from animate_anyone.first_guess.bones import Body
from animate_anyone.first_guess.frames import Guess, GuessedFrames
from animate_anyone.first_guess.layers import Figure
from animate_anyone.structures import Mask, Masks, Picture, Pictures, PoseSequence


class Collage(GuessedFrames):
    """The environment filled up, the character in every pose, the objects on top.

    Args:
        figure: the character (:func:`~animate_anyone.first_guess.character.figure_of`); ``None``: none is laid.
        poses: where it is laid, in pixels of the frames.
        environment: ``(frames, height, width, 3)`` uint8.
        region: ``(frames, height, width)`` bool, what was taken out of it.
        objects: as ``environment``; ``object_mask``: as ``region``, where they are seen. ``None``: there are none.
        unknown: as ``region``, the part of it where ``environment`` says nothing, which is filled from its edges;
            ``None``: all of it.
        made: as ``region``, the part of it where the guess may be wrong; ``None``: all of it.
        left_out: as ``region``, what the guess is to do without, objects above all; ``None``: nothing.

    Raises:
        InputError: the parts do not belong together.
    """

    def __init__(
        self,
        figure: Figure | None,
        poses: PoseSequence,
        environment: Pictures,
        region: Masks,
        objects: Pictures | None = None,
        object_mask: Masks | None = None,
        *,
        unknown: Masks | None = None,
        made: Masks | None = None,
        left_out: Masks | None = None,
    ) -> None:
        check_alike(environment, region)
        if objects is not None and object_mask is not None:
            check_alike(objects, object_mask)
        super().__init__(len(environment))
        self.figure, self.poses, self.environment, self.region_mask = figure, poses, environment, region
        self.objects, self.object_mask = objects, object_mask
        self.left_out = left_out
        self.unknown, self.made = region if unknown is None else unknown, region if made is None else made

    def draw(self, number: int) -> Guess:
        laid = fill(self.environment[number][None], self.unknown[number][None])[0]
        fixed = ~self.region_mask[number]
        parts = None
        if self.figure is not None:
            body = Body.of(self.poses, number)
            drawn = self.figure.draw(body, laid)
            np.copyto(laid, drawn.picture, where=self.region_mask[number][..., None])
            parts = drawn.parts(body) * self.region_mask[number]
        if self.objects is not None and self.object_mask is not None:
            np.copyto(laid, self.objects[number], where=self.object_mask[number][..., None])
            fixed = fixed | self.object_mask[number]
            if parts is not None:
                parts *= ~self.object_mask[number]
        left_out = None if self.left_out is None else self.left_out[number] & self.region_mask[number]
        return Guess(laid, self.made[number].astype(np.float32), fixed, left_out, parts)


def objects_over_environment(objects: Picture, where: Mask, environment: Picture, region: Mask) -> Picture:
    """One frame of objects over the environment, whose emptied region is filled from its edges.

    Args:
        objects, environment: ``(height, width, 3)`` uint8.
        where: ``(height, width)`` bool, where objects are seen; ``region``: what was taken out of the environment.
    """
    laid = fill(environment[None], region[None])[0]
    np.copyto(laid, objects, where=where[..., None])
    return laid
