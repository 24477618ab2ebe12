"""Trade-offs: what each leaves out, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from test_pipeline import REFERENCE, noise_pictures
from test_streaming import Keeping
from torch import Tensor

import reference_paths
import tiny
from animate_anyone.errors import InputError
from animate_anyone.models import autoencoding
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.sampling.deep_features import deep_features
from animate_anyone.sampling.denoising import Denoising, Schedule
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.speed import EXACT, Speed
from animate_anyone.sampling.windows import window_weights

POSES = noise_pictures(1, 20)


@pytest.fixture(scope="module")
def pipeline() -> AnimateAnyonePipeline:
    made = tiny.pipeline()
    made.set_progress_bar_config(disable=True)
    return made


def options(pipeline: AnimateAnyonePipeline, words: str, **changes: Any) -> dict[str, Any]:
    return {
        "reference_pose": POSES[0] if pipeline.config["reference_pose"] else None,
        "num_inference_steps": 10,
        "guidance_scale": 2.0,
        "window": 8,
        "overlap": 2,
        "generator": torch.Generator().manual_seed(0),
        "speed": Speed.of(words),
        **changes,
    }


def test_words() -> None:
    assert Speed.of("exact") == EXACT == Speed()
    assert Speed.of("guidance, solver") == Speed(guidance=True, solver=True)
    assert Speed.of("all") == Speed(True, True, True, True)
    for words in ("", "fast", "guidance,", "exact,solver"):
        with pytest.raises(InputError, match="give exact, all, or some of guidance,solver,features,reference"):
            Speed.of(words)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("exact", [12] * 10),
        ("guidance", [12] * 5 + [6] * 5),
        ("solver", [12] * 5),
        ("guidance,solver", [12] * 3 + [6] * 2),
    ],
)
def test_what_is_left_out(pipeline: AnimateAnyonePipeline, words: str, rows: list[int]) -> None:
    """Frames that the denoising UNet sees at each step, those of both halves."""
    seen: list[int] = []
    layer = pipeline.denoising_unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_k
    hook = layer.register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    list(pipeline.stream(REFERENCE, POSES[:6], **options(pipeline, words)))
    hook.remove()
    assert seen[1:] == rows  # the first are the reference's own keys


@pytest.mark.parametrize("words", ["guidance", "solver", "features", "reference", "all"])
def test_frames_change_a_little(pipeline: AnimateAnyonePipeline, words: str) -> None:
    exact = np.stack(list(pipeline.stream(REFERENCE, POSES[:6], **options(pipeline, "exact"))))
    fast = np.stack(list(pipeline.stream(REFERENCE, POSES[:6], **options(pipeline, words))))
    apart = np.abs(exact.astype(int) - fast).mean()
    other = np.stack(list(pipeline.stream(REFERENCE, POSES[:6], **options(pipeline, "exact", generator=None))))
    assert 0 < apart < 0.5 * np.abs(exact.astype(int) - other).mean()


def solve(speed: Speed, steps: int) -> float:
    """How far a solver is from the end of the path of data that are normal around 1, deviation 0.2."""
    scheduler = DDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True, clip_sample=False
    )
    solver = speed.scheduler(scheduler, steps, torch.device("cpu"))

    def predict(noisy: torch.Tensor, t: torch.Tensor, chunk: Any, half: Any) -> torch.Tensor:
        alpha = scheduler.alphas_cumprod[int(t)].double().sqrt()
        sigma = (1 - alpha**2).sqrt()
        gain = alpha * 0.04 / (alpha**2 * 0.04 + sigma**2)
        clean = 1 + gain * (noisy - alpha)  # the mean of the data, given the noisy ones
        noise = (noisy - alpha * clean) / sigma
        return (alpha * noise - sigma * clean)[:, None]

    noise = torch.linspace(-2, 2, 64, dtype=torch.float64).view(1, 4, 1, 4, 4)
    schedule = Schedule([[[0]]], 1, window_weights(1, 0), 1.0, 1)
    ((_, made),) = Denoising(schedule, solver, predict, noise, lambda step, t, x: x).run()
    return float((made - (1 + 0.2 * noise)).square().mean().sqrt())


def test_the_solver_needs_fewer_steps() -> None:
    """8 steps in place of 20 are no further from the exact path; of DDIM they would be."""
    speed = Speed(solver=True)
    assert speed.steps(20) == 8 and EXACT.steps(20) == 20
    assert solve(speed, 8) < 1.2 * solve(EXACT, 20) < solve(EXACT, 8)


def test_a_model_of_few_steps_keeps_its_own() -> None:
    """Of less than 5 steps nothing can be left out: the last one would be made from noise."""
    speed, scheduler = Speed(solver=True), DDIMScheduler()
    assert [speed.steps(steps) for steps in (1, 2, 4, 5, 6, 12, 13)] == [1, 2, 4, 5, 5, 5, 6]
    assert speed.scheduler(scheduler, 4, torch.device("cpu")) is scheduler
    timesteps = speed.scheduler(scheduler, 5, torch.device("cpu")).timesteps.tolist()
    assert len(timesteps) == 5 and timesteps == sorted(timesteps, reverse=True) and timesteps[0] == 999


def test_pooled_reference() -> None:
    speed, features = Speed(reference=True), {"fine": torch.randn(2, 6 * 5, 3), "coarse": torch.randn(2, 3 * 3, 3)}
    pooled = speed.seen(features, (6, 5))
    assert pooled["fine"].shape == (2, 3 * 3, 3) and torch.equal(pooled["coarse"], features["coarse"])
    corner = features["fine"].unflatten(1, (6, 5))[:, :2, :2].mean((1, 2))
    torch.testing.assert_close(pooled["fine"][:, 0], corner)
    last = features["fine"].unflatten(1, (6, 5))[:, 4:, 4].mean(1)  # of an odd side: what is there
    torch.testing.assert_close(pooled["fine"][:, 8], last)
    assert all(torch.equal(EXACT.seen(features, (6, 5))[name], x) for name, x in features.items())


def calls(pipeline: AnimateAnyonePipeline, part: str, **asked: Any) -> int:
    """How often a part of the denoising UNet computes in a call."""
    seen: list[int] = []
    hook = pipeline.denoising_unet.get_submodule(part).register_forward_hook(lambda *_: seen.append(1))
    try:
        list(pipeline.stream(REFERENCE, POSES[:6], **asked))
    finally:
        hook.remove()
    return len(seen)


@pytest.mark.parametrize(
    ("words", "deep", "steps"),
    [("exact", 10, 10), ("features", 5, 10), ("guidance,features", 6, 10), ("solver,features", 3, 5)],
)
def test_deep_blocks_compute_now_and_then(pipeline: AnimateAnyonePipeline, words: str, deep: int, steps: int) -> None:
    """Where guidance ends, after 5 of 10 steps, there is nothing kept of one half alone."""
    last = len(pipeline.denoising_unet.up_blocks) - 1
    for part in ("down_blocks.1.resnets.0", "mid_block.resnets.0", f"up_blocks.{last - 1}.resnets.0"):
        assert calls(pipeline, part, **options(pipeline, words)) == deep
    for part in ("down_blocks.0.resnets.0", f"up_blocks.{last}.resnets.0", "conv_out"):
        assert calls(pipeline, part, **options(pipeline, words)) == steps


@torch.no_grad()
def test_kept_features_are_those_of_before() -> None:
    """Of the same input they change nothing, and of another they stay; no trace is left on the network."""
    unet: DenoisingUNet = tiny.denoising_unet()
    torch.manual_seed(3)
    tokens, pose = torch.randn(1, 1, 12), torch.randn(1, 16, 3, 9, 7)  # sides that do not halve evenly
    one, other = torch.randn(1, 4, 3, 9, 7), torch.randn(1, 4, 3, 9, 7)
    want, far = unet(one, 500, tokens, pose), unet(other, 500, tokens, pose)
    kept: list[Tensor] = []
    with deep_features(unet, kept):
        assert torch.equal(unet(one, 500, tokens, pose), want)
    (before,) = kept
    assert before.shape == (3, unet.config["block_out_channels"][1], 9, 7)
    with deep_features(unet, kept):
        assert torch.equal(unet(one, 500, tokens, pose), want)
        assert not torch.equal(unet(other, 500, tokens, pose), far)
    assert kept == [before]
    assert torch.equal(unet(other, 500, tokens, pose), far)


def test_models_without_deep_features_of_their_own() -> None:
    with pytest.raises(InputError, match="speed 'features' is nothing for this model: its reference goes into every"):
        reference_paths.pipeline("both").check_speed(Speed.of("all"))
    reference_paths.pipeline("clip").check_speed(Speed.of("all"))


@pytest.mark.parametrize("words", ["all", "features", "guidance,features"])
def test_streamed_and_resumed(pipeline: AnimateAnyonePipeline, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the solver remembers of the steps before is each part's own, and goes on with it."""
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", 64 * 64)
    together = options(pipeline, words) | {"callback_on_step_end": lambda *_: {}}
    whole = pipeline(REFERENCE, POSES, **together).frames
    assert np.array_equal(np.stack(list(pipeline.stream(REFERENCE, POSES, **options(pipeline, words)))), whole)
    kept = Keeping()
    while not kept.take(pipeline.stream(REFERENCE, POSES, kept=kept, **options(pipeline, words)), most=8):
        pass
    assert np.array_equal(np.stack(kept.frames), whole)
