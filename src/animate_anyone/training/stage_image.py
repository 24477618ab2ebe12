"""Stage one (Animate Anyone, section 3.3): single frames, no temporal layer. ReferenceNet, Pose Guider and
denoising UNet are trained; the reference is another frame of the same clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.first_guess.inpainting import complete, complete_smoothly
from animate_anyone.models.reference_concatenation import SeenReference
from animate_anyone.models.reference_control import ReferenceResiduals
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.clips import digest, pose_of
from animate_anyone.training.objective import number_dropped
from animate_anyone.training.silhouette_errors import spoil
from animate_anyone.training.stage import pose_input, to_pixels
from animate_anyone.training.stage_denoising import DenoisingBatch, DenoisingStage

TEXTURED = 0.2
"""Share of references whose background is completed with texture, as when the model is used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageBatch(DenoisingBatch):
    """Clips of a character; their frames are there either as pictures or as latents from the cache.

    Attributes:
        frames: the targets, ``(b, k, H, W, 3)`` uint8; ``None`` where there are ``latents``.
        latents: of the reference and then the targets, scaled, ``(b, 1 + k, c, h, w)`` float16.
    """

    frames: Tensor | None = None
    latents: Tensor | None = None


class ImageStage(DenoisingStage[ImageBatch]):
    """ReferenceNet, Pose Guider and denoising UNet on single frames."""

    STREAM, record = 5, ImageBatch

    def make_clips(self, progress: Progress = SILENT) -> None:
        """The clips, and their latents in the cache."""
        super().make_clips(progress)
        data = self.recipe.data
        if data.cache is None:
            return
        if data.keep_latents:  # encoded where they are trained on
            self.vae.to(self.clips.device)
        self.clips.derive("latents", digest(self.vae), self._encode_clip, progress)

    def _build(self, init: Path) -> None:
        super()._build(init)
        # Single frames cannot train temporal layers: those of a whole model wait here until it is saved.
        self._temporal = {} if self.in_a_row else self.denoising_unet.take_motion_out()

    def save(self, folder: Path) -> None:
        self.denoising_unet.put_motion_back(self._temporal)
        try:
            super().save(folder)
        finally:
            if self._temporal:
                self.denoising_unet.take_motion_out()

    def skip(self, rng: np.random.Generator) -> None:
        self.choose_frames(rng)
        self.drops_guess(rng)
        self.draws_errors(rng)

    def row(self, clip: ClipArrays, rng: np.random.Generator, step: int) -> dict[str, NDArray]:
        frames = self.frames_of(clip, rng)
        as_it_is, errors = self.drops_guess(rng), self.draws_errors(rng)
        picked = {
            "reference": clip["frames"][frames[0]],
            "reference_pose": clip["poses"][frames[0]],
            "poses": clip["poses"][frames[1:]],
            "masks": clip["masks"][frames[1:]].astype(bool),
        }
        if self.guessing.carried_reference:
            picked["carried"] = character_frames(clip, frames, as_it_is, errors)
        if "latents" in clip:
            picked["latents"] = clip["latents"][frames]
        else:
            picked["frames"] = clip["frames"][frames[1:]]
        return picked

    # Letters: b clips, k target frames, c latent channels, h, w latent grid.
    def latents_of(self, batch: ImageBatch) -> tuple[Tensor, Tensor, FirstGuess]:
        """``(reference, targets, guess)``: latents ``(b, c, h, w)`` and ``(b, k, c, h, w)``, changes of the guess."""
        if batch.frames is not None:
            latents = self.encode(torch.cat([batch.reference[:, None], batch.frames], 1))
        else:
            assert batch.latents is not None
            latents = batch.latents.float()
        reference, target = latents[:, 0], latents[:, 1:]
        guess = self.first_guess(reference, batch)
        return reference, guess.changes(target.transpose(1, 2)).transpose(1, 2), guess

    def forward(self, batch: ImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        reference, target, guess = self.latents_of(batch)
        b, k = target.shape[:2]
        dropped = number_dropped(b, self.recipe.objective.condition_dropout, generator)

        # 1. Noise.
        noisy, wanted, timesteps = self.noised(target, generator)

        # 2. Conditions; the first `dropped` clips do without reference and image token. Where that is all of them,
        # what looks at the reference sees one all the same: data-parallel training needs a gradient of zero, not none.
        token = self.token(batch, dropped)
        first = min(dropped, b - 1)
        own = pose_input(batch.reference_pose[:, None])
        pose = self.guide(pose_input(batch.poses), own)  # (b, C, k, h, w)
        seen: SeenReference | ReferenceResiduals | None = None
        made: list[Tensor] = []
        if self.reference_net is not None:
            seen, made = self.read_reference(reference, token, own, first)
        elif self.reference_resnet is not None:
            features = self.reference_resnet(to_pixels(batch.reference)[first:])
            seen, made = self.denoising_unet.project_reference(features, first), list(features.values())
        elif self.reference_control is not None:
            rows, tokens = noisy.flatten(0, 1)[:, :, None], token.repeat_interleave(k, 0)
            residuals = self.reference_control(rows, timesteps.flatten(), tokens, reference[first:], first)
            made, seen = [*residuals.down, residuals.middle], residuals

        # 3. Predict.
        noisy = guess.join_samples(noisy.transpose(1, 2), dropped)  # (b, c, k, h, w)
        video, pose = self.as_clips(noisy.transpose(1, 2)), self.as_clips(pose.transpose(1, 2))
        prediction = self.predict(video, timesteps, token, pose, seen if dropped < b else None)
        return self.loss(batch, prediction, wanted, timesteps, made if dropped == b else [])

    def pipeline(self) -> AnimateAnyonePipeline:
        return AnimateAnyonePipeline(
            pose_guider=self.as_saved(self.pose_guider),  # type: ignore[arg-type]
            reference_control=self.as_saved(self.reference_control),
            reference_resnet=self.as_saved(self.reference_resnet),
            **self.common_parts(),
        )

    def _encode_clip(self, frames: NDArray) -> NDArray:
        return self.encode(torch.from_numpy(frames.copy())[None])[0].half().cpu().numpy()


def character_frames(clip: ClipArrays, frames: NDArray[np.int64], as_it_is: bool, errors: int) -> NDArray:
    """The first of ``frames`` moved into the poses of the others, or as it is.

    ``errors`` is the seed of its silhouette's errors. Few backgrounds are completed with texture: that takes as long as
    all the rest.
    """
    reference = clip["frames"][frames[0]]
    if as_it_is:  # as where a pose is not known
        return np.repeat(reference[None], len(frames) - 1, 0)
    pose = pose_of(clip["joints"][frames], (reference.shape[1], reference.shape[0]))
    rng = np.random.default_rng(errors)
    silhouette = spoil(clip["masks"][frames[0]].astype(bool), rng)
    completed = complete if rng.random() < TEXTURED else complete_smoothly
    return np.stack(list(CharacterFrames(reference, pose[:1], pose[1:], silhouette=silhouette, completed=completed)))
