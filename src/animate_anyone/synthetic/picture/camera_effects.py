"""What a camera and a codec make of clean frames: lens, exposure, sensor, grading, compression.

A clip has one camera: :func:`sample_effects` draws its settings once, and only the sensor's noise
differs from frame to frame. Nothing moves: a keypoint or mask of a clean frame holds for the photograph.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from animate_anyone.synthetic.figure.bricks import Array


@dataclass(frozen=True)
class CameraEffects:
    """Settings of one camera; the defaults change nothing. Lengths are shares of the frame's height.

    Attributes:
        blur: standard deviation of the softness of lens and focus.
        shake: ``(length, angle)`` of the streak that a moved camera draws, angle in radians.
        fringe: how much softer red and blue are than green, a share of ``blur``.
        bloom: share of the bright light that spreads around. vignette: darkening of the corners, [0, 1).
        exposure: factor of the light. balance: ``(red, blue)`` factors beside green.
        shot: noise of a white pixel, read: of a black one; standard deviations, white is 1.
        gamma: exponent of the tone curve. contrast, saturation: factors about middle grey and about grey.
        zoom: the frame was stored this much smaller, (0, 1]. quality: of its JPEG, 1 to 95; 0 for none.
    """

    blur: float = 0.0
    shake: tuple[float, float] = (0.0, 0.0)
    fringe: float = 0.0
    bloom: float = 0.0
    vignette: float = 0.0
    exposure: float = 1.0
    balance: tuple[float, float] = (1.0, 1.0)
    shot: float = 0.0
    read: float = 0.0
    gamma: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    zoom: float = 1.0
    quality: int = 0


def sample_effects(rng: np.random.Generator) -> CameraEffects:
    """Draw a camera: most are good ones."""

    def some(share: float, low: float, high: float) -> float:
        value, drawn = float(rng.uniform(low, high)), rng.random() < share
        return value if drawn else 0.0

    warmth = rng.normal(0, 0.05)
    return CameraEffects(
        blur=some(0.6, 0.0006, 0.003),
        shake=(some(0.1, 0.006, 0.018), float(rng.uniform(0, np.pi))),
        fringe=some(0.4, 0.1, 0.6),
        bloom=some(0.35, 0.05, 0.3),
        vignette=some(0.35, 0.05, 0.3),
        exposure=float(np.exp(rng.normal(0.08, 0.14))),
        balance=(float(1 + warmth + rng.normal(0, 0.015)), float(1 - warmth + rng.normal(0, 0.015))),
        shot=some(0.6, 0.004, 0.028),
        read=some(0.6, 0.001, 0.012),
        gamma=float(np.exp(rng.normal(-0.1, 0.12))),
        contrast=float(np.exp(rng.normal(0.05, 0.12))),
        saturation=float(np.exp(rng.normal(0, 0.18))),
        zoom=1.0 - some(0.2, 0.1, 0.4),
        quality=int(some(0.75, 45, 95)),
    )


def photograph(frames: Tensor, effects: CameraEffects, noise: Sequence[np.random.Generator]) -> Tensor:
    """The frames as the camera and its codec give them.

    Args:
        frames: ``(F, H, W, 3)`` float RGB in [0, 1].
        effects: the camera's settings. noise: a random stream per frame, for the sensor.

    Returns:
        as ``frames``, on the same device.
    """
    e = effects
    height, width = frames.shape[1:3]
    light = _through_lens(frames, e)
    colour = torch.tensor([e.balance[0], 1.0, e.balance[1]], device=frames.device) * e.exposure
    if e.vignette:
        y = (torch.arange(height, device=frames.device) + 0.5) / height * 2 - 1
        x = (torch.arange(width, device=frames.device) + 0.5) / width * 2 - 1
        colour = colour * (1 - e.vignette * (x * x + y[:, None] ** 2) / 2)[..., None]
    light = light * colour
    if e.shot or e.read:
        drawn = np.stack([rng.standard_normal((height, width, 3), dtype=np.float32) for rng in noise])
        spread = (e.read**2 + e.shot**2 * light.clamp_min(0)).sqrt()
        light = light + torch.from_numpy(drawn).to(frames.device) * spread
    return _stored(_graded(light.clamp(0, 1), e), e)


def _through_lens(frames: Tensor, e: CameraEffects) -> Tensor:
    height, width = frames.shape[1:3]
    picture = frames.permute(0, 3, 1, 2)
    kernels = np.stack([_kernel(e, height, 1 + e.fringe * k) for k in (1, 0, 1)])
    reach = kernels.shape[-1] // 2
    if reach:
        weight = torch.as_tensor(kernels[:, None], dtype=torch.float32, device=frames.device)
        picture = conv2d(pad(picture, (reach,) * 4, mode="replicate"), weight, groups=3)
    if e.bloom:
        glow = interpolate((picture - 0.7).clamp_min(0), size=(8, max(1, round(8 * width / height))), mode="area")
        glow = avg_pool2d(avg_pool2d(glow, 3, 1, 1), 3, 1, 1)
        glow = interpolate(glow, size=(height, width), mode="bicubic", align_corners=False).clamp_min(0)
        picture = picture + 3 * e.bloom * glow
    return picture.permute(0, 2, 3, 1)


def _kernel(e: CameraEffects, height: int, softer: float) -> Array:
    """``(k, k)`` weights of sum 1: a streak, softened; ``k`` is odd and the same for all channels."""
    sigma = e.blur * height
    length, angle = e.shake[0] * height, e.shake[1]
    reach = int(np.ceil(2.5 * sigma * (1 + e.fringe) + length / 2))
    if sigma * softer < 0.15 and length < 0.5:
        reach = 0 if sigma * (1 + e.fringe) < 0.15 else reach
        return np.pad(np.ones((1, 1)), reach)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    width = max(sigma * softer, 0.35)
    out = np.zeros_like(x)
    for step in np.linspace(-0.5, 0.5, 1 + 2 * int(np.ceil(length))):
        cx, cy = step * length * np.cos(angle), step * length * np.sin(angle)
        out += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2))
    return np.asarray(out / out.sum())


def _graded(frames: Tensor, e: CameraEffects) -> Tensor:
    """Gamma, contrast and saturation."""
    if (e.gamma, e.contrast, e.saturation) == (1.0, 1.0, 1.0):
        return frames
    toned = frames.clamp_min(1e-4) ** e.gamma
    toned = 0.5 + (toned - 0.5) * e.contrast
    grey = (toned * torch.tensor([0.299, 0.587, 0.114], device=frames.device)).sum(-1, keepdim=True)
    return (grey + (toned - grey) * e.saturation).clamp(0, 1)


def _stored(frames: Tensor, e: CameraEffects) -> Tensor:
    """Made smaller and larger again, and through JPEG's blocks."""
    height, width = frames.shape[1:3]
    if e.zoom < 1:
        picture = frames.permute(0, 3, 1, 2)
        small = (max(1, round(height * e.zoom)), max(1, round(width * e.zoom)))
        picture = interpolate(picture, size=small, mode="bilinear", antialias=True)
        picture = interpolate(picture, size=(height, width), mode="bicubic", align_corners=False)
        frames = picture.permute(0, 2, 3, 1).clamp(0, 1)
    if not e.quality:
        return frames
    pictures = (frames * 255 + 0.5).to(torch.uint8).cpu().numpy()
    through = np.stack([_jpeg(picture, e.quality) for picture in pictures])
    return torch.from_numpy(through).to(frames.device).float() / 255


def _jpeg(picture: Array, quality: int) -> Array:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))
