"""Few steps: a student learns to sample in a few steps what its teacher samples in many. (Not in the papers.)

Consistency distillation (Song et al., Consistency models, ICML 2023), in latents and with the teacher's guidance (Luo
et al., Latent consistency models, 2023), over as many segments of the noise schedule as the student takes steps (Heek
et al., Multistep consistency models, 2024; Wang et al., Phased consistency models, NeurIPS 2024): from every point of
the teacher's path within a segment the student goes to the point at its end. docs/training.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE
from animate_anyone.models.reference_attention import ReferenceFeatures
from animate_anyone.models.reference_control import CONTROLLED
from animate_anyone.models.weight_files import read_settings
from animate_anyone.sampling.loading import load_network
from animate_anyone.training.consistency import CLEAN, Grid
from animate_anyone.training.distributed import whole_tensor
from animate_anyone.training.stage import pose_input, to_pixels
from animate_anyone.training.stage_image import ImageBatch, ImageStage
from animate_anyone.training.starting_folder import build_scheduler


@dataclass(frozen=True)
class Given:
    """What teacher, target and student are given of ``b`` clips alike: what makes it is not trained.

    Attributes:
        token: the reference's image tokens ``(b, 1, C)``.
        pose: features ``(b, C, k, h, w)``.
        guess: what is to be changed.
        features: of ReferenceNet; ``None``: the reference is not attended to.
    """

    token: Tensor
    pose: Tensor
    guess: FirstGuess
    features: ReferenceFeatures | None

    def without_reference(self) -> Given:
        """As the unconditional half under guidance has it."""
        origin = self.guess.origin
        guess = FirstGuess(None if origin is None else torch.zeros_like(origin))
        return replace(self, token=torch.zeros_like(self.token), guess=guess, features=None)


class DistilStage(ImageStage):
    """The denoising UNet of a whole model, with its temporal layers where it has them; all else stays.

    Attributes:
        denoising_unet: the student. It begins as the teacher, and it alone is trained and saved.
        teacher: the model's own denoising UNet.
        target: a moving average of the student, which gives the targets; ``None``: the student itself does.
        guidance: the teacher's; 1: none.
        grid: the timesteps.
    """

    STREAM, UNSAVED = 7, ("teacher", "target")

    teacher: DenoisingUNet
    target: DenoisingUNet | None
    guidance: float
    grid: Grid

    def _build(self, init: Path) -> None:
        assert self.recipe.distil is not None  # the recipe says so
        settings, config = self.recipe.distil, init / "denoising_unet" / "config.json"
        if not config.is_file():
            raise InputError(
                f"recipe: stage distil needs a whole model, and {init} has no denoising_unet/; give init=MODEL"
            )
        known = read_settings(config)
        if known.get("environment_channels"):
            raise InputError(
                f"recipe: stage distil takes models of Animate Anyone, and {init} is one of Animate Anyone 2"
            )
        if self.path in CONTROLLED:
            raise InputError(f"recipe: stage distil takes no model with reference_path {self.path}, as {init} has")
        layered = bool(known.get("use_motion_module", True))
        if layered != self.in_a_row:
            has, needs = ("has", "true") if layered else ("has no", "false")
            raise InputError(f"recipe: {init} {has} temporal layers; give data.consecutive={needs} to distil it")
        self.grid = Grid(build_scheduler(self.recipe, init), settings.teacher_steps, settings.steps)
        own = float(self.options.get("guidance_scale", ANIMATE_ANYONE["guidance_scale"]))
        self.guidance = own if settings.guidance is None else settings.guidance
        self.options |= {"num_inference_steps": settings.steps, "guidance_scale": 1.0}
        super()._build(init)
        if self.in_a_row:
            self.take_motion()
        self.teacher = load_network(DenoisingUNet, config.parent)
        self.target = load_network(DenoisingUNet, config.parent) if settings.target_ema else None

    def set_trainable(self) -> None:
        """The student and nothing else."""
        self.requires_grad_(False)
        self.denoising_unet.requires_grad_(True)

    @property
    def in_a_row(self) -> bool:
        """Whether clips are trained: where the model has temporal layers."""
        return self.recipe.in_a_row

    def timesteps(self, b: int, k: int, generator: torch.Generator) -> Tensor:
        """``(b, k)`` as other stages draw them, but those of the teacher alone."""
        return self.grid.at(super().timesteps(b, k, generator))

    def forward(self, batch: ImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        grid, target = self.grid, self.target or self.denoising_unet
        with torch.no_grad():
            reference, latents, guess = self.latents_of(batch)
            given = self.given(batch, reference, guess)

            # 1. A point of a noised clip, and the teacher's step from there.
            noisy, _, timesteps = self.noised(latents, generator)
            before, end = grid.before(timesteps), grid.end(timesteps)
            earlier = grid.jump(self.taught(noisy, timesteps, given), noisy, timesteps, before)

            # 2. Where the target says that this leads, at the segment's end.
            wanted = grid.jump(self.predict_with(target, earlier, before, given), earlier, before, end)

        # 3. Where the student says that the point leads.
        made = grid.jump(self.predict_with(self.denoising_unet, noisy, timesteps, given), noisy, timesteps, end)
        return self.loss(batch, made, wanted, timesteps, [])

    def given(self, batch: ImageBatch, reference: Tensor, guess: FirstGuess) -> Given:
        """What the networks are given of a batch; ``reference``: its latents ``(b, c, h, w)``."""
        token, own = self.token(batch, 0), pose_input(batch.reference_pose[:, None])
        features: ReferenceFeatures | None = None
        if self.reference_net is not None:
            features = self.reference_features(reference, token, own)
        elif self.reference_resnet is not None:
            features = self.reference_resnet(to_pixels(batch.reference))
        return Given(token, self.guide(pose_input(batch.poses), own), guess, features)

    def taught(self, noisy: Tensor, timesteps: Tensor, given: Given) -> Tensor:
        """The teacher's prediction, as :meth:`predict_with`, under guidance."""
        conditional = self.predict_with(self.teacher, noisy, timesteps, given)
        if self.guidance == 1:
            return conditional
        unconditional = self.predict_with(self.teacher, noisy, timesteps, given.without_reference())
        return unconditional + self.guidance * (conditional - unconditional)

    def predict_with(self, network: DenoisingUNet, noisy: Tensor, timesteps: Tensor, given: Given) -> Tensor:
        """What one of the three makes of ``noisy`` ``(b, k, c, h, w)`` at ``(b, k)``, as ``noisy``.

        At :data:`~animate_anyone.training.consistency.CLEAN`, which no network knows, its first timestep is given: no
        jump from there depends on the prediction.
        """
        joined = given.guess.join_samples(noisy.transpose(1, 2), 0).transpose(1, 2)
        seen = None if given.features is None else network.project_reference(given.features)
        pose = self.as_clips(given.pose.transpose(1, 2))
        at = torch.where(timesteps == CLEAN, 0, timesteps)
        return self.predict(self.as_clips(joined), at, given.token, pose, seen, network=network)

    def moving(self) -> dict[str, Tensor]:
        """The target's weights."""
        return {} if self.target is None else {name: p.detach() for name, p in self.target.named_parameters()}

    @torch.no_grad()
    def after_step(self) -> None:
        """The target follows the student."""
        if self.target is None:
            return
        assert self.recipe.distil is not None
        share = 1 - self.recipe.distil.target_ema
        for average, trained in zip(self.target.parameters(), self.denoising_unet.parameters(), strict=True):
            average.lerp_(whole_tensor(trained.detach()), share)
