"""What the image encoder is given and what of it enters cross-attention (Animate Anyone, section 3.2)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

# CLIP's published channel statistics, RGB in [0, 1].
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def image_tokens(encoder: CLIPVisionModelWithProjection, pictures: Tensor) -> Tensor:
    """One pooled, projected token per picture.

    The picture is stretched to the encoder's square, as the published open checkpoints expect.

    Args:
        encoder: CLIP's vision tower with its projection.
        pictures: ``(batch, 3, height, width)`` in [-1, 1].

    Returns:
        ``(batch, 1, projection_dim)``.
    """
    side = encoder.config.image_size
    small = F.interpolate(pictures.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    return _tokens(encoder, small.clamp(-1, 1) / 2 + 0.5)


def picture_token(encoder: CLIPVisionModelWithProjection, picture: NDArray[np.uint8]) -> Tensor:
    """The token of one picture ``(height, width, 3)``, of any size: ``(1, 1, projection_dim)``.

    As :func:`image_tokens`, but made smaller by Pillow in 8-bit steps, to the last bit what the published
    checkpoints were sampled with.
    """
    side = encoder.config.image_size
    small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    return _tokens(encoder, torch.from_numpy(small.copy()).to(encoder.device).permute(2, 0, 1)[None].float() / 255)


def _tokens(encoder: CLIPVisionModelWithProjection, pictures: Tensor) -> Tensor:
    # (batch, 3, side, side) in [0, 1]
    mean, std = (torch.tensor(v, device=pictures.device).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return encoder(((pictures - mean) / std).to(encoder.dtype)).image_embeds[:, None]
