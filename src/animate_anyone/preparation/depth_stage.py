"""The stage of depth (AA2): how far the person's limbs are, by a network, in place of what the pose estimator says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from animate_anyone.engines.engine import Resources
from animate_anyone.perception.joint_depth import DepthNetwork, measure_depth
from animate_anyone.preparation.clip import Clip


class MeasureDepth:
    """Gives the tracked poses their depth, before they are cleaned; it is written with them.

    Args:
        load: gives the network.
    """

    name: ClassVar[str] = "depth"
    inputs: ClassVar[tuple[str, ...]] = ("frames", "tracked")
    outputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources()

    def __init__(self, load: Callable[[], DepthNetwork]) -> None:
        self._network = load()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`BrokenError` where the source cannot be read any more."""
        assert item.frames is not None and item.tracked is not None
        poses = measure_depth(item.tracked.poses, item.frames.read(), self._network)
        item.tracked = replace(item.tracked, poses=poses)


class MeasureDepthOnGpu(MeasureDepth):
    """As :class:`MeasureDepth`, with a network that computes on a GPU."""

    resources: ClassVar[Resources] = Resources(gpus=1.0)
