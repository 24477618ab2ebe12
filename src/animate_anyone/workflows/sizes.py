"""At which size a result is made, and at which the networks work."""

from __future__ import annotations

import math
from dataclasses import dataclass

from animate_anyone.errors import InputError
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.structures import Size

LONGEST = 512
"""Longer side of a result that no size is asked for, pixels, where the model begins with a first guess."""
MOST = 1024
"""Longest side that may be asked for there."""
_AREA_COUNTS = 0.2  # a relative error of the area, against one of the aspect


@dataclass(frozen=True)
class Sizes:
    """``(width, height)`` of the result, and of what the networks make."""

    video: Size
    networks: Size


def choose_sizes(pipeline: AnimateAnyonePipeline, asked: Size | None, shape: Size) -> Sizes:
    """The sizes for a picture or video of ``shape`` ``(width, height)``.

    A model with a first guess gives the shape's own size, up to :data:`LONGEST`, and its networks work on a small grid.
    Any other works at the size of the result: the shape at the area that the model was trained at. A model that
    stretches its pictures, as the published open ones do, was trained at one shape.

    Raises:
        InputError: ``asked`` is more than the model can do.
    """
    trained: Size = tuple(pipeline.config["size"])
    step = pipeline.latent_downscale * 2 ** (len(pipeline.denoising_unet.config["block_out_channels"]) - 1)
    if not pipeline.config["carried_reference"]:
        if asked is not None or pipeline.config["stretch"]:
            return Sizes(asked or trained, asked or trained)
        size = of_area(shape, trained, step)
        return Sizes(size, size)
    if asked is not None and max(asked) > MOST:
        raise InputError(f"size {asked[0]}x{asked[1]}: this model gives at most {MOST} pixels a side")
    video = asked or within(shape, LONGEST)
    return Sizes(video, trained if video == trained else of_area(video, trained, step))


def of_area(shape: Size, area: Size, step: int) -> Size:
    """A size near a shape's aspect and near another's area, in multiples of ``step``; the aspect counts more."""
    wanted_area, wanted_aspect = math.log(area[0] * area[1]), math.log(shape[0] / shape[1])

    def off(size: Size) -> float:
        width, height = map(math.log, size)
        return abs(width - height - wanted_aspect) + _AREA_COUNTS * abs(width + height - wanted_area)

    middle = [math.exp((wanted_area + sign * wanted_aspect) / 2) / step for sign in (1, -1)]
    sides = [range(max(int(side) - 1, 1), int(side) + 3) for side in middle]
    return min(((x * step, y * step) for x in sides[0] for y in sides[1]), key=off)


def within(shape: Size, longest: int) -> Size:
    """A shape scaled down to ``longest`` on its longer side, in even numbers, as videos want them."""
    scale = min(longest / max(shape), 1.0)
    width, height = (max(round(side * scale / 2), 1) * 2 for side in shape)
    return width, height
