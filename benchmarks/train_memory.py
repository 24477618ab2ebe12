"""Training's estimate of memory held against the measured peak of real steps on the CPU.

python benchmarks/train_memory.py        each case in a process of its own

Measured is the process's own peak (VmHWM of /proc, hence Linux) over two steps of the training loop, libraries and all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from machine import add_output, describe, table, write
from networks import IMAGE_ENCODER, UNET, VAE
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.training.config import Data, Networks, Objective, Recipe
from animate_anyone.training.loop import _Run
from animate_anyone.training.stages import STAGES
from animate_anyone.training.step_memory import WithoutClips, blank_batch, step_memory

MIB = 2**20
SCHEDULER = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
# Stage, side of the frames, clips a step, micro-batches, frames in a row, checkpointing.
CASES: list[tuple[str, int, int, int, int, bool]] = [
    ("image", 384, 4, 1, 1, False),
    ("image", 384, 4, 1, 1, True),
    ("image", 512, 4, 2, 1, False),
    ("motion", 256, 1, 1, 12, False),
    ("motion", 256, 1, 1, 12, True),
    ("motion", 384, 1, 1, 8, True),
]


def start_folder(root: Path) -> Path:
    """A model of the full-size networks' structure at 64, 128, 192, 192 channels."""
    torch.manual_seed(0)
    widths = (64, 128, 192, 192)
    unet = UNet2DConditionModel(**{**UNET, "block_out_channels": widths})
    AutoencoderKL(**{**VAE, "block_out_channels": (32, 64, 128, 128)}).save_pretrained(root / "vae")
    small = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**{**IMAGE_ENCODER, **small})).save_pretrained(
        root / "image_encoder"
    )
    DenoisingUNet.from_unet2d(unet).save_pretrained(root / "denoising_unet")
    ReferenceNet.from_unet2d(unet).save_pretrained(root / "reference_net")
    PoseGuider(widths[0]).save_pretrained(root / "pose_guider")
    return root


def recipe_of(case: tuple[str, int, int, int, int, bool], init: Path) -> Recipe:
    """The recipe of a case, float32."""
    stage, side, batch, accumulate, frames, spared = case
    data = Data(size=side, frames_per_clip=max(2, frames), consecutive=frames > 1, workers=1)
    return Recipe(
        stage,  # type: ignore[arg-type]
        str(init.parent / "out"),
        str(init),
        batch=batch,
        accumulate=accumulate,
        precision="float32",
        gradient_checkpointing=spared,
        data=data,
        objective=Objective(condition_dropout=0.0),
        networks=Networks(scheduler=SCHEDULER),
    )


def measure(recipe: Recipe) -> int:
    """The process's peak over two steps of the training loop."""
    kind = STAGES[recipe.stage]

    class Blank(WithoutClips, kind):  # type: ignore[valid-type, misc]
        renderers = 0

        def batch(self, step: int, part: int, parts: int) -> Any:
            return blank_batch(self, torch.device("cpu"), nullcontext())

    run = _Run(replace(recipe, steps=2), Blank(recipe), None, None)
    run.begin(False)
    with run.batches() as batches:
        for step in range(2):
            run.step(step, batches)
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def child(number: int, *more: str) -> dict[str, int]:
    """What a case of this file prints, run in a process of its own."""
    command = [sys.executable, __file__, "--case", str(number), *more]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, int] = json.loads(out.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--estimate", action="store_true", help=argparse.SUPPRESS)
    add_output(parser, "train_memory.md")
    asked = parser.parse_args()
    if asked.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            recipe = recipe_of(CASES[asked.case], start_folder(Path(folder) / "start"))
            if asked.estimate:
                needs = step_memory(recipe, torch.device("cpu"))
                print(json.dumps({"kept": needs.kept, "tensors": needs.tensors, "peak": needs.peak}))
            else:
                print(json.dumps({"peak": measure(recipe)}))
        return
    rows = []
    for number, (stage, side, batch, accumulate, frames, spared) in enumerate(CASES):
        told, found = child(number, "--estimate"), child(number)["peak"]
        name = f"{stage}, {side}x{side}, {batch} clips in {accumulate} parts, {frames} frames"
        row = [f"{name}{', checkpointing' if spared else ''}"]
        row += [f"{size / MIB:.0f}" for size in (told["kept"], told["tensors"], told["peak"], found)]
        rows.append([*row, f"{100 * (told['peak'] / found - 1):+.0f} %"])
        print(rows[-1], file=sys.stderr, flush=True)
    write(
        asked.output,
        "Training memory: measured beside estimated",
        "MiB. `kept`: by a forward pass for the backward pass; `tensors`: weights, gradients, AdamW, moving average "
        "and activations at the peak; `estimated`: with what is allowed for; `measured`: the process's peak.",
        table(["case", "kept", "tensors", "estimated", "measured", "off by"], rows),
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
