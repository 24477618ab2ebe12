"""What a clip will look like is shown while it is denoised, and showing it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_pipeline import REFERENCE, noise_pictures

import tiny
from animate_anyone.progress import Progress
from animate_anyone.sampling.denoising import clean_latents

POSES = noise_pictures(1, 14)
STEPS = 4


class Watching(Progress):
    """Keeps all that is foretold."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    def preview(self, make: Callable[[], NDArray[np.uint8]]) -> None:
        self.seen.append(make())


@pytest.mark.parametrize("guess", [False, True])
def test_the_last_preview_is_the_frame(guess: bool) -> None:
    options = {"reference_latents": True, "carried_reference": True, "keep_detail": True} if guess else {}
    pipeline = tiny.pipeline(**options)

    def made(progress: Progress) -> list[NDArray[np.uint8]]:
        given: dict[str, Any] = {"carried": noise_pictures(2, 14, 64)} if guess else {}
        if pipeline.config["reference_pose"]:
            given["reference_pose"] = POSES[0]
        seeded = torch.Generator().manual_seed(0)
        how: dict[str, Any] = {"num_inference_steps": STEPS, "window": 8, "overlap": 2, "guidance_scale": 2.0}
        return list(pipeline.stream(REFERENCE, POSES, **given, **how, generator=seeded, progress=progress))

    watching = Watching()
    frames = made(watching)
    for one, other in zip(frames, made(Progress()), strict=True):
        assert np.array_equal(one, other)
    assert len(watching.seen) == 2 * STEPS  # windows times steps
    # The first window's last preview is its first frame; alone a frame is decoded with other last bits than in a batch.
    away = [int(np.abs(frame.astype(int) - frames[0]).max()) for frame in watching.seen]
    assert min(away) <= 1 and away[0] > 1, away


def test_a_preview_that_cannot_be_shown_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is foretold early may be too large for the autoencoder's number type; the frames are made all the same."""
    pipeline = tiny.pipeline()
    given: dict[str, Any] = {"reference_pose": POSES[0]} if pipeline.config["reference_pose"] else {}

    def frames(progress: Progress) -> list[NDArray[np.uint8]]:
        seeded = torch.Generator().manual_seed(0)
        return list(
            pipeline.stream(REFERENCE, POSES[:3], **given, num_inference_steps=2, generator=seeded, progress=progress)
        )

    wanted, watching = frames(Progress()), Watching()
    infinite = lambda scheduler, prediction, t, noisy: noisy[:, :, :1] * torch.inf  # noqa: E731
    monkeypatch.setattr("animate_anyone.sampling.denoising.clean_latents", infinite)
    made = frames(watching)
    assert watching.seen == [] and all(np.array_equal(a, b) for a, b in zip(made, wanted, strict=True))


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
def test_clean_latents_are_those_of_the_schedule(kind: str) -> None:
    scheduler = tiny.pipeline().scheduler
    scheduler.register_to_config(prediction_type=kind, rescale_betas_zero_snr=False)
    scheduler.set_timesteps(10)
    noisy, prediction = torch.randn(2, 1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    t = scheduler.timesteps[5]
    wanted = scheduler.step(prediction, t, noisy).pred_original_sample[:, :, :1]
    torch.testing.assert_close(clean_latents(scheduler, prediction, t, noisy), wanted)
