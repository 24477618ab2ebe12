"""What the image encoder is given, by CLIP's published statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

import tiny
from animate_anyone.models.image_tokens import image_tokens, picture_token


def encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER)).eval()


def to_range(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


@torch.no_grad()
def test_token_is_clips_projected_embedding() -> None:
    model, picture = encoder(), np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    normal = (picture / 255 - OPENAI_CLIP_MEAN) / OPENAI_CLIP_STD
    want = model(torch.from_numpy(normal).permute(2, 0, 1)[None].float()).image_embeds
    token = image_tokens(model, to_range(picture))
    assert token.shape == (1, 1, 12)
    torch.testing.assert_close(token[:, 0], want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_picture_is_stretched_to_the_encoders_square() -> None:
    """Nothing is cut off; as PIL's bicubic filter does it."""
    model = encoder()
    rows, columns = np.mgrid[:90, :150]
    waves = np.stack([np.sin(columns / 19), np.cos(rows / 13), np.sin((rows + columns) / 23)], -1)
    picture = (127 + 100 * waves).astype(np.uint8)
    stretched = np.array(Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC))
    one, other = image_tokens(model, to_range(picture)), image_tokens(model, to_range(stretched))
    cut = image_tokens(model, to_range(picture[:, 30:120]))
    assert (one - other).norm() < 0.05 * (one - cut).norm()


@torch.no_grad()
def test_half_precision() -> None:
    token = image_tokens(encoder().to(torch.bfloat16), torch.rand(2, 3, 40, 30))
    assert token.dtype == torch.bfloat16
    assert token.shape == (2, 1, 12)


@torch.no_grad()
def test_sampling_uses_pillows_bicubic_to_the_bit() -> None:
    model, picture = encoder(), np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    small = np.array(Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC))
    torch.testing.assert_close(picture_token(model, picture), image_tokens(model, to_range(small)), rtol=0, atol=1e-5)
    assert (picture_token(model, picture) - picture_token(model, picture[:, 30:120])).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_of_all_patches_begin_with_the_pooled_one() -> None:
    model, picture = encoder(), to_range(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    tokens = image_tokens(model, picture, "patches")
    assert tokens.shape == (1, 1 + (32 // 16) ** 2, 12)
    torch.testing.assert_close(tokens[:, :1], image_tokens(model, picture), rtol=0, atol=1e-6)
    changed = picture.clone()
    changed[:, :, 16:, 16:] *= -1
    moved = (image_tokens(model, changed, "patches") - tokens).abs().amax((0, 2))
    assert moved.argmax() == 4  # the patch itself


@torch.no_grad()
def test_a_model_of_all_patches_sees_them() -> None:
    """Its unconditional half is zero in all of them; it is another video than with the pooled token."""
    seen: list[torch.Tensor] = []
    videos = []
    for kind in ("pooled", "patches"):
        made = tiny.pipeline(image_tokens=kind, reference_pose=False)
        forward = made.denoising_unet.forward

        def listen(latents: torch.Tensor, t: object, token: torch.Tensor, *more: object, to: Any = forward) -> Any:
            seen.append(token)
            return to(latents, t, token, *more)

        made.denoising_unet.forward = listen  # type: ignore[method-assign]
        picture = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        poses = np.zeros((2, *made.pose_picture_size((64, 64))[::-1], 3), np.uint8)
        made.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        videos.append(made(picture, poses, num_inference_steps=1, generator=noise, output_type="latent")[0])
    assert [token.shape for token in seen] == [(2, 1, 12), (2, 5, 12)]
    assert not seen[1][0].any()
    assert all(bool(one.any()) for one in seen[1][1])
    assert not torch.allclose(videos[0], videos[1], atol=1e-3)
