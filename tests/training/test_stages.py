"""Every stage, from its shipped recipe, really trained for a few steps."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from small_recipes import STAGES, few_clips_a_shard, log, same, small, tensors
from transformers import CLIPVisionModelWithProjection

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.checkpoint import load_checkpoint
from animate_anyone.training.loop import train
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
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that the first recipe fills and the others read; not for the motion stage."""
    with pytest.MonkeyPatch.context() as patch:
        few_clips_a_shard(patch)
        yield tmp_path_factory.mktemp("clips")


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
        black = np.zeros((64, 64, 3), np.uint8)
        frames = pipeline(black, poses, reference_pose=poses[0], carried=[black] * 3, num_inference_steps=2).frames
        assert frames.shape == (3, 64, 64, 3)


def test_models_tell_how_they_came_to_be(chain: dict[str, Path]) -> None:
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


def test_what_travels_with_a_model_goes_on_with_it(chain: dict[str, Path], tmp_path: Path) -> None:
    """Trained on from a converted checkpoint: how its weights are sampled stays."""
    init, out = tmp_path / "init", tmp_path / "out"
    shutil.copytree(chain["image"] / "model", init)
    told = {"aggregation": "wrap", "stretch": True, "guidance_scale": 2.5, "window": 7, "overlap": 3}
    index = json.loads((init / "model_index.json").read_text()) | told
    (init / "model_index.json").write_text(json.dumps(index))
    recipe = small("motion", tmp_path / "run", init)
    build_stage(replace(recipe, networks=replace(recipe.networks, pipeline={"overlap": 2}))).save(out)
    after = json.loads((out / "model_index.json").read_text())
    assert {name: after[name] for name in ANIMATE_ANYONE} == {name: index[name] for name in ANIMATE_ANYONE} | {
        "overlap": 2
    }


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ({"windows": 12}, "networks.pipeline.windows is not known; give one of aggregation, "),
        ({"size": [64, 64]}, "networks.pipeline.size is not known; give data.size"),
        ({"aggregation": "mean"}, "networks.pipeline: aggregation 'mean' is not known; give fade or wrap"),
    ],
)
def test_options_that_could_not_be_saved_are_refused_first(
    chain: dict[str, Path], tmp_path: Path, pipeline: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(small("image", tmp_path / "run", init_of("image", chain), networks__pipeline=pipeline))
    assert not (tmp_path / "run").exists()


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
        load_checkpoint(chain["image"] / "checkpoint", motion, optimizer, None, recipe, 1)


def test_a_run_is_not_overwritten(chain: dict[str, Path]) -> None:
    before = (chain["image"] / "log.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"holds a run already; type --resume"):
        run(small("image", chain["image"], init_of("image", chain)))
    assert (chain["image"] / "log.jsonl").read_bytes() == before


def test_what_travels_with_a_model(chain: dict[str, Path], tmp_path: Path) -> None:
    """The recipe's word first, then that of the model it starts from."""
    init = Path(shutil.copytree(chain["image"] / "model", tmp_path / "init"))
    index = json.loads((init / "model_index.json").read_text())
    (init / "model_index.json").write_text(json.dumps({**index, "guidance_scale": 2.5, "window": 9}))
    settings = {"networks__pipeline": {"window": 12}, "steps": 1}
    pipeline = load_pipeline(run(small("motion", tmp_path / "run", init, **settings)), "cpu")
    told = {name: pipeline.config[name] for name in ("reference_pose", "guidance_scale", "window", "skeleton_style")}
    assert told == {"reference_pose": True, "guidance_scale": 2.5, "window": 12, "skeleton_style": "scaled"}
    assert pipeline.scheduler.config["rescale_betas_zero_snr"]
    other = {"networks__scheduler": {"prediction_type": "epsilon"}}
    assert build_stage(small("motion", tmp_path, init, **other)).scheduler.config["prediction_type"] == "epsilon"


def test_bfloat16_and_half_precision_files(chain: dict[str, Path], tmp_path: Path) -> None:
    """A run of another precision than those before it in the same process; and files of half the size."""
    recipe = small("image", tmp_path, init_of("image", chain), precision="bfloat16", save_dtype="float16")
    folder = run(recipe)
    assert all(math.isfinite(line["loss"]) for line in log(tmp_path))
    assert {t.dtype for t in tensors(folder).values()} == {torch.float16}
    assert {t.dtype for t in tensors(tmp_path / "checkpoint").values()} == {torch.float32}
    load_pipeline(folder, "cpu")
    assert {line["loss"] for line in log(tmp_path)} != {line["loss"] for line in log(chain["image"])}


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


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
