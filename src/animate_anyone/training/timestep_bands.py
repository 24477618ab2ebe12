"""The loss by bands of the noise schedule: what is learnt at little noise, and what at much."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BANDS = 4

_LOSS, _SHARE = "loss_t", "samples_t"


@torch.no_grad()
def band_losses(error: Tensor, timesteps: Tensor, num_timesteps: int) -> dict[str, Tensor]:
    """Figures for the log of a step, scalars on the device, which is not waited for; :func:`band_means` joins them.

    Args:
        error: what each place adds to the loss, ``(b, k, ...)``; its mean is the loss.
        timesteps: of the samples, ``(b, k)`` in [0, ``num_timesteps``).

    Returns:
        For each band of timesteps, named by its first and last, the sum of its samples' losses and their number, both
        over ``b * k``.
    """
    losses = error.detach().float().flatten(2).mean(2)  # (b, k)
    bands = torch.arange(BANDS, device=timesteps.device)
    member = ((timesteps * BANDS // num_timesteps)[:, :, None] == bands).float()  # (b, k, BANDS)
    sums, shares = (losses[:, :, None] * member).mean((0, 1)), member.mean((0, 1))
    figures: dict[str, Tensor] = {}
    for band in range(BANDS):
        name = f"{-(-band * num_timesteps // BANDS)}_{-(-(band + 1) * num_timesteps // BANDS) - 1}"
        figures |= {f"{_LOSS}{name}": sums[band], f"{_SHARE}{name}": shares[band]}
    return figures


def band_means(figures: Mapping[str, float]) -> dict[str, float]:
    """Means over any number of steps and processes, with each band's pair made one: the mean loss of its samples.

    A band without a sample is left out; figures of other names stay.
    """
    means = {}
    for name, value in figures.items():
        band = name.removeprefix(_LOSS)
        if name.startswith(_SHARE):
            continue
        if name.startswith(_LOSS):
            share = figures[_SHARE + band]
            if share == 0:
                continue
            value = value / share
        means[name] = value
    return means
