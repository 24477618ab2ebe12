"""Min-SNR weighting of the loss (Hang et al., ICCV 2023), for networks that predict velocity."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.errors import InputError


def check_min_snr(gamma: float | None, scheduler: DDIMScheduler) -> None:
    """Raises :class:`InputError` where ``objective.min_snr_gamma`` is set and the networks do not predict velocity."""
    kind = scheduler.config["prediction_type"]
    if gamma is not None and kind != "v_prediction":
        raise InputError(
            f"recipe: objective.min_snr_gamma is {gamma}; it needs prediction_type 'v_prediction', and this noise "
            f"schedule has {kind!r}; give objective.min_snr_gamma=null"
        )


def min_snr_weights(scheduler: DDIMScheduler, timesteps: Tensor, gamma: float | None) -> Tensor | None:
    """What the error of a sample counts; ``None`` where ``gamma`` is.

    ``min(SNR, gamma) / (SNR + 1)`` with ``SNR = a / (1 - a)``, ``a`` the schedule's ``alphas_cumprod`` at each of the
    ``timesteps`` ``(b, k)``. So it is ``min(a, gamma * (1 - a))``, ``(b, k, 1, 1, 1)``.
    """
    if gamma is None:
        return None
    signal = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    return torch.minimum(signal, gamma * (1 - signal))[:, :, None, None, None]
