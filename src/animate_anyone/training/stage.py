"""What a stage says to the training loop, and what all stages that train on the studio's clips share."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from animate_anyone.progress import SILENT, Progress
from animate_anyone.training.batch import Batch
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.clip_source import ClipSource, make_source
from animate_anyone.training.clips import stream
from animate_anyone.training.config import Recipe
from animate_anyone.training.render_pool import count_workers
from animate_anyone.training.wanted import Wanted

BatchT = TypeVar("BatchT", bound=Batch)


class Stage(nn.Module, Generic[BatchT]):
    """What a stage must say. Its ``forward`` is the loss, so that data-parallel wrappers see every call.

    A stage holds all networks that it needs as submodules; what does not train has no gradient.

    Attributes:
        STREAM: number of the random stream from which :meth:`row` draws; each stage has its own.
        UNSAVED: networks that :meth:`save` leaves out.
        record: the type of its batches.
        clips: where the clips come from; a stage makes them when its networks are built.
    """

    STREAM: ClassVar[int]
    UNSAVED: ClassVar[tuple[str, ...]] = ()
    record: type[BatchT]
    clips: ClipSource

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)

    def make_clips(self, progress: Progress = SILENT) -> None:
        """The recipe's clips, rendered into its cache where it has one."""
        self.clips = make_source(self.recipe, self.wanted, progress)

    @property
    def wanted(self) -> Wanted | None:
        """What is taken of each clip where they are videos; ``None``: the studio's alone are taken."""
        return None

    @property
    def renderers(self) -> int:
        """How many processes render the clips of :meth:`batch`; 0 where they are read from a cache or from videos."""
        data = self.recipe.data
        rendered = data.cache is None and (data.source == "studio" or data.studio_share > 0)
        return count_workers(data) if rendered else 0

    def batch(self, step: int, part: int, parts: int) -> BatchT:
        """The clips of one micro-batch on the CPU; a function of the step and the part alone.

        It runs in other threads or processes while steps before compute. How a step is cut changes nothing in its rows.
        """
        count = self.num_clips(step)
        rng = stream(self.recipe.seed, self.STREAM, step, 0)
        for _ in range(part * count):
            self.skip(rng)
        clips = self.clips.of_step(step, part, parts, count)
        return self.record.stacked([self.row(clip, rng, step) for clip in clips])

    def num_clips(self, step: int) -> int:
        """Clips in a micro-batch of this step."""
        return self.recipe.batch // self.recipe.accumulate

    def row(self, clip: ClipArrays, rng: np.random.Generator, step: int) -> dict[str, NDArray]:
        """What the batch has of one clip: its fields without the batch axis."""
        raise NotImplementedError

    def skip(self, rng: np.random.Generator) -> None:
        """Draw what :meth:`row` draws for a clip, whatever is in it."""
        raise NotImplementedError

    @property
    def weighted(self) -> bool:
        """Whether errors on the person count more than others, see :meth:`mean_weight`."""
        return self.recipe.objective.person_weight != 1

    def weights(self, batch: BatchT) -> Tensor:
        """What an error counts in each place; broadcasts against the prediction."""
        raise NotImplementedError

    def mean_weight(self, batch: BatchT) -> Tensor:
        """The mean of :meth:`weights`, a scalar; asked for where the stage is ``weighted``.

        The mean over all micro-batches of the step, on all processes, comes to :meth:`forward` as
        ``batch.mean_weight``: errors are divided by it, so that how a step is cut changes nothing.
        """
        return self.weights(batch).mean()

    def forward(self, batch: BatchT, generator: torch.Generator) -> dict[str, Tensor]:
        """``{"loss": scalar, ...}``: the loss and further scalars for the log.

        ``generator`` is that of the whole step, see ``objective.part_of_step``.
        """
        raise NotImplementedError

    def moving(self) -> dict[str, Tensor]:
        """What steps change beside the trained weights, by name; checkpoints hold it too."""
        return {}

    def after_step(self) -> None:
        """Change what :meth:`moving` has, after the optimiser's step; called on all processes together."""

    def save(self, folder: Path) -> None:
        """Write the result, with the weights as they are now."""
        raise NotImplementedError


def to_pixels(frames: Tensor) -> Tensor:
    """``(..., H, W, 3)`` uint8 to ``(..., 3, H, W)`` float32 in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def pose_input(pictures: Tensor) -> Tensor:
    """Pose pictures ``(b, k, H, W, 3)`` uint8 to ``(b, 3, k, H, W)`` float32 in [0, 1]."""
    return pictures.permute(0, 4, 1, 2, 3).float() / 255
