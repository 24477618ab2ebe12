"""A model that stays loaded from one video to the next."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Placement


class KeptModel:
    """Loads as :func:`load_pipeline` does, and keeps the model until another one, or another placement, is asked for.

    A call of a pipeline leaves nothing in its networks, so that videos are those of a model loaded anew.
    """

    def __init__(self) -> None:
        self._asked: tuple[str, Placement] | None = None
        self._pipeline: AnimateAnyonePipeline | None = None

    def __call__(self, model: str | Path, *, placement: Placement) -> AnimateAnyonePipeline:
        """The model. Raises :class:`InputError` as :func:`load_pipeline` does."""
        if self._pipeline is None or self._asked != (str(model), placement):
            self.drop()
            self._pipeline = load_pipeline(model, placement=placement)
            self._asked = str(model), placement
        return self._pipeline

    def drop(self) -> None:
        """Give its memory back: two models may not fit beside each other."""
        if self._pipeline is not None:
            self._pipeline = None
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
