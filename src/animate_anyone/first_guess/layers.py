"""The person of one picture as layers that are deformed smoothly into other poses.

(Not in the papers; for the first guess of small models.) The layers are the trunk with head and skirt, each leg and
each arm; a mesh covers each, its vertices follow the bones near it (:mod:`~animate_anyone.first_guess.skinning`), and
bones move by the maps of :mod:`~animate_anyone.first_guess.bones`. :mod:`~animate_anyone.first_guess.cutting` makes
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.first_guess.bones import Body, Points, bone_maps, turned_away
from animate_anyone.first_guess.mending import Part
from animate_anyone.first_guess.skinning import Triangles, deform, rasterise, sample
from animate_anyone.structures import Picture, Plane, Size

LAYERS = {
    "trunk": ("shoulders", "hips", "head", "right_thigh", "left_thigh"),
    "right_leg": ("right_thigh", "right_shin"),
    "left_leg": ("left_thigh", "left_shin"),
    "right_arm": ("shoulders", "right_upper_arm", "right_forearm", "right_hand"),
    "left_arm": ("shoulders", "left_upper_arm", "left_forearm", "left_hand"),
}
"""Bones that move a layer, from its root to its tip."""

_IN_FRONT = 0.03
"""Frame heights by which an arm must be behind the trunk to be drawn behind it."""
_HEAD = 0.525  # radius of a head with its hair, trunk lengths


@dataclass(frozen=True)
class Layer:
    """A part of the person that is deformed as one piece.

    Attributes:
        name: in :data:`LAYERS`.
        planes: ``(5, height, width)`` float32: colours [0, 255], spread beyond what is seen of them; how much of each
            pixel is the layer's; and how much of that the picture shows, 0 where another layer hides it.
        vertices: ``(n, 2)`` pixels of the picture; triangles: ``(t, 3)``, those to be drawn on top last.
        bones: that move it; weights: ``(n, bones)``, rows add up to 1.
    """

    name: str
    planes: torch.Tensor
    vertices: Points
    triangles: Triangles
    bones: tuple[str, ...]
    weights: Points


class Drawn(NamedTuple):
    """A person drawn over a picture.

    Attributes:
        picture: ``(height, width, 3)`` uint8.
        cover: ``(height, width)`` in [0, 1], the person's share of each pixel.
        unknown: as ``cover``, how much of it the reference does not show.
    """

    picture: Picture
    cover: Plane
    unknown: Plane

    def parts(self, body: Body) -> NDArray[np.uint8]:
        """``(height, width)``, :class:`~animate_anyone.first_guess.mending.Part`; ``body``: as it was drawn."""
        found = (self.cover > 0.5) * np.uint8(Part.BODY)
        if "head" in body.bones:
            x, y = body.bones["head"][1]
            rows, columns = np.ogrid[: found.shape[0], : found.shape[1]]
            near = np.hypot(columns + 0.5 - x, rows + 0.5 - y) < _HEAD * body.unit
            found[near & (found > 0)] = Part.HEAD
        return found


@dataclass(frozen=True)
class Figure:
    """The person of a picture, cut into layers; :func:`~animate_anyone.first_guess.cutting.cut` makes it.

    Attributes:
        body: its pose there.
        layers: those that are there.
        size: ``(width, height)`` of the picture.
        back: as a layer's planes, the trunk seen from behind: the head without its face.
    """

    body: Body
    layers: tuple[Layer, ...]
    size: Size
    back: torch.Tensor | None = None

    def draw(self, after: Body, under: Picture) -> Drawn:
        """The person in another pose, laid over a picture.

        Args:
            after: the pose, in pixels of ``under``.
            under: ``(height, width, 3)`` uint8 of any size, what lies behind the person.
        """
        size = (under.shape[1], under.shape[0])
        maps = bone_maps(self.body, after)
        result = torch.from_numpy(under.copy()).permute(2, 0, 1).float()
        whole, unknown = torch.zeros(under.shape[:2]), torch.zeros(under.shape[:2])
        away = turned_away(self.body, after)
        for layer in sorted(self.layers, key=lambda layer: -_distance(layer.name, after)):
            vertices = deform(layer.vertices, layer.weights, layer.bones, maps)
            drawn = None if vertices is None else rasterise(vertices, layer.vertices, layer.triangles, size)
            if drawn is None:
                continue
            (rows, columns), source = drawn
            planes = self.back if away and layer.name == "trunk" and self.back is not None else layer.planes
            found = sample(planes, source)
            colours, cover, known = found[:3].clamp(0, 255), found[3].clamp(0, 1), found[4].clamp(0, 1)
            part = result[:, rows, columns]
            part += cover * (colours - part)
            whole[rows, columns] += cover * (1 - whole[rows, columns])
            unknown[rows, columns] += cover * (1 - known - unknown[rows, columns])
        picture: Picture = result.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        return Drawn(picture, whole.numpy(), unknown.numpy())


def _distance(name: str, body: Body) -> float:
    """How far a layer lies from the camera, to draw the far ones first.

    Arms are before or behind the trunk as the pose says, in front of it where it says nothing; legs under the skirt.
    """
    if name == "trunk":
        return 0.0
    side, limb = name.split("_")
    if body.depth is None:
        return 1.0 if limb == "leg" else -1.0
    if limb == "leg":
        return 1.0 + float(body.depth[[JOINT[f"{side}_knee"], JOINT[f"{side}_ankle"]]].mean())
    arm = body.depth[[JOINT[f"{side}_elbow"], JOINT[f"{side}_wrist"]]].mean()
    trunk = body.depth[[JOINT[f"{one}_{joint}"] for one in ("right", "left") for joint in ("shoulder", "hip")]].mean()
    return float(arm - trunk) - _IN_FRONT
