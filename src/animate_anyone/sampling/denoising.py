"""The loop of both pipelines: every window at every step, then their mean, then guidance, then a step of DDIM."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from animate_anyone.progress import Progress
from animate_anyone.sampling.finite import check_finite
from animate_anyone.sampling.windows import WindowMean, window_weights

if TYPE_CHECKING:
    from animate_anyone.sampling.pipeline import AnimateAnyonePipeline, StepCallback

Predict = Callable[[Tensor, Tensor, list[list[int]]], Tensor]
"""Latents of the clip, timestep, windows in; ``(windows, [unconditional, conditional] or [conditional], channels,
frames, h, w)`` out."""

Hold = Callable[[Tensor, Tensor], Tensor]
"""Latents and the timestep they are about to be denoised at in; the latents that are denoised instead out."""


def denoise(
    pipeline: AnimateAnyonePipeline,
    predict: Predict,
    latents: Tensor,
    schedule: list[list[int]],
    *,
    steps: int,
    overlap: int,
    guidance_scale: float,
    window_batch: int = 1,
    hold: Hold | None = None,
    callback: StepCallback | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Denoise a clip.

    Args:
        pipeline: whose schedule and progress bar these are; the callback is given it.
        predict: the networks.
        latents: ``(1, channels, frames, h, w)`` float32, noise.
        schedule: windows, lists of the clip's frame numbers.
        steps, overlap, guidance_scale, window_batch, callback, progress: as in a call of the pipeline.
        hold: changes the latents before each step; ``None``: they stay.

    Returns:
        As ``latents``, without noise.

    Raises:
        InputError: after some step the latents are not finite.
    """
    scheduler, guided = pipeline.scheduler, guidance_scale != 1
    scheduler.set_timesteps(steps, device=latents.device)
    weights = window_weights(len(schedule[0]), overlap if pipeline.config["aggregation"] == "fade" else 0)
    timesteps = scheduler.timesteps
    bar = pipeline.progress_bar(timesteps) if progress is None else progress.track(timesteps, len(timesteps), "denoise")
    for step, t in enumerate(bar):
        if hold is not None:
            latents = hold(latents, t)
        mean = WindowMean(latents.repeat(1 + guided, 1, 1, 1, 1), weights)
        for first in range(0, len(schedule), window_batch):
            chunk = schedule[first : first + window_batch]
            for frames, prediction in zip(chunk, predict(latents, t, chunk), strict=True):
                mean.add(frames, prediction)
        prediction = mean.value()
        if guided:
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(prediction, t, latents, return_dict=False)[0]  # type: ignore[arg-type]
        check_finite(pipeline, latents, f"step {step + 1} of {len(timesteps)} gave")
        if callback is not None:
            changed = callback(pipeline, step, int(t), {"latents": latents})
            latents = (changed or {}).get("latents", latents)
    return latents
