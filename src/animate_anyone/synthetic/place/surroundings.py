"""Places behind the puppet as photographs and films have them: streets, rooms, leaves, nights, curtains, paper.

Drawn from continuous coordinates like the plain backgrounds, so that another size shows the same place.
Most are out of focus.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from animate_anyone.synthetic.figure.bricks import Array
from animate_anyone.synthetic.figure.look import colour
from animate_anyone.synthetic.figure.wardrobe import natural
from animate_anyone.synthetic.place.backdrop import (
    Backdrop,
    Camera,
    mix,
    noise_at,
    paint_plain,
    pixel_grid,
    room_points,
)

SURROUNDINGS = ("street", "interior", "open", "leaves", "lamps", "curtain", "paper", "blots")
_SHARES = (0.2, 0.2, 0.17, 0.08, 0.1, 0.07, 0.12, 0.06)


def pink_noise(rng: np.random.Generator, side: int, power: float) -> Array:
    """``(side, side)`` periodic noise in [0, 1] whose amplitudes fall as frequency to minus ``power``.

    Photographs have a power near 1.
    """
    waves = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    waves[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / waves**power).real
    return np.asarray(np.clip(0.5 + 0.2 * field / field.std(), 0, 1))


def sample_surroundings(rng: np.random.Generator) -> Backdrop:
    """Draw a place."""
    kind = str(rng.choice(SURROUNDINGS, p=_SHARES))
    vivid = rng.random() < 0.3
    colours = np.array([colour(rng, 0.3) if vivid else natural(rng, 0.2, 1.0) for _ in range(24)])
    defocus = float(rng.uniform(0.003, 0.022)) if rng.random() < 0.65 else 0.0
    if kind == "paper":
        colours[0] = colour(rng, 0.4) if rng.random() < 0.35 else np.full(3, rng.uniform(0.25, 1.0))
    return Backdrop(kind, colours, rng.random((24, 6)), pink_noise(rng, 48, rng.uniform(0.8, 1.4)),
                    float(rng.uniform(0.25, 0.7)), defocus)  # fmt: skip


def paint_empty(
    backdrop: Backdrop, camera: Camera, size: tuple[int, int], supersample: int, device: torch.device
) -> Tensor:
    """A backdrop of any kind alone, ``(height, width, 3)`` float in [0, 1]."""
    width, height = size
    blur = backdrop.defocus * height if backdrop.kind in SURROUNDINGS else 0.0  # pixels; plain places are in focus
    s = 1 if blur > 0.6 else supersample
    x, y = pixel_grid(size, s, height, device)
    places = {"street": _street, "interior": _interior, "open": _open, "leaves": _leaves, "lamps": _lamps,
              "curtain": _curtain, "paper": _paper, "blots": _blots}  # fmt: skip
    colours, grid = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (backdrop.colours, backdrop.grid))
    out = places.get(backdrop.kind, paint_plain)(backdrop, camera, x, y, colours, grid).clamp(0, 1)
    return _defocused(out.reshape(height, s, width, s, 3).mean((1, 3)), blur)


def _defocused(picture: Tensor, radius: float) -> Tensor:
    """Out of focus: bright spots grow to soft discs of a radius in pixels."""
    if radius < 0.6:
        return picture
    reach = int(np.ceil(radius))
    steps = torch.arange(-reach, reach + 1, device=picture.device)
    disc = (radius + 0.5 - torch.hypot(steps[:, None].float(), steps[None].float())).clamp(0, 1)
    bright = (picture.permute(2, 0, 1)[:, None] + 0.02) ** 2.2
    bright = pad(bright, (reach,) * 4, mode="replicate")
    return (conv2d(bright, (disc / disc.sum())[None, None])[:, 0] ** (1 / 2.2) - 0.02).clamp(0, 1).permute(1, 2, 0)


def _texture(grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Two scales of the place's noise, in about [0, 1]."""
    return 0.65 * noise_at(grid, x, y) + 0.35 * noise_at(grid, 4.3 * x + 11, 4.3 * y + 5)


def _boxed(x: Tensor, low: float, high: float) -> Tensor:
    return (x > low) & (x < high)


def _ground(b: Backdrop, fx: Tensor, fz: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """Paving, boards or earth at floor points (metres)."""
    n = b.numbers
    out = mix(c * 0.75, c * 1.1, _texture(grid, 3 * fx, 3 * fz))
    kind, cell = int(n[0, 0] * 4), 0.2 + 0.8 * float(n[0, 1])
    if kind == 1:  # slabs
        joint = ((fx / cell) % 1 < 0.05) | ((fz / cell) % 1 < 0.05)
        out = torch.where(joint[..., None], out * 0.72, out)
    elif kind == 2:  # boards
        board = (fx / (0.4 * cell)).floor()
        out = out * (0.85 + 0.3 * noise_at(grid, 7.3 * board, board))[..., None]
    return out * (1 - 0.06 * (-fz).clamp(0, 5))[..., None]


def _stand(
    b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ground's colours, where it is seen, and the wall's points: metres across and above the floor."""
    fx, fz, on_ground, across, up = room_points(b, camera, x, y)
    return _ground(b, fx, fz, c, grid), on_ground, across, up


def _street(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """House fronts side by side with windows, doors and awnings, sky above, paving below."""
    n = b.numbers
    ground, on_ground, across, up = _stand(b, camera, x, y, c[0], grid)
    out = mix(c[1] * 0.4 + 0.6, c[1] * 0.3 + torch.tensor([0.35, 0.45, 0.6]).to(c), (up / 12).clamp(0, 1))
    left = -9.0 - 3 * float(n[0, 2])
    for k in range(8):
        wide, tall = 2.2 + 3 * float(n[k, 3]), 2.6 + 7 * float(n[k, 4]) ** 2
        here = across - left
        front = _boxed(here, 0, wide) & (up < tall)
        wall = mix(c[2 + k] * 0.8, c[2 + k] * 1.1, _texture(grid, 2 * across, 2 * up))
        px, py = (here / wide * (2 + int(3 * n[k, 5]))) % 1, (up - 0.3) / 1.6
        pane = _boxed(px, 0.25, 0.75) & _boxed(py % 1, 0.3, 0.85) & (up < tall - 0.3)
        bright = 0.25 + 0.9 * noise_at(grid, py.floor() * 3.1 + 7 * k, (here / wide * 4).floor())
        glass = c[12 + k] * bright[..., None]
        wall = torch.where(pane[..., None], glass, wall)
        door = _boxed(here / wide, float(n[k, 0]) * 0.6, float(n[k, 0]) * 0.6 + 0.3) & (up < 2.1)
        wall = torch.where(door[..., None], c[10 + k] * (0.35 + 0.2 * (px % 0.3 < 0.02))[..., None], wall)
        if n[k, 1] < 0.4:  # an awning
            stripes = ((here * 3) % 1 < 0.5)[..., None]
            wall = torch.where(_boxed(up, 2.15, 2.6)[..., None], torch.where(stripes, c[11 + k], c[20]), wall)
        shade = 0.6 + 0.4 * float(n[k, 2])
        out = torch.where(front[..., None], wall * shade, out)
        left += wide
    return torch.where(on_ground[..., None], ground, out)


def _interior(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """A wall with a door, a window, pictures and furniture; the light falls off along it."""
    n = b.numbers
    ground, on_ground, across, up = _stand(b, camera, x, y, c[0], grid)
    paint = c[1] * 0.5 + 0.5 * float(n[0, 3])
    out = mix(paint * 0.88, paint * 1.05, _texture(grid, across, up))
    if n[0, 4] < 0.25:  # bricks
        row = (up / 0.09).floor()
        joint = ((up / 0.09) % 1 < 0.15) | ((across / 0.25 + 0.5 * (row % 2)) % 1 < 0.06)
        brick = 0.8 + 0.3 * noise_at(grid, row, (across / 0.25).floor())
        out = out * torch.where(joint, 1.25, brick)[..., None]
    for k in range(2, 5 + int(6 * n[0, 5])):
        form, middle = int(n[k, 0] * 4), 7 * float(n[k, 1]) - 3.5
        wide, tall = 0.3 + 0.9 * float(n[k, 2]), 0.3 + 0.9 * float(n[k, 3])
        low = (0.0, 0.0, 1.0 + float(n[k, 4]), 0.9)[form]
        high = (2.05, 0.4 + 1.2 * tall, low + tall, 2.2)[form]
        side, rise = (across - middle) / wide, (up - low) / (high - low)
        inside = (side.abs() < 0.5) & _boxed(rise, 0, 1)
        rim = (side.abs() > 0.44) | (rise < 0.05) | (rise > 0.95)
        if form == 3:  # a window
            pane = mix(torch.full_like(c[k], 0.98), c[k] * 0.5 + 0.4, 1 - rise.clamp(0, 1))
            thing = torch.where((side.abs() < 0.03)[..., None], c[k + 8] * 0.6, pane)
        else:
            thing = c[k] * (0.6 + 0.5 * _texture(grid, 6 * across + k, 6 * up))[..., None]
        thing = torch.where(rim[..., None], c[k + 8] * 0.7, thing)
        out = torch.where(inside[..., None], thing, out)
    out = torch.where((up < 0.1)[..., None], c[22] * 0.5 + 0.4, out)
    fall = 1.1 - 0.12 * (across - 4 * float(n[1, 1]) + 2).abs()
    return torch.where(on_ground[..., None], ground, out * fall.clamp(0.4, 1.2)[..., None])


def _open(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """Sky with clouds, hills and bushes, grass, sand or road."""
    n = b.numbers
    ground, on_ground, across, up = _stand(b, camera, x, y, c[0], grid)
    top = torch.tensor([0.25 + 0.3 * n[1, 1], 0.5 + 0.25 * n[1, 2], 0.75 + 0.2 * n[1, 3]]).to(c)
    if n[1, 4] < 0.25:
        top = c[1]
    high = ((0.45 - y) / 0.9).clamp(0, 1)
    out = mix(top * 0.4 + 0.6, top, high)
    cloud = ((_texture(grid, 3 * x + 9, 7 * y) - 0.5) * 4 * float(n[1, 5])).clamp(0, 1)
    out = mix(out, torch.full_like(out, 0.97), cloud)
    for k in range(2, 5):  # the farther, the paler
        uneven = noise_at(grid, across * (0.3 + 0.5 * k * float(n[k, 1])), across * 0 + 5 * k)
        crest = (0.5 + 5 * float(n[k, 0]) / k) * (0.5 + uneven)
        leaf = c[k] * 0.4 + torch.tensor([0.12, 0.22, 0.06]).to(c) if n[k, 2] < 0.6 else c[k]
        leaf = mix(leaf * 0.6, leaf * 1.25, _texture(grid, 5 * across, 5 * up))
        haze = 0.35 * (4 - k) / 2
        out = torch.where((up < crest)[..., None], leaf * (1 - haze) + haze * 0.8, out)
    return torch.where(on_ground[..., None], ground, out)


def _leaves(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """Foliage: clumps of three sizes with light between them."""
    green = c[0] * 0.35 + torch.tensor([0.1, 0.22, 0.05]).to(c)
    amount = _texture(grid, 6 * x, 6 * y)
    fine = noise_at(grid, 40 * x + 3, 40 * y)
    out = mix(green * 0.25, green * 1.5, (1.6 * amount + 0.8 * fine - 0.7).clamp(0, 1))
    gap = (noise_at(grid, 22 * x, 22 * y) + 0.5 * fine > 1.15)[..., None]
    return torch.where(gap, c[1] * 0.3 + 0.7, out)


def _lamps(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """Night: a dark slope of colours and lights out of focus, fewer below."""
    n = b.numbers
    ground, on_ground, _, _ = _stand(b, camera, x, y, c[0] * 0.35, grid)
    out = mix(c[1] * 0.15, c[2] * 0.5 + torch.tensor([0.02, 0.0, 0.1]).to(c), (y + 0.5).clamp(0, 1))
    out = out * (0.6 + 0.8 * _texture(grid, 5 * x, 5 * y))[..., None]
    out = torch.where(on_ground[..., None], ground * (0.4 + 0.8 * (0.5 - y).clamp(0, 1))[..., None], out)
    size = 0.008 + 0.04 * float(n[0, 5])
    for k in range(24):
        r = size * (0.6 + 0.8 * float(n[k, 3]))
        far = torch.hypot(x - 1.6 * float(n[k, 0] - 0.5), y - 0.9 * float(n[k, 1] - 0.6)) / r
        glow = (0.9 + 0.4 * float(n[k, 4])) * ((1.15 - far) / 0.3).clamp(0, 1) * (0.75 + 0.25 * far.clamp(0, 1))
        lamp = 0.35 * c[k] + torch.tensor([0.6, 0.45, 0.25]).to(c)
        out = out + (glow * (0.25 + 0.75 * float(n[k, 2])))[..., None] * lamp
    return out


def _curtain(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """Hanging folds over a floor."""
    n = b.numbers
    ground, on_ground, across, up = _stand(b, camera, x, y, c[0], grid)
    turn = across * (2 + 6 * float(n[1, 1])) + 0.8 * noise_at(grid, 2 * across, 0.6 * up)
    fold = (0.5 + 0.5 * torch.sin(6.2832 * turn)) * (0.6 + 0.4 * noise_at(grid, turn, up))
    cloth = torch.as_tensor(b.colours[1] ** 1.5, dtype=x.dtype, device=x.device)
    if n[1, 2] < 0.5:
        cloth = torch.tensor([0.65, 0.06, 0.14]).to(c) * (0.5 + float(n[1, 3]))
    out = mix(cloth * 0.3, cloth * 1.15, fold)
    trim = _boxed((up - 2.2 + 0.1 * torch.sin(5 * across)), 0, 0.12)
    out = torch.where(trim[..., None], c[3] * (0.7 + 0.5 * fold)[..., None], out)
    return torch.where(on_ground[..., None], ground, out)


def _paper(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """A studio's seamless paper: one colour with a pool of light."""
    n = b.numbers
    pool = torch.hypot(x - 0.5 * float(n[1, 1] - 0.5), y - 0.5 * float(n[1, 2] - 0.5))
    return c[0] * (1.05 - 0.5 * float(n[1, 3]) * pool + 0.04 * (noise_at(grid, 9 * x, 9 * y) - 0.5))[..., None]


def _blots(b: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """Noise without shapes, of two colours, with the spectrum of a photograph."""
    scale = 8 + 16 * float(b.numbers[1, 1])
    bright = _texture(grid, scale * x, scale * y)
    hue = noise_at(grid, 0.6 * scale * x + 20, 0.6 * scale * y)
    return mix(c[0], c[1], hue) * (0.3 + 1.2 * bright)[..., None]
