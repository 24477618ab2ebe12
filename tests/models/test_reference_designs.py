"""A ResNet in ReferenceNet's place, and features that are concatenated: designs that the method is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

import reference_paths
import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.reference_attention import spatial_attention_layers
from animate_anyone.models.reference_concatenation import ConcatenatedReference, Concatenation
from animate_anyone.models.reference_resnet import ReferenceResNet
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Placement, put
from animate_anyone.sampling.speed import Speed

FRAMES = 3
DESIGNS = ("resnet", "concatenated")


def inputs(samples: int) -> tuple[Tensor, int, Tensor]:
    """Latents, a timestep, image tokens."""
    torch.manual_seed(5)
    return torch.randn(samples, 4, FRAMES, 8, 8), 100, torch.randn(samples, 1, 12)


def unets() -> tuple[DenoisingUNet, DenoisingUNet]:
    """One that attends to the reference, one of the same weights that concatenates it and starts so."""
    attending, concatenating = (
        DenoisingUNet.from_unet2d(
            tiny.unet2d(), use_motion_module=False, **tiny.MOTION, reference_merging=merging
        ).eval()
        for merging in ("attention", "concatenated")
    )
    return attending, concatenating


def features(seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(tiny.reference_net()(torch.randn(1, 4, 8, 8), torch.randn(1, 1, 12)))


@torch.no_grad()
def test_concatenation_starts_without_effect() -> None:
    attending, concatenating = unets()
    video = inputs(1)
    seen = concatenating.project_reference(features())
    assert isinstance(seen, ConcatenatedReference)
    assert torch.equal(concatenating(*video, reference=seen), attending(*video))
    assert not torch.allclose(attending(*video, reference=attending.project_reference(features())), attending(*video))


@torch.no_grad()
def test_concatenation_is_one_projection_of_both() -> None:
    """``h + W_h h + W_r r`` is a linear layer of ``[h; r]``, then plain self-attention."""
    _, unet = unets()
    name, attn = next(iter(spatial_attention_layers(unet).items()))
    part = attn.concatenation
    assert isinstance(part, Concatenation)
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.3)
    h, r = torch.randn(2, 64, 16), torch.randn(1, 64, 16)
    whole = nn.Linear(32, 16)
    whole.weight.copy_(torch.cat([torch.eye(16) + part.own.weight, part.reference.weight], 1))
    whole.bias.copy_(part.own.bias)
    plain, _ = unets()
    alone = spatial_attention_layers(plain)[name]
    want = alone(whole(torch.cat([h, r.expand(2, -1, -1)], 2)))
    seen = ConcatenatedReference({name: part.reference(r)})
    torch.testing.assert_close(attn(h, reference=seen), want, rtol=0, atol=1e-5)
    # An unconditional sample has zeros in the reference's place.
    without = alone(whole(torch.cat([h[:1], torch.zeros(1, 64, 16)], 2)))
    half = attn(h, reference=ConcatenatedReference({name: part.reference(r)}, num_unconditional=1))
    torch.testing.assert_close(half, torch.cat([without, want[1:]]), rtol=0, atol=1e-5)
    torch.testing.assert_close(attn(h[:1]), without, rtol=0, atol=1e-5)


def test_concatenation_refuses_another_grid() -> None:
    _, unet = unets()
    small = tiny.reference_net()(torch.randn(1, 4, 4, 4), torch.randn(1, 1, 12))
    with pytest.raises(ValueError, match="the reference has 16 tokens and a frame 64"):
        unet(*inputs(1), reference=unet.project_reference(small))
    with pytest.raises(ValueError, match="reference_merging is 'sum'"):
        DenoisingUNet.from_unet2d(tiny.unet2d(), **tiny.MOTION, reference_merging="sum")


@torch.no_grad()
def test_resnet_maps_go_to_the_levels_of_their_stride() -> None:
    """At 64 pixels the UNet's levels have 8 and 4 cells a side, as have stages 1 and 2 of the ResNet."""
    unet = tiny.denoising_unet()
    net = ReferenceResNet.beside(unet, 8, **reference_paths.RESNET).eval()
    made = net(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert made.keys() == spatial_attention_layers(unet).keys() == dict(net.config["layers"]).keys()
    for name, attn in spatial_attention_layers(unet).items():
        cells = 8 if name.startswith(("down_blocks.0", "up_blocks.1")) else 4
        assert made[name].shape == (2, cells * cells, attn.to_k.in_features)
    unet(*inputs(2), reference=unet.project_reference(made))
    # Where levels are coarser than the last stage, that one serves.
    coarse = ReferenceResNet.beside(unet, 32, **reference_paths.RESNET)
    assert {stage for stage, _ in coarse.config["layers"].values()} == {3}


@torch.no_grad()
def test_resnet_with_published_weights() -> None:
    """The pictures that it sees are ImageNet's; its batch statistics are the weights' own, in training too."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**reference_paths.RESNET}
    del sizes["norm_num_groups"]
    published = ResNetModel(ResNetConfig(**sizes)).eval()
    for module in published.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    net = ReferenceResNet.from_resnet(published, tiny.denoising_unet(), 8).train()
    picture = torch.rand(1, 3, 64, 64)
    normal = (picture - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    maps = published(normal, output_hidden_states=True).hidden_states
    before = {name: value.clone() for name, value in net.named_buffers()}
    made = net(picture * 2 - 1)
    for name, (stage, _) in net.config["layers"].items():
        want = net.projections[name.replace(".", "-")](maps[1 + stage].flatten(2).transpose(1, 2))
        torch.testing.assert_close(made[name], want, rtol=0, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert before  # there are some


def video(made: AnimateAnyonePipeline, reference: int = 7, **options: Any) -> Tensor:
    """Latents of three frames; ``reference`` seeds the picture."""
    picture = np.random.default_rng(reference).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    poses = np.random.default_rng(0).integers(0, 255, (3, *made.pose_picture_size((64, 64))[::-1], 3), dtype=np.uint8)
    options = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0), **options}
    made.set_progress_bar_config(disable=True)
    return made(picture, poses, output_type="latent", **options)[0]


@pytest.mark.parametrize("path", DESIGNS)
def test_model_folder(path: str, tmp_path: Path) -> None:
    """Saved with the networks that it has, loaded strictly; the reference shows; windows keep rows apart."""
    made = reference_paths.pipeline(path, window=2, overlap=1)
    made.save_pretrained(tmp_path / "model")
    part = "reference_resnet" if path == "resnet" else "reference_net"
    assert {"reference_resnet", "reference_net"} & {entry.name for entry in (tmp_path / "model").iterdir()} == {part}
    loaded = load_pipeline(tmp_path / "model", "cpu", "float32")
    assert getattr(load_shapes(tmp_path / "model"), part) is not None
    put(made, Placement(device="cpu"), torch.device("cpu"))
    assert torch.equal(video(made), video(loaded))
    assert not torch.allclose(video(loaded, 7), video(loaded, 8), atol=1e-3)
    torch.testing.assert_close(video(loaded, window_batch=1), video(loaded, window_batch=2), rtol=0, atol=1e-5)

    index = tmp_path / "model" / "model_index.json"
    other = {"resnet": "clip", "concatenated": "reference_net"}[path]
    index.write_text(json.dumps({**json.loads(index.read_text()), "reference_path": other}))
    with pytest.raises(InputError, match=r"its reference_resnet is|reference_merging is concatenated; the other"):
        load_pipeline(tmp_path / "model", "cpu", "float32")


def test_a_resnet_of_other_layers_is_refused(tmp_path: Path) -> None:
    reference_paths.pipeline("resnet").save_pretrained(tmp_path)
    other = ReferenceResNet(layers={"elsewhere": (1, 16)}, **reference_paths.RESNET)
    other.save_pretrained(tmp_path / "reference_resnet")
    with pytest.raises(InputError, match="reference_resnet: whether it knows the denoising UNet's layers is False"):
        load_pipeline(tmp_path, "cpu", "float32")


def test_a_concatenated_reference_is_not_pooled() -> None:
    with pytest.raises(InputError, match="speed 'reference' is nothing for this model"):
        reference_paths.pipeline("concatenated").check_speed(Speed.of("reference"))
    reference_paths.pipeline("resnet").check_speed(Speed.of("all"))
