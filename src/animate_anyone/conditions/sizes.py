"""Sizes that networks take: of a picture's shape, at the area that they were trained at."""

from __future__ import annotations

import math

from animate_anyone.structures import Size

_AREA_COUNTS = 0.2  # a relative error of the area, against one of the aspect


def of_area(shape: Size, area: Size, step: int) -> Size:
    """A size near a shape's aspect and near another's area, in multiples of ``step``; the aspect counts more."""
    wanted_area, wanted_aspect = math.log(area[0] * area[1]), math.log(shape[0] / shape[1])

    def off(size: Size) -> float:
        width, height = map(math.log, size)
        return abs(width - height - wanted_aspect) + _AREA_COUNTS * abs(width + height - wanted_area)

    middle = [math.exp((wanted_area + sign * wanted_aspect) / 2) / step for sign in (1, -1)]
    sides = [range(max(int(side) - 1, 1), int(side) + 3) for side in middle]
    return min(((x * step, y * step) for x in sides[0] for y in sides[1]), key=off)
