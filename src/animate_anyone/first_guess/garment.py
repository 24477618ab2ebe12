"""What a person in a picture wears below the hips: a skirt, which hangs over both legs, or trousers.

(Not in the papers; for the first guess of small models.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter
from scipy.spatial import KDTree
from skimage.segmentation import watershed

from animate_anyone.first_guess.bones import Body, Points, Skirt, off_bone
from animate_anyone.structures import Mask, Picture, Plane

RARE = 0.03
"""Share of some clothes' pixels below which a colour is not one of theirs."""

_SLICES = 10  # of the way from the hips to the knees
_HIPS = 0.1  # of that way: what lies above is at the hips
_ALIKE = 0.35  # histogram intersection above which a slice is the same cloth as those before
_SAME = 0.6  # above which legs that part are still of that cloth
_NARROWER = 0.8  # of the widest slice so far: what is narrower is a leg
_BOTH = 0.65  # of it: two legs of the same trousers are together at least as wide
_TWO = 1.3  # of the wider one of two pieces
_TROUSERS, _SHORTEST_SKIRT = 0.3, 0.55  # of that way: where trousers part; what ends before is no skirt
_OVERHANG = 0.65  # of the skirt's width: legs that come out of it are together narrower
_FLARED = 1.2  # widths of the hips
_KNEES, _FLARES_ON = 0.9, 1.2  # what ends above those in its colours, and is so much wider below, has a pattern
_LONG, _ANKLES = 1.15, 1.75  # of that way: what is no wider than the hips and as long is trousers on closed legs
_GAP = 2  # pixels without cloth that do not part a slice
_MARGIN = 0.06  # trunk lengths above the hem's line all is skirt; twice as far below it bones of legs are legs
_REACH = 0.25  # below it nothing is skirt
_NEARER = 0.5  # times as far from the colours of one of the two as from the other's: surely of the one


class Garment(NamedTuple):
    """What covers the hips.

    Attributes:
        below: ``(height, width)``, how far each pixel is below the hem, as a straight line, or below where trousers
            part, pixels.
        skirt: how wide it is, where it hangs over both legs as one piece.
        hem: ``(height, width)`` bool, skirt that lies below that line.
    """

    below: Points
    skirt: Skirt | None
    hem: Mask | None = None

    @property
    def above(self) -> Mask:
        """What does not move with the legs, ``(height, width)`` bool."""
        above: Mask = self.below <= 0
        return above if self.hem is None else above | self.hem


class _Slice(NamedTuple):
    """Of what covers the hips: its place, of the way from the hips to the knees; how wide its widest piece is, and all
    of its pieces together, pixels; how its colours are distributed, ``(64,)``."""

    place: float
    width: float
    whole: float
    colours: NDArray[np.float64]


def below_hips(picture: Picture, cloth: Mask, arms: Mask, legs: Mask, body: Body, places: Points) -> Garment:
    """Follow what covers the hips down, in slices: as long as one is a single piece, as wide as above and alike.

    A skirt is wider at its hem than the hips are, or ends between the knees and the ankles. Where legs of the same
    colours come out of it, it is trousers.

    Args:
        picture: ``(height, width, 3)`` uint8.
        cloth: ``(height, width)`` bool, legs and trunk.
        arms: as ``cloth``, what may hide some of it; legs: what lies on their bones.
        body: the person's pose.
        places: the middles of all pixels, ``(height, width, 2)``.
    """
    hips = np.mean(body.bones["hips"], 0)
    knees = [body.bones[f"{side}_thigh"][1] for side in ("right", "left") if f"{side}_thigh" in body.bones]
    line = np.mean(knees, 0) - hips if knees else body.down
    length = max(float(np.linalg.norm(line)), 1.0)
    down = line / length
    along, across = (places - hips) @ down, (places - hips) @ np.array([-down[1], down[0]])
    near = np.abs(across) < 1.5 * body.unit
    number = np.floor(along / length * _SLICES).astype(np.int64)
    slices = []
    for one in range(-1, 2 * _SLICES + 1):
        part = near & (number == one)
        seen = part & cloth
        if seen.sum() < 4:
            break
        colours = np.histogramdd(picture[seen], 4, [(0, 256)] * 3)[0].ravel() / seen.sum()
        slices.append(_Slice(one / _SLICES, *_widths(across[seen], across[part & arms]), colours))
    hem, skirt, wide = _followed(slices, _ALIKE)
    on, patterned, wider = _followed(slices, 0.0)
    if patterned and (not skirt or (hem < _KNEES and wider > _FLARES_ON * wide)):
        hem, skirt = on, True
    below = along - hem * length
    if not skirt:
        return Garment(below, None)
    place = min(hem - 1 / _SLICES, 1.0)
    width = max(one.width for one in slices if one.place <= place)
    at_hips = float(np.mean([one.width for one in slices if one.place < _HIPS]))
    shape = Skirt(place, width / body.unit, at_hips / body.unit)
    return Garment(below, shape, _hem(picture, cloth, legs, below / body.unit))


def _followed(slices: list[_Slice], least: float) -> tuple[float, bool, float]:
    """Where the hem is, of the way from the hips to the knees; whether it is a skirt's; and how wide that is, pixels.

    ``least``: how much the colours of a slice must be those of the slices before. Where that is 0, of any pattern, only
    what flares is a skirt.
    """
    hem, overhangs, parted = _TROUSERS, False, False
    hips = [one for one in slices if one.place < _HIPS]
    if not hips:
        return hem, False, 0.0
    at_hips = wide = float(np.mean([one.width for one in hips]))
    before = np.mean([one.colours for one in hips], 0)
    for number, one in enumerate(slices[len(hips) :], len(hips)):
        alike = float(np.minimum(one.colours, before).sum())
        if one.width < _NARROWER * wide or alike < least:
            parted = alike > _SAME and one.whole > max(_BOTH * wide, _TWO * one.width)
            # A ragged hem ends within a slice: the one after it shows the legs alone.
            legs = min(slices[number : number + 2], key=lambda one: one.whole)
            others = float(np.minimum(legs.colours, before).sum()) < _SAME
            overhangs = others and legs.whole < _OVERHANG * wide and hem <= _ANKLES
            break
        wide, before, hem = max(wide, one.width), 0.8 * before + 0.2 * one.colours, one.place + 0.5 / _SLICES
    flared = wide > _FLARED * at_hips
    if parted or hem < _SHORTEST_SKIRT or (hem > _ANKLES and not flared):
        return _TROUSERS, False, wide
    skirt = flared or (least > 0 and (overhangs or hem > _LONG))
    return (hem if skirt else _TROUSERS), skirt, wide


def _widths(across: NDArray[np.float64], hidden: NDArray[np.float64]) -> tuple[float, float]:
    """How wide the widest piece of a slice is, and how wide all of its pieces are together, pixels.

    Args:
        across: where its pixels are, across the slice; hidden: where something may hide more of them.
    """
    cloth = np.unique(np.floor(across).astype(np.int64))
    both = np.union1d(cloth, np.floor(hidden).astype(np.int64))
    runs = np.split(both, np.flatnonzero(np.diff(both) > _GAP + 1) + 1)
    ends = [found[[0, -1]] for run in runs if len(found := np.intersect1d(run, cloth, assume_unique=True))]
    widths = [float(end - start) + 1 for start, end in ends]
    return max(widths), sum(widths)


def _hem(picture: Picture, cloth: Mask, legs: Mask, below: Plane) -> Mask:
    """What of a skirt lies below the straight line of :class:`Garment`, up to the edges of the picture (watershed).

    Args:
        cloth: ``(height, width)`` bool, legs and skirt; legs: what lies on their bones.
        below: as ``cloth``, how far each pixel is below that line, trunk lengths.
    """
    band = cloth & (np.abs(below) < _REACH)
    on_legs = legs & (below > 2 * _MARGIN) & (below < 3 * _REACH)
    from_skirt = _colour_distance(picture, cloth & (below < -_MARGIN) & (below > -3 * _REACH), band)
    from_legs = _colour_distance(picture, on_legs, band)
    of_skirt = median_filter(from_skirt < _NEARER * from_legs, 3) & band
    of_legs = median_filter(from_legs < _NEARER * from_skirt, 3) & legs & (below > 0)
    surely = (on_legs & ~of_skirt) | of_legs | (below > _REACH)
    seeds = np.where((below <= -_MARGIN) | of_skirt, 1, np.where(surely, 2, 0))
    skirt: Mask = watershed(edges(picture), seeds * cloth, mask=cloth) == 1
    return skirt & (below > 0)


def _colour_distance(picture: Picture, of: Mask, at: Mask) -> Plane:
    """How far colours ``at`` are from the nearest colours ``of``, of 255, ``(height, width)``; NaN elsewhere."""
    distance = np.full(picture.shape[:2], np.nan)
    if of.any() and at.any():
        colours = np.unique(picture[of], axis=0).astype(np.float64)
        distance[at] = KDTree(colours).query(picture[at].astype(np.float64))[0] + 1.0  # one grey level is noise
    return distance


def frequency(picture: Picture, where: Mask, bins: int) -> Plane:
    """Of each pixel's colour, its share among the pixels ``where``, ``(height, width)``; ``bins`` a channel."""
    colour = (picture.astype(np.int64) * bins // 256) @ np.array([bins**2, bins, 1])
    shares = np.bincount(colour[where], minlength=bins**3) / max(int(where.sum()), 1)
    at_pixels: Plane = shares[colour]
    return at_pixels


def edges(picture: Picture) -> Plane:
    """How steep a picture is, of its steepest channel, ``(height, width)``."""
    smooth = gaussian_filter(picture.astype(np.float32), (1, 1, 0))
    steep: Plane = np.max([np.hypot(*np.gradient(smooth[..., channel])) for channel in range(3)], 0)
    return steep


def under_skirt(leg: Mask, bones: Sequence[tuple[Points, Points]], places: Points) -> Mask:
    """Where a leg goes on as it is below the hem, as thick, along its bones; not at the hips, where it would show.

    Args:
        leg: ``(height, width)`` bool, what is seen of it.
        bones: from the hip on.
    """
    off = np.min([off_bone(places, ends) for ends in bones], 0)
    half = 2 * off[leg].mean()  # a strip's pixels are on average half as far off its middle as its edges are
    hip = bones[0][0]
    inside: Mask = (off < half) & (off_bone(places, (hip, hip)) > 1.5 * half) & ~leg
    return inside
