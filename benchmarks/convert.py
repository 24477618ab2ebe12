"""Published weights at full size: what converting them costs, and that the result loads and runs.

python benchmarks/convert.py [--folder DIR]

Random weights of Stable Diffusion 1.5's sizes are written in Moore-AnimateAnyone's files (about 9 GB in float32, and as
much again for the result), converted by `animate-anyone models convert`, loaded, and run for two steps at 256x256.
The frames are noise: nothing is trained here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from machine import add_output, describe, table, write
from networks import IMAGE_ENCODER, UNET, VAE
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet

STEPS, FRAMES, SIDE = 2, 8, 256
ANIMATE = f"""
import numpy as np, torch
from animate_anyone import load_pipeline
pipeline = load_pipeline(FOLDER, "cpu", "float32")
rng = np.random.default_rng(0)
reference = rng.integers(0, 256, ({SIDE}, {SIDE}, 3), np.uint8)
poses = rng.integers(0, 256, ({FRAMES}, {SIDE}, {SIDE}, 3), np.uint8)
frames = pipeline(reference, poses, size=({SIDE}, {SIDE}), num_inference_steps={STEPS},
                  generator=torch.Generator().manual_seed(0)).frames
assert frames.shape == ({FRAMES}, {SIDE}, {SIDE}, 3) and np.isfinite(frames).all()
print("std of the frames", frames.std())
"""


def random_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Values for a network on the meta device: small, norms at 1, tables as they are computed."""
    generator = torch.Generator().manual_seed(0)
    out = {}
    for name, tensor in network.state_dict().items():
        if "norm" in name and name.endswith(".weight"):
            out[name] = torch.ones(tensor.shape)
        else:
            spread = 0.5 / max(1, tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.01
            out[name] = torch.randn(tensor.shape, generator=generator) * spread
    return out


def motion_name(ours: str) -> str:
    """AnimateDiff's name for a tensor of a motion module."""
    head, _, tail = ours.partition(".motion_modules.")
    number, _, rest = tail.partition(".")
    for new, old in (("pos_embed.pe", "attention_blocks.0.pos_encoder.pe"), ("attn1.", "attention_blocks.0."),
                     ("attn2.", "attention_blocks.1."), ("norm1.", "norms.0."), ("norm2.", "norms.1."),
                     ("norm3.", "ff_norm.")):  # fmt: skip
        rest = rest.replace(new, old)
    return f"{head}.motion_modules.{number}.temporal_transformer.{rest}"


def write_moore(folder: Path) -> None:
    """The four files, the autoencoder's and the image encoder's folder."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
        denoising = DenoisingUNet.from_unet2d(unet)
        reference = ReferenceNet.from_unet2d(unet)
        guider = PoseGuider(320, (16, 32, 96, 256), layout="open")
        vae = AutoencoderKL(**VAE)
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE_ENCODER))
    tensors = random_tensors(denoising)
    motion = {name: tensors.pop(name) for name in list(tensors) if ".motion_modules." in name}
    torch.save(tensors, folder / "denoising_unet.pth")
    del tensors
    motion = {motion_name(name): tensor for name, tensor in motion.items()}
    for name in [name for name in motion if name.endswith("pos_encoder.pe")]:
        motion[name.replace("attention_blocks.0", "attention_blocks.1")] = motion[name]
    torch.save(motion, folder / "motion_module.pth")
    del motion
    torch.save(random_tensors(reference), folder / "reference_unet.pth")
    torch.save(random_tensors(guider), folder / "pose_guider.pth")
    for name, network, file in (
        ("sd-vae-ft-mse", vae, "diffusion_pytorch_model.bin"),
        ("image_encoder", encoder, "pytorch_model.bin"),
    ):
        (folder / name).mkdir()
        torch.save(random_tensors(network), folder / name / file)
    vae.save_config(folder / "sd-vae-ft-mse")
    told = encoder.config.to_dict() | {"architectures": ["CLIPVisionModelWithProjection"]}
    (folder / "image_encoder" / "config.json").write_text(json.dumps(told))


def gigabytes(folder: Path) -> float:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a process."""
    since = time.perf_counter()
    child = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[:4])}: failed")
    return time.perf_counter() - since, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Write, convert, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--folder", type=Path, default=None, help="where 20 GB are free; default: a temporary folder")
    add_output(parser, "convert.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        source, output = Path(temporary, "moore"), Path(temporary, "model")
        source.mkdir()
        if shutil.disk_usage(source).free < 22e9:
            raise SystemExit("22 GB of free disk are needed; give --folder")
        subprocess.run([sys.executable, __file__, "--write", str(source)], check=True)
        largest = max(path.stat().st_size for path in source.rglob("*") if path.is_file()) / 1e9
        rows = []
        tool = str(Path(sys.executable).with_name("animate-anyone"))
        seconds, memory = measure([tool, "models", "convert", str(source), "-o", str(output)])
        rows.append(["`models convert`", f"{gigabytes(source):.2f}", f"{seconds:.0f}", f"{memory:.2f}"])
        code = ANIMATE.replace("FOLDER", repr(str(output)))
        seconds, memory = measure([sys.executable, "-c", code])
        what = f"load, {STEPS} steps, {FRAMES} frames, {SIDE}x{SIDE}, guided, float32"
        rows.append([what, f"{gigabytes(output):.2f}", f"{seconds:.0f}", f"{memory:.2f}"])
    text = f"Largest file {largest:.2f} GB; random weights.\n\n" + table(
        ["process", "GB on disk", "seconds", "peak memory, GB"], rows
    )
    write(options.output, "Converting full-size weights", text, describe())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_moore(Path(sys.argv[2]))
    else:
        main()
