"""Objects merged with the noise latents at the input: the ablation of spatial blending."""

from __future__ import annotations

import pytest
import torch

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.object_input import ObjectInput


def test_nothing_is_added_at_the_start_and_nothing_without_an_object() -> None:
    torch.manual_seed(0)
    layer, latents = ObjectInput(6), torch.randn(2, 4, 3, 8, 8)
    latents[:, :, 1] = 0  # no object in the middle frame
    objects = ObjectGuider(4, (6,))(latents)
    pose = torch.randn(2, 6, 3, 8, 8)
    assert torch.equal(layer(objects, pose), pose) and not layer(objects, None).any()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    made = layer(objects, pose)
    assert torch.equal(made[:, :, 1], pose[:, :, 1])
    assert not torch.equal(made[:, :, 0], pose[:, :, 0])
    torch.testing.assert_close(made, pose + layer(objects, None))


@torch.no_grad()
def test_the_network_takes_them_where_pose_features_enter() -> None:
    pipeline = tiny.environment_pipeline("input")
    unet, guider = pipeline.denoising_unet, pipeline.object_guider
    assert guider is not None and unet.object_widths() == [unet.config["block_out_channels"][0]]
    assert not any("spatial_blending" in name for name, _ in unet.named_parameters())
    latents, token = (
        torch.randn(1, unet.config["in_channels"], 2, 8, 8),
        torch.randn(1, 1, unet.config["cross_attention_dim"]),
    )
    objects = guider(torch.randn(1, unet.config["out_channels"], 2, 8, 8))
    pose = torch.randn(1, unet.config["block_out_channels"][0], 2, 8, 8)
    plain = unet(latents, 5, token, pose)
    assert torch.equal(unet(latents, 5, token, pose, objects=objects), plain)  # its weights are zero
    torch.nn.init.normal_(unet.object_input.weight)
    told = unet(latents, 5, token, pose, objects=objects)
    assert not torch.equal(told, plain)
    assert torch.equal(unet(latents, 5, token, unet.object_input(objects, pose)), told)
    assert torch.equal(unet(latents, 5, token, pose, objects=objects.absent()), plain)


def test_features_of_a_guider_for_blending_are_refused() -> None:
    unet = tiny.environment_pipeline("input").denoising_unet
    other = tiny.environment_pipeline("paper").object_guider
    assert other is not None
    objects = other(torch.randn(1, unet.config["out_channels"], 1, 8, 8))
    latents, token = (
        torch.randn(1, unet.config["in_channels"], 1, 8, 8),
        torch.randn(1, 1, unet.config["cross_attention_dim"]),
    )
    with pytest.raises(InputError, match="the denoising UNet takes"):
        unet(latents, 5, token, objects=objects)
