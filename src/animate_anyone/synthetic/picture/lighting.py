"""Light as photographs and films have it: key, sky, bounce and rim, gloss, and shadows that a body casts on itself.

Directions are unit vectors in camera space (x right, y down, z forward) and point to the light;
colours are RGB factors of the paint, 1 where a white cloth comes out white.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from animate_anyone.synthetic.figure.paint import Colour, rgb

Direction = tuple[float, float, float]


@dataclass(frozen=True)
class Lights:
    """What shines on the puppet and on the scene behind it.

    Attributes:
        mood: the name of what was drawn. key: direction of the strongest light; key_colour its colour.
        wrap: how far the key reaches round the edge, 0 (a bare bulb) to 1 (an overcast sky).
        sky, bounce: colours from above and from below. rim, rim_colour: a light from behind.
        shadow: how much of the key a cast shadow takes, [0, 1].
        scene: colour that the background is multiplied with.
    """

    mood: str
    key: Direction
    key_colour: Colour
    wrap: float
    sky: Colour
    bounce: Colour
    rim: Direction
    rim_colour: Colour
    shadow: float
    scene: Colour


@dataclass(frozen=True)
class Shading:
    """``style`` is flat, toon or soft; ``light`` (3,) points to the light in camera space, unit length.

    With ``lights`` they alone count.
    """

    style: str
    light: tuple[float, float, float]
    ambient: float
    steps: int
    ink: float
    tint: tuple[float, float, float]
    lights: Lights | None = None


# mood: share, key and sky levels (low, high), warmth of the key and of the sky, rim level, scene level
MOODS: dict[str, tuple[float, tuple[float, float], tuple[float, float], float, float, float, float]] = {
    "daylight": (0.24, (0.55, 0.85), (0.48, 0.65), 0.06, -0.05, 0.25, 1.05),
    "overcast": (0.16, (0.20, 0.40), (0.75, 0.95), 0.00, -0.02, 0.05, 1.05),
    "high_key": (0.20, (0.25, 0.45), (0.85, 1.00), 0.01, 0.01, 0.10, 1.1),
    "low_sun": (0.12, (0.65, 0.95), (0.35, 0.52), 0.16, -0.04, 0.50, 0.95),
    "indoors": (0.13, (0.50, 0.75), (0.45, 0.65), 0.10, 0.05, 0.15, 0.95),
    "night": (0.09, (0.40, 0.70), (0.25, 0.42), -0.06, -0.12, 0.90, 0.6),
    "stage": (0.06, (0.45, 0.75), (0.28, 0.45), 0.0, 0.0, 0.90, 0.7),
}


def _warm(level: float, warmth: float) -> Colour:
    """A grey level pulled to orange (above 0) or to blue (below 0)."""
    return rgb(level * np.array([1 + warmth, 1.0, 1 - 1.3 * warmth]), 2.0)


def _unit(x: float, y: float, z: float) -> Direction:
    size = float(np.sqrt(x * x + y * y + z * z))
    return float(x / size), float(y / size), float(z / size)


def sample_lights(rng: np.random.Generator) -> Lights:
    """Draw a mood and its lights."""
    mood = str(rng.choice(list(MOODS), p=[m[0] for m in MOODS.values()]))
    _, keys, skies, key_warmth, sky_warmth, rim, scene = MOODS[mood]
    key, sky, side = rng.uniform(*keys), rng.uniform(*skies), rng.choice([-1.0, 1.0])
    key_colour, sky_colour = _warm(key, key_warmth + rng.normal(0, 0.03)), _warm(sky, sky_warmth + rng.normal(0, 0.03))
    rim_colour = _warm(rim * rng.uniform(0.3, 1.2), key_warmth)
    if mood in ("night", "stage"):  # coloured lamps
        lamp = np.array(colorsys.hsv_to_rgb(rng.uniform(0.5, 1.1) % 1.0, rng.uniform(0.3, 0.8), 1.0))
        rim_colour = rgb(lamp * rim * rng.uniform(0.5, 1.2), 2.0)
        fill = np.array(colorsys.hsv_to_rgb(rng.uniform(0.55, 0.95), rng.uniform(0.2, 0.7), 1.0))
        sky_colour = rgb(np.array(sky_colour) * (0.4 + 0.9 * fill), 2.0)
    bounce = np.array(sky_colour) * rng.uniform(0.55, 0.95) * (1 + 0.06 * rng.normal(size=3))
    tint = np.array(key_colour) + np.array(sky_colour)
    return Lights(
        mood,
        _unit(side * rng.uniform(0.1, 1.0), -rng.uniform(0.2, 1.0), -rng.uniform(0.3, 1.1)),
        key_colour,
        float(rng.uniform(0.1, 0.6)),
        sky_colour,
        rgb(bounce, 2.0),
        _unit(-side * rng.uniform(0.3, 1.0), -rng.uniform(0.1, 0.8), rng.uniform(0.4, 1.0)),
        rim_colour,
        float(rng.uniform(0.2, 0.75)),
        rgb(scene * rng.uniform(0.8, 1.15) * (0.5 + 0.5 * tint / tint.mean()), 2.0),
    )


def sample_shading(rng: np.random.Generator) -> Shading:
    """Draw a way of shading and a light from above and in front."""
    style = str(rng.choice(["flat", "toon", "soft"], p=(0.15, 0.3, 0.55)))
    light = np.array([rng.uniform(-0.8, 0.8), -rng.uniform(0.3, 1.0), -rng.uniform(0.5, 1.1)])
    x, y, z = (light / np.linalg.norm(light)).tolist()
    ink = rng.uniform(0.25, 0.7) if style != "soft" and rng.random() < 0.75 else 0.0
    tint = rgb(1 - rng.uniform(0, 0.12, 3))
    ambient, steps = float(rng.uniform(0.35, 0.62)), int(rng.integers(2, 4))
    return Shading(style, (x, y, z), ambient, steps, float(ink), tint)


def shine(colour: Tensor, normal: Tensor, sight: Tensor, gloss: Tensor, lights: Lights) -> Tensor:
    """Paint ``(N, 3)`` under the lights, not yet clamped.

    Args:
        colour: RGB in [0, 1]. normal, sight: ``(N, 3)`` unit vectors, out of the surface and from the eye.
        gloss: ``(N,)`` strength of the highlight, 0 (cloth) to 1 (lacquer).
    """

    def tensor(values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=colour.device)

    key, rim = tensor(lights.key), tensor(lights.rim)
    diffuse = (((normal * key).sum(-1) + lights.wrap) / (1 + lights.wrap)).clamp_min(0)
    up = 0.5 - 0.5 * normal[:, 1]
    light = tensor(lights.bounce) + up[:, None] * (tensor(lights.sky) - tensor(lights.bounce))
    light = light + diffuse[:, None] * tensor(lights.key_colour)
    edge = (1 + (normal * sight).sum(-1)).clamp(0, 1)
    edge = edge * edge * ((normal * rim).sum(-1) + 0.2).clamp_min(0)
    half = normalize(key - sight, dim=-1)
    spot = (normal * half).sum(-1).clamp_min(0) ** (8 + 40 * gloss)
    lit = colour * light + (gloss * spot)[:, None] * tensor(lights.key_colour)
    return lit + edge[:, None] * (0.4 + 0.6 * colour) * tensor(lights.rim_colour)


def cast_on_self(depth: Tensor, focal: float, lights: Lights) -> Tensor:
    """How much light is left where the figure shades itself: ``(F, H, W)`` factors in (0, 1].

    A ray is walked from each pixel to the key light over the depth picture ``(F, H, W)`` (metres, inf
    on the background), and what stands in front of it darkens; as soft as a few pixels. ``focal`` is in
    frame heights.
    """
    height, width = depth.shape[1:]
    solid = torch.isfinite(depth)
    if not bool(solid.any()):
        return torch.ones_like(depth)
    near = torch.where(solid, depth, torch.full_like(depth, 1e4))
    middle = float(near[solid].median())
    x, y, z = lights.key
    dark = torch.zeros_like(depth)
    for metres in (0.05, 0.1, 0.17, 0.26):
        right, down = (round(metres * way * focal * height / middle) for way in (x, y))
        moved = torch.full_like(near, 1e4)
        rows, columns = _overlap(height, down), _overlap(width, right)
        moved[:, rows[0], columns[0]] = near[:, rows[1], columns[1]]
        gap = near + metres * z - moved
        dark = torch.maximum(dark, ((gap > 0.02) & (gap < 0.35)).float() * (1.15 - 2 * metres))
    side = 2 * max(1, round(0.008 * height)) + 1
    dark = avg_pool2d(dark[:, None], side, 1, side // 2, count_include_pad=False)[:, 0]
    share = sum(lights.key_colour) / (sum(lights.key_colour) + sum(lights.sky))
    return 1 - lights.shadow * share * dark.clamp(0, 1)


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Where to write and where to read so that ``written[i] = read[i + shift]``."""
    shift = max(-size, min(size, shift))
    return slice(max(0, -shift), size - max(0, shift)), slice(max(0, shift), size + min(0, shift))
