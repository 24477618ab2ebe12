"""ComfyUI's values and those of ``animate_anyone``: pictures, masks, videos, sound, poses.

IMAGE is a float tensor ``(frames, height, width, channels)`` in [0, 1], MASK one ``(frames, height, width)``; here
pictures are ``uint8`` ``(frames, height, width, 3)``, and masks are bool. AUDIO is ``{"waveform": (1, channels,
samples), "sample_rate": Hz}``. VIDEO has ``get_components()``: images, audio, frame rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, Types, io

from animate_anyone.errors import InputError
from animate_anyone.interop.openpose_json import read_poses
from animate_anyone.media.held_video import HeldVideo
from animate_anyone.media.pictures import MIN_SIDE, check_size
from animate_anyone.structures import Mask, Masks, MaskTrack, Picture, PoseSequence

Poses = io.Custom("POSE_KEYPOINT")
"""Poses, one OpenPose dictionary a frame, as ``comfyui_controlnet_aux`` makes them."""
Model = io.Custom("ANIMATE_ANYONE_MODEL")
"""A :class:`~.load_model.LoadedModel`."""

MOST = 1_000_000
"""The largest number of frames that may be typed."""


def pictures_of(images: torch.Tensor, name: str) -> Picture:
    """``(frames, height, width, 3)`` uint8 of an IMAGE called ``name``; what is seen through is white."""
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not len(images):
        raise InputError(f"{name}: is {tuple(images.shape)}; give an IMAGE of one frame or more, grey, RGB or RGBA")
    count, height, width, channels = images.shape
    pictures = np.empty((count, height, width, 3), np.uint8)
    for picture, image in zip(pictures, images, strict=True):  # frame by frame: as floats they take four times as much
        shown = image.float().clamp(0, 1)
        if channels == 4:
            shown = shown[..., :3] * shown[..., 3:] + (1 - shown[..., 3:])
        picture[:] = (shown * 255).round().byte().cpu().numpy()
    return pictures


def picture_of(image: torch.Tensor, name: str = "reference_image") -> Picture:
    """``(height, width, 3)`` uint8 of an IMAGE of a single picture."""
    if image.ndim == 4 and len(image) > 1:
        raise InputError(f"{name}: is {len(image)} pictures; give one of them (the node ImageFromBatch takes it out)")
    (picture,) = pictures_of(image, name)
    check_size(Path(name), picture.shape[1], picture.shape[0], MIN_SIDE)
    return picture


def image_of(pictures: Iterable[Picture], count: int) -> torch.Tensor:
    """The IMAGE of ``count`` pictures, each put into it as it is made."""
    images: torch.Tensor | None = None
    for number, picture in enumerate(pictures):
        if images is None:
            images = torch.empty((count, *picture.shape), dtype=torch.float32)
        images[number] = torch.from_numpy(np.ascontiguousarray(picture)).float() / 255
    assert images is not None, "a video of no frames"
    return images


def masks_of(mask: torch.Tensor, name: str) -> Mask:
    """``(frames, height, width)`` bool of a MASK: what is at least half covered."""
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or not len(mask):
        raise InputError(f"{name}: is {tuple(mask.shape)}; give a MASK of one frame or more")
    return np.asarray((mask >= 0.5).cpu().numpy())


def mask_of(masks: Masks) -> torch.Tensor:
    """The MASK of masks ``(frames, height, width)``."""
    found = torch.empty(tuple(masks.shape), dtype=torch.float32)
    for number, mask in enumerate(masks):
        found[number] = torch.from_numpy(np.ascontiguousarray(mask)).float()
    return found


def chosen(count: int, offset: int, length: int, name: str) -> slice:
    """Which of ``count`` frames ``video_frame_offset`` and ``length`` mean; a length of 0 is all there are."""
    if offset >= count:
        raise InputError(f"video_frame_offset {offset}: {name} has {count} frames; give 0 to {count - 1}")
    return slice(offset, count if length == 0 else min(offset + length, count))


def rate_of(fps: float) -> Fraction | None:
    """Frames per second as they were typed; ``None`` for 0, which is "as it is"."""
    return Fraction(fps).limit_denominator(1001) if fps else None


@dataclass(frozen=True)
class Source:
    """A video that came in, as VIDEO or as IMAGE.

    Attributes:
        video: its frames in memory.
        audio: AUDIO that sounds with them; ``None``: silent.
    """

    video: HeldVideo
    audio: dict[str, Any] | None

    @classmethod
    def of(cls, given: Any, fps: float, name: str) -> Source:
        """What an input called ``name`` brought.

        Args:
            given: VIDEO or IMAGE.
            fps: frames per second; 0: those of a VIDEO, 24 for IMAGE.
        """
        if isinstance(given, torch.Tensor):
            return cls(HeldVideo.of(pictures_of(given, name), rate_of(fps) or Fraction(24), name), None)
        components = given.get_components()
        rate = rate_of(fps) or Fraction(components.frame_rate).limit_denominator(1001)
        return cls(HeldVideo.of(pictures_of(components.images, name), rate, name), components.audio)


def poses_of(keypoints: Any, person: int, fps: float, source: Source | None, name: str) -> PoseSequence:
    """The poses of one person of POSE_KEYPOINT.

    Args:
        fps: frames per second; 0: those of ``source``, or those that the poses say.
    """
    return read_poses(keypoints, person, rate_of(fps) or (None if source is None else source.video.info.fps), name=name)


def poses_of_video(
    keypoints: Any, person: int, source: Source, frames: slice, name: str = "pose_keypoints"
) -> PoseSequence | None:
    """The poses of the frames of ``source`` that are made, of POSE_KEYPOINT for those or for all of the video."""
    if keypoints is None:
        return None
    poses = poses_of(keypoints, person, 0, source, name)
    return poses[frames] if len(poses) == source.video.info.num_frames else poses


def track_of(mask: torch.Tensor | None, frames: slice, count: int, name: str, what: str) -> MaskTrack | None:
    """The masks of the frames that are made, of a MASK for those or for all ``count`` of the video."""
    if mask is None:
        return None
    masks = masks_of(mask, name)
    return MaskTrack(masks[frames] if len(masks) == count else masks, what)


def part_of_sound(audio: dict[str, Any] | None, start: float, seconds: float) -> dict[str, Any] | None:
    """What of AUDIO sounds from ``start`` on for so many ``seconds``; ``None`` where nothing does."""
    if audio is None:
        return None
    rate = int(audio["sample_rate"])
    part = audio["waveform"][..., round(start * rate) : round((start + seconds) * rate)]
    return {"waveform": part, "sample_rate": rate} if part.shape[-1] else None


def video_of(images: torch.Tensor, fps: Fraction, audio: dict[str, Any] | None) -> Any:
    """The VIDEO of an IMAGE."""
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=audio, frame_rate=fps))
