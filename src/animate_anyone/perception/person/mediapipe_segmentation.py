"""MediaPipe's segmentation networks, all of them inside its wheel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.perception.pose.mediapipe import load_solutions
from animate_anyone.structures import Picture
from animate_anyone.system.silence import silent_stderr


class Segmentation:
    """The two selfie networks and the mask of the pose network; opened when first needed."""

    def __init__(self) -> None:
        self._solutions = load_solutions()
        self._graphs: dict[str, Any] = {}

    def in_window(self, picture: Picture) -> list[NDArray[np.float32]]:
        """Chances ``(height, width)`` in [0, 1] that pixels are a person's, one answer a network; any picture."""
        return [np.asarray(self._run(name, picture).segmentation_mask, np.float32) for name in ("general", "landscape")]

    def in_frame(self, frame: Picture) -> NDArray[np.float32] | None:
        """As ``in_window`` for the most prominent person of a video's next frame; ``None`` where nobody is found."""
        mask = self._run("pose", frame).segmentation_mask
        return None if mask is None else np.asarray(mask, np.float32)

    def forget(self) -> None:
        """The next frame of :meth:`in_frame` is of another video: nothing is known of where the person was."""
        if "pose" in self._graphs:
            self._graphs.pop("pose").close()

    def _run(self, name: str, picture: Picture) -> Any:
        if name in self._graphs:
            return self._graphs[name].process(picture)
        with silent_stderr():  # the C++ side writes warnings until each of its networks has run once
            if name == "pose":
                graph = self._solutions.pose.Pose(enable_segmentation=True, smooth_segmentation=False)
            else:
                graph = self._solutions.selfie_segmentation.SelfieSegmentation(model_selection=int(name == "landscape"))
            self._graphs[name] = graph
            return graph.process(picture)
