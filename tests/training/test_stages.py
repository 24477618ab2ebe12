"""Every stage, from its shipped recipe, really trained for a few steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from small_recipes import STAGES, log, same, small, tensors
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

import tiny
from animate_anyone.errors import InputError
from animate_anyone.sampling.models import load_pipeline
from animate_anyone.training.checkpoint import load_checkpoint
from animate_anyone.training.loop import train
from animate_anyone.training.stage_image import ImageStage
from animate_anyone.training.stage_motion import MotionStage
from animate_anyone.training.stages import build_stage, run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
BEFORE = dict(zip(STAGES[1:], STAGES, strict=False))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All four stages, one after the other, two steps each: stage -> output folder."""
    root = tmp_path_factory.mktemp("chain")
    outputs: dict[str, Path] = {}
    for stage in STAGES:
        outputs[stage] = root / stage
        folder = run(small(stage, outputs[stage], init_of(stage, outputs)))
        assert folder == outputs[stage] / "model"
    return outputs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the first recipe fills and the others read; not for the motion stage."""
    return tmp_path_factory.mktemp("clips")


def init_of(stage: str, chain: dict[str, Path]) -> Path | None:
    """The model that a stage starts from."""
    return chain[BEFORE[stage]] / "model" if stage in BEFORE else None


@pytest.mark.parametrize("stage", STAGES)
def test_two_steps(chain: dict[str, Path], stage: str) -> None:
    lines = log(chain[stage])
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert math.isfinite(line["loss"])
        assert line["loss"] > 0
        assert line["grad_norm"] > 0
    assert {f.name for f in chain[stage].iterdir()} == {"log.jsonl", "checkpoint", "model"}


def test_results_are_loadable(chain: dict[str, Path]) -> None:
    vae = AutoencoderKL.from_pretrained(chain["autoencoder"] / "model", subfolder="vae")
    assert 0.01 < vae.config["scaling_factor"] != 0.18215
    CLIPVisionModelWithProjection.from_pretrained(chain["image_encoder"] / "model/image_encoder")
    for stage in ("image", "motion"):
        pipeline = load_pipeline(chain[stage] / "model", "cpu")
        pipeline.set_progress_bar_config(disable=True)
        assert pipeline.config["size"] == [64, 64]
        assert pipeline.config["reference_pose"]
        assert pipeline.scheduler.config["prediction_type"] == "v_prediction"
        assert pipeline.denoising_unet.config["use_motion_module"] == (stage == "motion")
        poses = np.zeros((3, 128, 128, 3), np.uint8)
        frames = pipeline(np.zeros((64, 64, 3), np.uint8), poses, reference_pose=poses[0], num_inference_steps=2).frames
        assert frames.shape == (3, 64, 64, 3)


def test_models_tell_how_they_came_to_be(chain: dict[str, Path]) -> None:
    import json

    history = json.loads((chain["motion"] / "model/training.json").read_text())
    assert history[-1]["recipe"]["stage"] == "motion"
    assert [entry["steps_done"] for entry in history] == [2] * len(history)


def test_image_stage_leaves_what_came_before(chain: dict[str, Path]) -> None:
    for part in ("vae", "image_encoder"):
        before = tensors(chain["image_encoder"] / "model" / part)
        assert same(before, tensors(chain["image"] / "model" / part))
    assert same(tensors(chain["autoencoder"] / "model/vae"), tensors(chain["image"] / "model/vae"))


def test_image_stage_trains_all_three_networks(chain: dict[str, Path], tmp_path: Path) -> None:
    fresh = build_stage(small("image", tmp_path, init_of("image", chain)))
    trained = load_pipeline(chain["image"] / "model", "cpu")
    for part in ("denoising_unet", "reference_net", "pose_guider"):
        before, after = getattr(fresh, part).state_dict(), getattr(trained, part).state_dict()
        assert before.keys() == after.keys()
        assert any(not torch.equal(before[name], after[name]) for name in before), part


def test_motion_stage_trains_motion_alone(chain: dict[str, Path]) -> None:
    before, after = tensors(chain["image"] / "model"), tensors(chain["motion"] / "model")
    assert same(before, {name: after[name] for name in before})
    new = after.keys() - before.keys()
    assert new
    assert all(".motion_modules." in name for name in new)
    learnt = [name for name in new if "proj_out.weight" in name]
    assert any(after[name].any() for name in learnt)  # they began at zero
    stage = build_stage(small("motion", chain["motion"], init_of("motion", chain)))
    assert all(".motion_modules." in name for name, p in stage.named_parameters() if p.requires_grad)


class Stop(BaseException):
    """An interrupt in the middle of a run."""


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_and_resumed_is_the_same_run(chain: dict[str, Path], cache: Path, tmp_path: Path, stage: str) -> None:
    def recipe(name: str) -> Any:
        kept = None if stage == "motion" else str(cache)
        return small(stage, tmp_path / name, init_of(stage, chain), steps=4, checkpoint_every=2, data__cache=kept)

    def stop(step: int) -> None:
        if step == 2:
            raise Stop

    run(recipe("straight"))
    with pytest.raises(Stop):
        train(recipe("cut"), build_stage(recipe("cut")), after_checkpoint=stop)
    assert not same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))
    run(recipe("cut"), resume=True)
    assert same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))  # model, checkpoint, moving average
    moments = [torch.load(tmp_path / n / "checkpoint/optimizer.pt", weights_only=True) for n in ("cut", "straight")]
    torch.testing.assert_close(moments[0], moments[1], rtol=0, atol=0)
    keep = ("step", "loss", "lr", "grad_norm")
    cut, straight = ([{k: line[k] for k in keep} for line in log(tmp_path / n)] for n in ("cut", "straight"))
    assert cut == straight


def test_more_steps_may_be_asked_for_later(chain: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"init": init_of("image", chain), "optimizer__schedule": "constant"}
    run(small("image", tmp_path / "straight", steps=4, **options))
    run(small("image", tmp_path / "twice", steps=2, **options))
    run(small("image", tmp_path / "twice", steps=4, **options), resume=True)
    assert same(tensors(tmp_path / "twice"), tensors(tmp_path / "straight"))


def test_checkpoint_of_another_recipe_is_refused(chain: dict[str, Path]) -> None:
    recipe = small("image", chain["image"], init_of("image", chain), optimizer__lr=0.1)
    with pytest.raises(InputError, match="trained with another optimizer"):
        run(recipe, resume=True)
    recipe = small("image", chain["image"], init_of("image", chain), steps=2)
    motion = build_stage(small("motion", chain["motion"], init_of("motion", chain)))
    optimizer = torch.optim.AdamW(p for p in motion.parameters() if p.requires_grad)
    with pytest.raises(InputError, match="not those of this stage; the first that differs is denoising_unet"):
        load_checkpoint(chain["image"] / "checkpoint", motion, optimizer, None, recipe)


def test_bfloat16_and_half_precision_files(chain: dict[str, Path], tmp_path: Path) -> None:
    """A run of another precision than those before it in the same process; and files of half the size."""
    recipe = small("image", tmp_path, init_of("image", chain), precision="bfloat16", save_dtype="float16")
    folder = run(recipe)
    assert all(math.isfinite(line["loss"]) for line in log(tmp_path))
    assert {t.dtype for t in tensors(folder).values()} == {torch.float16}
    assert {t.dtype for t in tensors(tmp_path / "checkpoint").values()} == {torch.float32}
    load_pipeline(folder, "cpu")
    assert {line["loss"] for line in log(tmp_path)} != {line["loss"] for line in log(chain["image"])}


def image_stage(chain: dict[str, Path], output: Path, **changes: Any) -> ImageStage:
    stage = build_stage(small("image", output, init_of("image", chain), **changes))
    assert isinstance(stage, ImageStage)
    awaken(stage)
    return stage


def awaken(stage: ImageStage) -> None:
    """Random weights for what starts at zero, so that every path carries a gradient."""
    torch.manual_seed(9)
    for network in (stage.denoising_unet, stage.reference_net, stage.pose_guider):
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silent(stage: ImageStage) -> set[str]:
    """Names of ReferenceNet's, the guider's and the UNet's weights that got no gradient."""
    return {
        name
        for name, p in stage.named_parameters()
        if p.grad is None and not name.startswith(("vae.", "image_encoder."))
    }


def test_every_trained_weight_gets_a_gradient_and_no_other_could(chain: dict[str, Path], tmp_path: Path) -> None:
    """Data-parallel training fails on a weight that is trained and gets none."""
    stage = image_stage(chain, tmp_path, objective__condition_dropout=0)
    left_alone = {name for name, p in stage.named_parameters() if not p.requires_grad}
    stage(stage.batch(0, 0, 1), noise())["loss"].backward()
    assert silent(stage) == {name for name in left_alone if name.startswith("reference_net.")} != set()
    for network in (stage.reference_net, stage.denoising_unet, stage.pose_guider):
        network.requires_grad_(True)
    stage.zero_grad(set_to_none=True)
    stage(stage.batch(0, 0, 1), noise())["loss"].backward()
    assert silent(stage) == {name for name in left_alone if name.startswith("reference_net.")}


def changed_reference(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same targets with another reference."""
    frames = batch["frames"].clone()
    frames[:, 0] = 255 - frames[:, 0]
    return {**batch, "frames": frames, "reference": 255 - batch["reference"]}


@pytest.mark.parametrize("kind", ["image", "motion"])
def test_all_conditions_dropped(chain: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Nothing depends on the reference, and weights that are trained have a gradient all the same."""
    recipe = small(kind, tmp_path, init_of(kind, chain), objective__condition_dropout=0.9999999)
    stage = build_stage(recipe)
    assert isinstance(stage, ImageStage)
    awaken(stage)
    batch = stage.batch(0, 0, 1)
    dropped = stage(batch, noise())["loss"]
    assert torch.equal(dropped, stage(changed_reference(batch), noise())["loss"])
    dropped.backward()
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert not (name.startswith("reference_net.") and parameter.grad.any()), name


def test_conditions_kept_and_dropped_in_part(chain: dict[str, Path], tmp_path: Path) -> None:
    kept = image_stage(chain, tmp_path, objective__condition_dropout=0.0)
    batch = kept.batch(0, 0, 1)
    assert not torch.equal(kept(batch, noise())["loss"], kept(changed_reference(batch), noise())["loss"])
    half = image_stage(chain, tmp_path, objective__condition_dropout=0.5, objective__person_weight=1.0)
    alone = image_stage(chain, tmp_path, objective__condition_dropout=0.9999999, objective__person_weight=1.0)
    # A seed that drops one of the two: the loss is the mean of a clip without and a clip with its condition.
    seed = next(s for s in range(20) if int((torch.rand(2, generator=noise(s)) < 0.5).sum()) == 1)
    kept = image_stage(chain, tmp_path, objective__condition_dropout=0.0, objective__person_weight=1.0)
    first, second = ({name: value[i : i + 1] for name, value in batch.items()} for i in (0, 1))
    other = {name: torch.cat([first[name], changed_reference(second)[name]]) for name in batch}
    assert not torch.equal(half(batch, noise(seed))["loss"], half(other, noise(seed))["loss"])
    other = {name: torch.cat([changed_reference(first)[name], second[name]]) for name in batch}
    assert torch.equal(half(batch, noise(seed))["loss"], half(other, noise(seed))["loss"])
    losses = {
        name: s(batch, noise(seed))["loss"].detach() for name, s in (("half", half), ("none", alone), ("all", kept))
    }
    assert len({float(loss) for loss in losses.values()}) == 3


def test_latents_of_the_cache_are_those_of_the_step(chain: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    rendered = image_stage(chain, tmp_path)
    kept = image_stage(chain, tmp_path, data__cache=str(cache))
    one, other = rendered.batch(0, 0, 1), kept.batch(0, 0, 1)
    assert one.keys() - other.keys() == {"frames"}
    assert other.keys() - one.keys() == {"latents"}
    for name in one.keys() & other.keys():
        assert torch.equal(one[name], other[name]), name
    torch.testing.assert_close(other["latents"].float(), rendered.encode(one["frames"]), rtol=2e-3, atol=1e-3)
    assert kept(other, noise())["loss"].item() == pytest.approx(rendered(one, noise())["loss"].item(), rel=1e-3)


def test_latents_are_scaled_for_training_as_for_sampling(chain: dict[str, Path], tmp_path: Path) -> None:
    """Encoded and scaled here, unscaled and decoded there: the way back is the autoencoder's own."""
    stage = image_stage(chain, tmp_path)
    frames = stage.batch(0, 0, 1)["frames"]
    latents = stage.encode(frames)
    pipeline = load_pipeline(chain["image"] / "model", "cpu")
    decoded = next(pipeline.decode(latents[:1, :1].transpose(1, 2)))
    with torch.no_grad():
        pixels = frames[0, :1].permute(0, 3, 1, 2).float() / 127.5 - 1
        own = stage.vae.decode(stage.vae.encode(pixels).latent_dist.mode()).sample[0].permute(1, 2, 0)
    assert np.abs(decoded - ((own + 1) * 127.5).clamp(0, 255).numpy()).max() < 1


def test_motion_stage_sees_clips_in_order_with_one_timestep(chain: dict[str, Path], tmp_path: Path) -> None:
    stage = build_stage(small("motion", tmp_path, init_of("motion", chain)))
    assert isinstance(stage, MotionStage)
    frames = stage.choose_frames(np.random.default_rng(0), 4)
    assert frames[1:].tolist() == [0, 1, 2, 3]
    times = stage.timesteps(3, 4, noise())
    assert times.shape == (3, 4)
    assert (times == times[:, :1]).all()
    assert len(set(times[:, 0].tolist())) > 1
    image = image_stage(chain, tmp_path)
    assert not (image.timesteps(3, 4, noise()) == image.timesteps(3, 4, noise())[:, :1]).all()
    chosen = [image.choose_frames(np.random.default_rng(seed), 5).tolist() for seed in range(20)]
    assert all(len(set(c)) == 3 for c in chosen)  # the reference is never a target
    assert {c[0] for c in chosen} == set(range(5))


def test_motion_is_one_video_and_image_are_frames(chain: dict[str, Path], tmp_path: Path) -> None:
    """Both stages' predictions are the pipeline's network on the same input."""
    stage = build_stage(small("motion", tmp_path, init_of("motion", chain)))
    assert isinstance(stage, MotionStage)
    awaken(stage)
    noisy, token, pose = torch.randn(2, 4, 4, 8, 8), torch.randn(2, 1, 12), torch.randn(2, 16, 4, 8, 8)
    times = torch.tensor([[9] * 4, [800] * 4])
    out = stage.predict(noisy, times, token, pose, None)
    for clip in range(2):
        want = stage.denoising_unet(
            noisy[clip : clip + 1].transpose(1, 2), times[clip, 0], token[clip : clip + 1], pose[clip : clip + 1]
        )
        torch.testing.assert_close(out[clip : clip + 1], want.transpose(1, 2), rtol=0, atol=1e-5)
    image = image_stage(chain, tmp_path)
    times = torch.tensor([[9, 99, 500, 999], [800, 3, 7, 600]])
    out = image.predict(noisy, times, token, pose, None)
    for clip in range(2):
        for frame in range(4):
            want = image.denoising_unet(
                noisy[clip : clip + 1, frame, :, None],
                times[clip, frame],
                token[clip : clip + 1],
                pose[clip : clip + 1, :, frame : frame + 1],
            )
            torch.testing.assert_close(out[clip, frame], want[0, :, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("image", {"init": None}, "stage image needs init"),
        ("image", {"init": "nowhere"}, r"nowhere: has no vae/"),
        ("autoencoder", {"init": "nowhere"}, r"nowhere/vae: is not there"),
        ("image_encoder", {"init": "nowhere"}, r"nowhere: has no vae/"),
        ("image", {"data__pose_scale": 1}, "data.pose_scale is 1; this Pose Guider needs 2"),
        ("image", {"networks__unet": {"blocks": 2}}, "networks.unet: .*blocks"),
        ("image", {"networks__scheduler": {"beta": 2}}, "networks.scheduler: .*beta"),
        ("autoencoder", {"networks__vae": {"blocks": 2}}, "networks.vae: .*blocks"),
        ("motion", {"data__frames_per_clip": 17}, "frames_per_clip is 17; the temporal layers take 16"),
        ("autoencoder", {"output": "/dev/null/here"}, "output /dev/null/here: cannot be made"),
        ("autoencoder", {"data__cache": "/dev/null/here"}, "data.cache /dev/null/here: cannot be made"),
    ],
)
def test_recipes_that_cannot_be_trained(
    chain: dict[str, Path], tmp_path: Path, stage: str, changes: dict[str, Any], message: str
) -> None:
    settings = {"init": init_of(stage, chain), "output": tmp_path / "output", **changes}
    with pytest.raises(InputError, match=message) as caught:
        run(small(stage, **settings))
    assert "\n" not in str(caught.value)


def test_motion_needs_the_image_stage(chain: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no denoising_unet/; train the image stage first"):
        run(small("motion", tmp_path, chain["image_encoder"] / "model"))


def mean_loss(stage: Any) -> float:
    """Over several batches and draws of noise, the same at every call."""
    with torch.no_grad():
        return float(torch.stack([stage(stage.batch(n, 0, 1), noise(n))["loss"] for n in range(8)]).mean())


@pytest.mark.parametrize(
    ("kind", "share", "changes"),
    [
        ("autoencoder", 0.5, {"steps": 40, "data__clips": 1, "optimizer__lr": 5e-3}),
        ("image", 0.7, {"steps": 40, "data__clips": 1, "optimizer__lr": 5e-3}),
        (
            "image_encoder",
            0.8,
            {
                "steps": 150,
                "batch": 4,
                "data__clips": 4,
                "optimizer__lr": 1e-3,
                "networks__image_encoder": {**tiny.IMAGE_ENCODER, "hidden_size": 32, "patch_size": 8},
            },
        ),
    ],
)
def test_loss_falls(
    chain: dict[str, Path], cache: Path, tmp_path: Path, kind: str, share: float, changes: dict[str, Any]
) -> None:
    """On a clip or few, seen again and again."""
    options = {"ema": 0, "log_every": 40, "optimizer__weight_decay": 0, "data__cache": str(cache), **changes}
    recipe = small(kind, tmp_path, init_of(kind, chain), **options)
    stage = build_stage(recipe)
    before = mean_loss(stage)
    train(recipe, stage)
    after = mean_loss(stage)
    print(f"{kind}: {before:.3f} -> {after:.3f}")
    assert after < share * before


def test_tiny_settings_are_those_of_the_tiny_model(chain: dict[str, Path]) -> None:
    """Recipes and tests/tiny.py build the same networks, so that what is tested there is what is trained here."""
    trained, made = load_pipeline(chain["motion"] / "model", "cpu"), tiny.pipeline()
    for part in ("denoising_unet", "reference_net", "pose_guider", "vae"):
        assert getattr(trained, part).state_dict().keys() == getattr(made, part).state_dict().keys()
