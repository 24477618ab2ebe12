"""Whether each measure without truth ranks the fault that it is meant for: faults of known size in true clips.

python benchmarks/without_truth.py [--characters 3] [--frames 12] [--side 192] [--sheet FILE] [--output F]

Characters of the puppet suite (held out) in front of their still backgrounds; the reference is a later frame of the
same clip. Into the true frames one fault at a time is built. Poses and masks in the frames are the studio's, which
knows them, or MediaPipe's, found in the faulty frames, as by `evaluate --generated --reference`; the poses that were
asked for are the studio's in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, table, versions, write
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from animate_anyone.errors import InputError
from animate_anyone.evaluation.body_regions import CLOTHES, HEAD, body_regions
from animate_anyone.evaluation.without_truth import MEASURES, means, measure
from animate_anyone.media import contact_sheet, write_picture
from animate_anyone.structures import MaskTrack, PoseSequence, Scene
from animate_anyone.synthetic.dataset import Clip, sample_clip

AFTER = 6  # frames after the last one that is compared, the last of which is the reference
Faulty = tuple[NDArray[np.uint8], PoseSequence, NDArray[np.bool_]]


class Case:
    """A true clip: what faults are built into."""

    def __init__(self, seed: int, frames: int, side: int) -> None:
        shown = [*range(frames), frames + AFTER - 1]
        clip: Clip = sample_clip(
            seed, split="held_out", num_frames=frames + AFTER, size=(side, side), frame_indices=shown, motion="dance"
        )
        self.seed, self.side = seed, side
        pictures, masks = clip.frames.numpy(), clip.mask.numpy()
        self.frames, self.masks, self.pose = pictures[:-1], masks[:-1], clip.pose[:frames]
        self.reference = Scene(pictures[-1:], clip.pose[frames:], MaskTrack(masks[-1:]))
        self.regions = np.stack(
            [body_regions(m, p, s) for m, p, s in zip(self.masks, self.pose.keypoints, self.pose.scores, strict=True)]
        )

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers of one fault."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def faulty(self, frames: NDArray[np.uint8] | None = None, shift: int = 0) -> Faulty:
        """Frames with the truth of who is where in them; everything ``shift`` pixels to the right of it."""
        frames = self.frames if frames is None else frames
        pose = replace(self.pose, keypoints=self.pose.keypoints + np.array([shift, 0], np.float32))
        return frames, pose, np.roll(self.masks, shift, 2)


def to_bytes(frames: NDArray[np.floating]) -> NDArray[np.uint8]:
    return frames.round().clip(0, 255).astype(np.uint8)


def pasted(case: Case, other: Case, parts: tuple[int, ...]) -> NDArray[np.uint8]:
    """Parts of the person as the other has them, stretched to where they are here."""
    out = case.frames.copy()
    for n, regions in enumerate(case.regions):
        for part in parts:
            here, there = np.nonzero(regions == part), np.nonzero(other.regions[n] == part)
            if not len(here[0]) or not len(there[0]):
                continue
            # To the same place of the other's part; where that has a hole, to the nearest that has none.
            at = [
                np.interp(own, (own.min(), own.max()), (given.min(), given.max())).round().astype(int)
                for own, given in zip(here, there, strict=True)
            ]
            nearest = distance_transform_edt(other.regions[n] != part, return_distances=False, return_indices=True)
            rows, columns = nearest[:, at[0], at[1]]
            out[n][here] = other.frames[n][rows, columns]
    return out


def jittered(case: Case, pixels: float) -> NDArray[np.uint8]:
    """The background shaken by up to so many pixels each way, anew in each frame; the person stands where they were."""
    random = case.random("jitter")
    out = case.frames.copy()
    empty = case.frames.astype(np.float32)
    for n, mask in enumerate(case.masks):
        share = gaussian_filter((~mask).astype(np.float32), 4)[..., None] + 1e-3
        behind = gaussian_filter(np.where(mask[..., None], 0, empty[n]), (4, 4, 0)) / share
        filled = np.where(mask[..., None], behind, empty[n])
        y, x = random.integers(-int(pixels), int(pixels) + 1, 2)
        out[n] = np.where(mask[..., None], case.frames[n], to_bytes(np.roll(filled, (y, x), (0, 1))))
    return out


def flickering(case: Case, by: float) -> NDArray[np.uint8]:
    """The person brighter or darker in each frame, by as much as ``by`` of 255, deviation."""
    by_frame = case.random("flicker").normal(0, by, len(case.frames))
    return to_bytes(case.frames + by_frame[:, None, None, None] * case.masks[..., None])


def drifting(case: Case, by: float) -> NDArray[np.uint8]:
    """The person redder from frame to frame, by ``by`` of 255 at the end."""
    amount = np.linspace(0, by, len(case.frames))[:, None, None, None] * np.array([1.0, -0.5, -0.5])
    return to_bytes(case.frames + amount * case.masks[..., None])


# Name of a fault -> the measures that it is meant for, and what it makes of a case and another character's.
FAULTS: dict[str, tuple[tuple[str, ...], Callable[[Case, Case], Faulty]]] = {
    "none": ((), lambda case, other: case.faulty()),
    "another's face": (("face",), lambda case, other: case.faulty(pasted(case, other, (HEAD,)))),
    "another's clothes": (("clothes",), lambda case, other: case.faulty(pasted(case, other, CLOTHES))),
    "moved by 1/64": (("pose_error",), lambda case, other: _moved(case, case.side // 64)),
    "moved by 1/32": (("pose_error",), lambda case, other: _moved(case, case.side // 32)),
    "moved by 1/16": (("pose_error", "pose_found"), lambda case, other: _moved(case, case.side // 16)),
    "another dance": (("pose_error", "pose_found"), lambda case, other: _backwards(case)),
    "background jitter, 1 px": (("background",), lambda case, other: case.faulty(jittered(case, 1))),
    "background jitter, 3 px": (("background",), lambda case, other: case.faulty(jittered(case, 3))),
    "flicker, 3": (("flicker",), lambda case, other: case.faulty(flickering(case, 3))),
    "flicker, 9": (("flicker",), lambda case, other: case.faulty(flickering(case, 9))),
    "drift, 15": (("drift",), lambda case, other: case.faulty(drifting(case, 15))),
    "drift, 40": (("drift",), lambda case, other: case.faulty(drifting(case, 40))),
}
GROWING = (
    ("none", "moved by 1/64", "moved by 1/32", "moved by 1/16"),
    ("none", "background jitter, 1 px", "background jitter, 3 px"),
    ("none", "flicker, 3", "flicker, 9"),
    ("none", "drift, 15", "drift, 40"),
)
"""Faults of one kind, each larger than the one before."""


def _moved(case: Case, pixels: int) -> Faulty:
    return case.faulty(np.roll(case.frames, pixels, 2), pixels)


def _backwards(case: Case) -> Faulty:
    """The same dance from its end: who and where are right, what they do is not."""
    turned = np.arange(len(case.frames))[::-1]
    return case.frames[::-1], case.pose[turned], case.masks[::-1]


def figures(case: Case, other: Case, eyes: Any = None) -> dict[str, dict[str, Any]]:
    """What is measured of every fault; with ``eyes`` by poses and masks that these find in the faulty frames."""
    out = {}
    for name, (_, build) in FAULTS.items():
        frames, pose, masks = build(case, other)
        result, reference = Scene(frames, pose, MaskTrack(masks)), case.reference
        if eyes is not None:
            result, reference = eyes(frames), eyes(case.reference.frames)
        out[name] = measure(result, reference, case.pose)
    return out


def rankings(all_figures: list[dict[str, dict[str, Any]]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Of every fault and measure meant for it: in how many clips the true frames measure better, of how many."""
    out = {}
    for fault, (meant, _) in FAULTS.items():
        for name in meant:
            up = MEASURES[name][1] == "up"
            pairs = [(of["none"][name], of[fault][name]) for of in all_figures]
            pairs = [pair for pair in pairs if None not in pair]
            out[fault, name] = sum((clean > bad) if up else (clean < bad) for clean, bad in pairs), len(pairs)
    return out


def mediapipe_eyes() -> Callable[[NDArray[np.uint8]], Scene]:
    """Poses and masks as ``evaluate`` finds them."""
    from animate_anyone.conditions.smooth import clean
    from animate_anyone.perception import load_estimator
    from animate_anyone.perception.person.masks import load_masker

    estimator, masker = load_estimator("mediapipe"), load_masker("mediapipe")

    def look(frames: NDArray[np.uint8]) -> Scene:
        size = (frames.shape[2], frames.shape[1])
        if len(frames) == 1:
            pose = estimator.estimate_picture(frames[0])
            if pose is None:
                raise InputError("nobody was found in the reference")
        else:
            pose = clean(estimator.estimate(frames, size, Fraction(12)))
        return Scene(frames, pose, MaskTrack(np.asarray(masker.mask(frames, pose).masks)))

    return look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--characters", type=int, default=3)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--sheet", type=Path, help="a picture of every fault")
    add_output(parser, "without_truth.md")
    asked = parser.parse_args()
    cases = [Case(seed, asked.frames, asked.side) for seed in range(asked.characters)]
    others = cases[1:] + cases[:1]
    sections = []
    for title, eyes in (("Poses and masks known", None), ("Poses and masks found by MediaPipe", mediapipe_eyes())):
        measured = []
        for case, other in zip(cases, others, strict=True):
            try:
                measured.append(figures(case, other, eyes))
            except InputError as error:
                print(f"character {case.seed} left out: {error}")
        sections.append(_section(title, measured))
    about = (
        f"{asked.characters} characters of the held-out split, {asked.frames} frames of {asked.side}x{asked.side}. "
        "Means over the characters; in bold what a fault is meant for; last, in how many of the characters the true "
        "frames measure better by that."
    )
    write(asked.output, "Measures without truth, on faults of known size", about, *sections, f"({versions()}.)")
    if asked.sheet is not None:
        rows = [build(cases[0], others[0])[0][[0, asked.frames // 2, -1]] for _, build in FAULTS.values()]
        write_picture(asked.sheet, contact_sheet([list(row) for row in rows], list(FAULTS)))


def _section(title: str, measured: list[dict[str, dict[str, Any]]]) -> str:
    ranked = rankings(measured)
    head = ["fault", *(f"{name} ({where})" for name, where, _ in MEASURES.values()), "ranked rightly"]
    rows = []
    for fault, (meant, _) in FAULTS.items():
        mean = means([of[fault] for of in measured])
        cells = [_cell(mean[name], digits, name in meant) for name, (_, _, digits) in MEASURES.items()]
        rows.append([fault, *cells, ", ".join(f"{ranked[fault, name][0]}/{ranked[fault, name][1]}" for name in meant)])
    return f"## {title}\n\n{len(measured)} characters.\n\n{table(head, rows)}"


def _cell(figure: float | None, digits: int, is_meant: bool) -> str:
    shown = "–" if figure is None else f"{figure:.{digits}f}"
    return f"**{shown}**" if is_meant else shown


if __name__ == "__main__":
    main()
