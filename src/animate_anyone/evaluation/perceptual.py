"""Measures that look through a trained network: LPIPS of two frames, and features for Fréchet distances.

Networks are in :mod:`~animate_anyone.evaluation.backbones`, their files in
:mod:`~animate_anyone.evaluation.weights`. A file must hold exactly the tensors that its network asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.evaluation import weights
from animate_anyone.evaluation.backbones import i3d, inception, lpips_vgg, resnet3d
from animate_anyone.evaluation.folders import listed
from animate_anyone.evaluation.frechet import Gaussian, frechet_distance
from animate_anyone.interop.catalog import WebFile
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.structures import Picture

Network = lpips_vgg.VGG | lpips_vgg.Weights | inception.Inception | resnet3d.ResNet3D | i3d.I3D
SHRINK = 1  # of all networks; more than 1 for tests alone
_BATCH = 16  # frames that FID's network takes at once


def load(network: Network, folder: Path, source: WebFile, device: torch.device) -> None:
    """Fill a network from its published file in ``folder``, and make it ready to use; nothing but tensors is read.

    Raises:
        InputError: damaged, more than tensors, or tensors missing, left over or of another shape, by name. Counts of
            batches, which old files lack and nobody uses, may be there or not.
    """
    file = weights.file_of(source, folder)
    found = WeightFile(file)
    there = {name: shape for name, shape in found.shapes.items() if not name.endswith("num_batches_tracked")}
    wanted = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    faults = [
        f"{what} {listed(names, most=4)}"
        for what, names in (
            ("lacks", sorted(wanted.keys() - there.keys())),
            ("has besides", sorted(there.keys() - wanted.keys() - set(network.unused))),
            ("has another shape of", sorted(n for n in wanted.keys() & there.keys() if wanted[n] != there[n])),
        )
        if names
    ]
    if faults:
        again = weights.get_line(source, folder)
        raise InputError(
            f"{file}: is another network's: {'; '.join(faults)}; remove it, and to get the right file: {again}"
        )
    network.load_state_dict({n: t.float() for n, t in found.read(list(wanted)).items()}, strict=False)
    network.requires_grad_(False).eval().to(device)


def resized(frame: Picture, side: int) -> Tensor:
    """A frame ``(H, W, 3)`` uint8 as ``(3, side, side)`` float32, 0 to 255 and a little over at edges.

    Bicubic with antialiasing, never rounded, as clean-fid and DisCo's script do; proportions are not kept.
    """
    channels = [
        np.asarray(Image.fromarray(frame[..., k].astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
        for k in range(3)
    ]
    return torch.from_numpy(np.stack(channels))


class Lpips:
    """LPIPS of pairs of frames; see :mod:`.backbones.lpips_vgg`."""

    def __init__(self, folder: Path, device: torch.device, value_range: str) -> None:
        self._device, self._signed = device, value_range == "[-1, 1]"
        self._vgg, self._weights = lpips_vgg.VGG(SHRINK), lpips_vgg.Weights(SHRINK)
        for network, source in ((self._vgg, weights.VGG), (self._weights, weights.LPIPS)):
            load(network, folder, source, device)

    @torch.inference_mode()
    def __call__(self, first: Picture, second: Picture) -> float:
        """The distance of two frames ``(H, W, 3)``: 0 where alike."""
        pictures = [torch.from_numpy(p.astype(np.float32) / 255).permute(2, 0, 1)[None] for p in (first, second)]
        if self._signed:
            pictures = [2 * p - 1 for p in pictures]
        one, other = (p.to(self._device) for p in pictures)
        return float(lpips_vgg.lpips(self._vgg, self._weights, one, other))


@dataclass(frozen=True)
class Features:
    """How clips become features.

    Attributes:
        source: the file of weights.
        network: its class.
        side: frames are scaled to this many pixels a side.
        values: from bytes ``(n, 3, frames, side, side)`` to what the network takes.
        single: the network takes single frames, not clips.
    """

    source: WebFile
    network: type[inception.Inception | resnet3d.ResNet3D | i3d.I3D]
    side: int
    values: Callable[[Tensor], Tensor]
    single: bool = False


def _less_mean(clips: Tensor) -> Tensor:
    return clips - clips.new_tensor(resnet3d.MEAN)[:, None, None, None]


FEATURES = {
    "fid": Features(weights.INCEPTION, inception.Inception, 299, lambda x: (x - 128) / 128, single=True),
    "fid_vid": Features(
        weights.RESNET, resnet3d.ResNet3D, 112, lambda x: x - x.new_tensor(resnet3d.MEAN)[:, None, None, None]
    ),
    "fvd": Features(weights.I3D, i3d.I3D, 224, lambda x: x / 127.5 - 1),
}


class Distribution:
    """Features of two sets of videos, generated and true, frame by frame; only their sums are kept.

    Args:
        metric: ``"fid"``, ``"fid_vid"`` or ``"fvd"``.
        length, stride: of clips in frames; not for FID, which takes every frame.

    Attributes:
        dimension: of the features.
    """

    def __init__(self, metric: str, folder: Path, device: torch.device, length: int, stride: int) -> None:
        self._made, self._device = FEATURES[metric], device
        self._length, self._stride = (1, 1) if self._made.single else (length, stride)
        self._network = self._made.network(SHRINK)
        load(self._network, folder, self._made.source, device)
        self.dimension = self._network.width
        self._sets = (Gaussian(self.dimension), Gaussian(self.dimension))
        self._windows: tuple[deque[Tensor], ...] = (deque(maxlen=self._length), deque(maxlen=self._length))
        self._waiting: tuple[list[Tensor], ...] = ([], [])
        self._seen = [0, 0]

    @property
    def clips(self) -> int:
        """How many features there are of the generated videos, and of the true ones as many."""
        return self._sets[0].count + len(self._waiting[0])

    def add(self, generated: Picture, truth: Picture) -> None:
        """Take in the next frame ``(H, W, 3)`` of both."""
        for side, frame in enumerate((generated, truth)):
            self._windows[side].append(resized(frame, self._made.side))
            self._seen[side] += 1
            past = self._seen[side] - self._length
            if past >= 0 and past % self._stride == 0:
                self._waiting[side].append(torch.stack(tuple(self._windows[side]), dim=1))
                if len(self._waiting[side]) * self._length >= _BATCH:
                    self._flush(side)

    def end_video(self) -> None:
        """The next frame is another video's: no clip reaches over the border."""
        for window in self._windows:
            window.clear()
        self._seen = [0, 0]

    def distance(self) -> float:
        """The Fréchet distance of all that was added. Raises ``ValueError`` for fewer than two clips a side."""
        for side in (0, 1):
            self._flush(side)
        return frechet_distance(*self._sets)

    @torch.inference_mode()
    def _flush(self, side: int) -> None:
        if not self._waiting[side]:
            return
        clips = self._made.values(torch.stack(self._waiting[side]).to(self._device))
        features = self._network(clips.squeeze(2) if self._made.single else clips)
        self._sets[side].add(features.float().cpu().numpy())
        self._waiting[side].clear()
