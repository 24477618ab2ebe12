"""ReferenceNet (Animate Anyone, section 3.2): the Stable Diffusion UNet, run once per video on the
reference picture's latent, whose self-attention inputs are handed to the denoising UNet.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ModelMixin as ModelMixin  # by this name diffusers finds how to load a model folder
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from animate_anyone.models.first_convolution import ConvWithPose
from animate_anyone.models.pipeline_options import takes
from animate_anyone.models.reference_attention import CollectingProcessor, ReferenceFeatures, install_processors


class ReferenceNet(UNet2DConditionModel):
    """Stable Diffusion's UNet without the output layers, which nobody reads.

    Same configuration and keys as ``UNet2DConditionModel``, less ``conv_norm_out`` and ``conv_out``.
    """

    @takes(UNet2DConditionModel)
    def __init__(self, **unet: Any) -> None:
        super().__init__(**unet)
        self.conv_in: nn.Module = ConvWithPose.like(self.conv_in)  # type: ignore[arg-type, has-type]
        self.conv_norm_out = None
        self.conv_out = nn.Identity()
        install_processors(self, CollectingProcessor)

    @classmethod
    def from_unet2d(cls, unet: UNet2DConditionModel) -> ReferenceNet:
        """Start from a Stable Diffusion UNet's weights, as the paper does."""
        net = cls(**{k: v for k, v in unet.config.items() if k in cls._get_init_keys(cls)})
        weights = {k: v for k, v in unet.state_dict().items() if not k.startswith(("conv_norm_out.", "conv_out."))}
        net.load_state_dict(weights)
        return net if unet.dtype == torch.float32 else net.to(unet.dtype)

    def forward(  # type: ignore[override]
        self, latents: Tensor, image_tokens: Tensor, pose_features: Tensor | None = None
    ) -> ReferenceFeatures:
        """Features of the reference picture.

        Args:
            latents: ``(batch, channels, height, width)``, clean, scaled as the VAE's latents are.
            image_tokens: ``(batch, tokens, cross_attention_dim)`` from the image encoder.
            pose_features: ``(batch, width of the first level, height, width)`` of the pose that the
                character has in the reference picture, or ``None`` as in the paper. (Not in the paper:
                other systems of the field give the reference's own skeleton so that body parts need
                not be recognised before they can be matched.)

        Returns:
            Layer name -> ``(batch, height * width at that layer, channels)``.
        """
        collected: dict[str, Tensor] = {}
        super().forward(
            ConvWithPose.join(latents, pose_features),
            0,
            image_tokens,
            cross_attention_kwargs={"collect": collected},
            return_dict=False,
        )
        return collected
