"""``report.md`` beside a model that is trained with a time limit: what ran on what, how far, how fast."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch

from animate_anyone.system.processes import count
from animate_anyone.system.whole_files import whole_file
from animate_anyone.training.config import Recipe
from animate_anyone.training.peak_memory import peak_of_gpu, peak_of_process
from animate_anyone.training.time_limit import TimeLimit

_LINES = 20  # of the table of losses


def write_report(output: Path, recipe: Recipe, limit: TimeLimit, device: torch.device) -> None:
    """Write ``report.md`` anew; it is whole at any moment."""
    with whole_file(output / "report.md") as part:
        part.write_text("\n".join(_report(output, recipe, limit, device)) + "\n", encoding="utf-8")


def _report(output: Path, recipe: Recipe, limit: TimeLimit, device: torch.device) -> list[str]:
    steps, parts, processes = limit.done - limit.first, limit.parts, count()
    clips, training = steps * recipe.batch * processes, parts["steps"]
    ended = "the recipe's last step is done" if limit.at_end else f"{recipe.steps} are planned"
    waiting = parts["waiting"] / training if training else 0.0
    o = recipe.optimizer
    facts = [
        ("stage, from", f"{recipe.stage}, {recipe.init or 'nothing'}"),
        ("device", _device(device)),
        ("machine", f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"),
        ("software", f"Python {platform.python_version()}, PyTorch {torch.__version__}"),
        ("number type", recipe.precision),
        ("steps", f"{steps} in this call, {limit.done} in all; {ended}"),
        ("clips in a step", f"{recipe.batch} on each of {processes} processes, in {recipe.accumulate} parts"),
        ("clips", f"{clips} in this call, of {recipe.data.size}x{recipe.data.size} pixels"),
        ("speed", f"{clips / training if training else 0:.3g} clips a second in steps"),
        ("waiting for data", f"{waiting:.1%} of the steps' time"),
        ("learning rate", f"{o.lr:g}, {o.schedule}, {o.warmup_steps} steps of warm-up"),
        ("peak memory", _memory(device)),
    ]
    times = [
        ("start", parts["start"]),
        ("rendering the cache", parts["rendering"]),
        ("steps, data waited for", training),
        ("saving", parts["saving"]),
        ("all so far", limit.elapsed),
        ("given", limit.seconds),
    ]
    return [
        f"# Training: {output.name}",
        "",
        *(f"- {name}: {value}" for name, value in facts),
        "",
        "| time | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:.1f} |" for name, seconds in times),
        "",
        "| seconds | step | loss | learning rate | clips a second |",
        "|---|---|---|---|---|",
        *_losses(output),
    ]


def _losses(output: Path) -> list[str]:
    """Rows of the log, those of earlier calls too; at most so many, spread over it, the last among them."""
    log = output / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    stride = -(-len(lines) // _LINES) or 1
    chosen = lines[::-1][::stride][::-1]
    return [
        f"| {line.get('seconds', '')} | {line['step']} | {line['loss']:.5g} | {line['lr']:.3g} "
        f"| {line['clips_per_second']:.3g} |"
        for line in chosen
    ]


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"{torch.cuda.get_device_name(device)}, {torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB"


def _memory(device: torch.device) -> str:
    peaks = {"on the GPU": peak_of_gpu(device), "of the machine": peak_of_process()}
    return ", ".join(f"{peak / 1e9:.2f} GB {where}" for where, peak in peaks.items() if peak) or "not known"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
