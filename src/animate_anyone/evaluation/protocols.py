"""Protocols: sizes, frames and variants of the metrics by which two sets of videos are compared.

``clean`` is what this project measures with. ``disco-legacy`` follows the script of DisCo (Wang et al. 2023,
``tool/metrics``), whose figures most papers on TikTok and UBC fashion print; its oddities are kept, and named.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.structures import Picture


@dataclass(frozen=True)
class Protocol:
    """How frames and clips are made ready and compared.

    Attributes:
        name: what ``--protocol`` takes.
        side: frames are cropped to their centre square and scaled to this many pixels a side (bilinear,
            antialiased, as DisCo's loader); ``None`` compares them as they are.
        lpips_range: the range LPIPS's network is fed with; it was trained on ``[-1, 1]``.
        clip_length: frames in one clip of FVD and FID-VID.
        clip_stride: frames from one clip's start to the next one's; a video's last frames that fill no clip
            are left out.
        disco_columns: whether the wrapping PSNR and L1 on DisCo's scale are given too.
    """

    name: str
    side: int | None
    lpips_range: Literal["[-1, 1]", "[0, 1]"]
    clip_length: int
    clip_stride: int
    disco_columns: bool

    def prepare(self, frame: Picture) -> Picture:
        """A frame ``(H, W, 3)`` uint8 as it is compared."""
        if self.side is None:
            return frame
        height, width = frame.shape[:2]
        square = min(height, width)
        top, left = round((height - square) / 2), round((width - square) / 2)
        frame = frame[top : top + square, left : left + square]
        if square == self.side:
            return frame
        return np.asarray(Image.fromarray(frame).resize((self.side, self.side), Image.Resampling.BILINEAR))

    def describe(self) -> dict[str, Any]:
        """All of it in plain words and numbers, for the result file."""
        what: dict[str, Any] = asdict(self)
        del what["side"], what["disco_columns"]
        what["crop"] = "none" if self.side is None else "centre square"
        what["resolution"] = "as given" if self.side is None else [self.side, self.side]
        what["mean"] = "over all frames of all videos"
        what["psnr"] = "of real numbers, over pixels and channels, in dB; frames that are alike are left out"
        what["ssim"] = "grey (BT.601, 8 bits), uniform window of 7x7, sample covariance"
        what["l1"] = "mean absolute difference, range 1"
        what["lpips"] = f"version 0.1, VGG-16, fed {self.lpips_range}"
        what["fid"] = "Inception of the TensorFlow FID, 2048 features; frames at 299x299 (bicubic, antialiased)"
        what["fvd"] = "I3D, 400 logits; clips at 224x224 (bicubic, antialiased), range [-1, 1]"
        what["fid_vid"] = "3-D ResNet-50, 2048 features; clips at 112x112 (bicubic, antialiased), bytes less their mean"
        if self.disco_columns:
            what["psnr_disco"] = "of bytes that wrap round, as DisCo's script has it: not comparable with psnr"
            what["l1_disco"] = "mean absolute difference of bytes, divided by the number of pixels"
        return what


PROTOCOLS = {
    "clean": Protocol("clean", None, "[-1, 1]", clip_length=16, clip_stride=16, disco_columns=False),
    "disco-legacy": Protocol("disco-legacy", 256, "[0, 1]", clip_length=16, clip_stride=1, disco_columns=True),
}

FRAME_METRICS = ("psnr", "ssim", "l1")
METRICS = (*FRAME_METRICS, "lpips", "fid", "fid_vid", "fvd")


def find_protocol(name: str) -> Protocol:
    """The protocol of that name; :class:`InputError` lists those there are."""
    if name not in PROTOCOLS:
        raise InputError(f"--protocol {name}: not known; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def parse_metrics(text: str | None) -> tuple[str, ...]:
    """``"psnr,ssim,fid-vid"`` as names of :data:`METRICS`, in their order; ``None`` for all of them."""
    if text is None:
        return METRICS
    asked = [name.strip().lower().replace("-", "_") for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in METRICS]
    if unknown or not asked:
        what = f"{unknown[0]} is not known" if unknown else "names no metric"
        raise InputError(f"--metrics {text}: {what}; give some of {','.join(METRICS)}")
    return tuple(name for name in METRICS if name in asked)
