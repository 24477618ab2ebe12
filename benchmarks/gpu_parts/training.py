"""A training step of every recipe of paper size, on full-size networks of random weights and made batches."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from animate_anyone.sampling.memory import memory_of
from animate_anyone.training import denoising_networks, reference_parts, stage_environment, starting_folder
from animate_anyone.training.config import Recipe
from animate_anyone.training.peak_memory import peak_of_process
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.stage_denoising import DenoisingBatch, DenoisingStage
from animate_anyone.training.stage_image import ImageBatch
from animate_anyone.training.stages import build_stage
from gpu_parts.full_size import network
from gpu_parts.measure import GIB, Machine, operations
from gpu_parts.report import Part, Unit, brief

COLUMNS = (
    *("recipe, clips x frames", "seconds", "clips/s", "10^12 operations", "TFLOP/s"),
    *("of the matrix product's", "peak, GiB"),
)
_ACTIVATIONS = 3 * GIB  # of one clip at a small size, recomputed, and the libraries
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PAPER = ("aa1_stage1", "aa1_stage2", "aa2")
Attempt = tuple[int, int, bool]
"""Clips at once, frames of a clip, whether blocks are recomputed (gradient checkpointing)."""


def training(machine: Machine) -> Part:
    """All recipes of paper size."""
    return Part(
        "A training step of the recipes of paper size",
        "Forward, backward, clipping and AdamW as the training loop has them: float32 weights, bfloat16 autocast on a "
        "GPU, frames encoded in the step; random weights, random pictures, nothing rendered. `recomputed`: gradient "
        "checkpointing of the denoising UNet and ReferenceNet, switched on here; what is computed twice is counted "
        "twice. What runs out of memory is tried with less. The share is that of the bfloat16 matrix product.",
        COLUMNS,
        [Unit(name, 6 if machine.tiny else 30, lambda name=name: rows(machine, name)) for name in PAPER],
    )


def rows(machine: Machine, name: str) -> Iterator[list[str]]:
    """One recipe: as it is, then recomputed, then with fewer frames, until something fits; then more clips at once."""
    stage, recipe = build(name, machine.device, narrow=machine.tiny)
    trainable = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=recipe.optimizer.lr, betas=recipe.optimizer.betas, weight_decay=recipe.optimizer.weight_decay
    )
    frames = min(stage.targets, 4) if machine.tiny else stage.targets
    fewer = [(1, frames // part, True) for part in (2, 4) if frames >= 2 * part]
    attempts: list[Attempt] = [(1, frames, False), (1, frames, True), *fewer]
    fitted = False
    for clips, count, recomputed in attempts:
        cells, fitted = _try(machine, stage, optimizer, (clips, count, recomputed), recipe)
        yield [_named(name, (clips, count, recomputed), recipe.data.size), *cells]
        if fitted:
            break
    # What fits one clip may fit more; single frames hardly fill a GPU.
    more = (4,) if machine.tiny else (4, 16)
    for clips in more if fitted and frames == 1 else ():
        cells, fitted = _try(machine, stage, optimizer, (clips, frames, recomputed), recipe)
        yield [_named(name, (clips, frames, recomputed), recipe.data.size), *cells]
        if not fitted:
            break


def training_at(machine: Machine, side: int) -> Part:
    """The same networks of full size at a small size, one clip, recomputed: also for CPUs."""
    return Part(
        f"A training step of the recipes of paper size at {side}x{side}",
        "Networks of full size, random weights, pictures of this size, gradient checkpointing; float32 on a CPU, where "
        "clips in a row have 4 frames. Where AdamW's moments have no room the step is that of plain gradient descent "
        "(`SGD`), which has none. The share is that of the float32 matrix product on a CPU.",
        COLUMNS,
        [Unit(name, 120, lambda name=name: _apart(machine, name, side)) for name in PAPER],
    )


def _apart(machine: Machine, name: str, side: int) -> Iterator[list[str]]:
    """In a process of its own, whose memory is free afterwards and whose peak is this recipe's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool.submit(_at, machine, name, side).result()


def _at(machine: Machine, name: str, side: int) -> list[str]:
    frames = None if machine.cuda or name == "aa1_stage1" else 4
    free = memory_of(machine.device)
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes alone
        stage, recipe = build(name, machine.device, narrow=False, frames=frames, side=side)
    weights = sum(4 * p.numel() for p in stage.parameters())
    trained = sum(4 * p.numel() for p in stage.parameters() if p.requires_grad)
    needs = {"AdamW": weights + 3 * trained, "SGD": weights + trained}
    fitting = [kind for kind, bytes_ in needs.items() if free is None or bytes_ + _ACTIVATIONS < free[0]]
    attempt = (1, frames or stage.targets, True)
    if not fitting:
        said = f"does not fit: {needs['SGD'] / GIB:.1f} GiB without activations"
        return [_named(name, attempt, side), said, "", "", "", "", ""]
    stage, recipe = build(name, machine.device, narrow=False, frames=frames, side=side)
    of_stage = [p for p in stage.parameters() if p.requires_grad]
    rate = recipe.optimizer.lr
    optimizer = torch.optim.AdamW(of_stage, lr=rate) if fitting[0] == "AdamW" else torch.optim.SGD(of_stage, lr=rate)
    cells, _ = _try(machine, stage, optimizer, attempt, recipe)
    return [f"{_named(name, attempt, side)}, {fitting[0]}", *cells]


def _named(name: str, attempt: Attempt, side: int) -> str:
    clips, frames, recomputed = attempt
    return f"{name}, {clips} x {frames}, {side}x{side}{', recomputed' if recomputed else ''}"


def _try(
    machine: Machine, stage: DenoisingStage[Any], optimizer: torch.optim.Optimizer, attempt: Attempt, recipe: Recipe
) -> tuple[list[str], bool]:
    """The cells of an attempt, and whether it fitted the memory."""
    clips, frames, recomputed = attempt
    for part in (stage.denoising_unet, stage.reference_net):
        assert part is not None
        part.enable_gradient_checkpointing() if recomputed else part.disable_gradient_checkpointing()
    stage.train()
    optimizer.zero_grad()
    machine.release()
    try:
        batch = made_batch(stage, clips, frames, machine.device)
        step = training_step(machine, stage, optimizer, batch, recipe)
        counted = operations(step)  # warms up too, and makes the optimiser's state
        machine.release()
        seconds = machine.seconds(step, 2)
    except torch.OutOfMemoryError as error:
        said = f"does not fit: {brief(error)}"
    except RuntimeError as error:  # what else kernels raise: less may do
        said = f"failed: {brief(error)}"
    else:
        speed = counted / seconds / 1e12
        peak = machine.peaks()[0] if machine.cuda else peak_of_process() or 0
        figures = [f"{seconds:.3f}", f"{clips / seconds:.3g}", f"{counted / 1e12:.3g}", f"{speed:.3g}"]
        return [*figures, machine.share(speed, "bfloat16" if machine.cuda else "float32"), f"{peak / GIB:.1f}"], True
    return [said, "", "", "", "", f"over {machine.peaks()[0] / GIB:.1f}"], False


def training_step(
    machine: Machine,
    stage: DenoisingStage[Any],
    optimizer: torch.optim.Optimizer,
    batch: DenoisingBatch,
    recipe: Recipe,
) -> Callable[[], None]:
    """A step as ``training.loop`` does it, without its accelerator."""
    trainable = [p for p in stage.parameters() if p.requires_grad]
    half = recipe.precision != "float32" and machine.cuda

    def step() -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=half):
            losses = stage(batch, generator)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trainable, recipe.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def build(
    name: str, device: torch.device, *, narrow: bool, frames: int | None = None, side: int | None = None
) -> tuple[DenoisingStage[Any], Recipe]:
    """A recipe's stage with its networks, of random weights, made on the device; and the recipe as it was read.

    ``frames`` of a clip, ``side`` of a frame: ``None`` leaves what the recipe says.
    """

    def load_network(kind: type, _: Path) -> Any:
        return network(kind, narrow)

    with tempfile.TemporaryDirectory() as folder:
        parts = ["vae", "image_encoder", "unet"]
        # All of a step is always computed; how many clips it takes is chosen here.
        changes = [f"init={folder}", "objective.condition_dropout=0", "batch=1", "accumulate=1"]
        if name == "aa1_stage2":  # goes on from a whole model
            parts[2:] = ["denoising_unet", "reference_net", "pose_guider"]
        if narrow:
            changes += ["data.size=64"]
        if side is not None:
            changes += [f"data.size={side}"]
        if frames is not None:
            changes += [f"data.frames_per_clip={frames}"]
        for part in parts:
            Path(folder, part).mkdir()
        recipe = load_recipe(RECIPES / f"{name}.yaml", changes)
        with (
            torch.device(device),
            patch.object(denoising_networks, "load_network", load_network),
            patch.object(reference_parts, "load_network", load_network),
            patch.object(stage_environment, "load_network", load_network),
            patch.object(starting_folder, "load_network", load_network),
        ):
            stage = build_stage(recipe)
    assert isinstance(stage, DenoisingStage)
    if any(t.device.type != device.type for t in (*stage.parameters(), *stage.buffers())):
        stage.to(device)  # tensors without values cannot be moved
    return stage, recipe


def made_batch(stage: DenoisingStage[Any], clips: int, frames: int, device: torch.device) -> DenoisingBatch:
    """A batch as ``stage.batch`` gives it, of random pictures: ``clips`` of ``frames`` target frames, on the device."""
    side, drawn = stage.recipe.data.size, stage.recipe.data.pose_size

    def pictures(*shape: int) -> Tensor:
        return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=device)

    def mask(*shape: int) -> Tensor:
        return torch.randint(0, 2, shape, device=device).bool()

    common = {
        "reference": pictures(clips, side, side),
        "reference_pose": pictures(clips, drawn, drawn),
        "poses": pictures(clips, frames, drawn, drawn),
        "masks": mask(clips, frames, side, side),
        "frames": pictures(clips, frames, side, side),
    }
    if not isinstance(stage, stage_environment.EnvironmentStage):
        return ImageBatch(**common)
    cells, before = side // stage.factor, dict[str, Tensor]()
    if stage.num_before:
        before = {
            "before": pictures(clips, stage.num_before, side, side),
            "poses_before": pictures(clips, stage.num_before, drawn, drawn),
            "depth_before": torch.rand(clips, stage.num_before, drawn, drawn, device=device),
            "given_before": torch.ones(clips, dtype=torch.bool, device=device),
        }
    return stage_environment.EnvironmentBatch(
        **common,
        environment=pictures(clips, frames, side, side),
        objects=pictures(clips, frames, side, side),
        object_masks=mask(clips, frames, side, side),
        region_cells=mask(clips, frames, cells, cells),
        object_cells=mask(clips, frames, cells, cells),
        depth=torch.rand(clips, frames, drawn, drawn, device=device),
        **before,
    )
