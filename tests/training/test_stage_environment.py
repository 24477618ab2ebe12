"""The stage of Animate Anyone 2: how a scene is split, what a step computes, and runs of two steps."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from small_recipes import SMALL, few_clips_a_shard, log, same, tensors
from torch import Tensor

import tiny
from animate_anyone.conditions.environment import EMPTY
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.weight_files import read_settings
from animate_anyone.sampling.loading import load_network, load_pipeline
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.training import clips
from animate_anyone.training.clips import StudioClips, points_of, pose_of, render_scene
from animate_anyone.training.config import Data, Environment, Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.scene_split import SplitScene, character_reference, random_background, split_scene
from animate_anyone.training.stage_environment import EnvironmentBatch, EnvironmentStage
from animate_anyone.training.stages import build_stage, run
from conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
RECIPES = REPOSITORY / "recipes"
DATA = Data(size=32, frames_per_clip=4, clips=3, supersample=1, workers=1)
DRAWN_ALIKE = replace(DATA, pose_scale=1)
FRAMES = np.array([0, 1, 2])
AS_IT_IS = Environment(scaled_share=0)
OF_STAGE: dict[str, Any] = {
    "data.size": 32,
    "data.frames_per_clip": 4,
    "environment.modulation": {"num_attention_heads": 2},
    "networks.pipeline": {"reference_pose": True},
    "networks.unet": tiny.UNET,
    "networks.motion": tiny.MOTION,
    "networks.pose_guider": {"layout": "paper", "block_out_channels": [4, 8, 8, 8]},
    "objective.targets_per_reference": 2,
    "objective.timestep_power": 0,
}
IN_A_ROW = {"data__frames_per_clip": 3, "data__consecutive": True}
# As earlier versions built small networks for `environment.finest_attention`: attention on the way up alone.
FINEST: dict[str, Any] = {**tiny.UNET, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}


@pytest.fixture(scope="module", autouse=True)
def rendered_once() -> Any:
    """The same few scenes serve all tests of this file."""
    patch = pytest.MonkeyPatch()
    patch.setattr(clips, "render_scene", lru_cache(render_scene))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the stage may start from: ``parts`` (VAE and image encoder alone), and models of Animate Anyone."""
    root = tmp_path_factory.mktemp("start")
    made = tiny.pipeline()
    made.vae.register_to_config(scaling_factor=0.7)
    made.save_pretrained(root / "with_motion")
    made.register_modules(denoising_unet=tiny.denoising_unet(use_motion_module=False))
    made.save_pretrained(root / "single_frames")
    for part in ("vae", "image_encoder"):
        getattr(made, part).save_pretrained(root / "parts" / part)
    return {path.name: path for path in root.iterdir()}


def small(output: Path, init: Path, name: str = "puppet_environment", **changes: Any) -> Recipe:
    settings = {**SMALL, **OF_STAGE, "init": str(init), "output": str(output)}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    if "environment" in settings:  # all of it
        settings = {key: value for key, value in settings.items() if not key.startswith("environment.")}
    return load_recipe(RECIPES / f"{name}.yaml", [f"{key}={json.dumps(value)}" for key, value in settings.items()])


def stage_of(init: Path, **changes: Any) -> EnvironmentStage:
    stage = build_stage(small(Path("unused"), init, **changes))
    assert isinstance(stage, EnvironmentStage)
    return stage


@torch.no_grad()
def wake(stage: EnvironmentStage) -> EnvironmentStage:
    """Random weights for what starts at zero effect."""
    torch.manual_seed(5)
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
        if name.endswith("conv_in.weight") and name.startswith("denoising_unet"):
            torch.nn.init.normal_(parameter, std=0.2)
    return stage


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss(stage: EnvironmentStage, batch: EnvironmentBatch, seed: int = 0) -> Tensor:
    return stage(batch, noise(seed))["loss"]


@lru_cache
def scene() -> dict[str, NDArray]:
    """The first scene whose person is well seen and holds something in all frames."""
    numbers = (render_scene(replace(DATA, size=64), number) for number in range(40))
    return next(
        clip for clip in numbers if (clip["objects"].sum((1, 2)) > 20).all() and (clip["masks"].sum((1, 2)) > 200).all()
    )


def split(settings: Environment, seed: int = 0, clip: dict[str, NDArray] | None = None) -> SplitScene:
    return split_scene(clip or scene(), FRAMES, np.random.default_rng(seed), settings, replace(DATA, size=64))


# How a scene is split


def test_a_scene_is_the_studios() -> None:
    clip = render_scene(DATA, 2)
    assert {name: value.shape for name, value in clip.items()} == {
        "frames": (4, 32, 32, 3),
        "environment": (4, 32, 32, 3),
        "masks": (4, 32, 32),
        "objects": (4, 32, 32),
        "occluders": (4, 32, 32),
        "points": (4, 128, 4),
    }
    pose = pose_of(clip["points"], (32, 32))
    assert pose.depth is not None
    assert np.array_equal(points_of(pose), clip["points"])
    assert np.ptp(pose.depth) > 0


def test_parts_put_together_are_the_clip() -> None:
    """Not scaled: the environment outside the region is the frame's own; character and objects are the rest."""
    clip, parts = scene(), split(AS_IT_IS)
    assert np.array_equal(parts.frames, clip["frames"][FRAMES])
    region, person, objects = parts.region, parts.masks, parts.object_masks
    assert np.array_equal(person, clip["masks"][FRAMES] == 1)
    assert (person & ~region).sum() == 0
    assert np.array_equal(parts.environment[~region], clip["frames"][FRAMES][~region])
    assert (parts.environment[region] == EMPTY).all()
    assert np.array_equal(parts.objects[objects], clip["frames"][FRAMES][objects])
    assert (parts.objects[~objects] == EMPTY).all()
    drawn = parts.poses.max(-1) > 0
    assert drawn.any(axis=(1, 2)).all()
    assert ((parts.depth > 0) == drawn).mean() > 0.98
    assert parts.depth.min() == 0
    assert 0 < parts.depth.max() <= 1


def test_each_formulation_takes_another_region_out() -> None:
    parts = {name: split(replace(AS_IT_IS, formulation=name)) for name in ("exact", "shape_agnostic", "box")}
    areas = [int(part.region.sum()) for part in parts.values()]
    assert areas[0] < areas[1] < areas[2]
    assert np.array_equal(parts["exact"].region, parts["exact"].masks)
    assert not np.array_equal(parts["exact"].environment, parts["shape_agnostic"].environment)
    assert not np.array_equal(parts["shape_agnostic"].environment, parts["box"].environment)
    for name in ("frames", "objects", "poses", "depth"):
        assert np.array_equal(getattr(parts["exact"], name), getattr(parts["box"], name))


def test_blocks_are_drawn_anew() -> None:
    assert len({split(AS_IT_IS, seed).region.tobytes() for seed in range(5)}) == 5


@pytest.mark.parametrize("scale", [0.6, 1.5])
def test_scale_augmentation(scale: float) -> None:
    """The character, its objects and its pose change their size; the region stays, and tells nothing of the new one."""
    clip = scene()
    as_it_is, parts = (
        split(replace(AS_IT_IS, formulation="exact", scaled_share=share, smallest_scale=scale, largest_scale=scale))
        for share in (0, 1)
    )
    assert np.array_equal(parts.region, as_it_is.region)
    before, after = (part.masks.sum() for part in (as_it_is, parts))
    assert (after < before) == (scale < 1)
    assert after != before
    assert not np.array_equal(parts.poses, as_it_is.poses)
    assert not np.array_equal(parts.object_masks, as_it_is.object_masks)
    region, person, objects = parts.region, parts.masks, parts.object_masks
    beside = person & ~region
    print(f"{beside.sum() / person.sum():.3f} of the character lie beside the region")
    assert (beside.sum() > 0.3 * person.sum()) == (scale > 1)
    environment = clip["environment"][FRAMES]
    assert np.array_equal(parts.environment[beside], environment[beside])
    # Objects stand in the environment where the target has them.
    seen = objects & ~region
    held = (parts.environment[seen] == parts.frames[seen]).all(axis=1)
    assert held.size == 0 or held.mean() > 0.8
    # What the character no longer covers shows the scene.
    uncovered = (as_it_is.masks | as_it_is.object_masks) & ~person & ~objects
    if scale < 1:
        assert uncovered.sum() > 50
        difference = np.abs(parts.frames[uncovered].astype(int) - environment[uncovered])
        assert np.median(difference) == 0


def test_what_stands_in_front_stays_in_front() -> None:
    clip = {name: value.copy() for name, value in scene().items()}
    clip["occluders"][:, :40] = 1
    settings = Environment(scaled_share=1, smallest_scale=1.4, largest_scale=1.4)
    parts = split(settings, clip=clip)
    assert np.array_equal(parts.frames[:, :40], clip["environment"][FRAMES][:, :40])
    assert not parts.masks[:, :40].any()
    assert not parts.object_masks[:, :40].any()
    assert parts.masks[:, 40:].any()


def test_scales_are_drawn_for_a_share_of_the_clips() -> None:
    settings = Environment(scaled_share=0.5)
    ordinary = split(AS_IT_IS).frames
    scaled = [not np.array_equal(split(settings, seed).frames, ordinary) for seed in range(16)]
    assert 3 <= sum(scaled) <= 13


def test_reference_is_the_character_alone_in_the_middle() -> None:
    clip = scene()
    # A person of one colour on a scene of another: none of the scene may be left.
    mask = clip["masks"].astype(bool)
    clip = clip | {"frames": np.where(mask[..., None], np.uint8([250, 0, 5]), np.uint8([0, 250, 0]))}
    pictures = []
    for seed in range(6):
        character = character_reference(clip, 1, np.random.default_rng(seed), DRAWN_ALIKE)
        assert character.picture.shape == (64, 64, 3)
        assert character.drawn.shape == (64, 64, 3)
        pictures.append(character.picture)
    person = (np.abs(np.stack(pictures).astype(int) - [250, 0, 5]).max(-1) <= 1).all(axis=0)
    rows, columns = np.nonzero(person)
    assert abs((rows.min() + rows.max() + 1) / 2 - 32) <= 2
    assert abs((columns.min() + columns.max() + 1) / 2 - 32) <= 2
    assert max(np.ptp(rows), np.ptp(columns)) == pytest.approx(64 / 1.15, abs=3)
    assert len({picture[~person].tobytes() for picture in pictures}) == 6
    assert not (person & ~character.silhouette).any()
    assert character.silhouette.sum() < 2 * person.sum()  # the rest is its edge
    drawn = character_reference(clip, 1, np.random.default_rng(0), DRAWN_ALIKE).drawn.max(-1) > 0
    assert (drawn & person).sum() > 0.5 * drawn.sum()


def test_a_frame_without_the_person_has_a_reference_all_the_same() -> None:
    clip = scene() | {"masks": np.zeros_like(scene()["masks"])}
    picture = character_reference(clip, 0, np.random.default_rng(0), DATA).picture
    rng = np.random.default_rng(0)
    assert np.array_equal(picture, random_background(rng, (64, 64)))
    parts = split(Environment(scaled_share=1), clip=clip)
    assert not parts.region.any()
    assert np.array_equal(parts.environment, parts.frames)


def test_backgrounds_are_of_three_kinds() -> None:
    rng = np.random.default_rng(0)
    counts = [len(np.unique(random_background(rng, (32, 32)).reshape(-1, 3), axis=0)) for _ in range(30)]
    assert min(counts) == 1
    assert any(1 < count <= 36 for count in counts)
    assert max(counts) > 100


def test_scenes_are_kept_in_a_cache_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_clips_a_shard(monkeypatch)
    data = Data(size=32, frames_per_clip=1, clips=2, supersample=1, workers=1, cache=str(tmp_path / "cache"))
    kept = StudioClips(data, 0, scenes=True).clips(np.array([1]))[0]
    wanted = render_scene(data, 1)
    assert kept.keys() == wanted.keys()
    assert all(np.array_equal(kept[name], wanted[name]) for name in kept)
    StudioClips(replace(data, skeleton_style="dwpose"), 0, scenes=True)  # poses are drawn in the step
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    assert index["scenes"] is True
    with pytest.raises(InputError, match="holds clips of other settings"):
        StudioClips(replace(data, size=40), 0, scenes=True)


# What a step computes


@pytest.mark.parametrize("in_a_row", [False, True])
@torch.no_grad()
def test_loss_by_hand(start: dict[str, Path], in_a_row: bool) -> None:
    """Equation 1, clip by clip and frame by frame."""
    options = IN_A_ROW if in_a_row else {}
    init = start["with_motion" if in_a_row else "single_frames"]
    stage = wake(stage_of(init, objective__condition_dropout=0, objective__person_weight=3.0, **options))
    batch = next(b for step in range(9) if (b := stage.batch(step, 0, 1)).object_masks.any())
    got, generator = loss(stage, batch), noise()

    torch.rand(2, generator=generator)
    frames = batch.poses.shape[1]
    eps = torch.randn((2, frames, 4, 4, 4), generator=generator)
    shape = (2, 1 if in_a_row else frames)
    times = (torch.rand(shape, generator=generator, dtype=torch.float64) * 1000).long().expand(2, frames)
    signal = stage.scheduler.alphas_cumprod[times].view(2, frames, 1, 1, 1)

    def encode(pictures: Tensor) -> Tensor:
        pixels = pictures.permute(0, 3, 1, 2) / 127.5 - 1
        return 0.7 * stage.vae.encode(pixels).latent_dist.mode()

    def cells(mask: Tensor) -> Tensor:
        return F.max_pool2d(mask.float(), 8)[:, None]

    losses, weights = [], []
    for clip in range(2):
        x, around = encode(batch.frames[clip]), encode(batch.environment[clip])
        velocity = signal[clip] ** 0.5 * eps[clip] - (1 - signal[clip]) ** 0.5 * x
        noisy = signal[clip] ** 0.5 * x + (1 - signal[clip]) ** 0.5 * eps[clip]
        out = F.max_pool2d((batch.environment[clip] == EMPTY).all(-1).float(), 8)[:, None]
        assert ((out - batch.region_cells[clip][:, None].float()) >= 0).all()
        video = torch.cat([noisy, around, batch.region_cells[clip][:, None].float()], 1)
        held = encode(batch.objects[clip]) * cells(batch.object_masks[clip])
        drawn = batch.poses[clip].permute(0, 3, 1, 2) / 255
        depth = batch.depth[clip][:, None]
        token = image_tokens(stage.image_encoder, batch.reference[clip].permute(2, 0, 1)[None] / 127.5 - 1)
        own = stage.pose_guider(batch.reference_pose[clip].permute(2, 0, 1)[None, :, None] / 255)[:, :, 0]
        features = stage.reference_net(encode(batch.reference[clip][None]), token, own)
        reference = stage.denoising_unet.project_reference(features)
        groups = [slice(0, frames)] if in_a_row else [slice(k, k + 1) for k in range(frames)]
        for group in groups:
            whole = [tensor[group].transpose(0, 1)[None] for tensor in (video, drawn, depth, held)]
            pose, objects = stage.pose_guider(whole[1], whole[2]), stage.object_guider(whole[3])
            made = stage.denoising_unet(whole[0], times[clip, group][0], token, pose, reference, objects)
            losses.append((made[0].transpose(0, 1) - velocity[group]) ** 2)
            weights.append(1 + 2 * F.avg_pool2d((batch.masks | batch.object_masks)[clip, group].float(), 8))
    weight = torch.cat(weights)[:, None]
    torch.testing.assert_close(got, (torch.cat(losses) * weight / weight.mean()).mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dropout", [0, 0.9999999])
@pytest.mark.parametrize("in_a_row", [False, True])
def test_every_trained_weight_gets_a_gradient(start: dict[str, Path], in_a_row: bool, dropout: float) -> None:
    options = IN_A_ROW if in_a_row else {}
    stage = stage_of(start["parts"], objective__condition_dropout=dropout, **options)
    loss(stage, stage.batch(0, 0, 1)).backward()
    without = {name for name, p in stage.named_parameters() if p.grad is None}
    assert without == {name for name, p in stage.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in stage.named_parameters() if p.requires_grad}
    assert trained == {"denoising_unet", "reference_net", "pose_guider", "object_guider"}
    assert stage.denoising_unet.config["use_motion_module"] == in_a_row
    assert bool(stage.denoising_unet.motion_parameters()) == in_a_row


@torch.no_grad()
def test_the_loss_sees_every_part(start: dict[str, Path]) -> None:
    stage = wake(stage_of(start["single_frames"], objective__condition_dropout=0))
    batch = next(b for step in range(9) if (b := stage.batch(step, 0, 1)).object_masks.any())
    before = loss(stage, batch)
    for name in ("environment", "objects", "poses", "reference", "reference_pose"):
        assert loss(stage, replace(batch, **{name: 255 - getattr(batch, name)})) != before, name
    for name in ("region_cells", "object_cells"):
        assert loss(stage, replace(batch, **{name: ~getattr(batch, name)})) != before, name
    assert loss(stage, replace(batch, depth=1 - batch.depth)) != before


@torch.no_grad()
def test_dropped_conditions_are_those_of_the_reference(start: dict[str, Path]) -> None:
    """The scene stays: it says where, not who."""
    stage = wake(stage_of(start["single_frames"], objective__condition_dropout=0.9999999))
    batch = stage.batch(0, 0, 1)
    before = loss(stage, batch)
    for name in ("reference", "reference_pose"):
        assert loss(stage, replace(batch, **{name: 255 - getattr(batch, name)})) == before, name
    for name in ("environment", "poses"):
        assert loss(stage, replace(batch, **{name: 255 - getattr(batch, name)})) != before, name


def test_a_batch_is_a_function_of_the_step(start: dict[str, Path]) -> None:
    stage = stage_of(start["parts"])
    batch = stage.batch(5, 0, 1)
    assert all(torch.equal(value, stage.batch(5, 0, 1).tensors()[name]) for name, value in batch.tensors().items())
    assert not torch.equal(batch.environment, stage.batch(6, 0, 1).environment)


def test_frames_of_a_clip_in_a_row_come_in_order(start: dict[str, Path]) -> None:
    row = stage_of(start["parts"], **IN_A_ROW)
    assert row.choose_frames(np.random.default_rng(0))[1:].tolist() == [0, 1, 2]
    times = row.timesteps(3, 4, noise())
    assert (times == times[:, :1]).all()
    singles = stage_of(start["parts"])
    chosen = [singles.choose_frames(np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert all(len(set(c)) == 3 for c in chosen)  # the reference is never a target
    assert len(set(singles.timesteps(1, 8, noise()).flatten().tolist())) == 8


@pytest.mark.parametrize("init", ["single_frames", "with_motion"])
def test_starts_from_a_model_of_animate_anyone(start: dict[str, Path], init: str) -> None:
    stage = stage_of(start[init], **(IN_A_ROW if init == "with_motion" else {}))
    before = DenoisingUNet.from_pretrained(start[init] / "denoising_unet").state_dict()
    after = stage.denoising_unet.state_dict()
    assert torch.equal(after["conv_in.weight"][:, :4], before.pop("conv_in.weight"))
    assert not after["conv_in.weight"][:, 4:].any()
    assert after["conv_in.weight"].shape[1] == 9
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert isinstance(stage.pose_guider, PoseModulation)
    assert stage.denoising_unet.config["reference_blocks"] == "mid_up"


# Runs


@pytest.fixture(scope="module")
def chain(start: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two recipes of the small model, two steps each."""
    root = tmp_path_factory.mktemp("chain")
    run(small(root / "frames", start["parts"]))
    run(small(root / "clips", root / "frames" / "model", "puppet_environment_motion", **IN_A_ROW))
    return {name: root / name for name in ("frames", "clips")}


def test_two_steps_of_each_recipe(chain: dict[str, Path]) -> None:
    for output in chain.values():
        lines = log(output)
        assert [line["step"] for line in lines] == [1, 2]
        assert all(math.isfinite(line["loss"]) and line["loss"] > 0 and line["grad_norm"] > 0 for line in lines)
    names = tensors(chain["clips"] / "model").keys() - tensors(chain["frames"] / "model").keys()
    assert names
    assert all(".motion_modules." in name for name in names)


def test_results_are_models_of_animate_anyone_2(chain: dict[str, Path]) -> None:
    for name, output in chain.items():
        pipeline = load_pipeline(output / "model", "cpu")
        assert type(pipeline).__name__ == "AnimateAnyone2Pipeline"
        told = {key: pipeline.config[key] for key in ("formulation", "uses_objects", "uses_depth", "reference_pose")}
        assert told == {
            "formulation": "shape_agnostic",
            "uses_objects": True,
            "uses_depth": True,
            "reference_pose": True,
        }
        assert pipeline.denoising_unet.config["use_motion_module"] == (name == "clips")
        assert pipeline.denoising_unet.config["environment_channels"] == 5


@pytest.mark.parametrize("init", ["parts", "frames"])
def test_same_seed_same_weights_and_resumed_is_straight(
    start: dict[str, Path], chain: dict[str, Path], tmp_path: Path, init: str
) -> None:
    """Of the first part of the small model, then of the second."""
    options: dict[str, Any] = {"steps": 3, "checkpoint_every": 2}
    options |= {"name": "puppet_environment_motion", **IN_A_ROW} if init == "frames" else {}

    def recipe(name: str) -> Recipe:
        return small(tmp_path / name, start[init] if init == "parts" else chain[init] / "model", **options)

    class Stop(BaseException):
        pass

    def stop(step: int) -> None:
        if step == 2:
            raise Stop

    run(recipe("straight"))
    with pytest.raises(Stop):
        train(recipe("cut"), build_stage(recipe("cut")), after_checkpoint=stop)
    assert not same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))
    run(recipe("cut"), resume=True)
    assert same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))


def test_what_travels_with_animate_anyones_model_goes_on_with_it(start: dict[str, Path], tmp_path: Path) -> None:
    """But for stretching: here the pictures have the video's size."""
    init, out = tmp_path / "init", tmp_path / "out"
    shutil.copytree(start["with_motion"], init)
    told = {"aggregation": "wrap", "stretch": True, "guidance_scale": 2.5, "window": 7, "overlap": 3}
    index = read_settings(init / "model_index.json") | told
    (init / "model_index.json").write_text(json.dumps(index))
    options = {**IN_A_ROW, "name": "puppet_environment_motion", "networks__pipeline": {}}
    stage_of(init, **options).save(out)
    after = read_settings(out / "model_index.json")
    own = {"size": [32, 32], "stretch": False}
    assert {name: after[name] for name in ANIMATE_ANYONE} == {name: index[name] for name in ANIMATE_ANYONE} | own
    with pytest.raises(InputError, match="stretch is true; stage environment goes without"):
        stage_of(init, **{**options, "networks__pipeline": {"stretch": True}})


def test_a_checkpoint_from_before_the_place_had_a_name_goes_on(start: dict[str, Path], tmp_path: Path) -> None:
    """Such networks blend what attention adds; a recipe that does not say goes on with that."""
    output, old = tmp_path / "run", {"environment__blending_place": "attention"}
    run(small(output, start["parts"], steps=1, **old))
    state = json.loads((output / "checkpoint" / "state.json").read_text())
    del state["recipe"]["environment"]["blending_place"]
    (output / "checkpoint" / "state.json").write_text(json.dumps(state))
    for steps in (2, 3):  # the second time the checkpoint names it
        model = run(small(output, start["parts"], steps=steps), resume=True)
    assert read_settings(model / "denoising_unet" / "config.json")["blending_place"] == "attention"
    assert any("attn1.spatial_blending" in name for name in tensors(model))
    run(small(tmp_path / "new", start["parts"], steps=1))
    with pytest.raises(InputError, match="trained with another environment"):
        run(small(tmp_path / "new", start["parts"], steps=2, **old), resume=True)


def test_without_objects_and_depth(start: dict[str, Path], tmp_path: Path) -> None:
    changes = {"environment__object_blending": "none", "environment__pose_modulation": False, "steps": 1}
    model = run(small(tmp_path / "run", start["parts"], **changes))
    parts = {folder.name for folder in model.iterdir() if folder.is_dir()}
    assert "pose_guider" in parts
    assert not parts & {"object_guider", "pose_modulation"}
    again = stage_of(model, **changes)
    assert again.object_guider is None
    assert not isinstance(again.pose_guider, PoseModulation)


def test_a_model_with_finest_attention_loads_animates_and_trains_on(start: dict[str, Path], tmp_path: Path) -> None:
    """The setting that gave it is no more; that it has attention there, its configuration says."""
    model = run(small(tmp_path / "run", start["parts"], steps=1, networks__unet=FINEST))
    pipeline = load_pipeline(model, "cpu")
    for part in ("denoising_unet", "reference_net"):
        assert getattr(pipeline, part).config["up_block_types"][-1].startswith("CrossAttnUpBlock")
    pipeline.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(0)
    reference, environment, poses = (rng.integers(0, 256, (3, s, s, 3), np.uint8) for s in (32, 32, 64))
    mask = np.zeros((3, 32, 32), bool)
    mask[:, 8:24, 8:24] = True
    scene = SceneInputs(environment, mask, environment, mask, np.ones((3, 64, 64), np.float32))
    frames = pipeline(reference[0], poses, scene, num_inference_steps=1, reference_pose=poses[0]).frames
    assert frames.shape == (3, 32, 32, 3)
    weights = stage_of(model, environment__finest_attention=False, **IN_A_ROW).denoising_unet.state_dict()
    assert all(torch.equal(weights[n], v) for n, v in pipeline.denoising_unet.state_dict().items())


@pytest.mark.parametrize(
    ("init", "changes", "message"),
    [
        ("parts", {"init": "nowhere"}, "nowhere: has no vae/"),
        ("parts", {"data__pose_scale": 1}, "data.pose_scale is 1; this Pose Guider needs 2"),
        ("parts", {"networks__pipeline": {"reference_latents": True}}, "carried_reference go together"),
        ("parts", {"networks__pipeline": {"carried_reference": True}}, "carried_reference go together"),
        ("parts", {"networks__pipeline": {"reference_path": "clip"}}, "reference_path is 'clip'; stage environment"),
        ("parts", {"environment__modulation": {"heads": 2}}, "environment.modulation: .*heads"),
        ("parts", {"environment__modulation": {"num_attention_heads": 3}}, "environment.modulation: 8 channels"),
        ("parts", {**IN_A_ROW, "data__frames_per_clip": 17}, "frames_per_clip is 17; the temporal layers take 16"),
        ("with_motion", {}, "data.consecutive is false, and .* has temporal layers"),
        ("frames", {"environment__object_blending": "none"}, "environment.object_blending is 'none'; in .* 'paper'"),
        ("frames", {"environment__reference_blocks": "all"}, "environment.reference_blocks is 'all'; in .* 'mid_up'"),
        (
            "parts",
            {"environment__blending_weights": "channel"},
            "blending_weights is .channel.; the setting was",
        ),
        ("parts", {"environment__finest_attention": True}, "finest_attention is True; the setting was removed"),
        ("frames", {"environment__blending_place": "attention"}, "environment.blending_place is 'attention'; in"),
        ("frames", {"environment__pose_modulation": False}, "environment.pose_modulation is False; in .* it is True"),
        ("parts", {"environment__formulation": "circle"}, "environment.formulation is 'circle'; it must be"),
        ("parts", {"environment__scaled_share": 2}, "environment.scaled_share is 2.0; it must lie in"),
        ("parts", {"environment__smallest_scale": 3}, "environment.smallest_scale is 3.0; it must be above 0"),
        ("parts", {"environment": None}, "stage environment needs its settings"),
        ("parts", {"stage": "image"}, "stage image takes no environment"),
        ("parts", {"data__frames_per_clip": 2}, "data.frames_per_clip is 2; this needs 3"),
    ],
)
def test_recipes_that_cannot_be_trained(
    start: dict[str, Path],
    chain: dict[str, Path],
    tmp_path: Path,
    init: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    folder = start.get(init) or chain[init] / "model"
    settings = {"init": str(folder), **changes}
    with pytest.raises(InputError, match=message) as caught:
        run(small(tmp_path / "run", **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


# Recipes


def test_ablations_differ_in_one_setting_of_the_environment() -> None:
    folder = RECIPES / "ablation_environment"
    recipes = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    for name, recipe in recipes.items():
        assert recipe.pop("output") == f"runs/ablations_environment/{name}"
        assert load_recipe(folder / f"{name}.yaml").stage == "environment"
    environments = {name: recipe.pop("environment") for name, recipe in recipes.items()}
    rows = {name: recipes.pop(name) for name in ("in_a_row", "in_a_row_without_conv3d")}
    assert all(recipe == recipes["shape_agnostic"] for recipe in recipes.values())
    assert rows["in_a_row"] == rows["in_a_row_without_conv3d"]
    assert rows["in_a_row"]["data"]["consecutive"] and rows["in_a_row"]["steps"] == recipes["box"]["steps"]
    assert environments.pop("in_a_row") == environments["shape_agnostic"]
    assert environments.pop("in_a_row_without_conv3d")["modulation"] == {"num_motion_frames": 1}
    method = environments.pop("shape_agnostic")
    changed = {
        name: {key: value for key, value in settings.items() if value != method[key]}
        for name, settings in environments.items()
    }
    assert changed == {
        "box": {"formulation": "box"},
        "exact": {"formulation": "exact"},
        "without_blending": {"object_blending": "input"},
        "without_objects": {"object_blending": "none"},
        "without_modulation": {"pose_modulation": False},
    }


def test_paper_size_is_the_papers() -> None:
    recipe = load_recipe(RECIPES / "aa2.yaml")
    assert (recipe.steps, 8 * recipe.batch) == (100_000, 8)  # on eight GPUs
    assert (recipe.data.size, recipe.data.frames_per_clip, recipe.data.consecutive) == (768, 17, True)
    assert recipe.environment is not None
    told = recipe.environment
    assert (told.formulation, told.object_blending, told.reference_blocks) == ("shape_agnostic", "paper", "mid_up")
    assert told.pose_modulation and told.blending_place == "hidden"
    assert told.temporal_reference.frames == 1  # of the 17; 16 are predicted
    assert not recipe.networks.unet  # Stable Diffusion's


def test_paper_size_runs_from_stable_diffusions_parts(start: dict[str, Path], tmp_path: Path) -> None:
    """Two steps with tiny networks in Stable Diffusion's place."""
    init = tmp_path / "init"
    # Motion modules as wide as AnimateDiff's have 32 groups and 8 heads; the pose modulation 8 heads.
    tiny.unet2d(block_out_channels=[32, 32]).save_pretrained(init / "unet")
    for part in ("vae", "image_encoder"):
        (init / part).symlink_to(start["parts"] / part)
    changes = {"steps": 2, "batch": 1, "accumulate": 1, "log_every": 1, "precision": "float32"}
    changes |= {"data.size": 32, "data.clips": 2, "data.workers": 1}
    texts = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    model = run(load_recipe(RECIPES / "aa2.yaml", [f"init={init}", f"output={tmp_path / 'run'}", *texts]))
    assert (model / "pose_modulation").is_dir()
    assert [line["step"] for line in log(tmp_path / "run")] == [1, 2]


CARRIED = {"networks__pipeline": {"reference_latents": True, "carried_reference": True}}


def test_the_character_is_carried_into_the_environment(start: dict[str, Path]) -> None:
    stage = stage_of(start["parts"], objective__carry_dropout=0.0, **CARRIED)
    assert stage.denoising_unet.config["in_channels"] == 3 * 4 + 1
    batch = stage.batch(0, 0, 1)
    dropped = stage_of(start["parts"], objective__carry_dropout=0.999999, **CARRIED).batch(0, 0, 1)
    changed = ((batch.carried.int() - dropped.carried.int()).abs() > 8).any(-1)
    person, held = batch.masks.bool(), batch.object_masks.bool()
    # The character shows where the person is, and hardly anywhere else.
    assert changed[person].float().mean() > 0.5
    assert changed[~person].float().mean() < 0.2
    assert held.any() and torch.equal(batch.carried[held], batch.frames[held])
    told = ((dropped.carried.int() - dropped.environment.int()).abs() > 8).any(-1)
    cells = batch.region_cells.repeat_interleave(8, -1).repeat_interleave(8, -2)
    assert not told[~cells & ~held].any()  # elsewhere it is the environment


def test_a_share_of_the_guesses_holds_the_objects(start: dict[str, Path]) -> None:
    """Whether one does changes nothing else of a batch; the objects themselves are always given."""
    batches = {}
    for share in (0.0, 0.5, 1.0):
        stage = stage_of(start["parts"], environment__guess_objects=share, **CARRIED)
        batches[share] = [stage.batch(step, 0, 1) for step in range(12)]
    holding = []
    for none, some, all_ in zip(*batches.values(), strict=True):
        assert torch.equal(none.frames, all_.frames) and torch.equal(none.objects, all_.objects)
        for a, b, c, held in zip(none.carried, some.carried, all_.carried, all_.object_masks.bool(), strict=True):
            if not torch.equal(a, c):
                assert not torch.equal(a[held], c[held])
                holding.append(torch.equal(b, c))
                assert holding[-1] or torch.equal(b, a)
    assert True in holding and False in holding


def test_objects_are_taken_in_anew(start: dict[str, Path], tmp_path: Path) -> None:
    """From a model that blends them one begins that merges them at the input; nothing else of it changes."""
    first = run(small(tmp_path / "first", start["parts"], steps=1))
    stage = stage_of(first, environment__new_objects=True, environment__object_blending="input")
    unet, before = stage.denoising_unet, stage_of(first).denoising_unet.state_dict()
    assert not unet.object_input.weight.any() and stage.object_guider is not None
    widths = list(stage.object_guider.config["block_out_channels"])
    assert widths == unet.object_widths() == [unet.config["block_out_channels"][0]]
    for name, value in unet.state_dict().items():
        assert name.startswith("object_input.") or torch.equal(value, before[name]), name
    assert not any("spatial_blending" in name for name in unet.state_dict())
    model = run(
        small(tmp_path / "second", first, steps=1, environment__new_objects=True, environment__object_blending="input")
    )
    assert load_pipeline(model).denoising_unet.config["object_blending"] == "input"
    blended = stage_of(first, environment__new_objects=True)
    old = load_network(ObjectGuider, first / "object_guider").state_dict()
    assert blended.object_guider is not None
    assert any(not torch.equal(value, old[name]) for name, value in blended.object_guider.state_dict().items())
    assert stage_of(first, environment__new_objects=True, environment__object_blending="none").object_guider is None


def test_what_an_error_counts(start: dict[str, Path]) -> None:
    stage = stage_of(start["parts"], objective__person_weight=3.0)
    batch = stage.batch(0, 0, 1)
    masks, objects = torch.zeros(1, 1, 32, 32, dtype=torch.bool), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[..., :8, :8], objects[..., 8:16, :8], objects[..., 16:20, :8] = True, True, True
    weights = stage.weights(replace(batch, masks=masks, object_masks=objects))
    assert weights.shape == (1, 1, 1, 4, 4)
    assert weights[0, 0, 0, :, 0].tolist() == [3, 3, 2, 1] and (weights[..., 1:] == 1).all()


def test_what_is_made_is_what_differs_from_the_carried_character(
    start: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that makes nothing is right where the carried picture is the target, and there alone."""
    stage = stage_of(start["parts"], **CARRIED)
    monkeypatch.setattr(stage, "timesteps", lambda b, k, generator: torch.full((b, k), 999))  # noise alone
    batch = stage.batch(0, 0, 1)
    with torch.no_grad():
        stage.denoising_unet.conv_out.weight.zero_()
        stage.denoising_unet.conv_out.bias.zero_()
        wrong = float(stage(batch, torch.Generator().manual_seed(0))["loss"])
        right = float(stage(replace(batch, carried=batch.frames), torch.Generator().manual_seed(0))["loss"])
    assert right == pytest.approx(0, abs=1e-6)
    assert wrong > 1e-3


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("changes", [{}, IN_A_ROW])
def test_noise_is_drawn_as_the_model_samples(start: dict[str, Path], shared: bool, changes: dict[str, Any]) -> None:
    """In a row: one noise for all frames where the model shares it. Single frames are clips of their own."""
    options = {"reference_pose": True, "shared_noise": shared}
    stage = stage_of(start["with_motion" if changes else "single_frames"], networks__pipeline=options, **changes)
    seen: list[Tensor] = []
    add_noise = stage.scheduler.add_noise
    stage.scheduler.add_noise = lambda latents, noise, t: seen.append(noise) or add_noise(latents, noise, t)
    loss(stage, stage.batch(0, 0, 1))
    noise = seen[0].unflatten(0, (-1, stage.targets))
    assert bool((noise == noise[:, :1]).all()) == (shared and bool(changes))
    assert (noise[0] != noise[1]).any()


def test_shared_noise_travels_from_the_model_before(start: dict[str, Path], tmp_path: Path) -> None:
    made = tiny.pipeline(shared_noise=True)
    made.save_pretrained(tmp_path / "model")
    stage = stage_of(tmp_path / "model", networks__pipeline={}, **IN_A_ROW)
    noise = stage.noise(torch.Size((2, 3, 4, 4, 4)), torch.Generator().manual_seed(0))
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
