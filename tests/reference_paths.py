"""``tiny.pipeline`` for every way in which the reference's looks can get in (``reference_path``)."""

from __future__ import annotations

from typing import Any

import torch

import tiny
from animate_anyone.models.pipeline_options import WITH_REFERENCE_NET
from animate_anyone.models.reference_control import CONTROLLED, ReferenceControl
from animate_anyone.models.reference_resnet import ReferenceResNet
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline

RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "norm_num_groups": 4,
}


def pipeline(path: str, **changes: Any) -> AnimateAnyonePipeline:
    """A tiny model of a path, nothing in it at zero effect; ``changes`` to the pipeline's own options."""
    made = tiny.pipeline(reference_pose=False)
    parts = made.components
    if path not in WITH_REFERENCE_NET:
        parts["reference_net"] = None
    if path in CONTROLLED:
        torch.manual_seed(4)
        control = parts["reference_control"] = ReferenceControl.from_unet2d(tiny.unet2d(1)).eval()
        for name, parameter in control.named_parameters():
            if name.startswith("controlnet_"):
                torch.nn.init.normal_(parameter, std=0.3)
    if path == "resnet":
        torch.manual_seed(4)
        parts["reference_resnet"] = ReferenceResNet.beside(made.denoising_unet, 8, **RESNET).eval()
    if path == "concatenated":
        parts["denoising_unet"] = unet = tiny.denoising_unet(reference_merging=path)
        torch.manual_seed(4)
        for name, parameter in unet.named_parameters():
            if ".concatenation." in name:
                torch.nn.init.normal_(parameter, std=0.3)
    options = {**tiny.PIPELINE, "reference_pose": False, "reference_path": path, **changes}
    return AnimateAnyonePipeline(**parts, **options)
