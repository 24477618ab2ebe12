"""The puppet suite: held-out synthetic characters, each driven by its own movement.

The truth is known, so a result is compared with what it should be, pixel by pixel; and with the
baseline ``copy_reference``, the reference picture repeated in every frame; a model that is
given the reference carried into every pose, with that as it is too (``carried_reference``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.evaluation.flicker import flicker, seam_flicker
from animate_anyone.evaluation.identity import head_descriptors, identity
from animate_anyone.evaluation.image_metrics import psnr, psnr_masked, ssim, ssim_masked
from animate_anyone.evaluation.limb_position import limb_error
from animate_anyone.evaluation.part_colour import GROUPS, colour_error
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.first_guess.frames import ScaledPictures, mended, scaled
from animate_anyone.media import contact_sheet
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.speed import EXACT, Speed
from animate_anyone.structures import Mask, Picture, Size
from animate_anyone.synthetic.dataset import sample_clip

CHARACTERS = 24
FRAMES = 24
LONG_FRAMES = 60
# The reference is a frame of the same clip from after those that are compared, one of so many.
_AFTER = 12
REFERENCES = {
    "same_clip": "another frame of the same clip",
    "elsewhere": "a frame of another clip of the same character: other camera, motion, light and place",
}
"""Where the reference comes from -> what the report says of it."""
PICTURES = ("person_psnr", "psnr", "person_ssim", "ssim")
FLICKER = ("flicker", "flicker_person", "flicker_still")
IDENTITY = ("identity", "identity_drift", "identity_rank1")
MEASURES = (*PICTURES, "colour", "limb_px", "limb_found", *FLICKER, *IDENTITY)
SEAMS = ("at_seams", "elsewhere", "seam_ratio")
WHO = ("model", "copy_reference", "carried_reference")


@dataclass(frozen=True)
class SuiteClip:
    """One character of the suite.

    Attributes:
        frames: ``(frames, H, W, 3)`` uint8, the truth.
        masks: ``(frames, H, W)`` bool, the person.
        poses: pose pictures ``(frames, h, w, 3)`` uint8.
        reference: ``(H, W, 3)`` uint8, another frame of the clip, or one of another clip; its pose picture beside it.
        labels: ``(frames, H, W)`` uint8, the parts of the body (``synthetic.figure.bricks.Label``).
        carried: the first guess at every frame.
    """

    seed: int
    frames: Picture
    masks: Mask
    poses: Picture
    reference: Picture
    reference_pose: Picture
    labels: NDArray[np.uint8]
    carried: CharacterFrames

    @property
    def copied(self) -> Picture:
        """The baseline ``copy_reference``: the reference for every frame."""
        return np.repeat(self.reference[None], len(self.frames), 0)

    def baselines(self, carried: bool) -> dict[str, Picture]:
        """What a result is held against, by name."""
        return {"copy_reference": self.copied} | ({"carried_reference": np.stack(self.carried)} if carried else {})


def puppet_clip(
    seed: int,
    size: Size,
    pose_size: Size,
    style: str,
    frames: int = FRAMES,
    domain: str = "plain",
    reference: str = "same_clip",
) -> SuiteClip:
    """Character ``seed`` of the held-out split at ``size`` (width, height); its mask is known, as its poses are.

    ``reference``: a name in :data:`REFERENCES`.
    """
    place = frames + int(np.random.default_rng(seed).integers(_AFTER))
    length = frames + _AFTER
    asked: dict[str, Any] = {"split": "held_out", "num_frames": length, "size": size, "domain": domain}
    shown = [*range(frames), *([place] if reference == "same_clip" else [])]
    clip = sample_clip(seed, frame_indices=shown, **asked)
    other = clip if reference == "same_clip" else sample_clip(seed, frame_indices=[place], take=1, **asked)
    pictures, poses = clip.frames.cpu().numpy(), draw_pose(clip.pose, pose_size, style=style)
    masks, labels = (plane.cpu().numpy()[:frames] for plane in (clip.mask, clip.labels))
    picture, silhouette = other.frames.cpu().numpy()[-1], other.mask.cpu().numpy()[-1]
    own = other.pose[len(other.frames) - 1 :]
    carried = CharacterFrames(picture, own, clip.pose[:frames], silhouette=silhouette)
    drawn = poses[-1] if other is clip else draw_pose(own, pose_size, style=style)[-1]
    return SuiteClip(seed, pictures[:frames], masks, poses[:frames], picture, drawn, labels, carried)


def network_frames(
    pipeline: AnimateAnyonePipeline,
    clip: SuiteClip,
    *,
    grid: Size,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    speed: Speed = EXACT,
    progress: Progress = SILENT,
) -> Picture:
    """What a model's networks make of a clip on their grid, ``(frames, h, w, 3)``; as :func:`animate_clip`."""
    frames: Picture = pipeline(
        scaled(clip.reference, grid),
        clip.poses,
        reference_pose=clip.reference_pose if pipeline.config["reference_pose"] else None,
        carried=ScaledPictures(clip.carried, grid) if pipeline.config["carried_reference"] else None,
        num_inference_steps=steps,
        guidance_scale=guidance,
        speed=speed,
        generator=torch.Generator().manual_seed(seed + clip.seed),
        progress=progress,
    )[0]
    return frames


def animate_clip(pipeline: AnimateAnyonePipeline, clip: SuiteClip, *, grid: Size, **options: Any) -> Picture:
    """What a model makes of a clip, ``(frames, H, W, 3)``.

    Args:
        grid: ``(width, height)`` on which the networks work; the clip's own size where the model has no first guess.
        options: ``steps``, ``guidance`` (``None`` takes the model's default), ``seed``, ``speed``: trade-offs, and
            ``progress``.
    """
    made = network_frames(pipeline, clip, grid=grid, **options)
    if not pipeline.config["carried_reference"]:
        return made
    return np.stack(list(mended(clip.carried, ScaledPictures(clip.carried, grid), made)))


def measure(result: Picture, clip: SuiteClip) -> dict[str, Any]:
    """What can be said of one result by itself, means over its frames; ``None`` for what its truth does not show.

    Returns:
        ``MEASURES`` without identity; ``limbs``, how many ``limb_px`` is the mean of; and ``parts``, the
        colour error of every group of parts.
    """
    pairs = list(zip(result, clip.frames, clip.masks, strict=True))
    colours = colour_error(result, clip.frames, clip.labels)
    limbs = limb_error(result, clip.frames, clip.labels)
    count = limbs.pop("limbs")
    return {
        "person_psnr": float(np.mean([psnr_masked(a, b, mask) for a, b, mask in pairs if mask.any()])),
        "psnr": float(np.mean([psnr(a, b) for a, b, _ in pairs])),
        "person_ssim": float(np.mean([ssim_masked(a, b, mask) for a, b, mask in pairs if mask.any()])),
        "ssim": float(np.mean([ssim(a, b) for a, b, _ in pairs])),
        "colour": colours.pop("all"),
        **limbs,
        **flicker(result, clip.frames, clip.masks),
        "limbs": count,
        "parts": colours,
    }


def evaluate_puppet(
    pipeline: AnimateAnyonePipeline,
    *,
    characters: int = CHARACTERS,
    side: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    long_clips: int = 2,
    motion: bool = True,
    compare_motion: bool = False,
    reference: str = "same_clip",
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], Picture]:
    """Run the suite.

    Args:
        characters: how many of its characters. steps, guidance: ``None`` takes the model's default.
        side: of the square frames, pixels; ``None``: as the model was trained. A model with a first guess works on its
            own grid all the same, as in ``animate``; another works at that size.
        long_clips: of how many characters, at most all, a clip of 60 frames is made too, to see whether
            the windows show.
        motion: False switches the model's temporal layers off for the run.
        reference: a name in :data:`REFERENCES`. Elsewhere, no picture that is given shows the truth's background.
        compare_motion: run every clip without temporal layers as well and report both flickers.

    Returns:
        The report (plain dictionaries: settings, means of model and baseline, every clip) and the
        contact sheet ``(H, W, 3)`` uint8 with reference, truth and result of every character.

    Raises:
        InputError: ``compare_motion`` without ``motion``; ``pipeline`` is a model of Animate Anyone 2.
    """
    if isinstance(pipeline, AnimateAnyone2Pipeline):
        raise InputError(
            "suite puppet: this model wants an environment; give one of Animate Anyone, or --suite puppet-environment"
        )
    if compare_motion and not motion:
        raise InputError("compare_motion with motion=False: both runs would be without temporal layers; give one")
    if reference not in REFERENCES:
        raise InputError(f"reference {reference!r} is not known; give {' or '.join(REFERENCES)}")
    width, height = pipeline.config["size"]
    size, unet = (width, height) if side is None else (side, side), pipeline.denoising_unet
    layered, carrying = bool(unet.motion_modules()), bool(pipeline.config["carried_reference"])
    grid = (width, height) if carrying else size

    def show(number: int, frames: int = FRAMES) -> SuiteClip:
        poses, style = pipeline.pose_picture_size(grid), pipeline.config["skeleton_style"]
        return puppet_clip(number, size, poses, style, frames, reference=reference)

    def animate(clip: SuiteClip) -> Picture:
        options: dict[str, Any] = {"steps": steps, "guidance": guidance, "seed": seed, "progress": progress}
        return animate_clip(pipeline, clip, grid=grid, **options)

    def long_clip(number: int) -> dict[str, Any]:
        """Flicker of a clip of several windows, where those meet and elsewhere."""
        clip = show(number, LONG_FRAMES)
        figures: dict[str, Any] = {"seed": number}
        for who, frames in {"model": animate(clip), **clip.baselines(carrying)}.items():
            figures[who] = flicker(frames, clip.frames, clip.masks)
            figures[who] |= seam_flicker(frames, clip.frames, clip.masks, schedule)
        return figures

    clips: list[dict[str, Any]] = []
    rows: list[list[Picture]] = []
    heads: dict[str, list[NDArray[np.float32]]] = {who: [] for who in ("truth", *WHO)}
    started = time.perf_counter()
    with nullcontext() if motion else unet.without_motion():
        for number in progress.track(range(characters), characters, "suite"):
            clip = show(number)
            result = animate(clip)
            made = {"model": result, **clip.baselines(carrying)}
            clips.append({"seed": number, **{who: measure(frames, clip) for who, frames in made.items()}})
            if compare_motion and layered:
                with unet.without_motion():
                    clips[-1]["without_temporal_layers"] = flicker(animate(clip), clip.frames, clip.masks)
            for who, frames in {"truth": clip.frames, **made}.items():
                heads[who].append(head_descriptors(frames, clip.labels))
            shown = np.linspace(0, len(result) - 1, 4).round().astype(int)
            rows.append([clip.reference, *(picture for i in shown for picture in (clip.frames[i], result[i]))])
        schedule = pipeline.plan(LONG_FRAMES, steps, guidance)
        numbers = range(min(long_clips, characters))
        long = [long_clip(number) for number in progress.track(numbers, len(numbers), "long clips")] if numbers else []
    for own, figures in enumerate(clips):
        for who in set(WHO) & set(figures):
            figures[who] |= identity(heads[who][own], heads["truth"], own)
    report: dict[str, Any] = {
        "suite": "puppet",
        "settings": {
            "characters": characters,
            "frames": FRAMES,
            **sampling_settings(pipeline, steps, guidance, seed),
            "size": list(size),
            "temporal_layers": ("on" if motion else "off") if layered else "none",
            "reference": REFERENCES[reference],
            "ssim": "grey, 7x7 uniform window, mean over frames",
            "psnr": "mean over frames, in dB, of 8-bit RGB",
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    for who in (w for w in WHO if w in clips[0]):
        report[who] = _means([c[who] for c in clips])
    report["above_copy_reference"] = {m: _difference(report["model"][m], report["copy_reference"][m]) for m in MEASURES}
    if compare_motion and layered:
        without = {m: mean_of(c["without_temporal_layers"][m] for c in clips) for m in FLICKER}
        report["without_temporal_layers"] = {m: {"with": report["model"][m], "without": without[m]} for m in FLICKER}
    if long:
        means = {
            who: {m: mean_of(c[who][m] for c in long) for m in (*FLICKER, *SEAMS)} for who in WHO if who in long[0]
        }
        report["long_clips"] = {"frames": LONG_FRAMES, "windows": len(schedule), **means, "clips": long}
    report["clips"] = clips
    labels = [
        f"{c['seed']}: person {c['model']['person_psnr']:.1f} dB ({c['copy_reference']['person_psnr']:.1f})"
        for c in clips
    ]
    return report, contact_sheet(rows, labels)


def suite_table(report: dict[str, Any]) -> str:
    """The means of a report as lines of text: measures, colour by parts, and the rest that was run."""
    columns = {
        "person_psnr": ("person PSNR", "{:.2f} dB"),
        "psnr": ("PSNR", "{:.2f} dB"),
        "ssim": ("SSIM", "{:.4f}"),
        "colour": ("colour dE", "{:.2f}"),
        "limb_px": ("limb px", "{:.2f}"),
        "flicker": ("flicker", "{:.2f}"),
        "flicker_still": ("(still)", "{:.2f}"),
        "identity": ("identity", "{:.3f}"),
        "identity_rank1": ("rank 1", "{:.2f}"),
    }
    shown = [who for who in WHO if who in report]
    rows = [["", *(title for title, _ in columns.values())]]
    for who in (*shown, "above_copy_reference"):
        name = who.replace("above_copy_reference", "difference")
        rows.append([name, *(cell(report[who][m], form) for m, (_, form) in columns.items())])
    tables = [rows, [["colour dE of", *GROUPS]]]
    tables[1] += [[who, *(cell(report[who]["parts"][name], "{:.2f}") for name in GROUPS)] for who in shown]
    if "without_temporal_layers" in report:
        both = report["without_temporal_layers"]
        tables.append([["temporal layers", *FLICKER]])
        tables[-1] += [[name, *(cell(both[m][name], "{:.3f}") for m in FLICKER)] for name in ("with", "without")]
    if "long_clips" in report:
        long = report["long_clips"]
        tables.append([[f"{long['frames']} frames", *SEAMS]])
        tables[-1] += [[who, *(cell(long[who][m], "{:.2f}") for m in SEAMS)] for who in shown]
    return "\n\n".join(aligned(table) for table in tables)


def _means(clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of every measure and part the mean of the clips that have it; of limbs the mean of all limbs."""
    means: dict[str, Any] = {m: mean_of(c[m] for c in clips) for m in MEASURES}
    for name in ("limb_px", "limb_found"):
        means[name] = mean_of(c[name] for c in clips for _ in range(c["limbs"]))
    means["parts"] = {name: mean_of(c["parts"][name] for c in clips) for name in GROUPS}
    return means


def mean_of(figures: Iterable[float | None]) -> float | None:
    """To four digits, of those that are not ``None``; ``None`` where all are."""
    there = [figure for figure in figures if figure is not None]
    return round(float(np.mean(there)), 4) if there else None


def _difference(figure: float | None, baseline: float | None) -> float | None:
    return None if figure is None or baseline is None else round(figure - baseline, 4)


def sampling_settings(
    pipeline: AnimateAnyonePipeline, steps: int | None, guidance: float | None, seed: int
) -> dict[str, Any]:
    """What a report tells of how a model was asked; ``None`` takes the model's default."""
    return {
        "size": list(pipeline.config["size"]),
        "steps": pipeline.config["num_inference_steps"] if steps is None else steps,
        "guidance": pipeline.config["guidance_scale"] if guidance is None else guidance,
        "seed": seed,
    }


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lines with names to the left, figures to the right, two spaces between columns."""
    widths = [max(6, *map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:<16}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def cell(figure: float | None, form: str) -> str:
    return "-" if figure is None else form.format(figure)
