"""What networks may predict at which noise schedule; sampling of a model that predicts noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.noise_schedule import check_schedule
from animate_anyone.sampling.loading import load_pipeline

EPSILON = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}


def test_noise_is_not_predicted_of_noise_alone() -> None:
    check_schedule(DDIMScheduler(**{**tiny.SCHEDULER, **EPSILON}), "here")
    check_schedule(DDIMScheduler(**tiny.SCHEDULER), "here")
    with pytest.raises(InputError, match=r"^here: prediction_type 'epsilon' does not go with rescale_betas_zero_snr"):
        check_schedule(DDIMScheduler(**{**tiny.SCHEDULER, "prediction_type": "epsilon"}), "here")


def test_a_model_that_predicts_noise(tmp_path: Path) -> None:
    """It is sampled as diffusers' schedule says, and refused where it cannot be."""
    made = tiny.pipeline(reference_pose=False)
    made.scheduler = DDIMScheduler(**{**tiny.SCHEDULER, **EPSILON})
    made.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, "cpu", "float32")
    assert loaded.scheduler.config["prediction_type"] == "epsilon"
    with torch.no_grad():
        for parameter in loaded.denoising_unet.conv_out.parameters():
            parameter.zero_()  # it says that there is no noise
    loaded.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    poses = np.zeros((2, *loaded.pose_picture_size((64, 64))[::-1], 3), np.uint8)
    picture = np.zeros((64, 64, 3), np.uint8)
    out = loaded(picture, poses, num_inference_steps=1, latents=noise, output_type="latent")[0]
    last = loaded.scheduler.alphas_cumprod[-1] ** 0.5
    torch.testing.assert_close(out, noise / last, rtol=1e-4, atol=1e-4)

    config = tmp_path / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rescale_betas_zero_snr": True}))
    with pytest.raises(InputError, match="scheduler: prediction_type 'epsilon' does not go with") as refused:
        load_pipeline(tmp_path, "cpu", "float32")
    assert "\n" not in str(refused.value)
