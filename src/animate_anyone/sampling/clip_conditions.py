"""What the networks are given of a clip: of its reference once, of its frames when a window needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.models.temporal_reference import TemporalReference
from animate_anyone.sampling.frame_features import FrameFeatures
from animate_anyone.sampling.inputs import Pictures
from animate_anyone.sampling.ranks import Ranks
from animate_anyone.sampling.reference import ReferenceCondition
from animate_anyone.sampling.scene import ClipScene, SceneLatents


@dataclass(frozen=True)
class WindowConditions:
    """What the networks are given of the frames of some windows, one window behind the other.

    Attributes:
        poses: ``(1, channels, frames, h, w)``, the pose guider's features.
        guess: what the networks change.
        scene: the environment and the objects (Animate Anyone 2).
    """

    poses: Tensor
    guess: FirstGuess
    scene: SceneLatents | None = None


@dataclass(frozen=True)
class ClipGuess:
    """The first guess at a clip; without ``still`` and ``means`` there is none.

    Attributes:
        still: ``(1, channels, 1, h, w)``, scaled: one for all frames.
        means: one for every frame, not scaled.
        scale: the autoencoder's factor.
        pictures: what ``means`` are of, where lost detail is put back; else ``None``.
    """

    still: Tensor | None = None
    means: FrameFeatures | None = None
    scale: float = 1.0
    pictures: Pictures | None = None

    def of(self, frames: Sequence[int]) -> FirstGuess:
        """The guess at some frames."""
        return FirstGuess(self.still if self.means is None else self.means.of(frames)[0] * self.scale)


@dataclass(frozen=True)
class ClipConditions:
    """What the networks are given of a clip.

    Attributes:
        reference: the reference's look.
        poses: the pose guider's features.
        guess: what the networks change.
        guided: whether guidance asks for an unconditional half.
        scene: the environment and the objects (Animate Anyone 2).
        before: of one segment: the frames before it (Animate Anyone 2). Both halves under guidance see them: as the
            scene does, they say what is there, and guidance is towards the reference.
    """

    reference: ReferenceCondition
    poses: FrameFeatures
    guess: ClipGuess
    guided: bool = False
    scene: ClipScene | None = None
    before: TemporalReference | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ClipConditions:
        """Itself: nothing in it changes but what is made when it is first asked for."""
        return self

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.poses.num_frames

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latents of a frame."""
        height, width = self.reference.latent.shape[-2:]
        return height, width

    def of(self, frames: Sequence[int]) -> WindowConditions:
        """Those of some frames."""
        scene = None if self.scene is None else self.scene.of(frames)
        return WindowConditions(self.poses.of(frames)[0], self.guess.of(frames), scene)

    def make_together(self, frames: Sequence[int], ranks: Ranks, device: torch.device) -> None:
        """Make what is not there of some frames, see :meth:`FrameFeatures.make_together`."""
        for one in self._features():
            one.make_together(frames, ranks, device)

    def make_all(self) -> None:
        """Make what is not there of any frame: the networks that make it are not needed afterwards."""
        for one in self._features():
            for frame in range(one.num_frames):
                one.of([frame])

    def drop_before(self, frame: int) -> None:
        """Let go what is of frames before this one."""
        for one in self._features():
            one.drop_before(frame)

    def _features(self) -> list[FrameFeatures]:
        features = [self.poses, self.guess.means, *(() if self.scene is None else self.scene.features)]
        return [one for one in features if one is not None]
