"""Depth Anything: maps of depth, of frames (AA2). What is kept of them is measured by ``perception.joint_depth``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.perception.backends import load_network, network_input, run_network
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Picture, Size

_PATCH = 14  # sides that the network takes are multiples of it


class DepthAnything:
    """Estimator ``depth_anything``, frame by frame: transformers' Depth Anything, of both versions.

    Its relative networks give inverse depth, whose negative is returned, which keeps the order; its metric ones depth.

    Args:
        weights: a folder with a ``DepthAnythingForDepthEstimation`` as transformers saves it.
        device: ``cpu``, ``cuda`` or ``mps``.
        side: shorter side of the pictures that the network sees, pixels.
        model: a ready network; then nothing is loaded.

    Raises:
        InputError: no folder is given, or it holds no such network.
    """

    def __init__(
        self, weights: str | Path | None = None, device: str = "cpu", side: int = 518, model: Any = None
    ) -> None:
        if side < _PATCH:
            raise InputError(f"a side of {side} pixels is too small for Depth Anything; give {_PATCH} or more")
        loaded = load_network("DepthAnythingForDepthEstimation", weights, "Depth Anything") if model is None else model
        self._model = loaded.eval().to(device)
        self._device, self._side = device, side
        config = getattr(loaded, "config", None)
        self._sign = 1 if getattr(config, "depth_estimation_type", "relative") == "metric" else -1

    def planes(self, frame: Picture) -> NDArray[np.float32]:
        """``(1, h, w)`` at the network's own size, larger is farther; zero and unit are unknown."""
        height, width = frame.shape[:2]
        scale = self._side / min(height, width)
        shown = [max(round(v * scale / _PATCH), 1) * _PATCH for v in (height, width)]
        found = run_network(self._model, network_input(frame, shown, "bicubic"), self._device, "predicted_depth")
        return self._sign * found

    def estimate(self, frames: Iterable[Picture], size: Size, progress: Progress = SILENT) -> NDArray[np.float32]:
        """``(frames, height, width)`` in ``size`` ``(width, height)``, larger is farther; zero and unit are unknown."""
        import torch

        maps = []
        for frame in progress.track(frames, description="depth"):
            plane = torch.from_numpy(self.planes(frame))[None]
            enlarged = torch.nn.functional.interpolate(plane, size[::-1], mode="bilinear")
            maps.append(enlarged[0, 0].numpy())
        if not maps:
            raise InputError("there are no frames to estimate depth from; give a video with 1 frame or more")
        return np.stack(maps).astype(np.float32)
