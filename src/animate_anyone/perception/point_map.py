"""Sapiens2's point maps: where each pixel lies in space, x, y and z of one unit (AA2 takes depth from Sapiens)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.perception.backends import load_network, network_input, run_network
from animate_anyone.structures import Picture


class Sapiens2Points:
    """Estimator ``sapiens2``, frame by frame: transformers' Sapiens2 with a head for point maps.

    A frame is put whole into the network's own size, in its middle, as the network's processor does; no processor is
    needed. Its scale of the focal length is left out: it is one factor of all three values, which have no unit here.

    Args:
        weights: a folder with a ``Sapiens2ForPointmapEstimation`` as transformers saves it.
        device: ``cpu``, ``cuda`` or ``mps``.
        model: a ready network; then nothing is loaded.

    Raises:
        InputError: no folder is given, or it holds no such network.
    """

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", model: Any = None) -> None:
        loaded = load_network("Sapiens2ForPointmapEstimation", weights, "Sapiens2") if model is None else model
        self._model = loaded.eval().to(device)
        self._device = device
        size: int | tuple[int, int] = loaded.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        self._height, self._width = int(height), int(width)

    def planes(self, frame: Picture) -> NDArray[np.float32]:
        """``(3, h, w)`` at the network's own size: x right, y down, z farther, of one unknown unit."""
        import torch

        height, width = frame.shape[:2]
        scale = min(self._height / height, self._width / width)
        inner = [max(round(v * scale), 1) for v in (height, width)]
        top, left = (self._height - inner[0]) // 2, (self._width - inner[1]) // 2
        black = network_input(np.zeros((1, 1, 3), np.uint8), (1, 1), "bilinear")
        pixels = black.expand(1, 3, self._height, self._width).clone()
        pixels[..., top : top + inner[0], left : left + inner[1]] = network_input(frame, inner, "bilinear")
        found = torch.from_numpy(run_network(self._model, pixels, self._device, "pointmaps"))
        shares = found.shape[1] / self._height, found.shape[2] / self._width
        rows = slice(round(top * shares[0]), max(round((top + inner[0]) * shares[0]), 1))
        columns = slice(round(left * shares[1]), max(round((left + inner[1]) * shares[1]), 1))
        return found[:, rows, columns].numpy()
