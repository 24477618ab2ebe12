"""The only training loop. A stage says what is trained and what a batch costs; this says when."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from animate_anyone.progress import SILENT, Progress
from animate_anyone.training.checkpoint import last_checkpoint, load_checkpoint, save_checkpoint, whole_folder
from animate_anyone.training.config import Recipe

Batch = dict[str, Tensor]


class Stage(nn.Module):
    """What a stage must say. Its ``forward`` is the loss, so that data-parallel wrappers see every call.

    A stage holds all networks that it needs as submodules; what does not train has no gradient.
    """

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """The clips of one micro-batch on the CPU; a function of the step and the part alone.

        It runs in another thread while the step before computes.
        """
        raise NotImplementedError

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """``{"loss": scalar, ...}``: the loss and further scalars for the log."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the result, with the weights as they are now."""
        raise NotImplementedError


def train(
    recipe: Recipe,
    stage: Stage,
    *,
    resume: bool = False,
    progress: Progress = SILENT,
    after_checkpoint: Callable[[int], None] | None = None,
) -> Path:
    """Run a recipe to its end and return the folder of the resulting model.

    The same recipe gives the same weights, whether it ran through or was stopped and resumed: batches
    and noise depend on (seed, step, process) alone.

    Args:
        resume: go on from the last checkpoint in ``recipe.output`` where there is one.
        after_checkpoint: called with the step after each checkpoint.
    """
    output = Path(recipe.output)
    AcceleratorState._reset_state()  # which otherwise holds every run of a process to the precision of the first
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.precision == "bfloat16" else "no",
        cpu=not torch.cuda.is_available(),
    )
    trainable = [p for p in stage.parameters() if p.requires_grad]
    ema = EMAModel(trainable, decay=recipe.ema, use_ema_warmup=True, power=0.75) if recipe.ema else None
    optimizer = torch.optim.AdamW(
        trainable, lr=recipe.optimizer.lr, betas=recipe.optimizer.betas, weight_decay=recipe.optimizer.weight_decay
    )
    first = 0
    if resume and (checkpoint := last_checkpoint(output)) is not None:
        first = load_checkpoint(checkpoint, stage, optimizer, ema, recipe)
    model, optimizer = accelerator.prepare(stage, optimizer)
    if ema is not None:
        ema.to(accelerator.device)
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)

    parts = recipe.accumulate * accelerator.num_processes

    def fetch(step: int, micro: int) -> Batch:
        return stage.batch(step, micro * accelerator.num_processes + accelerator.process_index, parts)

    order = [(step, micro) for step in range(first, recipe.steps) for micro in range(recipe.accumulate)]
    figures: dict[str, float] = {}
    since, counted = time.perf_counter(), 0
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(fetch, *order[0]) if order else None
        for number, (step, micro) in enumerate(progress.track(order, len(order), recipe.stage)):
            assert upcoming is not None
            batch = upcoming.result()
            if number + 1 < len(order):
                upcoming = pool.submit(fetch, *order[number + 1])
            batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in batch.items()}
            seed = hash((recipe.seed, step, micro, accelerator.process_index)) & 0x7FFF_FFFF_FFFF
            generator = torch.Generator().manual_seed(seed)
            losses = model(batch, generator)
            accelerator.backward(losses["loss"] / recipe.accumulate)
            for name, value in losses.items():
                figures[name] = figures.get(name, 0.0) + float(value.detach())
            counted += 1
            if micro + 1 < recipe.accumulate:
                continue

            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            norm = accelerator.clip_grad_norm_(trainable, recipe.optimizer.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if ema is not None:
                ema.step(trainable)

            done = step + 1
            if accelerator.is_main_process and (done % recipe.log_every == 0 or done == recipe.steps):
                seconds = time.perf_counter() - since
                line = {name: round(value / counted, 6) for name, value in figures.items()}
                line |= {"step": done, "lr": learning_rate(recipe, step), "grad_norm": round(float(norm), 4)}
                line["clips_per_second"] = round(counted * recipe.batch / recipe.accumulate / seconds, 3)
                _append(output / "log.jsonl", line)
                figures, counted, since = {}, 0, time.perf_counter()
            if done % recipe.checkpoint_every == 0 or done == recipe.steps:
                accelerator.wait_for_everyone()
                if accelerator.is_main_process:
                    save_checkpoint(output / "checkpoint", done, stage, optimizer, ema, recipe)
                    with whole_folder(output / "model") as folder:
                        save_model(stage, ema, trainable, folder)
                        write_history(folder, recipe, done)
                    if after_checkpoint is not None:
                        after_checkpoint(done)
                since = time.perf_counter()
    if not order and accelerator.is_main_process:  # the run before may have ended between checkpoint and model
        with whole_folder(output / "model") as folder:
            save_model(stage, ema, trainable, folder)
            write_history(folder, recipe, first)
    return output / "model"


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of a step: linear warm-up, then constant or cosine down to a tenth."""
    o = recipe.optimizer
    if step < o.warmup_steps:
        return o.lr * (step + 1) / o.warmup_steps
    if o.schedule == "constant":
        return o.lr
    share = (step - o.warmup_steps) / max(1, recipe.steps - o.warmup_steps)
    return o.lr * (0.55 + 0.45 * math.cos(math.pi * min(1.0, share)))


def save_model(stage: Stage, ema: EMAModel | None, trainable: list[nn.Parameter], folder: Path) -> None:
    """Write the stage's result with the averaged weights, which stand in only for that moment."""
    if ema is not None:
        ema.store(trainable)
        ema.copy_to(trainable)
    try:
        stage.save(folder)
    finally:
        if ema is not None:
            ema.restore(trainable)


def write_history(folder: Path, recipe: Recipe, steps: int) -> None:
    """Keep with the model how it came to be: every stage's recipe and steps, in order (``training.json``)."""
    before = Path(recipe.init) / "training.json" if recipe.init is not None else None
    stages = json.loads(before.read_text()) if before is not None and before.is_file() else []
    stages.append({"steps_done": steps, "recipe": recipe.to_dict()})
    (folder / "training.json").write_text(json.dumps(stages, indent=1))


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
