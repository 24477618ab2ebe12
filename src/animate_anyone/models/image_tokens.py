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


def image_tokens(encoder: CLIPVisionModelWithProjection, pictures: Tensor, kind: str = "pooled") -> Tensor:
    """The projected tokens of each picture.

    The picture is stretched to the encoder's square, as the published open checkpoints expect.

    Args:
        encoder: CLIP's vision tower with its projection.
        pictures: ``(batch, 3, height, width)`` in [-1, 1].
        kind: ``pooled``: one token, the class token's, as the published open checkpoints have it; ``patches``: that
            one, then those of all patches, each through the same normalisation and projection.

    Returns:
        ``(batch, tokens, projection_dim)``; tokens: 1, or 1 + (image size / patch size)^2.
    """
    side = encoder.config.image_size
    small = F.interpolate(pictures.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    return _tokens(encoder, small.clamp(-1, 1) / 2 + 0.5, kind)


def picture_token(encoder: CLIPVisionModelWithProjection, picture: NDArray[np.uint8], kind: str = "pooled") -> Tensor:
    """The tokens of one picture ``(height, width, 3)``, of any size: ``(1, tokens, projection_dim)``.

    As :func:`image_tokens`, but made smaller by Pillow in 8-bit steps, to the last bit what the published
    checkpoints were sampled with.
    """
    side = encoder.config.image_size
    small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    values = torch.from_numpy(small.copy()).to(encoder.device).permute(2, 0, 1)[None].float() / 255
    return _tokens(encoder, values, kind)


def _tokens(encoder: CLIPVisionModelWithProjection, pictures: Tensor, kind: str) -> Tensor:
    # (batch, 3, side, side) in [0, 1]
    mean, std = (torch.tensor(v, device=pictures.device).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    out = encoder(((pictures - mean) / std).to(encoder.dtype))
    if kind == "pooled":
        return out.image_embeds[:, None]
    assert kind == "patches"
    return encoder.visual_projection(encoder.vision_model.post_layernorm(out.last_hidden_state))
