"""The pipeline of Animate Anyone 2 with a tiny real model: what its frames depend on, and on what not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from animate_anyone.conditions.environment import empty, fill, latent_mask
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import join_environment
from animate_anyone.models.folder import check_verb
from animate_anyone.models.image_tokens import picture_token
from animate_anyone.sampling import pipeline_environment
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs

FRAMES, STEPS = 9, 2
RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (*shape, 3), np.uint8)


REFERENCE, POSES, SOURCE = noise(64, 64), noise(FRAMES, 128, 128), noise(FRAMES, 64, 64)
MASK = np.zeros((FRAMES, 64, 64), bool)
MASK[:, 16:48, 24:40] = True
OBJECT_MASK = np.zeros_like(MASK)
OBJECT_MASK[2:6, 30:44, 40:52] = True
ENVIRONMENT, OBJECTS = empty(SOURCE, MASK), empty(SOURCE, ~OBJECT_MASK)
DEPTH = RANDOM.random((FRAMES, 128, 128)).astype(np.float32)


def made(**changes: Any) -> AnimateAnyone2Pipeline:
    pipeline = tiny.environment_pipeline(**changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> AnimateAnyone2Pipeline:
    return made()


def run(pipeline: AnimateAnyone2Pipeline, *, seed: int = 0, **changes: Any) -> Tensor:
    """Latents, by default of everything above."""
    options: dict[str, Any] = {
        "reference": REFERENCE,
        "poses": POSES,
        "environment": ENVIRONMENT,
        "mask": MASK,
        "objects": OBJECTS,
        "object_mask": OBJECT_MASK,
        "depth": DEPTH,
        "reference_pose": POSES[0],
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed),
        **changes,
    }
    scene = SceneInputs(**{field.name: options.pop(field.name) for field in dataclasses.fields(SceneInputs)})
    return pipeline(options.pop("reference"), options.pop("poses"), scene, **options).frames


def far(one: Tensor, other: Tensor) -> list[float]:
    """The largest difference in each frame."""
    return (one - other).abs().amax((0, 1, 3, 4)).tolist()


def test_frames(pipeline: AnimateAnyone2Pipeline) -> None:
    frames = run(pipeline, output_type="np")
    assert frames.shape == (FRAMES, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 5


def test_frames_depend_on_everything_that_is_told(pipeline: AnimateAnyone2Pipeline) -> None:
    latents = run(pipeline)
    assert torch.equal(latents, run(pipeline))
    for change in (
        {"seed": 1},
        {"reference": REFERENCE[::-1]},
        {"reference_pose": POSES[5]},
        {"poses": POSES[::-1]},
        {"environment": ENVIRONMENT[::-1]},
        {"mask": ~MASK},
        {"objects": OBJECTS[:, ::-1]},
        {"object_mask": OBJECT_MASK[:, ::-1]},
        {"objects": None, "object_mask": None},
        {"depth": DEPTH[::-1]},
        {"guidance_scale": 2.0},
    ):
        assert max(far(latents, run(pipeline, **change))) > 1e-3, change


def test_no_object_anywhere_is_no_objects(pipeline: AnimateAnyone2Pipeline) -> None:
    nowhere = run(pipeline, object_mask=np.zeros_like(OBJECT_MASK))
    assert torch.equal(nowhere, run(pipeline, objects=None, object_mask=None))


@torch.no_grad()
def test_the_guider_is_given_what_objects_change() -> None:
    """In the cells that they touch: their latents over the filled environment, less those of the first guess."""
    guessing = {"reference_latents": True, "carried_reference": True}
    pipeline, seen = made(**guessing, object_latents="changes"), []
    assert pipeline.object_guider is not None
    pipeline.object_guider.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    carried = noise(FRAMES, 64, 64)
    frames = run(pipeline, carried=carried)
    cells = torch.from_numpy(latent_mask(OBJECT_MASK, 8))
    over = np.where(OBJECT_MASK[..., None], OBJECTS, fill(ENVIRONMENT, MASK))
    want = []
    with torch.no_grad():
        for pictures in (over, carried):
            pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
            want.append(pipeline.vae.encode(pixels).latent_dist.mode())
    given = torch.cat(seen, 2)[0].transpose(0, 1)
    torch.testing.assert_close(given, (want[0] - want[1]) * cells[:, None], rtol=0, atol=1e-5)
    assert (given.flatten(1).abs().amax(1) > 0).tolist() == OBJECT_MASK.any((1, 2)).tolist()
    assert far(frames, run(made(**guessing), carried=carried))[3] > 0


def naive(p: AnimateAnyone2Pipeline, guidance: float) -> Tensor:
    """The sampler written out for one window: everything at once, each half by itself."""

    def tensor(pictures: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(pictures.copy()).permute(3, 0, 1, 2)[None].float()

    def encode(pictures: NDArray[np.uint8]) -> Tensor:
        pixels = tensor(pictures)[0].transpose(0, 1) / 127.5 - 1
        latents = p.vae.encode(pixels).latent_dist.mean * p.vae.config["scaling_factor"]
        return latents.transpose(0, 1)[None]

    assert p.pose_modulation is not None and p.object_guider is not None
    pose = p.pose_modulation(tensor(POSES) / 255, torch.from_numpy(DEPTH)[None, None])
    own = p.pose_modulation(tensor(POSES[:1]) / 255)[:, :, 0]
    token, latent = picture_token(p.image_encoder, REFERENCE), encode(REFERENCE[None])[:, :, 0]
    keys_values = p.denoising_unet.project_reference(p.reference_net(latent, token, own))
    environment = encode(ENVIRONMENT)
    mask = torch.from_numpy(latent_mask(MASK)).float()[None, None]
    objects = p.object_guider(encode(OBJECTS) * torch.from_numpy(latent_mask(OBJECT_MASK)))
    assert objects.present.tolist() == [OBJECT_MASK.any((1, 2)).tolist()]
    latents = torch.randn((1, 4, FRAMES, 8, 8), generator=torch.Generator().manual_seed(0))
    p.scheduler.set_timesteps(STEPS)
    for t in p.scheduler.timesteps:
        noisy = join_environment(latents, environment, mask)
        prediction = p.denoising_unet(noisy, t, token, pose, keys_values, objects)
        if guidance != 1:
            without = p.denoising_unet(noisy, t, torch.zeros_like(token), pose, None, objects)
            prediction = without + guidance * (prediction - without)
        latents = p.scheduler.step(prediction, t, latents).prev_sample
    return latents


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_sampler(pipeline: AnimateAnyone2Pipeline, guidance: float) -> None:
    """Guidance leaves the scene to both halves and takes the reference from one."""
    ours, theirs = run(pipeline, guidance_scale=guidance, window=FRAMES), naive(pipeline, guidance)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


def test_chunks_of_poses_change_nothing(pipeline: AnimateAnyone2Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk sees the frames in reach of the convolution over time."""

    def features() -> Tensor:
        return pipeline._pose_features(POSES, None, (64, 64), DEPTH).of(range(len(POSES)))[0]

    whole = features()
    monkeypatch.setattr(AnimateAnyone2Pipeline, "poses_at_once", 2)
    torch.testing.assert_close(features(), whole, rtol=0, atol=1e-5)
    monkeypatch.setattr(type(pipeline.pose_modulation), "reach", 0)
    assert max(far(features(), whole)) > 1e-3


def test_windows_get_their_own_part_of_the_scene(pipeline: AnimateAnyone2Pipeline) -> None:
    """In windows that do not overlap a frame's environment reaches its own window alone."""
    changed = ENVIRONMENT.copy()
    changed[7] = 255 - changed[7]
    options = {"window": 3, "overlap": 0, "guidance_scale": 2.0}
    distance = far(run(pipeline, **options), run(pipeline, environment=changed, **options))
    assert max(distance[:6]) == 0
    assert min(distance[6:]) > 0
    batched = run(pipeline, window_batch=3, **options)
    assert max(far(batched, run(pipeline, **options))) < 1e-4


class Watch:
    """Keeps the latents after each step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, pipeline: Any, step: int, t: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append(given["latents"].clone())
        return {}


def test_continuation(pipeline: AnimateAnyone2Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments 0-4, 3-7 and 4-8: frames that two segments share are those of the first, and the second sees them."""
    options = {"window": 5, "continuation": 2}
    watch = Watch()
    latents = run(pipeline, callback_on_step_end=watch, **options)
    assert [x.shape[2] for x in watch.seen] == [5] * 3 * STEPS
    assert torch.equal(latents[:, :, :5], watch.seen[STEPS - 1])
    assert torch.equal(latents[:, :, 5:8], watch.seen[2 * STEPS - 1][:, :, 2:])
    assert torch.equal(latents[:, :, 8:], watch.seen[3 * STEPS - 1][:, :, 4:])
    # Another beginning reaches the frames after it, through the shared frames alone.
    changed = ENVIRONMENT.copy()
    changed[0] = 255 - changed[0]
    assert min(far(latents, run(pipeline, environment=changed, **options))) > 0
    monkeypatch.setattr(pipeline_environment, "holding", lambda *_: None)
    apart = far(run(pipeline, **options), run(pipeline, environment=changed, **options))
    assert min(apart[:5]) > 0
    assert max(apart[5:]) == 0


def test_held_frames_are_noised_as_the_step_wants(pipeline: AnimateAnyone2Pipeline) -> None:
    known, drawn, latents = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 5, 8, 8), torch.randn(1, 4, 5, 8, 8)
    hold = pipeline_environment.holding(pipeline.scheduler, known, drawn)
    for t in (0, 500, 999):
        held = hold(latents, torch.tensor(t))
        share = pipeline.scheduler.alphas_cumprod[t]
        torch.testing.assert_close(held[:, :, :2], share**0.5 * known + (1 - share) ** 0.5 * drawn[:, :, :2])
        assert torch.equal(held[:, :, 2:], latents[:, :, 2:])


def test_continuation_of_a_short_clip_is_one_window(pipeline: AnimateAnyone2Pipeline) -> None:
    assert max(far(run(pipeline, window=9, continuation=3), run(pipeline, window=9))) < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": ENVIRONMENT[:4]}, "environment has 4 frames and there are 9 poses"),
        ({"environment": ENVIRONMENT[:, :32]}, r"environment\[0\] is uint8 \(32, 64, 3\); it must be"),
        ({"mask": MASK.astype(np.uint8)}, "mask is uint8"),
        ({"mask": MASK[:, :32]}, r"mask is bool \(9, 32, 64\)"),
        ({"objects": None}, "objects and object_mask go together"),
        ({"depth": None}, "needs depth"),
        ({"depth": DEPTH[:, :64]}, r"depth is float32 \(9, 64, 128\); it must be float32 \(9, 128, 128\)"),
        ({"depth": DEPTH + 1}, "depth has values from 1"),
        ({"continuation": 8}, "continuation is 8; give 0, or less than the window of 8"),
        ({"continuation": -1}, "continuation is -1"),
        ({"continuation": 2, "num_inference_steps": 1}, "continuation has nothing to go on from in 1 step"),
        ({"num_inference_steps": 0}, "0 denoising steps"),
    ],
)
def test_mistakes(pipeline: AnimateAnyone2Pipeline, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(pipeline, **changes)


def test_model_without_objects_or_depth(tmp_path: Path) -> None:
    """Goes its own way from the folder on, and refuses what it was not trained with."""
    made(object_blending="none", modulated=False, formulation="box").save_pretrained(tmp_path / "m")
    assert not {"object_guider", "pose_modulation"} & {f.name for f in (tmp_path / "m").iterdir()}
    plain = load_pipeline(tmp_path / "m", "cpu")
    assert isinstance(plain, AnimateAnyone2Pipeline)
    assert plain.config["formulation"] == "box"
    plain.set_progress_bar_config(disable=True)
    given = {"objects": None, "object_mask": None, "depth": None}
    assert run(plain, **given).shape == (1, 4, FRAMES, 8, 8)
    with pytest.raises(InputError, match="without structured depth"):
        run(plain, objects=None, object_mask=None)
    with pytest.raises(InputError, match="without objects"):
        run(plain, depth=None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aa2") / "model"
    tiny.environment_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of a whole model, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_index_is_a_file_format(whole: Path) -> None:
    index = json.loads((whole / "model_index.json").read_text())
    assert index["_class_name"] == "AnimateAnyone2Pipeline"
    assert index["object_guider"] == ["animate_anyone.models.object_guider", "ObjectGuider"]
    assert index["pose_modulation"] == ["animate_anyone.models.pose_modulation", "PoseModulation"]
    assert index["pose_guider"] == [None, None]
    assert (index["formulation"], index["uses_objects"], index["uses_depth"]) == ("shape_agnostic", True, True)
    assert (index["size"], index["window"], index["reference_pose"]) == ([64, 64], 8, True)


def test_folder_gives_the_same_frames(whole: Path, pipeline: AnimateAnyone2Pipeline) -> None:
    again = load_pipeline(whole, "cpu", "float32")
    assert isinstance(again, AnimateAnyone2Pipeline)
    again.set_progress_bar_config(disable=True)
    assert max(far(run(again), run(pipeline))) < 1e-5
    shapes = load_shapes(whole)
    assert isinstance(shapes, AnimateAnyone2Pipeline)
    assert shapes.plan(12, continuation=2) == again.plan(12, continuation=2)
    assert {**shapes.config, "_name_or_path": None} == {**again.config, "_name_or_path": None}


def test_half_precision(whole: Path, pipeline: AnimateAnyone2Pipeline) -> None:
    half = load_pipeline(whole, "cpu", "bfloat16")
    assert isinstance(half, AnimateAnyone2Pipeline)
    half.set_progress_bar_config(disable=True)
    latents, rough = run(pipeline, guidance_scale=2.0), run(half, guidance_scale=2.0)
    assert rough.dtype == torch.float32
    assert 0 < (latents - rough).abs().mean() < 0.05 * latents.abs().mean()


def drop(tensors: dict[str, Any], name: str) -> None:
    del tensors[name]


def add(tensors: dict[str, Any], name: str) -> None:
    tensors["stranger.weight"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("part", "name"), [("object_guider", "convs.1.weight"), ("pose_modulation", "attention.to_q.weight")]
)
@pytest.mark.parametrize(("change", "message"), [(drop, "has no {name}"), (add, "has an unknown stranger.weight")])
def test_folder_is_read_strictly(
    folder: Path, part: str, name: str, change: Callable[[dict[str, Any], str], None], message: str
) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    change(tensors, name)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InputError, match=f"{part} {message.format(name=name)}"):
        load_pipeline(folder, "cpu")
    shutil.rmtree(folder / part)
    with pytest.raises(InputError, match=f"its part {part}/ is missing"):
        load_pipeline(folder, "cpu")


@pytest.mark.parametrize(
    ("part", "setting", "value", "message"),
    [
        ("object_guider", "block_out_channels", [16, 24], r"block_out_channels is \[16, 24\]; .* need \[16, 32\]"),
        ("denoising_unet", "object_blending", "none", "denoising_unet has an unknown .*spatial_blending"),
        ("denoising_unet", "environment_channels", 4, "environment_channels is 4; .* need 5"),
    ],
)
def test_parts_must_fit(folder: Path, part: str, setting: str, value: Any, message: str) -> None:
    config = folder / part / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), setting: value}))
    if part == "object_guider":
        shutil.rmtree(folder / part)
        pipeline_environment.ObjectGuider(4, tuple(value)).save_pretrained(folder / part)
    with pytest.raises(InputError, match=message):
        load_pipeline(folder, "cpu")


def test_each_verb_has_its_models(whole: Path, tiny_model: Path) -> None:
    check_verb(whole, "replace")
    check_verb(tiny_model, "animate")
    with pytest.raises(InputError, match=r"is a model of Animate Anyone 2; type `animate-anyone replace`"):
        check_verb(whole, "animate")
    with pytest.raises(InputError, match=r"is a model of Animate Anyone; type `animate-anyone animate`"):
        check_verb(tiny_model, "replace")
    assert type(load_pipeline(tiny_model, "cpu")) is AnimateAnyonePipeline


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formulation": "circle"}, "formulation 'circle' is not known"),
        ({"uses_depth": False}, "uses_depth False: pose_modulation must not be given"),
        ({"object_guider": None}, "uses_objects True: object_guider must be given"),
        ({"stretch": True}, "stretch is True; Animate Anyone 2 goes with False alone"),
        ({"object_latents": "some"}, "object_latents 'some' is not known; give alone or changes"),
        ({"object_latents": "changes"}, "changes are those of a first guess; set carried_reference too"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.environment_pipeline(**changes)
