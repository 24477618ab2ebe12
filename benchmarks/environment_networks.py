"""The networks of Animate Anyone 2 at full size: parameters per part, and one training step from Animate Anyone's
weights.

python benchmarks/environment_networks.py [--folder DIR]    20 GB of free disk, 24 GB of memory
python benchmarks/environment_networks.py --counts          parameters alone, shown and not written: a few seconds
python benchmarks/environment_networks.py --small           the same way with narrow networks, to try it

Random weights in Moore-AnimateAnyone's files are converted by `animate-anyone models convert`; from that model the
networks are built, and trained for one step at 256x256, 8 frames. What they see is noise: nothing is learnt here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import convert
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from machine import add_output, describe, table, versions, write
from networks import IMAGE_ENCODER, UNET, VAE
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet, join_environment
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.sampling.loading import load_network
from animate_anyone.training.objective import noised_target

SIDE, FRAMES = 256, 8
LEARNING_RATE = 1e-5
DTYPE = torch.bfloat16
# The first width, and that of the image token, are those of Moore-AnimateAnyone's guider and CLIP.
SMALL: dict[str, dict[str, Any]] = {
    "UNET": {**UNET, "block_out_channels": (320, 64, 64, 64)},
    "VAE": {**VAE, "block_out_channels": (32, 32, 32, 32)},
    "IMAGE_ENCODER": {**IMAGE_ENCODER, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
}


def counts() -> list[list[str]]:
    """Millions of parameters per part, at full size."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
        before = DenoisingUNet.from_unet2d(unet)
        after = before.with_environment()
        reference, objects = ReferenceNet.from_unet2d(unet), ObjectGuider()
        guider = PoseGuider(320, (16, 32, 96, 256), layout="open")
        poses = PoseModulation.from_pose_guider(guider)
    rows: list[tuple[str, list[Any]]] = [
        ("denoising UNet of Animate Anyone", list(before.parameters())),
        ("denoising UNet of Animate Anyone 2", list(after.parameters())),
        ("of which weights of the environment", [after.conv_in.weight[:, before.config["in_channels"] :]]),
        ("of which spatial blending", [p for n, p in after.named_parameters() if ".spatial_blending." in n]),
        ("ReferenceNet", list(reference.parameters())),
        ("object guider", list(objects.parameters())),
        ("pose modulation, with a Pose Guider of Moore's layout", list(poses.parameters())),
        (
            "of which a Pose Guider has not",
            [p for n, p in poses.named_parameters() if not n.startswith(("skeleton.", "conv_out."))],
        ),
    ]
    return [[name, f"{sum(p.numel() for p in weights) / 1e6:.3f}"] for name, weights in rows]


def write_checkpoint(folder: Path, small: bool) -> None:
    """Random weights in the files of Moore-AnimateAnyone, and the UNet's configuration beside them."""
    if small:
        for name, config in SMALL.items():
            setattr(convert, name, config)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**convert.UNET)
    unet.save_config(folder / "unet")
    convert.write_moore(folder)


def build(folder: Path) -> nn.ModuleDict:
    """All networks of a training step, from a model folder of Animate Anyone, in :data:`DTYPE`."""

    def load(kind: Any, part: str) -> Any:
        return load_network(kind, folder / part).to(DTYPE)

    unet = load(DenoisingUNet, "denoising_unet").with_environment(object_blending="identity")
    unet.enable_gradient_checkpointing()
    reference = load(ReferenceNet, "reference_net")
    reference.enable_gradient_checkpointing()
    vae, encoder = load(AutoencoderKL, "vae"), load(CLIPVisionModelWithProjection, "image_encoder")
    return nn.ModuleDict(
        {
            "denoising UNet": unet.train(),
            "ReferenceNet": reference.train(),
            "object guider": ObjectGuider(4, unet.config["block_out_channels"]).to(DTYPE),
            "pose modulation": PoseModulation.from_pose_guider(load(PoseGuider, "pose_guider"), attention_downscale=2),
            "VAE": vae.eval().requires_grad_(False),
            "image encoder": encoder.eval().requires_grad_(False),
        }
    )


def train_one_step(folder: Path) -> dict[str, Any]:
    """Everything that a step does, on noise; how long it took, its loss, and which parts got no gradient."""
    torch.manual_seed(0)
    networks = build(folder)
    vae, scheduler = networks["VAE"], DDIMScheduler.from_pretrained(folder / "scheduler")
    optimizer = torch.optim.AdamW([p for p in networks.parameters() if p.requires_grad], LEARNING_RATE, foreach=False)
    shape = (1, 3, FRAMES, SIDE, SIDE)
    video, surroundings, things = (torch.rand(shape, dtype=DTYPE) * 2 - 1 for _ in range(3))
    picture, poses, depth = video[:, :, 0], torch.rand(shape, dtype=DTYPE), torch.rand(1, 1, *shape[2:], dtype=DTYPE)

    @torch.no_grad()
    def encode(frames: Tensor) -> Tensor:
        each = [vae.encode(frame).latent_dist.mean * vae.config["scaling_factor"] for frame in frames.unbind(2)]
        return torch.stack(each, 2)

    since = time.perf_counter()
    latents, environment, objects = encode(video), encode(surroundings), encode(things)
    mask = (torch.rand(1, 1, *latents.shape[2:]) > 0.5).to(DTYPE)
    with torch.no_grad():
        token = image_tokens(networks["image encoder"], picture)
    unet, when = networks["denoising UNet"], torch.tensor([600])
    noised, target = noised_target(scheduler, latents, torch.randn_like(latents), when)
    prediction = unet(
        join_environment(noised, environment, mask),
        when,
        token,
        networks["pose modulation"](poses, depth),
        unet.project_reference(networks["ReferenceNet"](latents[:, :, 0], token)),
        networks["object guider"](objects),
    )
    loss = F.mse_loss(prediction.float(), target.float())
    loss.backward()
    # Of ReferenceNet's last block only what its self-attention is given is read.
    silent = {
        name: sum(p.grad is None or not p.grad.any() for p in network.parameters())
        for name, network in networks.items()
        if any(p.requires_grad for p in network.parameters())
    }
    optimizer.step()
    return {"seconds": time.perf_counter() - since, "loss": loss.item(), "without gradient": silent}


def run(small: bool, scratch: Path | None) -> tuple[str, list[str]]:
    """The way from files to a step: a table, and lines about it."""
    script, tool = [sys.executable, __file__], str(Path(sys.executable).with_name("animate-anyone"))
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        source, model, said = (Path(temporary, name) for name in ("moore", "model", "step.json"))
        source.mkdir()
        if not small and shutil.disk_usage(source).free < 22e9:
            raise SystemExit("22 GB of free disk are needed; give --folder")
        subprocess.run([*script, "--write", str(source), *(["--small"] if small else [])], check=True)
        seconds, memory = convert.measure([tool, "models", "convert", str(source), "-o", str(model)])
        rows = [["`models convert`", f"{seconds:.0f}", f"{memory:.2f}"]]
        shutil.rmtree(source)
        seconds, memory = convert.measure([*script, "--step", str(model), "--output", str(said)])
        step = json.loads(said.read_text())
    what = f"load, build, one step of all networks, {FRAMES} frames, {SIDE}x{SIDE}, bfloat16, AdamW"
    rows.append([what, f"{seconds:.0f}", f"{memory:.2f}"])
    silent = ", ".join(f"{name} {number}" for name, number in step["without gradient"].items())
    lines = [
        f"The step itself took {step['seconds']:.0f} s; loss {step['loss']:.3f}. Weights, gradients and the two "
        "moments of the optimiser are all bfloat16, blocks are recomputed (gradient checkpointing), VAE and image "
        "encoder frozen. Memory is the whole process's peak.",
        f"Tensors that the first step's gradient does not reach: {silent}. In pose modulation they lie behind a "
        "convolution that starts at zero, in ReferenceNet behind the last features that are read.",
    ]
    return table(["process", "seconds", "peak memory, GB"], rows), lines


def main() -> None:
    """Count, write, convert, step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where 20 GB are free; default: a temporary folder")
    parser.add_argument("--counts", action="store_true", help="parameters alone")
    parser.add_argument(
        "--small", action="store_true", help="train narrow networks; the counts stay those of full size"
    )
    add_output(parser, "environment_networks.md")
    asked = parser.parse_args()
    paragraphs = [table(["part", "parameters, millions"], counts())]
    if asked.counts:  # shown, so that what a step took stays in the results
        print("\n\n".join([*paragraphs, f"Counted, not timed. {versions()}."]))
        return
    measured, lines = run(asked.small, asked.folder)
    widths = "Narrow networks, to try the script: no figures of full size." if asked.small else "Full size."
    paragraphs += [measured, f"{widths} Random weights.", *lines, describe()]
    write(asked.output, "Networks of Animate Anyone 2 at full size", *paragraphs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_checkpoint(Path(sys.argv[2]), "--small" in sys.argv)
    elif sys.argv[1:2] == ["--step"]:
        Path(sys.argv[4]).write_text(json.dumps(train_one_step(Path(sys.argv[2]))))
    else:
        main()
