"""Training clips from prepared videos (``preparation``): which clips and which of their frames, at which size.

Frames of one step all have one size, since they are stacked. With ``data.shapes: buckets`` clips are grouped by the
size that comes nearest to their shape, and a step takes its clips from one group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.environment import feather, fill
from animate_anyone.conditions.sizes import of_area
from animate_anyone.errors import InputError
from animate_anyone.preparation.reading import PreparedClip, read_clips
from animate_anyone.progress import Progress
from animate_anyone.structures import BODY, Size
from animate_anyone.system import processes
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.clips import points_of, stream
from animate_anyone.training.config import Data
from animate_anyone.training.video_latents import VideoLatents
from animate_anyone.training.wanted import Wanted

_HELD_OUT = ("val", "test")
_ORDER, _FRAMES = 3, 4  # random streams
_EDGE = 64  # part of a frame's longer side by which a person's mask is grown before what is behind it is filled up


class VideoClips:
    """Batches of clips, each a function of the step alone; clips of the splits ``val`` and ``test`` are left out.

    With ``held_out`` they are those of these splits and of no other.

    Args:
        data: the recipe's settings.
        seed: orders the clips and chooses their frames.
        wanted: what the stage takes of each.

    Attributes:
        clips: those that can be used.
        sizes: ``(width, height)`` at which each is given.
        too_short: how many are left out as they have fewer frames than a stage takes.

    Raises:
        InputError: the data set cannot be read, has no clip that can be used, or lacks masks or depth.
    """

    def __init__(self, data: Data, seed: int, wanted: Wanted, held_out: bool = False) -> None:
        assert data.videos is not None
        self.data, self.seed, self.wanted, self.folder = data, seed, wanted, Path(data.videos)
        self.device = str(processes.device())
        there = [clip for clip in read_clips(self.folder) if (clip.split in _HELD_OUT) == held_out]
        self.clips = [clip for clip in there if clip.num_frames >= wanted.num_frames]
        self.too_short = len(there) - len(self.clips)
        self._purpose = "for validation" if held_out else "for training"
        self._check(len(there))
        self.sizes = [self._size(clip) for clip in self.clips]
        self._groups = {size: np.flatnonzero([s == size for s in self.sizes]) for size in sorted(set(self.sizes))}
        self._latents: dict[str, VideoLatents] = {}
        self._planned: tuple[tuple[int, int], NDArray[np.int64]] | None = None  # the last plan and what it is of

    def _check(self, there: int) -> None:
        if not self.clips:
            raise InputError(
                f"data.videos {self.folder}: none of its {there} clips {self._purpose} has {self.wanted.num_frames} "
                "frames; prepare longer ones with --seconds, or give a smaller data.frames_per_clip"
            )
        if self.wanted.masks and (bare := [clip.id for clip in self.clips if "masks" not in clip.files]):
            raise InputError(
                f"data.videos {self.folder}: this needs the person's masks, and {len(bare)} of its clips have none; "
                "call `animate-anyone prepare` again with --masks"
            )
        if self.wanted.depth and self.clips[0].poses().depth is None:
            raise InputError(
                f"data.videos {self.folder}: its poses have no depth, which environment.pose_modulation needs; prepare "
                "it with --pose-estimator mediapipe or --depth FOLDER, or give environment.pose_modulation=false"
            )

    def _size(self, clip: PreparedClip) -> Size:
        square = (self.data.size, self.data.size)
        return square if self.data.shapes == "square" else of_area(clip.size, square, self.wanted.step)

    def lines(self) -> list[str]:
        """What there is, for the user."""
        seconds = sum(clip.num_frames / float(clip.fps) for clip in self.clips)
        line = f"data: {len(self.clips)} clips of videos in {self.folder}, {seconds:.0f} s"
        if self.too_short:
            line += f"; {self.too_short} have fewer than {self.wanted.num_frames} frames and are left out"
        shapes = Counter(self.sizes).most_common()
        return [line, "sizes: " + ", ".join(f"{many} of {w}x{h}" for (w, h), many in shapes)]

    # Which clips, which frames

    def of_step(self, step: int, part: int, parts: int, count: int) -> list[ClipArrays]:
        """The clips of micro-batch ``part`` of ``parts`` of a step, ``count`` of them; see :meth:`read`."""
        rows = range(part * count, (part + 1) * count)
        return [self.read(clip, frames) for clip, frames in (self.chosen(step, row, parts * count) for row in rows)]

    def chosen(self, step: int, row: int, total: int) -> tuple[int, NDArray[np.int64]]:
        """The clip of a row of a step of ``total`` rows, and its frames: the reference's, then the targets'.

        Each clip comes once in an epoch; groups that do not make up whole steps are filled up with clips of their own.
        The reference is any frame of the whole clip, as both papers have it.
        """
        plan_length = sum(-(-len(group) // total) for group in self._groups.values())
        epoch, place = divmod(step, plan_length)
        clip = int(self._plan(epoch, total)[place, row])
        rng = stream(self.seed, _FRAMES, step, row)
        available, targets = self.clips[clip].num_frames, self.wanted.targets
        if not self.wanted.in_a_row:
            return clip, rng.choice(available, 1 + targets, replace=False)
        first = rng.integers(available - targets + 1)
        return clip, np.concatenate([rng.integers(available, size=1), np.arange(first, first + targets)])

    def _plan(self, epoch: int, total: int) -> NDArray[np.int64]:
        """Which clips make up each step of an epoch, ``(steps, total)``."""
        known = self._planned
        if known is None or known[0] != (epoch, total):
            rng = stream(self.seed, _ORDER, epoch)
            groups = [rng.permutation(group) for group in self._groups.values()]
            steps = np.concatenate([np.resize(group, (-(-len(group) // total), total)) for group in groups])
            known = self._planned = ((epoch, total), steps[rng.permutation(len(steps))])
        return known[1]

    # What is in them

    def read(self, number: int, frames: NDArray[np.int64]) -> ClipArrays:
        """Frames of a clip, at its size in training; ``numbers`` has ``frames``, the reference's first.

        Other arrays are as ``clips.render_clip`` or ``clips.render_scene`` has them, for these frames alone; where
        latents are kept, ``latents`` of them too, and ``frames`` is the reference alone. What is behind the person is
        filled up smoothly (``environment``); nothing is known of what stands in front (``occluders``).
        """
        clip, size, numbers = self.clips[number], self.sizes[number], [int(frame) for frame in frames]
        crop = Crop.filling(clip.size, size)
        arrays: ClipArrays = {"numbers": frames}
        for name, latents in self._latents.items():
            arrays[name] = latents.read(clip, size)[frames]
        pictures = clip.frames(numbers[:1] if self._latents else numbers)
        arrays["frames"] = np.stack([_scaled(picture, crop, size) for picture in pictures])
        masks = {kind: _scaled_masks(clip, numbers, kind, crop, size) for kind in ("masks", "objects")}
        poses = crop.move(clip.poses()[frames]).scaled_to(size)
        if not self.wanted.scene:
            drawn = draw_pose(poses, self._pose_size(size), style=self.data.skeleton_style)
            return arrays | {"masks": masks["masks"], "poses": drawn, "joints": points_of(poses)[:, BODY]}
        environment = fill(arrays["frames"], feather(masks["masks"].astype(bool), max(2, max(size) // _EDGE)) > 0)
        hidden = np.zeros_like(masks["masks"])
        return arrays | masks | {"environment": environment, "occluders": hidden, "points": points_of(poses)}

    def _pose_size(self, size: Size) -> Size:
        return (size[0] * self.data.pose_scale, size[1] * self.data.pose_scale)

    def derive(self, name: str, digest: str, function: Callable[[NDArray], NDArray], progress: Progress) -> None:
        """Add an array computed from the frames of all clips, kept in ``data.cache``; see ``StudioClips.derive``."""
        if self.data.cache is None:
            return
        kept = VideoLatents(Path(self.data.cache), name, digest)
        if self.data.keep_latents:
            kept.fill(self.clips, self.sizes, self._frames_of, function, progress)
        if all(kept.holds(clip, size) for clip, size in zip(self.clips, self.sizes, strict=True)):
            self._latents[name] = kept

    def _frames_of(self, number: int, frames: Sequence[int]) -> NDArray[np.uint8]:
        clip, size = self.clips[number], self.sizes[number]
        crop = Crop.filling(clip.size, size)
        return np.stack([_scaled(picture, crop, size) for picture in clip.frames(frames)])


def _scaled(picture: NDArray[np.uint8], crop: Crop, size: Size) -> NDArray[np.uint8]:
    cut = Image.fromarray(picture[crop.part])
    return np.asarray(cut if cut.size == size else cut.resize(size, Image.Resampling.LANCZOS))


def _scaled_masks(clip: PreparedClip, numbers: list[int], kind: str, crop: Crop, size: Size) -> NDArray[np.uint8]:
    """``(frames, height, width)``, 1 on the thing; 0 everywhere where a clip has no masks of this kind."""
    masks = clip.masks(numbers, kind)
    if masks is None:
        return np.zeros((len(numbers), size[1], size[0]), np.uint8)
    cut = masks[(slice(None), *crop.part)].astype(np.uint8) * 255
    small = np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX)) for mask in cut])
    return (small > 127).astype(np.uint8)
