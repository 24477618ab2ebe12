"""A person cut out of one picture and into layers: which pixels belong to which limb.

(Not in the papers; for the first guess of small models.)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_erosion,
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    label,
    median_filter,
)
from scipy.spatial import ConvexHull
from skimage.draw import disk, line, polygon
from skimage.segmentation import watershed

from animate_anyone.conditions.skeleton import HEAD, JOINT
from animate_anyone.first_guess.bones import Body, Points, off_bone
from animate_anyone.first_guess.garment import RARE, Garment, below_hips, edges, frequency, under_skirt
from animate_anyone.first_guess.layers import LAYERS, Figure, Layer
from animate_anyone.first_guess.skinning import diffuse, mesh
from animate_anyone.structures import Mask, Picture, Plane, Size

THICKNESS = {"shoulders": 0.15, "hips": 0.35, "head": 0.3, "upper_arm": 0.17, "forearm": 0.1, "hand": 0.11,
             "thigh": 0.2, "shin": 0.15}  # fmt: skip
"""About half of a bone's width with its clothes, trunk lengths."""
_ON = {"forearm": 0.3, "shin": 0.3, "head": 0.3}  # how far a layer goes on past a bone's end, trunk lengths
_TRUNK_REACH = 0.12  # thickness of the trunk around the hull of shoulders and hips, trunk lengths
_AROUND_SHOULDER = {"trunk": 0.12, "arm": 0.1}  # how far the two reach into each other, trunk lengths
_SMALLEST = 1e-4  # share of the picture below which a layer is left out
_SOFT = 0.1  # heat of the trunk's bones: between the thighs cloth hangs, and is not folded
_OVERLAP = 0.06  # trunk lengths by which trousers' legs reach up into the trunk
_EDGE = 1.5  # pixels from an edge within which colours are mixed
_MIXED = 0.05  # trunk lengths from a hem within which a leg has shadow and some of its colour
_CORE = 0.5  # thicknesses from a bone within which a layer's pixels are never taken for specks
_FAR = 2.0  # thicknesses from an arm's bones: below the hips, farther away, nothing is the arm's
_CLOTH = 4.0  # times as frequent in the clothes there as in the arms: a colour of the clothes
_SURE = 1.5  # times as far from the bones of any other layer as from its own: a pixel is surely its own layer's
_AWAY = 4.0  # a thickness away from the bones counts as so steep an edge, of 255


def cut(picture: Picture, body: Body, alpha: Plane, colours: Picture | None = None) -> Figure:
    """Cut a person into layers.

    Args:
        picture: ``(height, width, 3)`` uint8.
        body: the person's pose in it.
        alpha: ``(height, width)``, the person's share of each pixel.
        colours: as ``picture``, the person's own where pixels are mixed with what lies behind; ``None``: the
            silhouette's edge takes its colours from inside.
    """
    silhouette = alpha > 0.5
    if not silhouette.any() or not body.bones:
        return Figure(body, (), (picture.shape[1], picture.shape[0]))
    height, width = silhouette.shape
    places = _places((width, height))
    owner, core = _owners(picture, body, alpha > 0.02, places)
    seen = silhouette if colours is not None else binary_erosion(silhouette)
    shown = picture if colours is None else colours
    legs = [name for name in owner if name.endswith("leg")]
    garment = Garment(places[..., 1] - height, None)  # all is above the hem
    if legs:
        arms = np.any([np.zeros_like(silhouette), *(owner[name] for name in owner if name.endswith("arm"))], 0)
        on_bones = np.any([core[leg] for leg in legs], 0)
        garment = below_hips(picture, silhouette & ~arms, silhouette & arms, on_bones, body, places)
    joints = zip(("right", "left"), body.bones.get("shoulders", ()), strict=False)
    near = {side: off_bone(places, (joint, joint)) for side, joint in joints}
    layers, back = [], None
    for name, mask in owner.items():
        if name == "trunk":
            for leg in legs:
                mask = mask | (owner[leg] & garment.above)
            for distance in near.values():
                mask = mask | (distance < _AROUND_SHOULDER["trunk"] * body.unit) & silhouette
        elif name in legs:
            mask = mask & (~garment.above if garment.skirt else garment.below > -_OVERLAP * body.unit)
        elif near:
            mask = mask | (near[name.split("_")[0]] < _AROUND_SHOULDER["arm"] * body.unit) & silhouette
        mask = _pieces(mask, core[name])
        if mask.sum() < max(_SMALLEST * mask.size, 8):
            continue
        bones = tuple(bone for bone in LAYERS[name] if bone in body.bones)
        hidden, clean = np.zeros_like(mask), seen & mask
        own = np.zeros_like(mask)  # keeps its colours, though they are spread nowhere
        if name == "trunk":
            hidden = _filled(mask, body) & silhouette & ~mask
            cover = (mask | hidden) * alpha
            if garment.skirt and "skirt" in body.with_skirt:
                bones = (*(bone for bone in bones if not bone.endswith("thigh")), "skirt")
        else:
            if garment.skirt and name in legs:
                hidden = under_skirt(mask, [body.bones[bone] for bone in bones], places) & silhouette & garment.above
                # Leg that has shadow or is mixed with the skirt's colours is not spread under it.
                below = distance_transform_edt(~garment.above)
                own, clean = clean & (below > _EDGE), clean & (below > _MIXED * body.unit)
            cover = gaussian_filter((mask | hidden).astype(np.float32), 0.7) * alpha
        spread = _spread(shown, clean if clean.any() else seen & mask)
        spread[own] = shown[own]
        planes = torch.from_numpy(np.stack([*spread.transpose(2, 0, 1), cover, ~hidden]).astype(np.float32))
        layer = _skin(name, planes, bones, body, cover)
        layers.append(layer)
        if name == "trunk":
            back = _from_behind(planes, body, mask, places)
    return Figure(body._replace(skirt=garment.skirt), tuple(layers), (width, height), back)


def capsules(body: Body, size: Size) -> Plane:
    """About where a body is, ``(height, width)`` in [0, 1], for want of a mask: all within the bones' thickness."""
    reach = np.min(list(_reaches(body, _places(size)).values()), 0) if body.bones else np.inf
    return np.asarray(np.broadcast_to(1 / (1 + np.exp((reach - 1.3) * 12.0)), size[::-1]), np.float32)


def _places(size: Size) -> Points:
    """The middles of all pixels, ``(height, width, 2)``."""
    y, x = np.mgrid[: size[1], : size[0]]
    return np.stack([x + 0.5, y + 0.5], -1)


def _reaches(body: Body, places: Points) -> dict[str, Points]:
    """How far ``(height, width, 2)`` places are off each layer's bones, by their thickness: 1 on its surface."""
    reaches: dict[str, Points] = {}
    for name, ends in body.bones.items():
        kind = name.removeprefix("right_").removeprefix("left_")
        away = off_bone(places, ends, _ON.get(kind, 0.0) * body.unit) / (THICKNESS[kind] * body.unit)
        layer = next(layer for layer, bones in reversed(LAYERS.items()) if name in bones)
        if name in ("shoulders", "hips", "head"):
            layer = "trunk"
        reaches[layer] = np.minimum(reaches[layer], away) if layer in reaches else away
    if {"shoulders", "hips"} <= body.bones.keys():  # the trunk is the shape between both
        inside = _hull(body, places.shape[:2])
        off = distance_transform_edt(~inside) / (_TRUNK_REACH * body.unit) + 0.5
        reaches["trunk"] = np.minimum(reaches["trunk"], np.where(inside, 0.6, off))
    return reaches


def _owners(picture: Picture, body: Body, silhouette: Mask, places: Points) -> tuple[dict[str, Mask], dict[str, Mask]]:
    """The silhouette's pixels by layer, and those of them on its bones.

    Sure is what lies near the bones of one layer alone; from there each layer grows up to the edges of the picture
    (watershed).
    """
    reaches = _reaches(body, places)
    stacked = np.stack(list(reaches.values()))
    arms = np.array([name.endswith("arm") for name in reaches])
    beside = _beside_hands(picture, body, silhouette, places, stacked, arms)
    stacked[:, beside] = np.where(arms[:, None], np.inf, stacked[:, beside])
    order = stacked.argsort(0)
    nearest, others = np.take_along_axis(stacked, order[:2], 0) if len(stacked) > 1 else (stacked[0], np.inf)
    sure = silhouette & ((others > _SURE * nearest) | beside)
    owner = order[0]
    if sure.any():
        grown = watershed(edges(picture) + _AWAY * nearest, np.where(sure, owner + 1, 0), mask=silhouette)
        owner = np.where(grown > 0, grown - 1, owner)
    owners = {name: (owner == number) & silhouette for number, name in enumerate(reaches)}
    return owners, {name: owners[name] & (reach < _CORE) for name, reach in reaches.items()}


def _beside_hands(
    picture: Picture, body: Body, silhouette: Mask, places: Points, reaches: Points, arms: NDArray[np.bool_]
) -> Mask:
    """Clothes beside or under hands that hang down, nearer to them than to the legs: a skirt's sides.

    Args:
        reaches: ``(layers, height, width)``, as of :func:`_reaches`; arms: ``(layers,)``, which of them are arms.
    """
    if "hips" not in body.bones or not arms.any():
        return np.zeros(silhouette.shape, bool)
    down = (places - np.mean(body.bones["hips"], 0)) @ body.down / body.unit**2  # 1 at a trunk's length
    nearest, at_arm = reaches.min(0), arms[reaches.argmin(0)]
    of_arms = frequency(picture, silhouette & at_arm & (nearest < _CORE) & (down < 0), 8)
    of_clothes = frequency(picture, silhouette & ~at_arm & (down > 0) & (down < 0.6), 8)
    cloth = of_clothes > np.maximum(_CLOTH * of_arms, RARE)
    clothes: Mask = median_filter(cloth, 3) | (nearest > _FAR)
    return at_arm & (down > 0) & clothes


def _hull(body: Body, shape: tuple[int, ...]) -> Mask:
    """The shape between shoulders and hips."""
    corners = np.concatenate([body.bones["shoulders"], body.bones["hips"]])
    mask = np.zeros(shape, bool)
    if np.ptp(corners, 0).min() < 1:  # seen from the side: a line
        ends = [np.mean(body.bones[name], 0).round().astype(int) for name in ("shoulders", "hips")]
        rows, columns = line(ends[0][1], ends[0][0], ends[1][1], ends[1][0])
        kept = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        mask[rows[kept], columns[kept]] = True
        return mask
    corners = corners[ConvexHull(corners).vertices]
    mask[polygon(corners[:, 1], corners[:, 0], shape)] = True
    return mask


def _filled(mask: Mask, body: Body) -> Mask:
    """Trunk and head as they would be with nothing in front: with the shape between their bones, holes closed."""
    whole = mask.copy()
    if {"shoulders", "hips"} <= body.bones.keys():
        whole |= _hull(body, mask.shape)
    if "head" in body.bones:
        x, y = body.bones["head"][1]
        whole[disk((y, x), 0.22 * body.unit, shape=mask.shape)] = True
    filled: Mask = binary_fill_holes(whole)
    return filled


def _pieces(mask: Mask, core: Mask) -> Mask:
    """The connected pieces of a mask that touch ``core``; the largest where none does."""
    pieces, count = label(mask)
    if count < 2:
        return mask
    kept = np.unique(pieces[core & mask])
    kept = kept[kept > 0] if (kept > 0).any() else np.array([1 + np.bincount(pieces.ravel())[1:].argmax()])
    found: Mask = np.isin(pieces, kept)
    return found


def _spread(colours: Picture, inside: Mask) -> Plane:
    """Colours of ``inside``; elsewhere those of the nearest pixel inside, smoothed, ``(height, width, 3)``."""
    if not inside.any():
        return colours.astype(np.float32)
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    out = colours[tuple(nearest)].astype(np.float32)
    soft = gaussian_filter(out, (2, 2, 0))
    spread: Plane = np.where(inside[..., None], colours, soft)
    return spread


def _from_behind(planes: torch.Tensor, body: Body, mask: Mask, places: Points) -> torch.Tensor | None:
    """The trunk's planes with the face taken out: a head seen from behind shows hair.

    Its colours are those above the eyes; they are not known.
    """
    head = body.points[list(HEAD)]
    if "head" not in body.bones or not np.isfinite(body.points[[JOINT["nose"], JOINT["right_eye"]]]).all():
        return None
    neck, middle = body.bones["head"][0], np.nanmean(head, 0)
    up = (middle - neck) / max(float(np.linalg.norm(middle - neck)), 1e-3)
    wide = np.linalg.norm(body.points[JOINT["right_ear"]] - body.points[JOINT["left_ear"]])
    radius = max(THICKNESS["head"] * body.unit, 0.7 * float(np.nan_to_num(wide)))  # some heads are large
    height = (places - middle) @ up / radius  # above the face's middle
    on_head = mask & (off_bone(places, (neck, middle), radius) < radius) & (height > -0.85)
    hair = on_head & (height > 0.4)
    if not hair.any():
        return None
    back = planes.clone()
    colours = planes[:3].numpy().transpose(1, 2, 0)
    face = on_head & ~hair
    spread = gaussian_filter(_spread(colours.astype(np.uint8), hair), (3, 3, 0))
    share = torch.from_numpy(gaussian_filter(face.astype(np.float32), 1.5))
    back[:3] += share * (torch.from_numpy(spread.transpose(2, 0, 1).copy()) - back[:3])
    back[4] = torch.minimum(back[4], 1 - share)
    return back


def _skin(name: str, planes: torch.Tensor, bones: tuple[str, ...], body: Body, cover: Plane) -> Layer:
    vertices, triangles = mesh(cover)
    ends = [body.with_skirt[bone] for bone in bones]
    weights = diffuse(vertices, triangles, ends, _SOFT if name == "trunk" else 1.0)
    # Where a limb folds, its tip lies over its root; where legs cross under a skirt, one side over the other.
    along = [bone.startswith("right") for bone in bones] if name == "trunk" else np.arange(len(bones))
    order = (weights @ np.asarray(along, float))[triangles].mean(1).argsort(kind="stable")
    return Layer(name, planes, vertices, triangles[order], bones, weights)
