"""Data sets of a few short clips in the layouts in which TikTok, UBC fashion and TED-talks are published."""

from __future__ import annotations

import itertools
import os
import time
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.synthetic.dataset import Clip, sample_clip
from animate_anyone.workflows.batch import Outcome, Task, make

SIZE = (192, 256)
FRAMES = 3
SEEDS = (1, 8, 3)  # of the studio: people that the pose estimator finds
STOP_AT = "STOP_AT"
"""Environment variable: the job, from 1, before which :func:`make_until` waits to be killed; 0 for none."""
_jobs = itertools.count(1)


def make_until(task: Task) -> Outcome:
    """As ``make``. Importable, for processes that are started anew, as in use: a fork of one with threads may die."""
    if next(_jobs) == int(os.environ[STOP_AT]):
        os.write(1, b"here\n")
        time.sleep(600)
    return make(task)


@cache
def dancer(seed: int, num_frames: int = FRAMES) -> Clip:
    """Somebody who dances."""
    return sample_clip(seed, num_frames=num_frames, size=SIZE, fps=Fraction(24), motion="dance", supersample=1)


def tiktok(folder: Path, names: tuple[str, ...] = ("00335", "00336", "00337"), masks: bool = True) -> Path:
    """``TikTok_dataset/00335/images/0001.png``, ``masks/`` beside ``images/``; a clip of the training split too."""
    for name, seed in zip((*names, "00001"), (*SEEDS, 1), strict=False):
        clip = dancer(seed)
        for number, (frame, mask) in enumerate(zip(clip.frames.numpy(), clip.mask.numpy(), strict=True), 1):
            place = folder / "TikTok_dataset" / name
            for kind in ("images", "masks", "densepose"):
                (place / kind).mkdir(parents=True, exist_ok=True)
            write_picture(place / "images" / f"{number:04}.png", frame)
            if masks:
                white = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
                write_picture(place / "masks" / f"{number:04}.png", white)
    return folder


def videos(folder: Path, names: tuple[str, ...]) -> Path:
    """``test/NAME.mp4``, and a video for training."""
    for name, seed in zip((*(f"test/{one}" for one in names), "train/other"), (*SEEDS, 1), strict=False):
        file = folder / f"{name}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(file, SIZE, Fraction(24)) as video:
            for frame in dancer(seed).frames.numpy():
                video.write(frame)
    return folder


def blank(folder: Path) -> Path:
    """A picture of nobody."""
    file = folder / "blank.png"
    write_picture(file, np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    return file
