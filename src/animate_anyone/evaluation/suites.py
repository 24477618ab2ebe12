"""The puppet suite: held-out synthetic characters, each driven by its own movement.

The truth is known, so a result is compared with what it should be, pixel by pixel; and with the
baseline ``copy_reference``, the reference picture repeated, which whoever does nothing reaches.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.evaluation.image_metrics import psnr, psnr_masked, ssim
from animate_anyone.media import contact_sheet
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.synthetic.dataset import sample_clip

CHARACTERS = 24
FRAMES = 24
# The reference is a frame of the same clip from after those that are compared.
_CLIP = 36
MEASURES = ("person_psnr", "psnr", "ssim")


@dataclass(frozen=True)
class SuiteClip:
    """One character of the suite.

    Attributes:
        frames: ``(frames, H, W, 3)`` uint8, the truth.
        masks: ``(frames, H, W)`` bool, the person.
        poses: pose pictures ``(frames, h, w, 3)`` uint8.
        reference: ``(H, W, 3)`` uint8, another frame of the clip; its pose picture beside it.
    """

    seed: int
    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    poses: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    reference_pose: NDArray[np.uint8]


def puppet_clip(seed: int, size: tuple[int, int], pose_size: tuple[int, int], style: str) -> SuiteClip:
    """Character ``seed`` of the held-out split at ``size`` (width, height)."""
    reference = FRAMES + int(np.random.default_rng(seed).integers(_CLIP - FRAMES))
    shown = [*range(FRAMES), reference]
    clip = sample_clip(seed, split="held_out", num_frames=_CLIP, size=size, frame_indices=shown)
    frames, poses = clip.frames.cpu().numpy(), draw_pose(clip.pose, pose_size, style=style)
    return SuiteClip(seed, frames[:-1], clip.mask.cpu().numpy()[:-1], poses[:-1], frames[-1], poses[-1])


def measure(result: NDArray[np.uint8], clip: SuiteClip) -> dict[str, float]:
    """Means over the frames of PSNR over the person, PSNR and SSIM over the frame."""
    pairs = list(zip(result, clip.frames, clip.masks, strict=True))
    return {
        "person_psnr": float(np.mean([psnr_masked(a, b, mask) for a, b, mask in pairs if mask.any()])),
        "psnr": float(np.mean([psnr(a, b) for a, b, _ in pairs])),
        "ssim": float(np.mean([ssim(a, b) for a, b, _ in pairs])),
    }


def evaluate_puppet(
    pipeline: AnimateAnyonePipeline,
    *,
    characters: int = CHARACTERS,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Run the suite.

    Returns:
        The report (plain dictionaries: settings, means of model and baseline, every clip) and the
        contact sheet ``(H, W, 3)`` uint8 with reference, truth and result of every character.
    """
    width, height = pipeline.config["size"]
    size = (width, height)
    clips: list[dict[str, Any]] = []
    rows: list[list[NDArray[np.uint8]]] = []
    started = time.perf_counter()
    for number in progress.track(range(characters), characters, "suite"):
        clip = puppet_clip(number, size, pipeline.pose_picture_size(size), pipeline.config["skeleton_style"])
        result = pipeline(
            clip.reference,
            clip.poses,
            reference_pose=clip.reference_pose if pipeline.config["reference_pose"] else None,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed + number),
            progress=progress,
        )[0]
        copied = np.repeat(clip.reference[None], len(clip.frames), 0)
        clips.append({"seed": number, "model": measure(result, clip), "copy_reference": measure(copied, clip)})
        shown = np.linspace(0, len(result) - 1, 4).round().astype(int)
        rows.append([clip.reference, *(picture for i in shown for picture in (clip.frames[i], result[i]))])
    report: dict[str, Any] = {
        "suite": "puppet",
        "settings": {
            "characters": characters,
            "frames": FRAMES,
            "size": list(size),
            "steps": pipeline.config["num_inference_steps"] if steps is None else steps,
            "guidance": pipeline.config["guidance_scale"] if guidance is None else guidance,
            "seed": seed,
            "reference": "another frame of the same clip",
            "ssim": "grey, 7x7 uniform window, mean over frames",
            "psnr": "mean over frames, in dB, of 8-bit RGB",
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    for who in ("model", "copy_reference"):
        report[who] = {m: round(float(np.mean([c[who][m] for c in clips])), 4) for m in MEASURES}
    report["above_copy_reference"] = {m: round(report["model"][m] - report["copy_reference"][m], 4) for m in MEASURES}
    report["clips"] = clips
    labels = [
        f"{c['seed']}: person {c['model']['person_psnr']:.1f} dB ({c['copy_reference']['person_psnr']:.1f})"
        for c in clips
    ]
    return report, contact_sheet(rows, labels)


def suite_table(report: dict[str, Any]) -> str:
    """The means of a report as lines of text."""
    lines = [f"{'':<16}{'person PSNR':>12}{'PSNR':>9}{'SSIM':>9}"]
    for who in ("model", "copy_reference", "above_copy_reference"):
        row = report[who]
        name = who.replace("above_copy_reference", "difference")
        lines.append(f"{name:<16}{row['person_psnr']:>9.2f} dB{row['psnr']:>6.2f} dB{row['ssim']:>9.4f}")
    return "\n".join(lines)
