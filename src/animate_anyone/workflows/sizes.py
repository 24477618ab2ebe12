"""At which size a result is made, and at which the networks work."""

from __future__ import annotations

from dataclasses import dataclass

from animate_anyone.conditions.sizes import of_area
from animate_anyone.errors import InputError
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.structures import Size

LONGEST = 512
"""Longer side of a result that no size is asked for, pixels, where the model begins with a first guess."""
MOST = 1024
"""Longest side that may be asked for there."""


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


def within(shape: Size, longest: int) -> Size:
    """A shape scaled down to ``longest`` on its longer side, in even numbers, as videos want them."""
    scale = min(longest / max(shape), 1.0)
    width, height = (max(round(side * scale / 2), 1) * 2 for side in shape)
    return width, height
