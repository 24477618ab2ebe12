"""Consistency distillation: the timesteps and jumps, the loss, and everything that other stages do too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from small_recipes import alike, log, same, small, tensors
from small_recipes import start as start
from torch import Tensor, nn

import tiny
from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.consistency import CLEAN, Grid
from animate_anyone.training.disk_space import Written
from animate_anyone.training.objective import step_generator
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.stage_distil import DistilStage
from animate_anyone.training.stages import build_stage, run
from conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
EPSILON = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}


def recipe(start: Path, output: Path = Path("unused"), **changes: Any) -> Recipe:
    return small("distil", output, start / "model", **{"data__size": 32, "optimizer__lr": 1e-3, **changes})


def built(start: Path, **changes: Any) -> DistilStage:
    stage = build_stage(recipe(start, **changes))
    assert isinstance(stage, DistilStage)
    return stage


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without temporal layers, with a first guess."""
    root = tmp_path_factory.mktemp("single")
    options = {"reference_latents": True, "carried_reference": True, "guidance_scale": 1.0}
    made = tiny.pipeline(**options)
    channels = made.denoising_unet.config["in_channels"]
    made.register_modules(denoising_unet=tiny.denoising_unet(use_motion_module=False, in_channels=channels))
    made.save_pretrained(root / "model")
    return root


def test_timesteps_are_those_of_ddim() -> None:
    """Every timestep's step of the teacher, where it ends, and where the student's ends."""
    scheduler = DDIMScheduler(**tiny.SCHEDULER)
    grid = Grid(scheduler, 20, 4)
    scheduler.set_timesteps(20)
    teacher = scheduler.timesteps.tolist()
    scheduler.set_timesteps(4)
    student = scheduler.timesteps.tolist()
    for t in range(1000):
        at = min(s for s in teacher if s >= t)
        assert int(grid.at(torch.tensor(t))) == at
        assert int(grid.before(torch.tensor(at))) == max((s for s in teacher if s < at), default=CLEAN)
        assert int(grid.end(torch.tensor(at))) == max((s for s in student if s < at), default=CLEAN)


@pytest.mark.parametrize("changes", [{}, EPSILON, {"set_alpha_to_one": False}])
def test_a_jump_is_a_step_of_ddim(changes: dict[str, Any]) -> None:
    scheduler = DDIMScheduler(**{**tiny.SCHEDULER, **changes})
    grid = Grid(scheduler, 20, 4)
    scheduler.set_timesteps(4)
    noisy, prediction = torch.randn(2, 1, 3, 4, 2, 2)
    for t in scheduler.timesteps:
        start = t.expand(1, 3)
        made = grid.jump(prediction, noisy, start, grid.end(start))
        wanted = scheduler.step(prediction, t, noisy, return_dict=False)[0]
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)


def test_nothing_is_left_to_jump_over() -> None:
    """From a timestep to itself, clean latents too: the latents as they are, whatever a network says."""
    grid = Grid(DDIMScheduler(**tiny.SCHEDULER), 20, 4)
    noisy, prediction = torch.randn(2, 1, 4, 4, 2, 2)
    for t in (CLEAN, 0, 499, 999):
        at = torch.full((1, 4), t)
        torch.testing.assert_close(grid.jump(prediction, noisy, at, at), noisy)
    at = torch.full((1, 4), CLEAN)
    assert torch.equal(grid.jump(prediction, noisy, at, at), noisy)


def angle(stage: DistilStage, timesteps: Tensor) -> Tensor:
    """Of the circle on which noised latents move: cosine and sine are the amounts of signal and of noise."""
    signal = torch.cat([torch.ones(1), stage.scheduler.alphas_cumprod])[timesteps + 1]
    return torch.atan2((1 - signal).sqrt(), signal.sqrt())[:, :, None, None, None]


@pytest.mark.parametrize("kind", ["in a row", "singly"])
def test_loss_is_that_of_a_direct_computation(start: Path, single: Path, kind: str) -> None:
    """Both halves under guidance in one batch, as the pipeline has them, and jumps along the circle."""
    if kind == "in a row":
        stage = built(start, objective__person_weight=1.0)
    else:
        changes = {"data__consecutive": False, "objective__targets_per_reference": 2, "distil__guidance": 1.5}
        stage = built(single, objective__person_weight=1.0, **changes)
    assert stage.guidance == (2.0 if kind == "in a row" else 1.5)
    with torch.no_grad():
        for network, seed in ((stage.target, 3), (stage.denoising_unet, 4)):  # no two of the three are alike
            torch.manual_seed(seed)
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    batch = stage.batch(0, 0, 1)
    got = stage(batch, step_generator(0, 0))["loss"]
    got.backward()

    with torch.no_grad():
        reference, latents, guess = stage.latents_of(batch)
        given = stage.given(batch, reference, guess)
        noisy, _, t = stage.noised(latents, step_generator(0, 0))
        b = len(t)

        def velocity(network: Any, x: Tensor, at: Tensor, halves: int) -> Tensor:
            cut = b * (halves - 1)
            doubled = FirstGuess(None if guess.origin is None else torch.cat([guess.origin] * halves))
            x = doubled.join_samples(torch.cat([x] * halves).transpose(1, 2), cut).transpose(1, 2)
            token = torch.cat([torch.zeros_like(given.token)[:cut], given.token])
            seen = network.project_reference(given.features, cut)
            pose = stage.as_clips(torch.cat([given.pose] * halves).transpose(1, 2))
            times = torch.cat([at] * halves).clamp(min=0)
            out = stage.predict(stage.as_clips(x), times, token, pose, seen, network=network)
            return out[-b:] if halves == 1 else out[:b] + stage.guidance * (out[b:] - out[:b])

        def along(x: Tensor, v: Tensor, at: Tensor, to: Tensor) -> Tensor:
            turn = angle(stage, at) - angle(stage, to)
            return turn.cos() * x - turn.sin() * v

        before, end = t - 50, t // 250 * 250 - 1
        earlier = along(noisy, velocity(stage.teacher, noisy, t, 2), t, before)
        wanted = along(earlier, velocity(stage.target, earlier, before, 1), before, end)
        made = along(noisy, velocity(stage.denoising_unet, noisy, t, 1), t, end)
    assert (t % 50 == 49).all() and len(t.unique()) > 1
    assert got.item() == pytest.approx(float((made - wanted).square().mean()), rel=1e-4)
    assert all(p.grad is not None for p in stage.denoising_unet.parameters())
    assert all(p.grad is None for p in (*stage.teacher.parameters(), *stage.pose_guider.parameters()))


class Point(nn.Module):
    """The velocity of noised latents that are all ``value`` when they are clean: DDIM is exact in steps of any size."""

    def __init__(self, scheduler: DDIMScheduler, value: float = 0.7) -> None:
        super().__init__()
        self.signal, self.value = scheduler.alphas_cumprod, value

    def project_reference(self, features: object) -> None:
        return None

    def forward(self, latents: Tensor, timestep: Tensor, *given: object) -> Tensor:
        signal = self.signal[timestep][:, None, None, None, None]
        return (signal.sqrt() * latents - self.value) / (1 - signal).sqrt()


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_an_exact_solution_has_no_loss(start: Path, steps: int) -> None:
    stage = built(start, distil__steps=steps)
    batch = stage.batch(0, 0, 1)
    assert stage(batch, step_generator(0, 0))["loss"].item() > 1e-6
    stage.teacher = stage.target = stage.denoising_unet = Point(stage.scheduler)  # type: ignore[assignment]
    for step in range(4):
        assert stage(batch, step_generator(0, step))["loss"].item() < 1e-9


def test_at_the_end_of_a_segment_the_student_begins_as_its_teacher(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one step to make, and the teacher's is right; from further away there is something to learn."""
    stage = built(start, distil__guidance=1.0)
    batch = stage.batch(0, 0, 1)

    def loss_at(t: int) -> float:
        monkeypatch.setattr(stage, "timesteps", lambda b, k, generator: torch.full((b, k), t))
        return stage(batch, step_generator(0, 0))["loss"].item()

    for end in (CLEAN, 249, 499, 749):
        assert loss_at(end + 50) < 1e-10
        assert loss_at(end + 250) > 1e-8


def test_stopped_and_resumed(start: Path, tmp_path: Path) -> None:
    """The target network too goes on as it was, a step behind the student by its decay."""
    run(recipe(start, tmp_path / "straight"))
    run(recipe(start, tmp_path / "cut", steps=1))
    first = load_file(tmp_path / "cut/checkpoint/moving.safetensors")
    began = built(start).teacher.state_dict()
    trained = load_file(tmp_path / "cut/checkpoint/weights.safetensors")
    for name, average in first.items():
        torch.testing.assert_close(average, began[name].lerp(trained[f"denoising_unet.{name}"], 0.05))
    run(recipe(start, tmp_path / "cut"), resume=True)
    assert same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))
    second = load_file(tmp_path / "cut/checkpoint/moving.safetensors")
    assert any(not torch.equal(second[name], first[name]) for name in first)

    (tmp_path / "cut/checkpoint/moving.safetensors").unlink()
    with pytest.raises(InputError, match="not a whole checkpoint"):
        run(recipe(start, tmp_path / "cut", steps=3), resume=True)


def test_micro_batches_are_one_step(start: Path, tmp_path: Path) -> None:
    for parts in (1, 2):
        run(recipe(start, tmp_path / str(parts), accumulate=parts, data__clips=4))
    for a, b in zip(log(tmp_path / "1"), log(tmp_path / "2"), strict=True):
        for name in ("loss", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=2e-4, abs=2e-6), name
    assert alike(tensors(tmp_path / "1/model"), tensors(tmp_path / "2/model"))


@pytest.mark.parametrize("kind", ["in a row", "singly"])
def test_the_student_is_a_model_as_any_other(start: Path, single: Path, tmp_path: Path, kind: str) -> None:
    init, changes = (start, {}) if kind == "in a row" else (single, {"data__consecutive": False})
    run(recipe(init, tmp_path, **changes))
    before, after = tensors(init / "model"), tensors(tmp_path / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed
    assert all(name.startswith("denoising_unet/") for name in changed)
    pipeline = load_pipeline(tmp_path / "model", "cpu", "float32")
    pipeline.set_progress_bar_config(disable=True)
    assert (pipeline.config["num_inference_steps"], pipeline.config["guidance_scale"]) == (4, 1.0)
    seen: list[int] = []
    given: dict[str, Any] = {"reference_pose": np.zeros((64, 64, 3), np.uint8)}
    if kind == "singly":
        given["carried"] = np.zeros((3, 32, 32, 3), np.uint8)
    made = pipeline(
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((3, 64, 64, 3), np.uint8),
        callback_on_step_end=lambda pipeline, step, t, given: seen.append(t) or {},  # type: ignore[func-returns-value]
        **given,
    ).frames
    assert made.shape == (3, 32, 32, 3) and seen == [999, 749, 499, 249]
    history = json.loads((tmp_path / "model/training.json").read_text())
    assert history[-1]["recipe"]["distil"]["steps"] == 4


def test_room_on_the_disk_is_that_of_what_is_written(start: Path, tmp_path: Path) -> None:
    asked = recipe(start, tmp_path)
    run(asked)
    written = Written.of(asked, build_stage(asked))
    for folder, told in (("checkpoint", written.checkpoint), ("model", written.model)):
        size = sum(file.stat().st_size for file in (tmp_path / folder).rglob("*") if file.is_file())
        assert told == pytest.approx(size, rel=0.25)


def test_the_shipped_recipes_go_on_from_each_other() -> None:
    steps, motion, distil = (
        load_recipe(REPOSITORY / f"recipes/puppet_{n}.yaml") for n in ("steps", "steps_motion", "distil")
    )
    assert (motion.init, distil.init) == (f"{steps.output}/model", f"{motion.output}/model")
    assert steps.networks.pipeline["num_inference_steps"] == distil.distil.teacher_steps  # type: ignore[union-attr]
    assert steps.objective.timestep_power == motion.objective.timestep_power == 0
    full, first = (load_recipe(REPOSITORY / f"recipes/aa1_{name}.yaml") for name in ("distil", "stage2"))
    assert full.init == f"{first.output}/model" and full.data.frames_per_clip == first.data.frames_per_clip


def test_the_student_may_be_its_own_target(start: Path, tmp_path: Path) -> None:
    run(recipe(start, tmp_path, distil__target_ema=0.0))
    assert not (tmp_path / "checkpoint/moving.safetensors").exists()


def test_adapters(start: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="PEFT is not installed; pip install 'animate-anyone[lora]'")
    run(recipe(start, tmp_path, lora={"rank": 2}, distil__target_ema=0.0))
    weights = load_file(tmp_path / "checkpoint/weights.safetensors")
    assert weights and all(".lora_" in name and name.startswith("denoising_unet.") for name in weights)
    assert tensors(tmp_path / "model").keys() == tensors(start / "model").keys()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distil": None}, r"stage distil needs its settings: give distil=\{\}"),
        ({"distil__steps": 0}, r"distil\.steps is 0; it must be at least 1"),
        ({"distil__teacher_steps": 10}, r"distil\.teacher_steps is 10; it must be a multiple of distil\.steps, 4"),
        ({"distil__teacher_steps": 12}, r"distil\.teacher_steps is 12; it must divide the 1000 timesteps"),
        ({"distil__target_ema": 1.0}, r"distil\.target_ema is 1\.0; it must lie in \[0, 1\)"),
        ({"distil__guidance": float("inf")}, r"distil\.guidance is inf; give a finite number"),
        ({"objective__min_snr_gamma": 5.0}, "stage distil has no such weights"),
        (
            {"networks__pipeline": {"guidance_scale": 2.0}},
            r"networks\.pipeline\.guidance_scale: .* give distil\.guidance",
        ),
        ({"networks__pipeline": {"num_inference_steps": 2}}, r"give distil\.steps"),
        (
            {"networks__pipeline": {"reference_path": "both", "reference_pose": False}},
            "no model with reference_path both",
        ),
        ({"networks__scheduler": {"timestep_spacing": "leading"}}, "with timestep_spacing 'trailing'"),
        ({"networks__scheduler": {"timestep_spacing": "trailing"}}, "with clip_sample False, and the model's has True"),
        (
            {"networks__scheduler": {**tiny.SCHEDULER, "prediction_type": "epsilon"}},
            "needs prediction_type 'v_prediction'",
        ),
        ({"data__consecutive": False}, r"has temporal layers; give data\.consecutive=true"),
        ({"data__frames_per_clip": 20}, "the temporal layers take 16"),
        ({"lora": {"rank": 2}}, r"give distil\.target_ema=0 with lora"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(start: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        build_stage(recipe(start, **changes))
    assert "\n" not in str(told.value)


def test_other_models_are_refused(start: Path, single: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no temporal layers; give data\.consecutive=false"):
        build_stage(recipe(single))
    with pytest.raises(InputError, match="stage motion takes no distil"):
        small("motion", tmp_path / "out", start / "model", distil={})
    with pytest.raises(InputError, match=r"needs a whole model, and .* has no denoising_unet/"):
        build_stage(small("distil", tmp_path / "out", start))
    tiny.environment_pipeline().save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="is one of Animate Anyone 2"):
        build_stage(recipe(tmp_path))
