"""The pipeline with a tiny real model: what its frames depend on, and on what not."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models import autoencoding
from animate_anyone.models.image_tokens import picture_token
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.windows import WindowMean, window_weights, windows

STEPS = 2


def noise_pictures(seed: int, frames: int = 12, side: int = 128) -> NDArray[np.uint8]:
    """``(frames, side, side, 3)``."""
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), np.uint8)


REFERENCE, POSES = noise_pictures(0, 1, 64)[0], noise_pictures(1)


@pytest.fixture(scope="module", params=[False, True], ids=["paper", "reference_latents"])
def pipeline(request: pytest.FixtureRequest) -> AnimateAnyonePipeline:
    made = tiny.pipeline(reference_latents=request.param)
    made.set_progress_bar_config(disable=True)
    return made


def run(pipeline: AnimateAnyonePipeline, *, seed: int = 0, poses: Any = POSES, **changes: Any) -> Any:
    """Frames, by default of REFERENCE and POSES."""
    options: dict[str, Any] = {
        "reference": REFERENCE,
        "reference_pose": POSES[0] if pipeline.config["reference_pose"] else None,
        "num_inference_steps": STEPS,
        "generator": torch.Generator().manual_seed(seed),
        **changes,
    }
    return pipeline(options.pop("reference"), poses, **options).frames


@cache
def plain(pipeline: AnimateAnyonePipeline, **changes: Any) -> NDArray[np.uint8]:
    """As :func:`run`, once for the pipelines of this module; to be read only."""
    frames: NDArray[np.uint8] = run(pipeline, **changes)
    frames.flags.writeable = False
    return frames


def far(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """The largest difference, of 255."""
    return int(np.abs(one.astype(int) - other).max())


def test_frames(pipeline: AnimateAnyonePipeline) -> None:
    frames = plain(pipeline)
    assert frames.shape == (12, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 5  # something shows


def test_same_seed_same_frames(pipeline: AnimateAnyonePipeline) -> None:
    assert np.array_equal(plain(pipeline), run(pipeline))
    assert far(plain(pipeline), run(pipeline, seed=1)) > 10


@pytest.mark.parametrize("window_batch", [2, 3, 100])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_window_batch_changes_nothing_that_shows(
    pipeline: AnimateAnyonePipeline, window_batch: int, guidance: float
) -> None:
    one = plain(pipeline, guidance_scale=guidance, window=6, overlap=3)
    assert far(one, run(pipeline, guidance_scale=guidance, window=6, overlap=3, window_batch=window_batch)) <= 1


def test_frames_depend_on_everything_that_is_told(pipeline: AnimateAnyonePipeline) -> None:
    frames = plain(pipeline)
    for change in (
        {"reference": REFERENCE[::-1]},
        {"reference_pose": POSES[5]},
        {"poses": POSES[::-1]},
        {"guidance_scale": 4.0},
        {"num_inference_steps": 3},
        {"window": 4},
    ):
        assert far(frames, run(pipeline, **change)) > 1, change


def test_steps_are_the_models_unless_told(pipeline: AnimateAnyonePipeline) -> None:
    pipeline.register_to_config(num_inference_steps=3)
    frames = run(pipeline, num_inference_steps=None)
    assert np.array_equal(frames, run(pipeline, num_inference_steps=3))
    assert not np.array_equal(frames, plain(pipeline))
    pipeline.register_to_config(num_inference_steps=20)


def test_one_window_is_no_window(pipeline: AnimateAnyonePipeline) -> None:
    frames = run(pipeline, window=12)
    assert far(frames, run(pipeline, window=16, overlap=9)) <= 1
    assert far(frames, run(pipeline, window=8)) > 1


def test_poses_may_be_drawn_when_asked_for(pipeline: AnimateAnyonePipeline) -> None:
    assert np.array_equal(plain(pipeline), run(pipeline, poses=list(POSES)))


def naive(pipeline: AnimateAnyonePipeline, guidance: float, window: int, overlap: int) -> Tensor:
    """The paper's sampler written out: each window and each half by itself, projections anew at each call."""
    p = pipeline

    def tensor(picture: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()

    def features(drawn: NDArray[np.uint8]) -> Tensor:
        pictures = [tensor(drawn), tensor(POSES[0])][: p.pose_guider.config["conditioning_channels"] // 3]
        return p.pose_guider(torch.cat(pictures, 1)[:, :, None] / 255)

    pose = torch.cat([features(x) for x in POSES], 2)
    picture = tensor(REFERENCE) / 127.5 - 1
    token = picture_token(p.image_encoder, REFERENCE)
    latent = p.vae.encode(picture).latent_dist.mode() * p.vae.config["scaling_factor"]
    latents = torch.randn((1, 4, 12, 8, 8), generator=torch.Generator().manual_seed(0))
    p.scheduler.set_timesteps(STEPS)
    schedule = windows(12, window, overlap)
    for t in p.scheduler.timesteps:
        mean = WindowMean(latents, window_weights(window, overlap))
        for frames in schedule:
            some, told = latents[:, :, frames], pose[:, :, frames]
            keys_values = p.denoising_unet.project_reference(p.reference_net(latent, token, pose[:, :, 0]))
            beside = latent[:, :, None].expand_as(some)[:, : 4 * p.config["reference_latents"]]
            prediction = p.denoising_unet(torch.cat([some, beside], 1), t, token, told, keys_values)
            if guidance != 1:
                nothing = torch.zeros_like(torch.cat([some, beside], 1))
                nothing[:, :4] = some
                without = p.denoising_unet(nothing, t, torch.zeros_like(token), told)
                prediction = without + guidance * (prediction - without)
            mean.add(frames, prediction)
        latents = p.scheduler.step(mean.value(), t, latents).prev_sample
    return latents + latent[:, :, None] * p.config["reference_latents"]


@pytest.mark.parametrize("guidance", [1.0, 2.0, 3.5])
@torch.no_grad()
def test_sampler_is_the_papers(pipeline: AnimateAnyonePipeline, guidance: float) -> None:
    """Guidance 1 is the conditional half alone; the unconditional half sees neither reference nor image token."""
    pipeline.vae.register_to_config(scaling_factor=0.7)
    ours = run(pipeline, output_type="latent", guidance_scale=guidance, window=6, overlap=3)
    theirs = naive(pipeline, guidance, 6, 3)
    pipeline.vae.register_to_config(scaling_factor=1.0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


class Watch:
    """Keeps what the denoising UNet predicts, rows [unconditional, conditional]."""

    def __init__(self, pipeline: AnimateAnyonePipeline) -> None:
        self.seen: list[Tensor] = []
        self.hook = pipeline.denoising_unet.register_forward_hook(lambda _m, _i, out: self.seen.append(out))

    def __enter__(self) -> list[Tensor]:
        return self.seen

    def __exit__(self, *args: object) -> None:
        self.hook.remove()


def test_unconditional_half_never_sees_the_reference(pipeline: AnimateAnyonePipeline) -> None:
    def first_prediction(reference: NDArray[np.uint8], pose: NDArray[np.uint8]) -> Tensor:
        with Watch(pipeline) as seen:
            run(pipeline, reference=reference, reference_pose=pose, num_inference_steps=1)
        return seen[0]

    # Its pose it sees, where the Pose Guider has it beside each: poses are no part of what is dropped.
    shown = pipeline.pose_guider.config["conditioning_channels"] == 6
    one, other = first_prediction(REFERENCE, POSES[0]), first_prediction(REFERENCE[::-1], POSES[0 if shown else 3])
    assert torch.equal(one[0], other[0])
    assert (one[1] - other[1]).abs().max() > 1e-3


def test_guidance_one_computes_no_unconditional_half(pipeline: AnimateAnyonePipeline) -> None:
    for guidance, rows in ((1.0, 1), (2.0, 2)):
        with Watch(pipeline) as seen:
            run(pipeline, guidance_scale=guidance)
        assert {len(out) for out in seen} == {rows}


def test_reference_is_looked_at_once(pipeline: AnimateAnyonePipeline) -> None:
    calls: list[int] = []
    layer = pipeline.denoising_unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_k
    hooks = [
        pipeline.reference_net.register_forward_hook(lambda *_: calls.append(0)),
        layer.register_forward_hook(lambda _m, args, _o: calls.append(len(args[0]))),
    ]
    run(pipeline, num_inference_steps=3, window=6, overlap=3)
    for hook in hooks:
        hook.remove()
    # ReferenceNet, its keys; then three steps of three windows, both halves' six frames together.
    assert calls == [0, 1, *[12] * 9]


def test_callback_is_told_every_step_and_may_replace_latents(pipeline: AnimateAnyonePipeline) -> None:
    told: list[tuple[int, int]] = []

    def look(pipe: AnimateAnyonePipeline, step: int, timestep: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
        assert pipe is pipeline
        assert given["latents"].shape == (1, 4, 12, 8, 8)
        told.append((step, timestep))
        return {}

    watched = run(pipeline, callback_on_step_end=look, num_inference_steps=4)
    assert np.array_equal(watched, run(pipeline, num_inference_steps=4))
    assert told == [(0, 999), (1, 749), (2, 499), (3, 249)]

    def replace(pipe: AnimateAnyonePipeline, step: int, timestep: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": torch.full_like(given["latents"], float(step))}

    replaced = run(pipeline, callback_on_step_end=replace, output_type="latent")
    origin = replaced - (STEPS - 1)  # what they are relative to: the reference's latents or zero
    assert (origin == origin[:, :, :1]).all()
    assert origin.any() == pipeline.config["reference_latents"]


def test_latents_may_be_given(pipeline: AnimateAnyonePipeline) -> None:
    latents = torch.randn((1, 4, 12, 8, 8), generator=torch.Generator().manual_seed(7))
    assert np.array_equal(run(pipeline, latents=latents), run(pipeline, seed=7))
    with pytest.raises(InputError, match=r"latents have shape .*1, 4, 11, 8, 8.*must be \(1, 4, 12, 8, 8\)"):
        run(pipeline, latents=latents[:, :, :11])


def test_decoding_by_hand(pipeline: AnimateAnyonePipeline) -> None:
    latents = run(pipeline, output_type="latent")
    assert np.array_equal(np.stack(list(pipeline.decode(latents))), plain(pipeline))
    bare = pipeline(REFERENCE, POSES, reference_pose=POSES[0], num_inference_steps=1, return_dict=False)
    assert isinstance(bare, tuple)


def test_other_sizes(pipeline: AnimateAnyonePipeline) -> None:
    """Not square, and not a multiple of what the UNet halves."""
    poses = np.zeros((2, 2 * 88, 2 * 72, 3), np.uint8)
    assert pipeline.pose_picture_size((72, 88)) == (144, 176)
    frames = run(pipeline, reference=np.zeros((88, 72, 3), np.uint8), poses=poses, reference_pose=poses[0])
    assert frames.shape == (2, 88, 72, 3)


def test_without_motion_frames_are_apart() -> None:
    pipe = tiny.pipeline(reference_pose=False)
    pipe.denoising_unet = tiny.denoising_unet(use_motion_module=False)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 30, 8, 8), generator=torch.Generator().manual_seed(7))
    poses = noise_pictures(4, 30)
    long = run(pipe, poses=poses, latents=noise, window=24)  # longer than motion modules would take
    short = run(pipe, poses=poses[:2], latents=noise[:, :, :2])
    assert far(long[:2], short) <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": REFERENCE.astype(np.float32)}, r"reference must be a uint8 array"),
        ({"reference": REFERENCE[..., :1]}, r"reference must be a uint8 array \(height, width, 3\)"),
        ({"reference": REFERENCE.tolist()}, r"reference must be a uint8 array"),
        ({"reference": REFERENCE[:60]}, r"reference is 64x60; both must be multiples of 8"),
        ({"poses": POSES[:0]}, r"there are no poses"),
        ({"poses": []}, r"there are no poses"),
        ({"poses": POSES[:, :64, :64]}, r"poses\[0\] is 64x64; for a video of 64x64 draw it at 128x128"),
        ({"poses": POSES / 255}, r"poses\[0\] is no uint8 picture"),
        ({"poses": [POSES[0], POSES[1][:64]]}, r"poses\[1\] has shape \(64, 128, 3\)"),
        ({"reference_pose": POSES[0, :64]}, r"reference_pose is 128x64; .* draw it at 128x128"),
        ({"reference_pose": None}, r"needs reference_pose"),
        ({"window": 17, "poses": noise_pictures(0, 17)}, r"window is 17; .* at most 16 frames"),
        ({"window": 4, "overlap": 4}, r"window 4, overlap 4"),
        ({"window": 0}, r"window 0"),
        ({"num_inference_steps": 0}, r"0 denoising steps: give 1 to 1000"),
        ({"num_inference_steps": 1001}, r"1001 denoising steps: give 1 to 1000"),
        ({"guidance_scale": float("nan")}, r"guidance nan"),
        ({"window_batch": 0}, r"window_batch is 0"),
    ],
)
def test_what_does_not_fit_is_refused(pipeline: AnimateAnyonePipeline, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(pipeline, **change)
    assert "\n" not in str(caught.value)


def test_reference_pose_is_refused_where_it_was_not_trained() -> None:
    with pytest.raises(InputError, match="trained without reference_pose"):
        run(tiny.pipeline(reference_pose=False), reference_pose=POSES[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trip_through_a_folder(
    pipeline: AnimateAnyonePipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str
) -> None:
    pipeline.save_pretrained(tmp_path)
    again = load_pipeline(tmp_path, "cpu", dtype)
    assert dtype == "float16" or not caplog.records  # a user would see them
    again.set_progress_bar_config(disable=True)
    for name, value in tiny.PIPELINE.items():
        assert again.config[name] == (list(value) if name == "size" else value), name
    assert again.scheduler.config["rescale_betas_zero_snr"]
    kept, given = plain(pipeline), run(again)
    if dtype == "float32":
        assert far(kept, given) <= 1
    else:
        assert given.std() > 5
        assert np.abs(kept.astype(int) - given).mean() < 6


@pytest.fixture(scope="module")
def carrying() -> AnimateAnyonePipeline:
    """A model that is given the reference carried into every pose."""
    made = tiny.pipeline(reference_latents=True, carried_reference=True)
    made.set_progress_bar_config(disable=True)
    return made


def test_carried_nowhere_is_the_reference_itself(carrying: AnimateAnyonePipeline) -> None:
    beside = tiny.pipeline(reference_latents=True)
    beside.set_progress_bar_config(disable=True)
    still = [REFERENCE] * len(POSES)
    # The autoencoder takes what is carried several pictures at once, the reference alone: rounding.
    frames = run(beside)
    assert far(run(carrying, carried=still), frames) <= 1
    # Windows, guidance and the half without a condition, with another picture for every frame.
    moving = np.stack([np.roll(REFERENCE, 4 * k, 1) for k in range(len(POSES))])
    carried = run(carrying, carried=moving)
    assert np.abs(carried.astype(int) - frames).max() > 10
    assert np.abs(carried.astype(int) - run(carrying, carried=list(moving), window_batch=3)).max() <= 1


def test_every_frame_has_its_own_carried_reference(carrying: AnimateAnyonePipeline) -> None:
    still = carrying.denoising_unet
    carrying.denoising_unet = tiny.denoising_unet(use_motion_module=False, in_channels=8)
    try:
        carried = [REFERENCE] * len(POSES)
        before = run(carrying, carried=carried)
        carried[5] = REFERENCE[::-1].copy()
        after = run(carrying, carried=carried)
    finally:
        carrying.denoising_unet = still
    changed = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
    assert changed == [k == 5 for k in range(len(POSES))]


def test_carried_pictures_that_do_not_fit(carrying: AnimateAnyonePipeline, pipeline: AnimateAnyonePipeline) -> None:
    still = [REFERENCE] * len(POSES)
    with pytest.raises(InputError, match="needs carried"):
        run(carrying)
    with pytest.raises(InputError, match="leave carried out"):
        run(pipeline, carried=still)
    with pytest.raises(InputError, match="11 carried pictures and 12 poses"):
        run(carrying, carried=still[1:])
    with pytest.raises(InputError, match=r"carried\[0\] has shape"):
        run(carrying, carried=[picture[:32] for picture in still])
    with pytest.raises(InputError, match="reference_latents"):
        tiny.pipeline(carried_reference=True)


def test_shared_noise_makes_equal_poses_equal_frames() -> None:
    made = {}
    for shared in (False, True):
        pipe = tiny.pipeline(reference_pose=False, shared_noise=shared)
        pipe.denoising_unet = tiny.denoising_unet(use_motion_module=False)
        pipe.set_progress_bar_config(disable=True)
        made[shared] = run(pipe, poses=np.stack([POSES[0]] * 5), reference_pose=None)
    assert (made[True] == made[True][:1]).all()
    assert (made[False] != made[False][:1]).any()


def test_detail_comes_back_where_nothing_was_changed() -> None:
    pipe = tiny.pipeline(reference_latents=True, carried_reference=True, keep_detail=True)
    picture = np.random.default_rng(3).integers(0, 256, REFERENCE.shape, np.uint8)
    with torch.no_grad():
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents = pipe.vae.encode(pixels).latent_dist.mean[:, :, None] * pipe.vae.config["scaling_factor"]
        changed = latents.clone()
        changed[..., :4] += 3.0  # the left half
        kept, half = next(pipe.decode(latents, [picture])), next(pipe.decode(changed, [picture]))
        lost, plain = next(pipe.decode(latents)), next(pipe.decode(changed))
    assert np.abs(kept.astype(int) - picture).max() <= 1
    assert np.abs(lost.astype(int) - picture).mean() > 20
    assert np.array_equal(half[:, :24], plain[:, :24])
    assert (
        np.abs(half[:, 40:].astype(int) - picture[:, 40:]).mean()
        < np.abs(plain[:, 40:].astype(int) - picture[:, 40:]).mean()
    )
    with pytest.raises(InputError, match="carried_reference too"):
        tiny.pipeline(reference_latents=True, keep_detail=True)


def test_a_batch_decodes_as_its_frames_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for last bits, encoding and detail too; and the carried pictures are encoded once for both."""
    pipe = tiny.pipeline(reference_latents=True, carried_reference=True, keep_detail=True)
    pipe.set_progress_bar_config(disable=True)
    carried, encoded = noise_pictures(5, 12, 64), list[int]()
    right = pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda x, *more: encoded.append(len(x)) or right(x, *more))
    frames = run(pipe, carried=carried)
    assert sum(encoded) == 12 + 1 and len(encoded) < 12
    latents = run(pipe, carried=carried, output_type="latent")
    assert sum(encoded) == 2 * (12 + 1)
    again = np.stack(list(pipe.decode(latents, carried)))  # encoded again: nothing is kept for ever
    assert sum(encoded) == 3 * 12 + 2
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", 1)
    encoded.clear()
    torch.testing.assert_close(run(pipe, carried=carried, output_type="latent"), latents, rtol=0, atol=1e-4)
    assert set(encoded) == {1}
    alone = np.stack(list(pipe.decode(latents, carried)))
    assert far(frames, alone) <= 1 and far(again, alone) <= 1


def test_what_was_known_of_other_pictures_is_not_used() -> None:
    pipe = tiny.pipeline(reference_latents=True, carried_reference=True, keep_detail=True)
    pipe.set_progress_bar_config(disable=True)
    carried, others = noise_pictures(5, 12, 64), noise_pictures(6, 12, 64)
    latents = run(pipe, carried=carried, output_type="latent")
    frames = list(pipe.decode(latents, others))
    assert np.array_equal(frames, list(pipe.decode(latents, others)))


# Values that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("part", "told"), [("denoising_unet", "step 1 of 2"), ("pose_guider", "step 1 of 2")])
def test_damaged_weights_are_named_at_the_first_step(part: str, told: str, value: float) -> None:
    pipe = tiny.pipeline()
    pipe.set_progress_bar_config(disable=True)
    steps: list[int] = []
    with torch.no_grad():
        name, weight = next((n, p) for n, p in getattr(pipe, part).named_parameters() if n.endswith("conv_in.weight"))
        weight.view(-1)[0] = value
    with pytest.raises(InputError, match=rf"^{told} gave NaN or infinity: {part}/{name} is not finite; .* damaged$"):
        run(pipe, callback_on_step_end=lambda _p, step, _t, _l: steps.append(step))
    assert not steps


def test_a_number_type_that_overflows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are finite, sums that are not."""
    pipe = tiny.pipeline().to(dtype=torch.float16)
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr(pipe, "_predict", lambda _, latents, *__: torch.full((1, 2, *latents.shape[1:]), torch.inf))
    with pytest.raises(InputError, match=r"step 1 of 2 gave NaN or infinity in float16; give --dtype float32$"):
        run(pipe, poses=POSES[:4])
    with pytest.raises(InputError, match=r"weights that are finite; this model cannot be used"):
        run(pipe.to(dtype=torch.float32), poses=POSES[:4])


def test_weights_too_large_for_float16_are_told() -> None:
    pipe = tiny.pipeline()
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        pipe.denoising_unet.conv_in.weight[0, 0, 0, 0] = 1e5
    with pytest.raises(
        InputError, match=r"conv_in.weight is not finite; .*too large for float16: give --dtype float32"
    ):
        run(pipe.to(dtype=torch.float16), poses=POSES[:4])


@pytest.mark.parametrize(("dtype", "advice"), [("float16", "give --dtype float32"), ("float32", "weights are damaged")])
def test_a_frame_that_is_not_finite_is_not_handed_out(dtype: str, advice: str) -> None:
    pipe = tiny.pipeline().to(dtype=getattr(torch, dtype))
    latents = torch.zeros(1, 4, 3, 8, 8)
    latents[:, :, 1] = torch.nan
    with pytest.raises(InputError, match=rf"decoding frame 1 gave NaN or infinity in {dtype}; .*{advice}"):
        list(pipe.decode(latents))
