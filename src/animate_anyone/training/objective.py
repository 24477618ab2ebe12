"""The loss of the method and what it needs: noise, timesteps, dropped conditions."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.errors import InputError


def noised_target(scheduler: DDIMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """The network's input and target at ``timesteps`` (eq. 1, or its velocity form).

    Args:
        latents: ``(batch, ...)``, scaled.
        noise: as ``latents``, standard normal.
        timesteps: ``(batch,)`` in [0, num_train_timesteps).

    Returns:
        ``(noised, target)``, each as ``latents``; the target is the noise or, for a schedule with
        ``prediction_type="v_prediction"``, the velocity, which is defined at zero signal too.
    """
    noised = scheduler.add_noise(latents, noise, timesteps)  # type: ignore[arg-type]
    kind = scheduler.config["prediction_type"]
    if kind == "v_prediction":
        return noised, scheduler.get_velocity(latents, noise, timesteps)  # type: ignore[arg-type]
    if kind == "epsilon":
        return noised, noise
    raise InputError(f"cannot train for prediction_type {kind!r}; 'epsilon' or 'v_prediction'")


def weighted_mean_square(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of the squared error; ``weight`` broadcasts against it and is normalised to mean 1."""
    error = (prediction.float() - target.float()).square()
    if weight is None:
        return error.mean()
    weight = weight / weight.mean()
    return (error * weight).mean()


def number_dropped(samples: int, share: float, generator: torch.Generator) -> int:
    """How many of ``samples`` lose their condition: one independent draw of ``share`` for each.

    Batches are in random order, so dropping the first so many is dropping each with that probability.
    """
    return int((torch.rand(samples, generator=generator) < share).sum())
