"""Self-reenactment of a real clip: one frame is the character, the clip's poses drive it, its frames are the truth.

python benchmarks/self_reenactment.py VIDEO [--model puppet] [--frames 0:96] [--longest 512] [--sheet FILE]
                                      [--shrink 1] [--json FILE]

Frames are compared in the clip's own shape, its longer side scaled to --longest. Poses are the estimator's, mended as
for `animate`, not retargeted: it is one person. The model makes what `animate` would make of that picture and those
poses; beside it stand `copy_reference`, the reference repeated, and, with models that have one, the first guess by
itself: what is the networks' is the difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, describe, table, write
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from animate_anyone.cli.options import shown_progress
from animate_anyone.conditions.body_lengths import clip_torso_length
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.skeleton import BODY_LIMBS, JOINT, MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr, psnr_masked, ssim
from animate_anyone.media import check_writable, contact_sheet, parse_range, whole_file, write_picture
from animate_anyone.models.folder import model_folder
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.structures import BODY, Mask, Picture, PoseSequence, Subject
from animate_anyone.workflows.animate import Settings, make_frames
from animate_anyone.workflows.character import make_first_guess
from animate_anyone.workflows.driving import Driver, open_driver
from animate_anyone.workflows.settings import Report
from animate_anyone.workflows.sizes import choose_sizes, within
from animate_anyone.workflows.skeletons import skeleton_pictures

MEASURES = {"person_psnr": "person PSNR, dB", "psnr": "frame PSNR, dB", "ssim": "frame SSIM",
            "sharpness": "sharpness of the person"}  # fmt: skip
LIMB, HEAD = 0.35, 0.7  # torso lengths: how wide a limb with its clothes and a head with its hair are taken to be
SHOWN = 7  # frames of the sheet


@dataclass(frozen=True)
class RealClip:
    """What is compared.

    Attributes:
        frames: ``(frames, H, W, 3)`` uint8, the truth, at the size of the comparison.
        poses: as found, in pixels of the clip itself.
        reference: which of ``frames`` is the reference. picture: that frame as the clip has it.
        people: ``(frames, H, W)`` bool, :func:`person_regions`.
    """

    driver: Driver
    frames: NDArray[np.uint8]
    poses: PoseSequence
    reference: int
    picture: Picture
    people: Mask
    remarks: list[str]

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` of the comparison."""
        return self.frames.shape[2], self.frames.shape[1]


def read_clip(
    video: Path, frames: slice, longest: int, estimator: str = "mediapipe", progress: Progress = SILENT
) -> RealClip:
    """Read a clip, find its poses and its reference.

    Raises:
        InputError: it is no video of a person, or has not those frames; or fewer than two of them.
    """
    driver = open_driver(video, frames)
    if driver.is_skeleton or driver.ready is not None:
        raise InputError(f"{video}: holds poses, and no frames to compare with; give a video of a person")
    if len(driver) < 2:
        raise InputError(f"{video}: one frame is the reference, and none is left to compare; give --frames with more")
    poses, remarks = driver.poses(estimator, progress)
    reference = first_good(poses)
    placing = Letterbox.stretched(within(driver.size, longest))
    placed, picture = [], None
    for number, frame in enumerate(driver.pictures()):
        placed.append(placing.apply(frame))
        picture = frame if number == reference else picture
    assert picture is not None
    people = person_regions(placing.move(poses))
    return RealClip(driver, np.stack(placed), poses, reference, picture, people, remarks)


def first_good(poses: PoseSequence) -> int:
    """The first frame that shows as many of the body's joints as nine in ten frames do."""
    seen = (poses.scores[:, BODY] >= MIN_SCORE).sum(1)
    return int(np.argmax(seen >= np.quantile(seen, 0.1)))


def person_regions(poses: PoseSequence) -> NDArray[np.bool_]:
    """About where the person is: ``(frames, H, W)`` bool, thick limbs, trunk and head drawn from the poses.

    No mask of the person is known in a real clip. Loose clothes and long hair reach out of this region, and some
    background lies in it.
    """
    torso = clip_torso_length(poses) or poses.size[1] / 4
    return np.stack([_region(poses, frame, torso) for frame in range(len(poses))])


def _region(poses: PoseSequence, frame: int, torso: float) -> Mask:
    points = poses.keypoints[frame, BODY]
    seen = poses.scores[frame, BODY] >= MIN_SCORE
    image = Image.new("1", poses.size)
    pen = ImageDraw.Draw(image)

    def disc(centre: NDArray[np.float32], radius: float) -> None:
        pen.ellipse([*(centre - radius).tolist(), *(centre + radius).tolist()], fill=1)

    trunk = [JOINT[name] for name in ("right_shoulder", "left_shoulder", "left_hip", "right_hip")]
    if seen[trunk].all():
        pen.polygon([tuple(points[joint].tolist()) for joint in trunk], fill=1)
    for start, end in BODY_LIMBS[:13]:  # the neck to the nose is the last
        if seen[start] and seen[end]:
            pen.line([*points[start].tolist(), *points[end].tolist()], fill=1, width=max(1, round(LIMB * torso)))
            disc(points[start], LIMB * torso / 2)
            disc(points[end], LIMB * torso / 2)
    head = [JOINT[name] for name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear")]
    if seen[head].any():
        disc(points[head][seen[head]].mean(0), HEAD * torso / 2)
    return np.array(image, bool)


def reenact(
    pipeline: AnimateAnyonePipeline, clip: RealClip, settings: Settings, progress: Progress = SILENT
) -> dict[str, Picture]:
    """What `animate` makes of the reference and the poses, ``(frames, H, W, 3)`` uint8 at the clip's size, by name."""
    sizes = choose_sizes(pipeline, None, clip.size)
    whole = Letterbox.stretched(sizes.video)
    letterbox, subject = whole.scaled_to(sizes.networks), Subject(clip.picture, clip.poses[[clip.reference]])
    results, guess = {}, None
    if pipeline.config["carried_reference"]:
        guess = make_first_guess(subject, clip.poses, whole, len(clip.poses), Report())
        results["first guess"] = np.stack([resize(frame, clip.size) for frame in guess])
    skeletons = skeleton_pictures(clip.poses, clip.driver, letterbox, pipeline)
    made = make_frames(pipeline, subject, skeletons, letterbox, guess, settings, progress)
    results["model"] = np.stack([resize(frame, clip.size) for frame in made])
    return results


def resize(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture at ``size`` (width, height), by bicubic interpolation."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def compare(result: Picture, clip: RealClip) -> dict[str, float]:
    """Means over all frames but the reference: PSNR over the person and over the frame, SSIM, sharpness.

    Sharpness is the mean gradient over the person, as a share of the truth's: 1 is as sharp as the truth.
    """
    each: dict[str, list[float]] = {name: [] for name in MEASURES}
    for number, (made, truth, person) in enumerate(zip(result, clip.frames, clip.people, strict=True)):
        if number == clip.reference:
            continue
        if person.any():
            each["person_psnr"].append(psnr_masked(made, truth, person))
            each["sharpness"].append(gradient(made)[person].mean() / max(gradient(truth)[person].mean(), 1e-6))
        each["psnr"].append(psnr(made, truth))
        each["ssim"].append(ssim(made, truth))
    return {name: round(float(np.mean(figures)), 4) for name, figures in each.items()}


def gradient(picture: Picture) -> NDArray[np.float32]:
    """Length of the gradient of the grey picture, ``(H, W)``, of 255 a pixel."""
    grey = picture.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
    return np.hypot(*np.gradient(grey))


def make_sheet(clip: RealClip, results: dict[str, Picture], shrink: int = 1) -> Picture:
    """Rows of truth, poses, each result and the repeated reference: frames from all over the clip.

    ``results`` by their names; pictures are made smaller by ``shrink``.
    """
    compared = [number for number in range(len(clip.frames)) if number != clip.reference]
    frames = np.array(compared)[np.linspace(0, len(compared) - 1, SHOWN).round().astype(int)]
    poses = draw_pose(Letterbox.stretched(clip.size).move(clip.poses[frames]), clip.size, style="scaled")
    outlined = np.where(clip.people[frames][..., None] & ~poses.any(-1, keepdims=True), 90, poses).astype(np.uint8)
    first = clip.frames[clip.reference]
    rows = {
        "the reference, and the truth": clip.frames[frames],
        "poses found; grey: the region of the person": outlined,
        **{name: result[frames] for name, result in results.items()},
        "copy_reference": np.repeat(first[None], len(frames), 0),
    }
    small = (clip.size[0] // shrink, clip.size[1] // shrink)
    cells = [[resize(picture, small) for picture in (first, *row)] for row in rows.values()]
    return contact_sheet(cells, list(rows))


def digest(model: str) -> str:
    """Twelve digits that name a model's weights: of the sha256 of all its weight files, in order of their names."""
    whole = hashlib.sha256()
    for file in sorted(model_folder(model).rglob("*.safetensors")):
        whole.update(file.read_bytes())
    return whole.hexdigest()[:12]


def evaluate(asked: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], Picture]:
    """The report (plain dictionaries) and the contact sheet."""
    pipeline = load_pipeline(asked.model, asked.device)
    clip = read_clip(asked.video, parse_range(asked.frames), asked.longest, progress=progress)
    pipeline.plan(len(clip.frames))
    start = time.perf_counter()
    results = reenact(pipeline, clip, Settings(asked.model, seed=asked.seed), progress)
    seconds = round(time.perf_counter() - start, 1)
    figures = {name: compare(result, clip) for name, result in results.items()}
    figures["copy_reference"] = compare(np.repeat(clip.frames[[clip.reference]], len(clip.frames), 0), clip)
    report = {
        "video": asked.video.name,
        "clip_size": list(clip.driver.size),
        "frames": [clip.driver.source.start, clip.driver.source.stop],
        "reference": clip.driver.source[clip.reference],
        "compared": len(clip.frames) - 1,
        "size": list(clip.size),
        "model": Path(asked.model).name,
        "weights": digest(asked.model),
        "seed": asked.seed,
        "person_share": round(float(clip.people.mean()), 4),
        "poses": clip.remarks,
        "seconds": seconds,
        "figures": figures,
    }
    return report, make_sheet(clip, results, asked.shrink)


def _by(size: tuple[int, int] | list[int]) -> str:
    return f"{size[0]}x{size[1]}"


def figures_table(report: dict[str, Any]) -> str:
    """The figures of a report as a Markdown table."""
    rows = [
        [name, *(f"{row[measure]:.{2 if measure.endswith('psnr') else 3}f}" for measure in MEASURES)]
        for name, row in report["figures"].items()
    ]
    return table(["", *MEASURES.values()], rows)


def explain(report: dict[str, Any]) -> list[str]:
    """What was measured, as paragraphs."""
    first, stop = report["frames"]
    return [
        f"`{report['video']}`, frames {first} to {stop - 1}: frame {report['reference']} is the reference, the other "
        f"{report['compared']} are compared, at {_by(report['size'])} (the clip has {_by(report['clip_size'])}). Model "
        f"`{report['model']}` (weights {report['weights']}), its own defaults, seed {report['seed']}; "
        f"{report['seconds']:.0f} s.",
        "Person: over a region drawn from the pose (thick limbs, trunk, head; "
        f"{report['person_share']:.0%} of the frame), for no mask of the person is known in a real clip. Means over "
        "frames; PSNR in dB of 8-bit RGB, SSIM on grey with a 7x7 uniform window; sharpness is the mean gradient over "
        "the person, as a share of the truth's. They stand together: blur gains PSNR and loses SSIM and sharpness.",
        "Poses: " + "; ".join(report["poses"]) + ".",
    ]


def run(arguments: list[str] | None = None) -> None:
    """Measure and write the results.

    Raises :class:`InputError` for what is the user's to mend.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", help="a video of one person")
    parser.add_argument("--model", default="puppet", help="a shipped model's name or a model folder")
    parser.add_argument("--frames", default="0:96", metavar="A:B", help="which frames, B left out")
    parser.add_argument("--longest", type=int, default=512, help="longer side at which frames are compared, pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the initial noise")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write, .png or .jpg")
    parser.add_argument("--shrink", type=int, default=1, choices=(1, 2, 4), help="the sheet's pictures, by this")
    parser.add_argument("--json", type=Path, help="the report, to write")
    add_output(parser, "self_reenactment.md")
    asked = parser.parse_args(arguments)
    if asked.video is None:
        print("no video given, nothing measured: python benchmarks/self_reenactment.py VIDEO")
        return
    if asked.sheet is not None:
        check_writable(asked.sheet, (".png", ".jpg", ".jpeg"), inputs=[asked.video])
    if asked.json is not None:
        check_writable(asked.json, (".json",), inputs=[asked.video])
    check_writable(asked.output, (".md",), inputs=[asked.video])
    if not 64 <= asked.longest <= 4096:
        raise InputError(f"--longest {asked.longest}: give 64 to 4096")
    with shown_progress() as progress:
        report, sheet = evaluate(asked, progress)
    if asked.sheet is not None:
        write_picture(asked.sheet, sheet)
    if asked.json is not None:
        with whole_file(asked.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n")
    machine = f"Machine: {describe()}."
    write(asked.output, "Self-reenactment of a real clip", *explain(report), figures_table(report), machine)


def main() -> None:
    try:
        run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
