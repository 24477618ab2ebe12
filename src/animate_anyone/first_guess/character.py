"""The character of a picture cut out, and the first guess at its frames: it is moved over its completed background.

(Not in the papers; for small models.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.first_guess.bones import Body
from animate_anyone.first_guess.cutting import capsules, cut
from animate_anyone.first_guess.frames import Guess, GuessedFrames
from animate_anyone.first_guess.inpainting import behind, complete
from animate_anyone.first_guess.layers import Figure
from animate_anyone.first_guess.matting import estimate_matte, own_colours
from animate_anyone.structures import Mask, Picture, Plane, PoseSequence, Subject

BAND = (0.03, 0.025)
"""How far outside and inside of the silhouette's edge its matte is estimated, trunk lengths."""
_SEEN = 0.1  # share of a pixel


class CharacterFrames(GuessedFrames):
    """The reference in every pose.

    Args:
        reference: ``(height, width, 3)`` uint8.
        own: its pose, one frame, in pixels of ``reference``; ``None``: not known, and nothing is moved.
        poses: where to move it, in pixels of the same frame; ``None``: not known.
        num_frames: how many pictures, where ``poses`` is ``None``.
        silhouette: ``(height, width)`` bool, the person in the reference; ``None``: not known, and taken to be
            about its bones.
        completed: makes up the background behind the person.

    Raises:
        InputError: a pose belongs to a frame of another size, or the silhouette has another.
    """

    def __init__(
        self,
        reference: Picture,
        own: PoseSequence | None,
        poses: PoseSequence | None,
        num_frames: int | None = None,
        silhouette: Mask | None = None,
        completed: Callable[[Picture, Mask], Picture] = complete,
    ) -> None:
        if poses is None and num_frames is None:
            raise ValueError("give poses, or num_frames")
        super().__init__(len(poses) if poses is not None else int(num_frames or 0))
        height, width = reference.shape[:2]
        for name, pose in (("own", own), ("poses", poses)):
            if pose is not None and pose.size != (width, height):
                raise InputError(f"{name} is for frames of {pose.size}; the reference has {(width, height)}")
        self.reference, self.poses = reference, poses
        self.figure: Figure | None = None
        if own is not None and poses is not None:
            self.figure, alpha = cut_out(reference, own, silhouette)
            self.hidden = behind(alpha, self.figure.body.unit)
            self.background = completed(reference, self.hidden)

    def draw(self, number: int) -> Guess:
        if self.figure is None or self.poses is None:
            return Guess(self.reference)
        body = Body.of(self.poses, number)
        drawn = self.figure.draw(body, self.background)
        region = np.maximum(drawn.cover, self.hidden, dtype=np.float32)
        return Guess(drawn.picture, region, drawn=drawn.parts(body))


def cut_out(picture: Picture, own: PoseSequence, silhouette: Mask | None) -> tuple[Figure, Plane]:
    """The person of a picture, cut into layers, and its share ``(height, width)`` of each pixel.

    Args as :class:`CharacterFrames`.

    Raises:
        InputError: the silhouette has another size.
    """
    height, width = picture.shape[:2]
    if silhouette is not None and silhouette.shape != (height, width):
        raise InputError(f"silhouette has shape {silhouette.shape}; the reference has {(height, width)}")
    body = Body.of(own)
    if silhouette is None or not silhouette.any():
        alpha, colours = capsules(body, (width, height)), None
    else:
        outside, inside = (max(round(part * body.unit), 1) for part in BAND)
        alpha = estimate_matte(picture, silhouette, outside, inside)
        colours = own_colours(picture, alpha)
    return cut(picture, body, alpha, colours), alpha


def figure_of(subject: Subject, poses: PoseSequence) -> Figure | None:
    """A character cut into layers, to be drawn in poses elsewhere; ``None`` where its pose is not known.

    It is scaled down first to about the size that it will have there.
    """
    if subject.pose is None:
        return None
    units = [Body.of(poses, number).unit for number in range(len(poses))]
    scale = min(max(units, default=1.0) / Body.of(subject.pose).unit, 1.0)
    height, width = subject.picture.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    picture = np.asarray(Image.fromarray(subject.picture).resize(size, Image.Resampling.LANCZOS))
    silhouette = subject.silhouette
    if silhouette is not None:
        silhouette = np.asarray(Image.fromarray(silhouette.astype(np.uint8) * 255).resize(size)) > 127
    return cut_out(picture, subject.pose.scaled_to(size), silhouette)[0]


def outline(figure: Figure, poses: PoseSequence, number: int) -> Mask:
    """Where a character is in a pose, translucent parts too, ``(height, width)`` bool."""
    blank = np.zeros((poses.size[1], poses.size[0], 3), np.uint8)
    seen: Mask = figure.draw(Body.of(poses, number), blank).cover > _SEEN
    return seen
