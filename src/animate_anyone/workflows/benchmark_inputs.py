"""What each clip of a benchmark is made from: its reference picture, the video that drives it, and what is the truth.

clip ──┬─▶ reference picture
       └─▶ driving or source video, with the background that the protocol asks for
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

import animate_anyone
from animate_anyone.conditions.environment import EMPTY, keep_background
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.evaluation.benchmarks import BenchmarkClip
from animate_anyone.evaluation.folders import ClipFiles
from animate_anyone.first_guess.inpainting import complete
from animate_anyone.media import PICTURE_SUFFIXES, natural_order, read_picture, whole_file, write_picture
from animate_anyone.structures import Mask, Masks, Picture, Scene, Size
from animate_anyone.system.stamps import stamp
from animate_anyone.system.whole_files import whole_files, writing
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.scene_conditions import complete_background
from animate_anyone.workflows.source_video import Networks, SourceVideoSettings, decompose

BACKGROUNDS = ("own", "reference", "uniform", "pasted")
"""What is behind the person.

``own``: the clip as it is.
``reference``: in every frame that of the reference picture, completed behind its person (AA2 on TikTok: one picture is
all that is given).
``uniform``: one colour, in the truth too (AA2, table 2).
``pasted``: the person of the result laid over the background of the clip, completed behind its own person (the baseline
of AA2's table 3, where ProPainter completes it).
"""
UNIFORM = EMPTY
"""The one colour, grey, of 0 to 255; which one the paper takes is not told."""
_GROWTH = 1 / 64
"""How far around a person's mask nothing counts as background, of the frame's larger side."""


@dataclass(frozen=True)
class Prepared:
    """A clip that can be made.

    Attributes:
        name: of the clip.
        reference: the picture of the character.
        video: what drives it, or the source video: a file or a folder of frames.
        truth: what its result is measured against.
        num_frames, size: of the truth; ``(width, height)``.
    """

    name: str
    reference: Path
    video: Path
    truth: ClipFiles
    num_frames: int
    size: Size


class Preparation:
    """Makes clips ready, one at a time; what is there already, of the same clip in the same way, is kept.

    Args:
        results: the folder of the results; ``references/`` and ``inputs/`` of it are written.
        background: one of :data:`BACKGROUNDS`.
        seeing: how people are found and cut out, where the background is changed.
    """

    def __init__(self, results: Path, background: str, seeing: SourceVideoSettings) -> None:
        if background not in BACKGROUNDS:
            raise InputError(f"--background {background}: not known; there are: {', '.join(BACKGROUNDS)}")
        self._results, self._background, self._seeing = results, background, seeing
        self._networks: Networks | None = None

    def prepare(self, clip: BenchmarkClip) -> Prepared:
        """One clip. Raises :class:`InputError` where it cannot be made, or its truth is broken."""
        files = clip.files
        if files is None:
            raise InputError("is not there")
        if files.files and len(_pictures_in(files.path)) != len(files.files):
            raise InputError(f"{files.path}: holds frames of several clips; give the data set as it is published")
        num_frames, size, own = _look_through(files, clip.reference)
        picture = own if own is not None else read_picture(Path(clip.reference))  # type: ignore[arg-type]
        reference = self._results / "references" / f"{clip.name}.png"
        prepared = Prepared(clip.name, reference, files.path, files, num_frames, size)
        if self._background in ("own", "pasted"):
            _keep_picture(reference, picture)
            return prepared
        folder = self._results / "inputs" / clip.name
        made_of = self._made_of(clip)
        if not _is_that(folder, made_of):
            picture, frames = self._changed(files, clip.reference, picture, num_frames)
            _keep_frames(folder, frames, made_of, picture)
        _keep_picture(reference, read_picture(folder.parent / f"{clip.name}.png"))
        changed = ClipFiles(clip.name, folder, tuple(sorted(_pictures_in(folder), key=natural_order)))
        return replace(prepared, video=folder, truth=changed if self._background == "uniform" else files)

    def paste(self, prepared: Prepared, made: Path) -> ClipFiles:
        """The person of a result laid over the clip's own background: a folder of frames.

        Raises :class:`InputError` where nobody is found in one of the two.
        """
        folder = self._results / "pasted" / prepared.name
        made_of = {"made": stamp(made), "truth": stamp(prepared.truth.path), "version": animate_anyone.__version__}
        if not _is_that(folder, made_of):
            source = self._scene(prepared.truth.path, prepared.num_frames)
            result = self._scene(made, prepared.num_frames)
            body = _grown(source.person.masks)
            shown, *_ = complete_background(source, Letterbox.stretched(prepared.size), source.frames, body)
            _keep_frames(folder, _laid_over(result, shown), made_of)
        return ClipFiles(prepared.name, folder, tuple(sorted(_pictures_in(folder), key=natural_order)))

    def _changed(
        self, files: ClipFiles, reference: int | Path, picture: Picture, num_frames: int
    ) -> tuple[Picture, Iterator[Picture]]:
        """The reference picture and the frames, with the background that is asked for."""
        masks = _published_masks(files)
        if masks is None:
            masks = self._scene(files.path, num_frames).person.masks
        seen = masks[reference] if isinstance(reference, int) else self._mask_of(reference)
        if self._background == "uniform":
            plain = np.full_like(picture, UNIFORM)
            frames = (
                np.where(mask[..., None], f, np.uint8(UNIFORM)) for f, mask in zip(files.frames(), masks, strict=True)
            )
            return np.where(seen[..., None], picture, plain), frames
        still = complete(picture, _grown(seen[None])[0])
        if still.shape != next(files.frames()).shape:
            raise InputError("its reference picture has another size than its frames; give one of that size")
        pairs = zip(files.frames(), masks, strict=True)
        return picture, (keep_background(f[None], still[None], mask[None])[0] for f, mask in pairs)

    def _scene(self, video: Path, num_frames: int) -> Scene:
        """Where the person is in a video."""
        driver = open_driver(video, slice(0, num_frames), kind="video")
        return decompose(driver, self._loaded(), self._seeing.person)[0]

    def _loaded(self) -> Networks:
        if self._networks is None:
            self._networks = Networks.load(self._seeing, None)
        return self._networks

    def _mask_of(self, picture: Path) -> Mask:
        shown = read_picture(picture)
        networks = self._loaded()
        pose = networks.estimator.estimate_picture(shown)
        if pose is None:
            raise InputError(f"{picture}: nobody was found in the reference picture")
        mask: Mask = networks.masker.mask([shown], pose).masks[0]
        return mask

    def _made_of(self, clip: BenchmarkClip) -> dict[str, Any]:
        """What the changed frames depend on."""
        assert clip.files is not None
        return {
            "clip": stamp(clip.files.path),
            "masks": stamp(_masks_folder(clip.files)),
            "frames": clip.files.most,
            "reference": clip.reference if isinstance(clip.reference, int) else stamp(clip.reference),
            "background": self._background,
            "seeing": [self._seeing.masker, self._seeing.pose_estimator, self._seeing.person],
            "version": animate_anyone.__version__,
        }


def _look_through(files: ClipFiles, reference: int | Path) -> tuple[int, Size, Picture | None]:
    """Number and size of a clip's frames, all of which are read, and the one that is the reference.

    That may be one of those after the last that counts.
    """
    num_frames, own = 0, None
    size = (0, 0)
    for number, frame in enumerate(replace(files, most=None).frames()):
        if files.most is None or number < files.most:
            size = (frame.shape[1], frame.shape[0])
            num_frames += 1
        elif not isinstance(reference, int) or number > reference:
            break
        if number == reference:
            own = frame
    if isinstance(reference, int) and own is None:
        raise InputError(f"has {num_frames} frames, and none of number {reference}, which the split names")
    return num_frames, size, own


def _masks_folder(files: ClipFiles) -> Path:
    """Where TikTok's own masks of a clip lie: ``masks/`` beside ``images/``."""
    return files.path.parent / "masks"


def _published_masks(files: ClipFiles) -> Masks | None:
    """The masks that the data set holds of a clip; ``None`` where it has none, or not as many as frames.

    ``masks/`` beside ``images/``: pictures of the same names, the person brighter than 127.
    """
    folder = _masks_folder(files)
    if files.path.name != "images" or not folder.is_dir():
        return None
    found = {file.stem: file for file in _pictures_in(folder)}
    names = [file.stem for file in files.files[: files.most]]
    if any(name not in found for name in names):
        return None
    masks = np.stack([read_picture(found[name], (0, 0, 0), min_side=1).mean(-1) > 127 for name in names])
    shape = read_picture(files.files[0], min_side=1).shape[:2]
    return masks if masks.shape[1:] == shape and masks.any() else None


def _pictures_in(folder: Path) -> list[Path]:
    return [f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".")]


def _grown(masks: Masks) -> Mask:
    """Masks with a margin: a person's edge is no background."""
    reach = max(2, round(max(masks.shape[1:]) * _GROWTH))
    return np.stack([binary_dilation(mask, iterations=reach) if mask.any() else mask for mask in masks])


def _laid_over(result: Scene, background: Iterable[Picture]) -> Iterator[Picture]:
    """The person of every frame of a result, scaled to the background, over it."""
    for number, behind in enumerate(background):
        size = (behind.shape[1], behind.shape[0])
        frame = Image.fromarray(result.frames[number]).resize(size, Image.Resampling.BICUBIC)
        mask = Image.fromarray(result.person.masks[number].astype(np.uint8) * 255).resize(
            size, Image.Resampling.BILINEAR
        )
        share = np.asarray(mask, np.float32)[..., None] / 255
        yield np.rint(share * np.asarray(frame) + (1 - share) * behind).astype(np.uint8)


def _keep_picture(file: Path, picture: Picture) -> None:
    """Write a picture unless it is there: a file that is written anew would have its clip made anew."""
    if file.is_file():
        try:
            if np.array_equal(read_picture(file, min_side=1), picture):
                return
        except InputError:
            pass
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_picture(file, picture)


def _keep_frames(
    folder: Path, frames: Iterator[Picture], made_of: dict[str, Any], picture: Picture | None = None
) -> None:
    """Write frames as PNG, then beside their folder what they were made of; the last says that all are there."""
    record = folder.parent / f"{folder.name}.json"
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
    with whole_files(folder) as hidden:
        for number, frame in enumerate(frames):
            write_picture(hidden / f"{number:05}.png", frame)
    if picture is not None:
        write_picture(folder.parent / f"{folder.name}.png", picture)
    with whole_file(record) as part:
        part.write_text(json.dumps(made_of), encoding="utf-8")


def _is_that(folder: Path, made_of: dict[str, Any]) -> bool:
    try:
        return json.loads((folder.parent / f"{folder.name}.json").read_text(encoding="utf-8")) == made_of
    except (OSError, ValueError):
        return False
