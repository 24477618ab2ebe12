"""A data set of prepared clips, small, with frames that tell their number and a dot at the nose."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.media import VideoWriter
from animate_anyone.structures import PoseSequence, Size
from people import person

NOSE = 0
GREY = 20  # levels between one frame and the next
DOT = 3  # pixels to each side


@dataclass(frozen=True)
class Small:
    """A clip to be written."""

    size: Size
    num_frames: int
    split: str | None = None


CLIPS = (Small((64, 64), 8), Small((48, 96), 9), Small((64, 64), 6), Small((48, 96), 4), Small((64, 64), 8, "val"))


def grey(number: int) -> int:
    """The level of a frame's background."""
    return 20 + GREY * number


def poses_of(clip: Small, depth: bool = True) -> PoseSequence:
    """Somebody who fills the frame and moves to the right."""
    made = person(clip.num_frames, size=(400, 600), torso=120.0).scaled_to(clip.size)
    moved = made.keypoints + np.arange(clip.num_frames)[:, None, None] * np.array([0.5, 0], np.float32)
    deep = np.full(made.scores.shape, 0.25, np.float32) if depth else None
    return replace(made, keypoints=moved.astype(np.float32), depth=deep)


def pictures_of(clip: Small) -> list[NDArray[np.uint8]]:
    """Its frames: grey, with a red dot at the nose."""
    frames = []
    for number, (x, y) in enumerate(poses_of(clip).keypoints[:, NOSE]):
        frame = np.full((clip.size[1], clip.size[0], 3), grey(number), np.uint8)
        frame[int(y) - DOT : int(y) + DOT, int(x) - DOT : int(x) + DOT] = (255, 0, 0)
        frames.append(frame)
    return frames


def masks_of(clip: Small) -> NDArray[np.bool_]:
    """The middle third of each frame, one pixel lower with each."""
    masks = np.zeros((clip.num_frames, clip.size[1], clip.size[0]), bool)
    for number, mask in enumerate(masks):
        mask[clip.size[1] // 4 + number : -8, clip.size[0] // 3 : -(clip.size[0] // 3)] = True
    return masks


def objects_of(clip: Small) -> NDArray[np.bool_]:
    """Two things in each frame, ``(2, frames, height, width)``: at the left edge and at the lower one."""
    held = np.zeros((2, clip.num_frames, clip.size[1], clip.size[0]), bool)
    held[0, :, 8:24, :10] = True
    held[1, :, -6:, 20:30] = True
    return held


def write(
    folder: Path,
    clips: tuple[Small, ...] = CLIPS,
    masks: bool = True,
    depth: bool = True,
    objects: bool = False,
) -> Path:
    """A data set as ``animate-anyone prepare`` writes it, as far as training reads it."""
    lines: list[dict[str, Any]] = [{"status": "dropped", "source": "a.mp4", "reason": "too short"}]
    for number, clip in enumerate(clips):
        name = f"{number:02d}c"
        place = folder / "clips" / name[:2] / name
        place.parent.mkdir(parents=True)
        files = {"video": place.with_name(f"{name}.mp4"), "poses": place.with_name(f"{name}.npz")}
        with VideoWriter(files["video"], clip.size, 12, crf=4, gop_size=3) as out:
            for picture in pictures_of(clip):
                out.write(picture)
        poses_of(clip, depth).save(files["poses"])
        if masks:
            files["masks"] = place.with_name(f"{name}.masks.npz")
            packed = np.packbits(masks_of(clip), axis=2)
            np.savez_compressed(files["masks"], masks=packed, shape=np.array(masks_of(clip).shape))
        if objects:
            files["objects"] = place.with_name(f"{name}.objects.npz")
            held = objects_of(clip)
            np.savez_compressed(files["objects"], masks=np.packbits(held, axis=3), shape=np.array(held.shape))
        listed = {
            kind: {"path": str(file.relative_to(folder)), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for kind, file in files.items()
        }
        about = {"frames": clip.num_frames, "fps": "12", "width": clip.size[0], "height": clip.size[1]}
        split = {} if clip.split is None else {"split": clip.split}
        lines.append({"status": "kept", "id": name, "source": "a.mp4", **split, **about, "files": listed})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
