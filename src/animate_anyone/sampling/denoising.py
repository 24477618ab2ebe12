"""The loop of both pipelines: every window at every step, then their mean, then guidance, then a step of DDIM."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.sampling.windows import WindowMean

Predict = Callable[[Tensor, Tensor, list[list[int]]], Tensor]
"""Latents of the clip, timestep, windows in; ``(windows, [unconditional, conditional] or [conditional], channels,
frames, h, w)`` out."""

Hold = Callable[[Tensor, Tensor], Tensor]
"""Latents and the timestep they are about to be denoised at in; the latents that are denoised instead out."""

AfterStep = Callable[[int, Tensor, Tensor], Tensor]
"""A step's number, its timestep and the latents that it gave in; the latents to go on with out."""


def denoise(
    predict: Predict,
    latents: Tensor,
    *,
    scheduler: DDIMScheduler,
    timesteps: Iterable[Tensor],
    windows: list[list[int]],
    weights: Tensor,
    guidance_scale: float,
    window_batch: int,
    after_step: AfterStep,
    hold: Hold | None = None,
) -> Tensor:
    """Denoise a clip.

    Args:
        predict: the networks.
        latents: ``(1, channels, frames, h, w)`` float32, noise.
        scheduler: the schedule, its timesteps set.
        timesteps: these, in order; may be wrapped in a progress bar.
        windows: lists of the clip's frame numbers.
        weights: ``(window,)``, what each frame of a window counts.
        guidance_scale: 1 turns guidance off.
        window_batch: windows computed at once.
        after_step: looks at the latents after each step, and may change them.
        hold: changes the latents before each step; ``None``: they stay.

    Returns:
        As ``latents``, without noise.
    """
    guided = guidance_scale != 1
    for step, t in enumerate(timesteps):
        if hold is not None:
            latents = hold(latents, t)
        mean = WindowMean(latents.repeat(1 + guided, 1, 1, 1, 1), weights)
        for first in range(0, len(windows), window_batch):
            chunk = windows[first : first + window_batch]
            for frames, prediction in zip(chunk, predict(latents, t, chunk), strict=True):
                mean.add(frames, prediction)
        prediction = mean.value()
        if guided:
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(prediction, t, latents, return_dict=False)[0]  # type: ignore[arg-type]
        latents = after_step(step, t, latents)
    return latents
