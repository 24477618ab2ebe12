"""A ControlNet on the reference picture: what Animate Anyone compares ReferenceNet with (its ablation, table 3).

The method itself does not use it. The ControlNet is diffusers'; what is ours is which picture it is given and
which samples do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers import ModelMixin as ModelMixin  # by this name diffusers finds how to load a model folder
from torch import Tensor

from animate_anyone.models.pipeline_options import CONTROLLED as CONTROLLED
from animate_anyone.models.pipeline_options import REFERENCE_PATHS as REFERENCE_PATHS


@dataclass(frozen=True)
class ReferenceResiduals:
    """What the denoising UNet adds to the outputs of its down blocks and of its middle.

    Attributes:
        down: one for the first convolution and one for every layer of the down blocks, each
            ``(rows, channels, height, width)`` of that layer; rows are ordered sample by sample, the frames of one
            sample together.
        middle: the same for the middle block.
    """

    down: tuple[Tensor, ...]
    middle: Tensor


class ReferenceControl(ControlNetModel):
    """diffusers' ControlNet, given the reference's latents as its condition.

    Configuration and keys are ``ControlNetModel``'s. It sees the noisy latents as well, so it runs once per
    denoising step and frame, unlike ReferenceNet.
    """

    @classmethod
    def from_unet2d(cls, unet: UNet2DConditionModel) -> ReferenceControl:
        """Start from a Stable Diffusion UNet's weights; the condition enters, and the residuals leave, at zero."""
        width = unet.config["block_out_channels"][0]
        # As many latents as the UNet takes, on its grid: one convolution and a zero-initialised one, no stride.
        control = cls.from_unet(
            unet, conditioning_embedding_out_channels=(width,), conditioning_channels=unet.config["in_channels"]
        )
        return control if unet.dtype == torch.float32 else control.to(unet.dtype)

    def forward(  # type: ignore[override]
        self,
        latents: Tensor,
        timestep: Tensor | int,
        image_tokens: Tensor,
        reference: Tensor,
        num_unconditional: int = 0,
    ) -> ReferenceResiduals:
        """Residuals for one denoising step.

        Args:
            latents: ``(batch, channels, frames, height, width)``, noised.
            timestep: one for all, or ``(batch,)``.
            image_tokens: ``(batch, tokens, cross_attention_dim)``; zeros where there shall be none.
            reference: ``(references, channels, height, width)``, clean, scaled as the VAE's latents are. The rows
                (samples and frames) are shared out equally among the unconditional ones and these.
            num_unconditional: so many parts of the rows, the first ones, get residuals of zero.

        Raises:
            ValueError: the rows cannot be shared out so.
        """
        batch, _, frames = latents.shape[:3]
        parts = num_unconditional + len(reference)
        rows, left_over = divmod(batch * frames, parts)
        if left_over:
            raise ValueError(f"{batch * frames} rows cannot be shared among {parts} samples of the reference")
        plain = num_unconditional * rows
        times = torch.as_tensor(timestep, device=latents.device).expand(batch).repeat_interleave(frames)
        down, middle = super().forward(
            latents.transpose(1, 2).flatten(0, 1)[plain:],
            times[plain:],
            image_tokens.repeat_interleave(frames, 0)[plain:],
            reference.to(latents.dtype).repeat_interleave(rows, 0),
            return_dict=False,
        )

        def behind_zeros(residual: Tensor) -> Tensor:
            return torch.cat([residual.new_zeros(plain, *residual.shape[1:]), residual]) if plain else residual

        return ReferenceResiduals(tuple(map(behind_zeros, down)), behind_zeros(middle))
