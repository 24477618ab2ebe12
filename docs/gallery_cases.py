"""The gallery's synthetic clips: the truth, what a model makes of it, and how near that is by regions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.evaluation.image_metrics import LUMA, psnr_masked
from animate_anyone.evaluation.suites import FRAMES
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.first_guess.frames import ScaledPictures, mended, scaled
from animate_anyone.progress import SILENT
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.structures import FACE, LEFT_HAND, RIGHT_HAND
from animate_anyone.synthetic.dataset import Clip, sample_clip
from animate_anyone.synthetic.figure.bricks import Label

CLIP = 36  # frames of a clip of the suite `puppet`; those after the first 24 hold its reference
NEW = 1000  # from this seed on: characters that no figure of the suite holds
HEAD, HANDS = (Label.HEAD, Label.HAIR, Label.HAT), (Label.LEFT_HAND, Label.RIGHT_HAND)
CROP, ENLARGED = 0.2, 96  # side of a hand's picture, in frame heights; and in pixels, shown
UNPATTERNED = ("plain", "gradient", "halves")
NOSE = 0

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A synthetic clip and what the model makes of it.

    Attributes:
        clip: the truth and all that is known of it, the reference among its frames.
        shown: which of its frames are compared. reference: which one is the reference.
        result: ``(shown, H, W, 3)`` uint8, the model's.
        carried: the reference carried into every pose, where the model is given that.
    """

    clip: Clip
    shown: list[int]
    reference: int
    result: NDArray[np.uint8]
    carried: CharacterFrames | None = None

    @property
    def truth(self) -> NDArray[np.uint8]:
        """``(shown, H, W, 3)`` uint8."""
        return self.clip.frames.cpu().numpy()[self.shown]

    @property
    def first(self) -> Picture:
        """The reference picture."""
        return self.clip.frames.cpu().numpy()[self.reference]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """``(shown, H, W)`` uint8, :class:`Label`."""
        return self.clip.labels.cpu().numpy()[self.shown]

    @property
    def away(self) -> Mask:
        """``(shown,)`` bool: the face is turned from the camera."""
        return self.clip.pose.scores[self.shown, NOSE] == 0

    def region(self, *labels: Label) -> Mask:
        """``(shown, H, W)`` bool: where the truth shows one of ``labels``; none given: the whole person."""
        return np.isin(self.labels, labels) if labels else self.labels != Label.BACKGROUND

    def psnr(self, region: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """PSNR over a region, dB a frame, of the model and of the reference repeated; NaN where it is empty."""
        copied = np.broadcast_to(self.first, self.truth.shape)
        return tuple(
            np.array(
                [psnr_masked(a, b, m) if m.any() else np.nan for a, b, m in zip(made, self.truth, region, strict=True)]
            )
            for made in (self.result, copied)
        )  # type: ignore[return-value]

    def person(self) -> tuple[float, float]:
        """PSNR over the person in dB, means over the frames: the model's, the repeated reference's."""
        model, copied = self.psnr(self.region())
        return float(np.nanmean(model)), float(np.nanmean(copied))


def suite_clip(seed: int, size: tuple[int, int]) -> tuple[Clip, int]:
    """Clip ``seed`` of the suite `puppet` with its reference as the last frame, and that frame's number."""
    reference = FRAMES + int(np.random.default_rng(seed).integers(CLIP - FRAMES))
    shown = [*range(FRAMES), reference]
    return sample_clip(seed, split="held_out", num_frames=CLIP, size=size, frame_indices=shown), FRAMES


def run(pipeline: AnimateAnyonePipeline, clip: Clip, reference: int, seed: int, shown: list[int] | None = None) -> Case:
    """Animate one frame of a clip with the poses of others (``None``: of all the others)."""
    shown = [number for number in range(len(clip.pose)) if number != reference] if shown is None else shown
    grid = tuple(pipeline.config["size"]) if pipeline.config["carried_reference"] else clip.pose.size
    drawn = draw_pose(clip.pose, pipeline.pose_picture_size(grid), style=pipeline.config["skeleton_style"])
    picture, carrying = clip.frames[reference].cpu().numpy(), pipeline.config["carried_reference"]
    own, silhouette = clip.pose[reference : reference + 1], clip.mask[reference].cpu().numpy()
    carried = CharacterFrames(picture, own, clip.pose[np.array(shown)], silhouette=silhouette) if carrying else None
    small = None if carried is None else ScaledPictures(carried, grid)
    result = pipeline(
        scaled(picture, grid),
        drawn[shown],
        reference_pose=drawn[reference] if pipeline.config["reference_pose"] else None,
        carried=small,
        generator=torch.Generator().manual_seed(seed),
        progress=SILENT,
    )[0]
    if carried is not None and small is not None:
        result = np.stack(list(mended(carried, small, result)))
    return Case(clip, shown, reference, result, carried)


def find(size: tuple[int, int], motion: str, wanted: Callable[[Clip], bool]) -> Iterator[Clip]:
    """Held-out clips of a motion from seed ``NEW`` on, those that are as they are wanted."""
    for seed in count(NEW):
        small = sample_clip(seed, split="held_out", num_frames=FRAMES, size=(128, 128), motion=motion)
        if wanted(small):
            yield sample_clip(seed, split="held_out", num_frames=FRAMES, size=size, motion=motion)


def facing(clip: Clip) -> NDArray[np.float64]:
    """``(frames,)`` the share of the face's points that can be seen."""
    return clip.visible[:, FACE].float().mean(1).cpu().numpy().astype(np.float64)


def faces_then_turns(clip: Clip) -> bool:
    """Some frame shows the face from the front, and a quarter of them do not show it."""
    return bool(facing(clip).max() >= 0.8 and (clip.pose.scores[:, NOSE] == 0).mean() >= 0.25)


def shows_hands(clip: Clip) -> bool:
    """Both hands are large enough to be found in all frames."""
    return bool((clip.pose.scores[:, [LEFT_HAND.start, RIGHT_HAND.start]] > 0).all())


def mean(cases: list[Case], regions: list[Mask]) -> tuple[float, float]:
    """PSNR over a region of each case in dB, means over all frames: the model's, the repeated reference's."""
    pairs = [case.psnr(region) for case, region in zip(cases, regions, strict=True)]
    model, copied = (float(np.nanmean(np.concatenate(column))) for column in zip(*pairs, strict=True))
    return model, copied


def detail(case: Case, region: Mask) -> float:
    """How much detail the result has in a region: its mean gradient over the truth's; 1 as much, less: blurred."""

    def steep(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        down, across = np.gradient(frames @ LUMA, axis=(1, 2))
        return np.hypot(down, across)

    return float(steep(case.result)[region].mean() / steep(case.truth)[region].mean())


def by_region(cases: list[Case]) -> list[list[str]]:
    """Rows of the table of what works and what does not: PSNR of model and copy, detail kept."""
    everything = [case.region() for case in cases]
    copied = np.concatenate([case.psnr(region)[1] for case, region in zip(cases, everything, strict=True)])
    low, high = np.nanquantile(copied, [1 / 3, 2 / 3])

    def some(wanted: Callable[[Case], Mask]) -> list[Mask]:
        return [region & wanted(case)[:, None, None] for case, region in zip(cases, everything, strict=True)]

    def moved(case: Case) -> NDArray[np.float64]:
        return case.psnr(case.region())[1]

    def patterned(case: Case) -> Mask:
        return np.full(len(case.shown), case.clip.description["top"] not in UNPATTERNED)

    groups = {
        "the person": everything,
        "head and hair": [case.region(*HEAD) for case in cases],
        "hands": [case.region(*HANDS) for case in cases],
        "what is not the person": [~region for region in everything],
        "person, face to the camera": some(lambda case: ~case.away),
        "person, face turned away": some(lambda case: case.away),
        "person in a plain top": some(lambda case: ~patterned(case)),
        "person in a patterned top": some(patterned),
        "person, the third of frames most like the reference": some(lambda case: moved(case) >= high),
        "person, the third least like it": some(lambda case: moved(case) <= low),
    }
    rows = []
    for name, regions in groups.items():
        pairs = [case.psnr(region) for case, region in zip(cases, regions, strict=True)]
        model, copy = (np.concatenate(column) for column in zip(*pairs, strict=True))
        number = int(np.isfinite(model).sum())
        if not number:
            rows.append([name, "0", "–", "–", "–", "–"])
            continue
        figures = float(np.nanmean(model)), float(np.nanmean(copy))
        sharp = [detail(case, region) for case, region in zip(cases, regions, strict=True) if region.any()]
        rows.append([name, str(number), f"{figures[0]:.1f}", f"{figures[1]:.1f}", f"{figures[0] - figures[1]:+.1f}",
                     f"{np.mean(sharp):.0%}"])  # fmt: skip
    return rows


def spread(number: int, among: int = 4) -> NDArray[np.intp]:
    """``among`` of ``number`` frames, evenly from the first to the last."""
    return np.linspace(0, number - 1, among).round().astype(np.intp)


def label(case: Case, before: str = "") -> str:
    """The line above a row: seed and person PSNR, the repeated reference's in brackets."""
    model, copied = case.person()
    return f"{before}character {case.clip.seed}: person {model:.1f} dB (copy {copied:.1f})"


def pair_row(case: Case, frames: NDArray[np.intp]) -> list[Picture]:
    """The reference, then truth and result of some of the compared frames, side by side."""
    return [case.first, *(picture for n in frames for picture in (case.truth[n], case.result[n]))]


def hand_row(case: Case, frames: NDArray[np.intp]) -> list[Picture]:
    """Truth and result around both hands, enlarged."""
    side = round(CROP * case.truth.shape[1])
    row = []
    for n in frames:
        for hand in (RIGHT_HAND, LEFT_HAND):
            centre = case.clip.pose.keypoints[case.shown[n], hand].mean(0)
            left, top = np.clip((centre - side / 2).round().astype(int), 0, np.array(case.clip.pose.size) - side)
            for frame in (case.truth[n], case.result[n]):
                cut = Image.fromarray(frame[top : top + side, left : left + side])
                row.append(np.asarray(cut.resize((ENLARGED, ENLARGED), Image.Resampling.NEAREST)))
    return row
