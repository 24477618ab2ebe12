"""Read a folder of tensors that the reference implementation computed, and build our networks from it.

``README.json`` there names every setting; nothing about a particular folder is assumed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from animate_anyone.interop.animatediff import MOTION
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet


class ReferenceFiles:
    """A parity folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readme: dict[str, Any] = json.loads((folder / "README.json").read_text())
        self.trimmed = bool(self.readme.get("trimmed"))
        self.unet_config: dict[str, Any] = json.loads((folder / "weights/unet/config.json").read_text())

    def cases(self, prefix: str) -> list[str]:
        return sorted(n.removesuffix(".safetensors") for n in self.readme["files"] if n.startswith(prefix))

    def settings(self, case: str) -> dict[str, Any]:
        return self.readme["files"][f"{case}.safetensors"]["settings"]

    def tensors(self, case: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{case}.safetensors")

    def weights(self, name: str) -> dict[str, Tensor]:
        return {k: v.float() for k, v in load_file(self.folder / f"weights/{name}.safetensors").items()}

    def pose_guider(self) -> PoseGuider:
        config = self.readme["weights"]["pose_guider"]
        guider = PoseGuider(
            config["conditioning_embedding_channels"], tuple(config["block_out_channels"]), layout="open"
        )
        guider.load_state_dict(self.weights("pose_guider"))
        return guider.eval()

    def reference_net(self) -> ReferenceNet:
        net = ReferenceNet.from_unet2d(UNet2DConditionModel.from_config(self.unet_config))
        return _load(net, self.weights("reference_unet"), self.trimmed)

    def denoising_unet(self, motion: bool, reference_blocks: str) -> DenoisingUNet:
        kwargs = self.readme["weights"]["unet_additional_kwargs"]["motion_module_kwargs"]
        net = DenoisingUNet.from_unet2d(
            UNet2DConditionModel.from_config(self.unet_config),
            use_motion_module=motion,
            motion_num_attention_heads=kwargs["num_attention_heads"],
            motion_max_seq_length=kwargs["temporal_position_encoding_max_len"],
            reference_blocks=reference_blocks,
        )
        weights = self.weights("denoising_unet")
        if motion:
            motion_weights = self.weights("motion_module")
            weights |= {ours: motion_weights[theirs] for ours, theirs in MOTION(motion_weights).ours.items()}
        return _load(net, weights, self.trimmed)


def _load(net: Any, weights: dict[str, Tensor], trimmed: bool) -> Any:
    result = net.load_state_dict(weights, strict=not trimmed)
    assert not result.unexpected_keys
    return net.eval()


def compare(what: str, got: Tensor, want: Tensor, required: float) -> None:
    """Print measured beside required; outputs are of order 1."""
    measured = (got - want).abs().max().item()
    print(f"  {what:<58} measured {measured:.2e}  required {required:.0e}")
    assert got.shape == want.shape
    assert measured <= required, f"{what}: {measured:.2e} > {required:.0e}"
