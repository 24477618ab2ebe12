"""Cloth and skin: materials with patterns and emblems, evaluated at points of a puppet's surface."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, normalize, pad

Pattern = IntEnum(
    "Pattern",
    "PLAIN STRIPES_ACROSS STRIPES_ALONG STRIPES_SLANTED CHECKS PLAID DOTS GRADIENT NOISE HALVES STRANDS FACE DENIM "
    "PRINT PLEATS TARTAN SPRINKLES OPEN",
    start=0,
)
"""What cloth shows; some are drawn at random by number."""

Emblem = IntEnum("Emblem", "NONE DISC RING STAR HEART CROSS BARS LETTER_T LETTER_E DIAMOND ARROW FACE", start=0)

Colour = tuple[float, float, float]


def rgb(values: NDArray[np.float64], most: float = 1.0) -> Colour:
    """Three numbers as a colour, kept within [0, ``most``]."""
    red, green, blue = (float(v) for v in np.clip(values, 0, most))
    return red, green, blue


@dataclass(frozen=True)
class Relief:
    """What light finds on a surface that is smooth otherwise.

    Attributes:
        folds: how far they tilt the surface, as a share of its normal.
        across, along: folds per trunk, sideways and upwards.
        weave: contrast of the thread, a share of the colour. gloss: see ``lighting.shine``.
    """

    folds: float = 0.0
    across: float = 6.0
    along: float = 3.0
    weave: float = 0.0
    gloss: float = 0.0


@dataclass(frozen=True)
class Material:
    """Paint for a surface.

    Attributes:
        pattern: which pattern.
        first, second: its colours, RGB in [0, 1].
        cycles: pattern repeats per trunk height (along) and per turn (around); both positive.
        phase: shift of the pattern, cycles. share: how much of a cycle the second colour takes.
        span: heights (low, high) in trunks, where a gradient or halves change.
        emblems: on the front and on the back; ``emblem_colours``, ``emblem_size`` (trunks) and
            ``emblem_height`` (trunks above the floor at rest) go with them.
        third: a colour more, of prints and tartans. relief: folds, weave and gloss.
    """

    pattern: Pattern
    first: Colour
    second: Colour = (0.0, 0.0, 0.0)
    cycles: tuple[float, float] = (8.0, 8.0)
    phase: float = 0.0
    share: float = 0.5
    span: tuple[float, float] = (0.0, 1.0)
    emblems: tuple[Emblem, Emblem] = (Emblem.NONE, Emblem.NONE)
    emblem_colours: tuple[Colour, Colour] = field(default=((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)))
    emblem_size: float = 0.06
    emblem_height: float = 0.8
    third: Colour = (0.0, 0.0, 0.0)
    relief: Relief = field(default=Relief())


def inside_emblem(kind: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether points ``(N,)`` in [-1, 1] lie on the emblem of each point's ``kind``."""
    inside = torch.zeros_like(x, dtype=torch.bool)
    r, ax, ay = torch.hypot(x, y), x.abs(), y.abs()
    turn = torch.atan2(x, y) * (5 / (2 * np.pi))
    spike = 1 - 1.25 * (turn - turn.round()).abs()
    box = (ax < 0.8) & (ay < 0.9)
    shapes = {
        Emblem.DISC: r < 0.9,
        Emblem.RING: (r < 0.95) & (r > 0.5),
        Emblem.STAR: r < spike,
        Emblem.HEART: (x**2 + (1.15 * y - 0.75 * ax.sqrt() + 0.1) ** 2) < 0.6,
        Emblem.CROSS: ((ax < 0.3) & (ay < 0.95)) | ((ay < 0.3) & (ax < 0.95)),
        Emblem.BARS: box & ((y * 2.5 + 0.25).frac().abs() < 0.5),
        Emblem.LETTER_T: box & ((y > 0.45) | (ax < 0.25)),
        Emblem.LETTER_E: box & ((x < -0.35) | (y > 0.5) | (y < -0.5) | (ay < 0.2)),
        Emblem.DIAMOND: ax + ay < 1,
        Emblem.ARROW: ((y > 0) & (ax < 0.95 - y)) | ((y <= 0) & (ax < 0.35) & (y > -0.9)),
        Emblem.FACE: (r < 0.95)
        & ~(((ax - 0.35) ** 2 + (y - 0.25) ** 2 < 0.04) | ((r < 0.65) & (r > 0.42) & (y < -0.1))),
    }
    for name, shape in shapes.items():
        inside |= (kind == int(name)) & shape
    return inside


def value_noise(points: Tensor, lattice: Tensor) -> Tensor:
    """Smooth noise in [0, 1] at ``(N, 3)`` points; ``lattice`` is ``(16, 16, 16)`` in [0, 1] and repeats."""
    low = points.floor()
    f = points - low
    f = f * f * (3 - 2 * f)
    i = low.long()
    flat = lattice.reshape(-1)
    total = torch.zeros_like(f[:, 0])
    for corner in range(8):
        bits = (corner & 1, corner >> 1 & 1, corner >> 2 & 1)
        index = torch.zeros_like(i[:, 0])
        weight = torch.ones_like(total)
        for axis, bit in enumerate(bits):
            index = index * 16 + (i[:, axis] + bit).remainder(16)
            weight = weight * (f[:, axis] if bit else 1 - f[:, axis])
        total = total + weight * flat[index]
    return total


class Paint:
    """The materials of one puppet as tensors; :meth:`colours` paints points."""

    def __init__(self, materials: list[Material], lattice: NDArray[np.float64], device: torch.device) -> None:
        def column(values: list[object]) -> Tensor:
            return torch.tensor(np.array(values), dtype=torch.float32, device=device)

        self.pattern = torch.tensor([int(m.pattern) for m in materials], device=device)
        self.used = {m.pattern for m in materials}
        self.has_emblem = any(m.emblems != (Emblem.NONE, Emblem.NONE) for m in materials)
        self.first = column([m.first for m in materials])
        self.second = column([m.second for m in materials])
        self.numbers = column(
            [(*m.cycles, m.phase, m.share, *m.span, m.emblem_size, m.emblem_height) for m in materials]
        )
        self.emblems = torch.tensor([[int(e) for e in m.emblems] for m in materials], device=device)
        self.emblem_colours = column([m.emblem_colours for m in materials])
        self.third = column([m.third for m in materials])
        self.relief = column([dataclasses.astuple(m.relief) for m in materials])
        self.lattice = torch.as_tensor(lattice, dtype=torch.float32, device=device)
        whole = pad(self.lattice[None, None], (0, 1, 0, 1, 0, 1), mode="circular")[0, 0]
        self.bumps = torch.stack([whole, whole.transpose(0, 1), whole.transpose(0, 2)])[None]

    def colours(self, material: Tensor, rest: Tensor, around: Tensor, front: Tensor) -> Tensor:
        """RGB ``(N, 3)`` in [0, 1].

        Args:
            material: ``(N,)`` index.
            rest: ``(N, 3)`` the point on the resting puppet, in trunks.
            around: ``(N,)`` the angle about its brick's axis, turns in [-0.5, 0.5], 0 in front.
            front: ``(N,)`` forward part of the surface normal at rest, in [-1, 1].
        """
        kind = self.pattern[material]
        along_cycles, around_cycles, phase, share, low, high, size, height = self.numbers[material].unbind(-1)
        along, about = rest[:, 1] * along_cycles + phase, around * around_cycles + phase
        first, second = self.first[material], self.second[material]
        amount = torch.zeros_like(along)

        def band(position: Tensor) -> Tensor:
            return position - position.floor() < share

        def dots() -> Tensor:
            row = along.floor()
            fx, fy = about + 0.5 * row.remainder(2), along - row - 0.5
            return torch.hypot(fx - fx.floor() - 0.5, fy) < 0.2 + 0.2 * share

        def plaid() -> Tensor:
            return 0.5 * band(along).float() + 0.5 * band(about).float()

        def strands() -> Tensor:
            wave = torch.sin(6.2831853 * about) * 0.5 + 0.5 * torch.sin(6.2831853 * (1.7 * about + 0.8 * along))
            return 0.5 + 0.5 * wave

        # How much of the second colour each pattern takes, (N,): bool or in [0, 1].
        amounts: dict[Pattern, Callable[[], Tensor]] = {
            Pattern.STRIPES_ACROSS: lambda: band(along),
            Pattern.STRIPES_ALONG: lambda: band(about),
            Pattern.STRIPES_SLANTED: lambda: band(along + about),
            Pattern.CHECKS: lambda: (along.floor() + about.floor()).remainder(2) > 0.5,
            Pattern.PLAID: plaid,
            Pattern.TARTAN: plaid,
            Pattern.DOTS: dots,
            Pattern.GRADIENT: lambda: ((rest[:, 1] - low) / (high - low)).clamp(0, 1),
            Pattern.HALVES: lambda: rest[:, 0] > 0,
            Pattern.STRANDS: strands,
            Pattern.PLEATS: lambda: (about - about.floor()) ** 2,
            # a jacket over a shirt: a wedge that widens upwards
            Pattern.OPEN: lambda: (rest[:, 0].abs() < 0.25 * share * (rest[:, 1] - low).clamp(0, 1)) & (front > 0),
        }
        for pattern in self.used & amounts.keys():
            amount = torch.where(kind == int(pattern), amounts[pattern]().to(amount.dtype), amount)
        if Pattern.NOISE in self.used:
            where = (kind == int(Pattern.NOISE)).nonzero()[:, 0]
            noise = value_noise(rest[where] * along_cycles[where, None] + 7 * phase[where, None], self.lattice)
            amount[where] = (3.0 * (noise - 0.5) + share[where]).clamp(0, 1)
        if Pattern.DENIM in self.used:
            where = (kind == int(Pattern.DENIM)).nonzero()[:, 0]
            amount[where] = value_noise(rest[where] * rest.new_tensor([40.0, 9.0, 40.0]), self.lattice)
        colour = first + (second - first) * amount[:, None]
        if self.used & {Pattern.PRINT, Pattern.TARTAN, Pattern.SPRINKLES}:
            self._prints(colour, material, kind, rest, along, about)
        if self.has_emblem:
            colour = self._emblems(colour, material, rest, front, size, height)
        return colour

    def _prints(
        self, colour: Tensor, material: Tensor, kind: Tensor, rest: Tensor, along: Tensor, about: Tensor
    ) -> None:
        """Blots of two colours, thin lines over a tartan, sparks; laid on ``colour`` in place."""
        second, third = self.second[material], self.third[material]
        where = (kind == int(Pattern.PRINT)).nonzero()[:, 0]
        if len(where):
            steps = self.numbers[material[where], :1]
            for paint, shift in ((second, 0.0), (third, 5.3)):
                blot = where[value_noise(rest[where] * steps + shift, self.lattice) > 0.6]
                colour[blot] = paint[blot]
        line = (kind == int(Pattern.TARTAN)) & (((along + 0.3) % 1 < 0.1) | ((about + 0.3) % 1 < 0.1))
        colour[line] = third[line]
        where = (kind == int(Pattern.SPRINKLES)).nonzero()[:, 0]
        if len(where):
            place = torch.stack([along[where], about[where]], -1) * 1.6
            cell = place.floor()
            lot = self.lattice[(cell[:, 0] % 16).long(), (cell[:, 1] % 16).long()]  # (n, 16): this cell's numbers
            off = place - cell - 0.3 - 0.4 * lot[:, :2]
            spark = torch.hypot(off[:, 0], off[:, 1]) < 0.28 * lot[:, 2]
            colour[where[spark]] = torch.where(lot[spark, 3:4] < 0.5, second[where[spark]], third[where[spark]])

    def _emblems(
        self, colour: Tensor, material: Tensor, rest: Tensor, front: Tensor, size: Tensor, height: Tensor
    ) -> Tensor:
        back = (front < 0).long()
        kind = self.emblems[material, back]
        x, y = rest[:, 0] / size, (rest[:, 1] - height) / size
        where = ((kind > 0) & (x.abs() < 1) & (y.abs() < 1)).nonzero()[:, 0]
        x = torch.where(back > 0, -x, x)
        hit = where[inside_emblem(kind[where], x[where], y[where])]
        colour[hit] = self.emblem_colours[material[hit], back[hit]]
        return colour

    def drape(self, material: Tensor, rest: Tensor, colour: Tensor, normal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The surface with its relief.

        Args:
            material, rest: as in :meth:`colours`. colour, normal: ``(N, 3)``, unit normals in camera space.

        Returns:
            colours with the weave, normals tilted by the folds, unit length; gloss ``(N,)``.
        """
        folds, across, along, weave, gloss = self.relief[material].unbind(-1)
        cloth = torch.stack([rest[:, 0] * across, rest[:, 1] * along, rest[:, 2] * across], -1)
        tilt = folds[:, None] * self._lookup(cloth)
        thread = self._lookup(rest * 37.0)[:, 2]
        tilted = torch.stack([normal[:, 0] + tilt[:, 0], normal[:, 1] + 0.5 * tilt[:, 1], normal[:, 2]], -1)
        worn = 1 + weave * thread + 0.5 * tilt[:, 2]  # deep folds see less sky
        return colour * worn[:, None], normalize(tilted, dim=-1), gloss

    def _lookup(self, points: Tensor) -> Tensor:
        """Three channels of noise in [-1, 1] at ``(N, 3)`` points; repeats every 16."""
        places = points.remainder(16) / 8 - 1
        return 2 * grid_sample(self.bumps, places[None, None, None], align_corners=True)[0, :, 0, 0].T - 1
