"""The whole pipeline against the reference implementation's, from checkpoints in the published layout (float32).

Run with ``-s`` to see measured beside required; ``--parity DIR`` takes another folder of the same form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from PIL import Image
from reference_files import ReferenceFiles, compare
from torch import Tensor

from animate_anyone.interop.convert import convert_folder
from animate_anyone.models.image_tokens import picture_token
from animate_anyone.sampling.latents import stretch
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.windows import WindowMean, wrapping_windows

REQUIRED = 1e-3
# Without guidance the reference sums overlapping windows and does not divide: a test of its own.
SUMMED = "nocfg_overlap"


@pytest.fixture(scope="module")
def files(parity_dir: Path) -> ReferenceFiles:
    found = ReferenceFiles(parity_dir)
    if found.trimmed:
        pytest.skip("the trimmed fixture holds the first blocks only; give --parity DIR for whole networks")
    return found


def convert(files: ReferenceFiles, suffix: str, folder: Path) -> Path:
    """The checkpoints of one format as a model folder of ours."""
    source, output = folder / "source", folder / "model"
    source.mkdir()
    for path in (files.folder / "weights").iterdir():
        if path.is_dir() or path.suffix == suffix:
            (source / path.name).symlink_to(path.absolute())
    # As the projects ship it beside their weights.
    settings = {"unet_additional_kwargs": files.readme["weights"]["unet_additional_kwargs"]}
    settings["noise_scheduler_kwargs"] = files.settings("scheduler")["inference"]
    (source / "inference.yaml").write_text(yaml.safe_dump(settings))
    convert_folder(source, output)
    return output


@pytest.fixture(scope="module")
def converted(files: ReferenceFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(files, ".pth", tmp_path_factory.mktemp("pth"))


@pytest.fixture(scope="module")
def pipeline(converted: Path) -> AnimateAnyonePipeline:
    made = load_pipeline(converted, "cpu", "float32")
    made.set_progress_bar_config(disable=True)
    return made


def picture(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def test_both_formats_are_the_same_model(converted: Path, files: ReferenceFiles, tmp_path: Path) -> None:
    """File by file and bit for bit, so that what holds of one holds of the other."""
    other = convert(files, ".safetensors", tmp_path)
    ours, theirs = (
        {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
        for folder in (converted, other)
    )
    assert ours.keys() == theirs.keys()
    networks = [name for name in ours if name.suffix == ".safetensors"]
    assert len(networks) >= 5
    for name in ours:
        if name in networks or name.name.endswith("config.json"):
            assert ours[name].read_bytes() == theirs[name].read_bytes(), name


class Recorded:
    """Latents after every step, and what was predicted in the first."""

    def __init__(self, pipeline: AnimateAnyonePipeline) -> None:
        self.latents: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.hook = pipeline.denoising_unet.register_forward_hook(lambda _m, _i, out: self.outputs.append(out))

    def step(self, _p: AnimateAnyonePipeline, _step: int, _t: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
        self.latents.append(given["latents"].clone())
        return {}


def run(pipeline: AnimateAnyonePipeline, files: ReferenceFiles, case: str, **changes: Any) -> tuple[Recorded, Any]:
    """One of the reference's runs; the result is latents."""
    s, tensors, images = files.settings(case), files.tensors(case), files.folder / "images"
    single = case == "pipeline_image"
    names = ["stage1_pose.png"] if single else [f"pose_{i:03d}.png" for i in range(s["video_length"])]
    reference = picture(images / ("stage1_ref.png" if single else "ref.png"))
    recorded = Recorded(pipeline)
    options: dict[str, Any] = {
        "size": (s["width"], s["height"]),
        "num_inference_steps": s["num_inference_steps"],
        "guidance_scale": s["guidance_scale"],
        "window": s.get("context_frames", 1),
        "overlap": s.get("context_overlap", 0),
        "window_stride": s.get("context_stride", 1),
        "latents": tensors["noise"],
        "callback_on_step_end": recorded.step,
        "output_type": "latent",
    }
    try:
        out = pipeline(reference, [picture(images / name) for name in names], **{**options, **changes}).frames
    finally:
        recorded.hook.remove()
    return recorded, out


@pytest.fixture(scope="module")
def right(pipeline: AnimateAnyonePipeline, files: ReferenceFiles) -> Callable[[str], tuple[Recorded, Tensor]]:
    """A run as it should be; cases that differ in what only the reference does are one run."""
    theirs = ("bank_dtype", "note")
    done: dict[tuple[str, bytes], tuple[Recorded, Tensor]] = {}

    def run_once(case: str) -> tuple[Recorded, Tensor]:
        settings = {name: value for name, value in files.settings(case).items() if name not in theirs}
        key = json.dumps(settings, sort_keys=True), files.tensors(case)["noise"].numpy().tobytes()
        if key not in done:
            done[key] = run(pipeline, files, case)
        return done[key]

    return run_once


def video_cases(files: ReferenceFiles) -> Iterator[str]:
    for case in files.cases("pipeline_video"):
        if not case.endswith(SUMMED):
            yield case


@torch.no_grad()
def test_video(
    pipeline: AnimateAnyonePipeline, files: ReferenceFiles, right: Callable[[str], tuple[Recorded, Tensor]]
) -> None:
    for case in video_cases(files):
        tensors = files.tensors(case)
        recorded, latents = right(case)
        assert pipeline.scheduler.timesteps.tolist() == tensors["timesteps"].tolist()
        for step, (got, want) in enumerate(zip(recorded.latents, tensors["latents"], strict=True)):
            compare(f"{case} latents after step {step}", got, want, REQUIRED)
        if "first_step_window_outputs" in tensors:
            want = tensors["first_step_window_outputs"]
            compare(f"{case} windows of the first step", torch.stack(recorded.outputs[: len(want)]), want, REQUIRED)
        if "video_u16" in tensors:
            frames = torch.stack([pipeline.vae.decode(f[None] / pipeline.vae.config["scaling_factor"]).sample[0]
                                  for f in latents[0].unbind(1)], 1)  # fmt: skip
            exact = (frames / 2 + 0.5).clamp(0, 1)
            want = tensors["video_u16"][0].float() / 65535
            compare(f"{case} video", exact, want, REQUIRED)
            # What comes out as 8 bits, decoded in chunks.
            ours = torch.from_numpy(np.stack(list(pipeline.decode(latents)))).permute(3, 0, 1, 2).float() / 255
            compare(f"{case} video in 8 bits", ours, want, 0.5 / 255 + REQUIRED)


@torch.no_grad()
def test_batch_of_windows(pipeline: AnimateAnyonePipeline, files: ReferenceFiles) -> None:
    """Where the reference crashes, the same numbers are wanted."""
    case = next(video_cases(files))
    _, latents = run(pipeline, files, case, window_batch=2)
    compare(f"{case}, two windows at once", latents, files.tensors(case)["latents"][-1], REQUIRED)


@torch.no_grad()
def test_the_references_sum(
    pipeline: AnimateAnyonePipeline, files: ReferenceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers come out if we make the mistake; here alone."""
    for case in files.cases("pipeline_video"):
        if case.endswith(SUMMED):
            want = files.tensors(case)["latents"]
            right = run(pipeline, files, case)[1]
            assert (right - want[-1]).abs().max() > 5 * REQUIRED
            monkeypatch.setattr(WindowMean, "value", lambda self: self.total)
            for step, (got, theirs) in enumerate(zip(run(pipeline, files, case)[0].latents, want, strict=True)):
                compare(f"{case}, summed, latents after step {step}", got, theirs, REQUIRED * theirs.abs().max().item())


@torch.no_grad()
def test_a_wrong_sampler_does_not_pass(
    pipeline: AnimateAnyonePipeline, files: ReferenceFiles, right: Callable[[str], tuple[Recorded, Tensor]]
) -> None:
    """The measure can fail: another schedule, our own windows, guidance a tenth off."""
    case = next(video_cases(files))
    want = files.tensors(case)["latents"]

    class Enough(Exception):  # noqa: N818
        """It is far off already."""

    def error(**changes: Any) -> float:
        """The largest after any step, as test_video has it; what is far off is not sampled to its end."""
        errors: list[float] = []

        def step(_p: AnimateAnyonePipeline, number: int, _t: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
            errors.append((given["latents"] - want[number]).abs().max().item())
            if errors[-1] > 5 * REQUIRED:
                raise Enough
            return {}

        with suppress(Enough):
            run(pipeline, files, case, callback_on_step_end=step, **changes)
            assert len(errors) == len(want)
        return max(errors)

    assert max((got - theirs).abs().max() for got, theirs in zip(right(case)[0].latents, want, strict=True)) <= REQUIRED
    assert error(guidance_scale=files.settings(case)["guidance_scale"] + 0.1) > 5 * REQUIRED
    schedule = pipeline.scheduler
    other = {"linear": "scaled_linear", "scaled_linear": "linear"}[schedule.config["beta_schedule"]]
    pipeline.scheduler = DDIMScheduler.from_config(schedule.config, beta_schedule=other)
    assert error() > 5 * REQUIRED
    pipeline.scheduler = schedule
    pipeline.register_to_config(aggregation="fade")
    assert error(window_stride=1) > 5 * REQUIRED  # windows that fade take no other
    pipeline.register_to_config(aggregation="wrap")
    if files.settings(case).get("context_stride", 1) > 1:
        assert error(window_stride=1) > 5 * REQUIRED


@torch.no_grad()
def test_single_picture(converted: Path, files: ReferenceFiles) -> None:
    """Their image pipeline: a network without motion modules."""
    tensors = files.tensors("pipeline_image")
    pipe = load_pipeline(converted, "cpu", "float32")
    pipe.set_progress_bar_config(disable=True)
    pipe.register_modules(denoising_unet=files.denoising_unet(motion=False, reference_blocks="all"))
    recorded, _ = run(pipe, files, "pipeline_image")
    for step, (got, want) in enumerate(zip(recorded.latents, tensors["latents"], strict=True)):
        compare(f"pipeline_image latents after step {step}", got, want, REQUIRED)


@torch.no_grad()
def test_preparation(pipeline: AnimateAnyonePipeline, files: ReferenceFiles) -> None:
    """Pictures of other sizes: stretched by Lanczos, the image encoder's by bicubic from the picture as it came."""
    tensors, settings = files.tensors("preprocess"), files.settings("preprocess")
    reference, pose = (tensors[f"{name}_image_u8"].numpy() for name in ("ref", "pose"))
    size = tuple(settings["target_wh"])
    ours = torch.from_numpy(stretch(reference, size)).permute(2, 0, 1)[None].float() / 127.5 - 1
    compare("reference for the autoencoder", ours, tensors["ref_image_tensor"], 1e-6)
    ours = torch.from_numpy(stretch(pose, size)).permute(2, 0, 1)[None].float() / 255
    compare("pose picture", ours, tensors["pose_cond_tensor"], 1e-6)
    token = picture_token(pipeline.image_encoder, reference)[:, 0]
    compare("image token", token, tensors["clip_image_embeds"], 1e-5)


@torch.no_grad()
def test_autoencoder(pipeline: AnimateAnyonePipeline, files: ReferenceFiles) -> None:
    tensors = files.tensors("vae")
    compare("encoded", pipeline.vae.encode(tensors["image"]).latent_dist.mean, tensors["latent_mean"], 1e-4)
    compare("decoded", pipeline.vae.decode(tensors["latent"]).sample, tensors["decoded"], 1e-4)


def test_schedule(files: ReferenceFiles) -> None:
    """Both betas, every listed number of steps, and whole trajectories."""
    tensors, settings = files.tensors("scheduler"), files.settings("scheduler")
    ours = DDIMScheduler(**settings["inference"])
    compare("alphas of inference", ours.alphas_cumprod, tensors["alphas_cumprod"], 1e-6)
    training = DDIMScheduler(**settings["train"])
    compare("alphas of training", training.alphas_cumprod, tensors["train_alphas_cumprod"], 1e-6)
    for name in tensors:
        if name.startswith("timesteps/"):
            ours.set_timesteps(int(name.split("/")[1]))
            assert ours.timesteps.tolist() == tensors[name].tolist(), name
    for start in [name for name in tensors if name.endswith("/start")]:
        which, latents = start.split("/")[0], tensors[start]
        outputs, wanted = tensors[f"{which}/model_outputs"], tensors[f"{which}/prev_samples"]
        ours.set_timesteps(len(outputs))
        worst = torch.zeros(())
        for t, output, want in zip(ours.timesteps, outputs, wanted, strict=True):
            latents = ours.step(output, t, latents).prev_sample
            worst = torch.maximum(worst, (latents - want).abs().max())
        compare(f"{which}, {len(outputs)} steps", worst, torch.zeros(()), 1e-4)


def test_window_schedules(files: ReferenceFiles) -> None:
    records = json.loads((files.folder / "context_windows.json").read_text())
    assert records
    for r in records:
        ours = wrapping_windows(
            r["num_frames"], r["context_size"], r["context_overlap"], r["context_stride"], r["step"], r["closed_loop"]
        )
        assert ours == r["windows"], {k: v for k, v in r.items() if k != "windows"}
    print(f"  window schedules: {len(records)} of {len(records)} equal")
