"""The clips of a data set, read for training: any frames of a clip, its poses and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.media import Video, open_video
from animate_anyone.preparation.prepare import read_manifest
from animate_anyone.preparation.records import KEPT
from animate_anyone.structures import Mask, Picture, PoseSequence, Size

_OPENED, _POSES, _MASKS = 256, 64, 2  # clips whose timelines, poses and packed masks a process remembers


@dataclass(frozen=True, slots=True)
class PreparedClip:
    """A clip of a data set.

    Attributes:
        folder: the data set's.
        id: its name there.
        num_frames: how many frames it has.
        size: ``(width, height)`` of them.
        fps: frames per second.
        split: ``train``, ``val`` or ``test``; ``None`` where the data set has no splits.
        digest: of the video's bytes, SHA-256, hexadecimal.
        files: paths in the folder by what they hold: ``video``, ``poses`` and, where they were asked for, ``masks``
            and ``objects``.
    """

    folder: Path
    id: str
    num_frames: int
    size: Size
    fps: Fraction
    split: str | None
    digest: str
    files: dict[str, str]

    def frames(self, numbers: Sequence[int]) -> list[Picture]:
        """Frames of these numbers, in any order, ``(height, width, 3)`` uint8 each; raises :class:`InputError`."""
        video, wanted = _video(self.folder / self.files["video"]), sorted(set(numbers))
        found = dict(zip(wanted, (picture for _, picture in video.frames(wanted)), strict=True))
        return [found[number] for number in numbers]

    def poses(self) -> PoseSequence:
        """The person's poses in all frames; raises :class:`InputError`."""
        poses = _poses(self.folder / self.files["poses"])
        if len(poses) != self.num_frames or poses.size != self.size:
            raise InputError(f"{self.folder / self.files['poses']}: not the poses of this clip; call `prepare` again")
        return poses

    def masks(self, numbers: Sequence[int], kind: str = "masks") -> Mask | None:
        """``(frames, height, width)`` bool of these frames: the person, or all ``objects``; ``None``: there are none.

        Raises :class:`InputError` for a file that is damaged.
        """
        if kind not in self.files:
            return None
        packed, width = _masks(self.folder / self.files[kind])
        if (*packed.shape[1:3], width) != (self.num_frames, self.size[1], self.size[0]):
            raise InputError(f"{self.folder / self.files[kind]}: not the masks of this clip; call `prepare` again")
        together = np.bitwise_or.reduce(packed[:, list(numbers)], axis=0)
        masks: Mask = np.unpackbits(together, axis=2)[:, :, :width].astype(bool)
        return masks


def read_clips(dataset: Path) -> list[PreparedClip]:
    """The clips that were kept, in the order of the manifest.

    Raises:
        InputError: there is no manifest or it is damaged, it has no clips, or files of them are gone.
    """
    clips, gone = [], []
    for entry in read_manifest(dataset):
        if entry["status"] != KEPT:
            continue
        try:
            size, files = (int(entry["width"]), int(entry["height"])), {k: f["path"] for k, f in entry["files"].items()}
            about = (str(entry["id"]), int(entry["frames"]), size, Fraction(entry["fps"]), entry.get("split"))
            digest = str(entry["files"]["video"]["sha256"])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{dataset}: its manifest is damaged; call `prepare` once more") from None
        clip = PreparedClip(dataset, *about, digest, files)
        clips.append(clip)
        gone += [file for kind, file in files.items() if kind != "thumbnail" and not (dataset / file).is_file()]
    if not clips:
        raise InputError(f"{dataset}: no clips were kept; its index.html says why")
    if gone:
        raise InputError(f"{dataset}: {len(gone)} files of its clips are gone, such as {gone[0]}; call `prepare` again")
    return clips


@lru_cache(_OPENED)
def _video(path: Path) -> Video:
    return open_video(path)


@lru_cache(_POSES)
def _poses(path: Path) -> PoseSequence:
    return PoseSequence.load(path)


@lru_cache(_MASKS)
def _masks(path: Path) -> tuple[NDArray[np.uint8], int]:
    """Masks as they are kept, ``(things, frames, height, packed width)``, and the width."""
    try:
        with np.load(path, allow_pickle=False) as file:
            packed, shape = file["masks"], [int(side) for side in file["shape"]]
    except Exception:  # of a damaged archive: zipfile, zlib, NumPy and the parser of its headers raise many
        raise InputError(f"{path}: not a file of masks; call `prepare` again") from None
    return packed if packed.ndim == 4 else packed[None], shape[-1]
