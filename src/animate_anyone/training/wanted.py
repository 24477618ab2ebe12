"""What a stage takes of the clips of videos."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """What a stage takes of each clip.

    Attributes:
        targets: frames that are predicted, beside the reference.
        in_a_row: the targets follow each other; else they are any.
        step: what sides of frames are multiples of.
        masks: whether the person's masks are needed.
        scene: whether clips are scenes, as ``clips.render_scene`` has them.
        depth: whether poses need depth.
    """

    targets: int
    in_a_row: bool
    step: int = 8
    masks: bool = False
    scene: bool = False
    depth: bool = False

    @property
    def num_frames(self) -> int:
        """The least that a clip must have."""
        return self.targets if self.in_a_row else 1 + self.targets
