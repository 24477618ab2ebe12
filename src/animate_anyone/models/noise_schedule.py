"""What a noise schedule and what the networks predict ask of each other."""

from __future__ import annotations

from typing import Any

from animate_anyone.errors import InputError


def check_schedule(scheduler: Any, where: str) -> None:
    """See that what the networks predict is defined at every timestep of a schedule.

    At zero terminal signal-to-noise ratio the last timestep is noise alone: from the noise in it nothing of the clean
    latents follows, and DDIM would divide by zero. Velocity is defined there.

    Args:
        scheduler: diffusers' ``DDIMScheduler``.
        where: what the message names first.

    Raises:
        InputError: the networks predict noise at a schedule of zero terminal signal-to-noise ratio.
    """
    config = scheduler.config
    if config.get("prediction_type") == "epsilon" and config.get("rescale_betas_zero_snr"):
        raise InputError(
            f"{where}: prediction_type 'epsilon' does not go with rescale_betas_zero_snr true; give "
            "rescale_betas_zero_snr=false, or prediction_type=v_prediction"
        )
