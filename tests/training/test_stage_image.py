"""What one step of the image and the motion stage computes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_recipes import few_clips_a_shard, small
from torch import Tensor

import tiny
from animate_anyone.errors import InputError
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.clips import pose_of
from animate_anyone.training.stage_image import ImageBatch, ImageStage
from animate_anyone.training.stage_motion import MotionStage
from animate_anyone.training.stages import build_stage

ALL = 0.9999999  # of the conditions dropped


# What is trained, and what joins the noise: nothing, the reference's latents, those of the carried reference.
KINDS = ("image", "motion", "image_beside", "motion_beside", "image_carried", "motion_carried")


def options_of(kind: str) -> dict[str, bool]:
    carried = kind.endswith("carried")
    return {
        "reference_pose": True,
        "reference_latents": carried or kind.endswith("beside"),
        "carried_reference": carried,
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models to start from in which nothing is at zero effect; that of the image stage has no motion modules."""
    root = tmp_path_factory.mktemp("models")
    for name in KINDS:
        made = tiny.pipeline(**options_of(name))
        if name.startswith("image"):
            channels = made.denoising_unet.config["in_channels"]
            made.register_modules(denoising_unet=tiny.denoising_unet(use_motion_module=False, in_channels=channels))
        made.vae.register_to_config(scaling_factor=0.7)
        made.save_pretrained(root / name)
    return {path.name: path for path in root.iterdir()}


def stage_of(kind: str, models: dict[str, Path], output: Path, **changes: object) -> ImageStage:
    changes = {"networks__pipeline": options_of(kind), "objective__timestep_power": 0} | changes
    stage = build_stage(small(kind.partition("_")[0], output, models[kind], **changes))
    assert isinstance(stage, ImageStage)
    return stage


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss(stage: ImageStage, batch: ImageBatch, seed: int = 0) -> Tensor:
    return stage(batch, noise(seed))["loss"]


def one_dropped() -> int:
    """A seed with which one of two conditions is dropped at a share of a half."""
    return next(s for s in range(20) if int((torch.rand(2, generator=noise(s)) < 0.5).sum()) == 1)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_loss_by_hand(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Equation 1 clip by clip and frame by frame; the first clip's condition is dropped, the second's is not."""
    options = {"objective__condition_dropout": 0.5, "objective__person_weight": 3.0}
    stage, seed = stage_of(kind, models, tmp_path, **options), one_dropped()
    batch = stage.batch(0, 0, 1)
    got = loss(stage, batch, seed)

    generator = noise(seed)
    torch.rand(2, generator=generator)
    frames = batch.poses.shape[1]
    eps = torch.randn((2, frames, 4, 8, 8), generator=generator)
    shape, image = (2, frames if kind.startswith("image") else 1), kind.startswith("image")
    times = (torch.rand(shape, generator=generator, dtype=torch.float64) * 1000).long().expand(2, frames)
    signal = stage.scheduler.alphas_cumprod[times].view(2, frames, 1, 1, 1)

    def encoded(pictures: Tensor) -> Tensor:
        pixels = pictures.permute(0, 1, 4, 2, 3) / 127.5 - 1
        return torch.stack([0.7 * stage.vae.encode(clip).latent_dist.mode() for clip in pixels])

    latents = encoded(torch.cat([batch.reference[:, None], batch.frames], 1))
    beside = stage.options["reference_latents"]
    origin = encoded(batch.carried) if kind.endswith("carried") else latents[:, :1].expand(-1, frames, -1, -1, -1)
    x = latents[:, 1:] - (origin if beside else 0)
    noisy, velocity = signal**0.5 * x + (1 - signal) ** 0.5 * eps, signal**0.5 * eps - (1 - signal) ** 0.5 * x

    predictions = []
    for clip in range(2):
        drawn = batch.poses[clip].permute(3, 0, 1, 2)[None] / 255
        own = batch.reference_pose[clip].permute(2, 0, 1)[None, :, None] / 255
        if beside:
            drawn, own = torch.cat([drawn, own.expand_as(drawn)], 1), torch.cat([own, own], 1)
        pose, reference, token = stage.pose_guider(drawn), None, torch.zeros(1, 1, 12)
        if clip == 1:
            token = image_tokens(stage.image_encoder, batch.reference[clip].permute(2, 0, 1)[None] / 127.5 - 1)
            features = stage.reference_net(latents[clip, :1], token, stage.pose_guider(own)[:, :, 0])
            reference = stage.denoising_unet.project_reference(features)
        video = noisy[clip : clip + 1].transpose(1, 2)
        if beside:
            video = torch.cat([video, origin[clip : clip + 1].transpose(1, 2) * clip], 1)
        if not image:
            out = stage.denoising_unet(video, times[clip, 0], token, pose, reference)
        else:
            singles = [
                stage.denoising_unet(video[:, :, [k]], times[clip, k], token, pose[:, :, [k]], reference)
                for k in range(frames)
            ]
            out = torch.cat(singles, 2)
        predictions.append(out[0].transpose(0, 1))
    weight = 1 + 2 * F.avg_pool2d(batch.masks.float(), 8)[:, :, None]
    want = ((torch.stack(predictions) - velocity) ** 2 * weight / weight.mean()).mean()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=0)


def silent(stage: ImageStage) -> set[str]:
    """Names of ReferenceNet's, the guider's and the UNet's weights that got no gradient."""
    without = {name for name, p in stage.named_parameters() if p.grad is None}
    return {name for name in without if not name.startswith(("vae.", "image_encoder."))}


def test_every_trained_weight_gets_a_gradient_and_no_other_could(models: dict[str, Path], tmp_path: Path) -> None:
    """Data-parallel training fails on a weight that is trained and gets none."""
    stage = stage_of("image", models, tmp_path, objective__condition_dropout=0)
    left_alone = {name for name, p in stage.named_parameters() if not p.requires_grad}
    batch = stage.batch(0, 0, 1)
    loss(stage, batch).backward()
    assert silent(stage) == {name for name in left_alone if name.startswith("reference_net.")} != set()
    for network in (stage.reference_net, stage.denoising_unet, stage.pose_guider):
        network.requires_grad_(True)
    stage.zero_grad(set_to_none=True)
    loss(stage, batch).backward()
    assert silent(stage) == {name for name in left_alone if name.startswith("reference_net.")}


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (["DownBlock2D", "CrossAttnDownBlock2D"], ["CrossAttnUpBlock2D", "UpBlock2D"]),
        (["CrossAttnDownBlock2D", "DownBlock2D"], ["UpBlock2D", "CrossAttnUpBlock2D"]),
    ],
    ids=lambda blocks: blocks[-1],
)
def test_what_nobody_reads_of_a_reference_net_that_ends_without_attention(
    models: dict[str, Path], tmp_path: Path, down: list[str], up: list[str]
) -> None:
    """Past the last attention nothing is trained: a last block without any, and what leads to it."""
    for part in ("vae", "image_encoder"):
        shutil.copytree(models["image"] / part, tmp_path / "start" / part)
    unet = {**tiny.UNET, "down_block_types": down, "up_block_types": up}
    changes = {"networks__unet": unet, "objective__condition_dropout": 0}
    stage = stage_of("image", {"image": tmp_path / "start"}, tmp_path, **changes)
    left_alone = {name for name, p in stage.named_parameters() if not p.requires_grad and "reference_net." in name}
    tail = {"reference_net.up_blocks.1.resnets.", "reference_net.up_blocks.0.upsamplers."}
    assert all(any(n.startswith(start) for n in left_alone) == (up[-1] == "UpBlock2D") for start in tail)
    loss(stage, stage.batch(0, 0, 1)).backward()
    assert silent(stage) == left_alone != set()
    for network in (stage.reference_net, stage.denoising_unet, stage.pose_guider):
        assert network is not None
        network.requires_grad_(True)
    stage.zero_grad(set_to_none=True)
    loss(stage, stage.batch(0, 0, 1)).backward()
    assert silent(stage) == left_alone


def test_only_motion_gets_gradients_in_the_motion_stage(models: dict[str, Path], tmp_path: Path) -> None:
    stage = stage_of("motion", models, tmp_path)
    loss(stage, stage.batch(0, 0, 1)).backward()
    with_gradient = {name for name, p in stage.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in stage.named_parameters() if ".motion_modules." in name}


@pytest.mark.parametrize("kind", ["image_carried", "motion_carried"])
def test_the_reference_is_moved_into_the_targets_poses(
    models: dict[str, Path], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("animate_anyone.training.stage_image.spoil", lambda silhouette, rng: silhouette)
    monkeypatch.setattr("animate_anyone.training.stage_image.TEXTURED", 1.0)
    stage = stage_of(kind, models, tmp_path, objective__carry_dropout=0)
    batch = stage.batch(5, 0, 1)
    assert batch.carried.shape == batch.frames.shape
    for row, number in enumerate(stage.clips.numbers(5, 0, 1, 2)):
        (clip,) = stage.clips.clips(np.array([number]))
        frames = [batch.reference[row], *batch.frames[row]]
        moments = [int(np.abs(clip["frames"] - f.numpy()).sum((1, 2, 3)).argmin()) for f in frames]
        pose = pose_of(clip["joints"][moments], (64, 64))
        silhouette = clip["masks"][moments[0]].astype(bool)
        want = CharacterFrames(batch.reference[row].numpy(), pose[:1], pose[1:], silhouette=silhouette)
        assert np.array_equal(batch.carried[row], np.stack(list(want)))
        assert (want[0] != batch.reference[row].numpy()).any()


@torch.no_grad()
def test_carrying_dropped_is_training_on_the_reference(models: dict[str, Path], tmp_path: Path) -> None:
    """``carry_dropout`` 1: the carried pictures are the reference, and so is the loss."""
    stage = stage_of("image_carried", models, tmp_path, objective__carry_dropout=1)
    batch = stage.batch(0, 0, 1)
    assert torch.equal(batch.carried, batch.reference[:, None].expand_as(batch.carried))
    beside = stage_of("image_beside", models, tmp_path)
    alone = replace(batch, carried=None)
    torch.testing.assert_close(loss(stage, batch), loss(beside, alone), rtol=1e-5, atol=0)


def changed_reference(batch: ImageBatch) -> ImageBatch:
    """The same targets with another reference."""
    return replace(batch, reference=255 - batch.reference, reference_pose=255 - batch.reference_pose)


@pytest.mark.parametrize("kind", ["image", "motion"])
def test_all_conditions_dropped(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Nothing depends on the reference, and weights that are trained have a gradient all the same."""
    stage = stage_of(kind, models, tmp_path, objective__condition_dropout=ALL)
    batch = stage.batch(0, 0, 1)
    dropped = loss(stage, batch)
    assert torch.equal(dropped, loss(stage, changed_reference(batch)))
    dropped.backward()
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert not (name.startswith("reference_net.") and parameter.grad.any()), name


@torch.no_grad()
def test_the_first_so_many_conditions_are_dropped(models: dict[str, Path], tmp_path: Path) -> None:
    stage, seed = stage_of("image", models, tmp_path, objective__condition_dropout=0.5), one_dropped()
    batch = stage.batch(0, 0, 1)
    changed = changed_reference(batch)

    def mixed(changes: list[bool]) -> ImageBatch:
        """With another reference for some of the clips."""
        sources = [(changed if change else batch).tensors() for change in changes]
        return ImageBatch(**{name: torch.stack([s[name][i] for i, s in enumerate(sources)]) for name in sources[0]})

    kept = loss(stage, batch, seed)
    assert torch.equal(kept, loss(stage, mixed([True, False]), seed))
    assert kept != loss(stage, mixed([False, True]), seed)


@torch.no_grad()
def test_latents_of_the_cache_are_those_of_the_step(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_clips_a_shard(monkeypatch)
    rendered = stage_of("image", models, tmp_path)
    kept = stage_of("image", models, tmp_path, data__cache=str(tmp_path / "cache"))
    one, other = rendered.batch(0, 0, 1), kept.batch(0, 0, 1)
    assert one.latents is None and other.frames is None
    names = other.tensors().keys() - {"latents"}
    assert names == one.tensors().keys() - {"frames"}
    for name in names:
        assert torch.equal(one.tensors()[name], other.tensors()[name]), name
    frames = torch.cat([one.reference[:, None], one.frames], 1)
    torch.testing.assert_close(other.latents.float(), rendered.encode(frames), rtol=2e-3, atol=1e-3)
    assert loss(kept, other).item() == pytest.approx(loss(rendered, one).item(), rel=1e-3)


@torch.no_grad()
def test_latents_are_scaled_for_training_as_for_sampling(models: dict[str, Path], tmp_path: Path) -> None:
    """Encoded and scaled here, unscaled and decoded there: the way back is the autoencoder's own."""
    stage = stage_of("image", models, tmp_path)
    frames = stage.batch(0, 0, 1).frames
    pipeline = load_pipeline(models["image"], "cpu")
    decoded = next(pipeline.decode(stage.encode(frames)[:1, :1].transpose(1, 2)))
    pixels = frames[0, :1].permute(0, 3, 1, 2).float() / 127.5 - 1
    own = stage.vae.decode(stage.vae.encode(pixels).latent_dist.mode()).sample[0].permute(1, 2, 0)
    assert np.abs(decoded - ((own + 1) * 127.5).clamp(0, 255).numpy()).max() < 1


def test_frames_and_timesteps(models: dict[str, Path], tmp_path: Path) -> None:
    image, motion = stage_of("image", models, tmp_path), stage_of("motion", models, tmp_path)
    assert isinstance(motion, MotionStage)
    assert motion.choose_frames(np.random.default_rng(0))[1:].tolist() == [0, 1, 2, 3]
    assert {int(motion.choose_frames(np.random.default_rng(seed))[0]) for seed in range(20)} == {0, 1, 2, 3}
    chosen = [image.choose_frames(np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert all(len(set(c)) == 3 for c in chosen)  # the reference is never a target
    assert {c[0] for c in chosen} == set(range(5))
    times = motion.timesteps(3, 4, noise())
    assert times.shape == (3, 4)
    assert (times == times[:, :1]).all()
    assert len(set(times[:, 0].tolist())) == 3
    assert len(set(image.timesteps(3, 4, noise()).flatten().tolist())) == 12
    drawn = image.timesteps(1000, 10, noise())
    assert drawn.min() == 0
    assert drawn.max() == 999


@pytest.mark.parametrize(("power", "share"), [(0, 0.5), (1, 0.75), (3, 0.9375)])
def test_timesteps_of_more_noise(models: dict[str, Path], tmp_path: Path, power: float, share: float) -> None:
    """A density of t**p puts 1 - 0.5**(p+1) of the timesteps above the half."""
    times = stage_of("image", models, tmp_path, objective__timestep_power=power).timesteps(200, 100, noise())
    assert (times >= 500).float().mean().item() == pytest.approx(share, abs=0.01)
    assert times.max() == 999


def test_reference_latents_must_be_the_models(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its denoising UNet takes 4 channels, not 8"):
        stage_of("image", models, tmp_path, networks__pipeline={"reference_latents": True})
    with pytest.raises(InputError, match="its denoising UNet takes 8 channels, not 4"):
        stage_of("image", {"image": models["image_beside"]}, tmp_path, networks__pipeline={"reference_latents": False})


def test_batches_hold_what_belongs_together(models: dict[str, Path], tmp_path: Path) -> None:
    """Frame, pose picture and mask of a target are of the same moment; a batch is a function of the step."""
    stage = stage_of("image", models, tmp_path)
    batch = stage.batch(5, 0, 1)
    assert all(torch.equal(value, stage.batch(5, 0, 1).tensors()[name]) for name, value in batch.tensors().items())
    assert not torch.equal(batch.frames, stage.batch(6, 0, 1).frames)
    for row, number in enumerate(stage.clips.numbers(5, 0, 1, 2)):
        (clip,) = stage.clips.clips(np.array([number]))
        frames = [batch.reference[row], *batch.frames[row]]
        moments = [int(np.abs(clip["frames"] - f.numpy()).sum((1, 2, 3)).argmin()) for f in frames]
        assert np.array_equal(clip["frames"][moments], torch.stack(frames))
        assert np.array_equal(clip["poses"][moments[0]], batch.reference_pose[row])
        assert np.array_equal(clip["poses"][moments[1:]], batch.poses[row])
        assert np.array_equal(clip["masks"][moments[1:]], batch.masks[row])


@pytest.mark.parametrize("shared", [False, True])
def test_a_motion_stage_draws_noise_as_its_model_samples(models: dict[str, Path], tmp_path: Path, shared: bool) -> None:
    stage = stage_of("motion", models, tmp_path, networks__pipeline={"shared_noise": shared})
    noise = stage.noise(torch.Size((2, 4, 4, 8, 8)), torch.Generator().manual_seed(0))
    assert bool((noise == noise[:, :1]).all()) == shared
    assert (noise[0] != noise[1]).any()


@pytest.mark.parametrize("kind", ["image", "motion"])
@torch.no_grad()
def test_noise_offset(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """One number a channel: of each single frame, or of all frames of a clip. Noise and timesteps stay as they were."""
    plain, offset = (stage_of(kind, models, tmp_path, objective__noise_offset=value) for value in (0.0, 0.5))
    target = torch.randn(2, plain.targets, 4, 8, 8, generator=noise(9))
    noisy, wanted, times = plain.noised(target, noise(3))
    moved, velocity, same_times = offset.noised(target, noise(3))
    assert times.equal(same_times)
    signal = plain.scheduler.alphas_cumprod[times].view(2, -1, 1, 1, 1)
    added = (moved - noisy) / (1 - signal) ** 0.5
    torch.testing.assert_close((velocity - wanted) / signal**0.5, added, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), rtol=1e-3, atol=1e-3)
    numbers = added[..., 0, 0]  # (b, k, c)
    assert 0.1 < numbers.std() < 1
    if kind == "motion":
        torch.testing.assert_close(numbers, numbers[:, :1].expand_as(numbers), rtol=1e-3, atol=1e-3)
    else:
        assert not numbers[:, 0].allclose(numbers[:, 1])


@pytest.mark.parametrize("kind", ["image", "motion"])
@torch.no_grad()
def test_min_snr_counts_samples_by_their_noise(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    settings = {"objective__person_weight": 3.0, "objective__condition_dropout": 0.0}
    plain, stage = (stage_of(kind, models, tmp_path, **settings, objective__min_snr_gamma=g) for g in (None, 2.0))
    batch = plain.batch(0, 0, 1)
    wanted, prediction = torch.randn(2, 2, plain.targets, 4, 8, 8, generator=noise(4))
    times = torch.tensor([[100], [800]]).expand(2, plain.targets)
    signal = plain.scheduler.alphas_cumprod[times].double()
    snr = signal / (1 - signal)
    counts = (snr.clamp(max=2.0) / (snr + 1))[:, :, None, None, None]
    weight = plain.weights(batch)
    by_hand = ((prediction - wanted).square() * weight / weight.mean() * counts).mean()
    got = stage.loss(batch, prediction, wanted, times, [])["loss"]
    torch.testing.assert_close(got, by_hand.float(), rtol=1e-4, atol=0)
    assert not got.allclose(plain.loss(batch, prediction, wanted, times, [])["loss"])
    schedule = {"prediction_type": "epsilon"}
    with pytest.raises(InputError, match=r"min_snr_gamma is 2.0; it needs prediction_type 'v_prediction'"):
        stage_of(kind, models, tmp_path, objective__min_snr_gamma=2.0, networks__scheduler=schedule)
