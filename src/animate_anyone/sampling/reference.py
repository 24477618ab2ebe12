"""What the networks see of the reference, computed once a clip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.models.pipeline_options import CONTROLLED, WITH_REFERENCE_NET, WITHOUT_TOKENS
from animate_anyone.models.reference_concatenation import SeenReference
from animate_anyone.models.reference_control import ReferenceControl, ReferenceResiduals
from animate_anyone.sampling.denoising import Half


@dataclass(frozen=True)
class ReferenceCondition:
    """The method: ReferenceNet's features, and the image encoder's tokens.

    Attributes:
        latent: ``(1, channels, h, w)``, scaled.
        image_token: ``(1, tokens, width)``.
        keys_values: what the denoising UNet makes of ReferenceNet's features, or of a ResNet's in their place; ``None``
            where there are none.
    """

    latent: Tensor
    image_token: Tensor
    keys_values: SeenReference | None = None

    def at_step(
        self, noisy: Tensor, t: Tensor, tokens: Tensor, num_unconditional: int, half: Half | None = None
    ) -> SeenReference | ReferenceResiduals | None:
        """What the denoising UNet is given at one step: always the same here, whatever the noisy latents are.

        Args:
            num_unconditional: samples without a reference, before those that have it.
            half: which of the two all samples are; ``None``: as ``num_unconditional`` says.
        """
        if half == "unconditional" or self.keys_values is None:
            return None
        return replace(self.keys_values, num_unconditional=num_unconditional)


@dataclass(frozen=True)
class ControlledReference(ReferenceCondition):
    """For comparison (Animate Anyone, table 3): a ControlNet on the reference, which runs at every step.

    Attributes:
        control: the network.
    """

    control: ReferenceControl | None = None

    def at_step(
        self, noisy: Tensor, t: Tensor, tokens: Tensor, num_unconditional: int, half: Half | None = None
    ) -> ReferenceResiduals:
        """The ControlNet's residuals, of both halves together."""
        assert self.control is not None
        return self.control(noisy, t, tokens, self.latent, num_unconditional)


def without_reference_net(
    latent: Tensor, image_token: Tensor, path: str, control: ReferenceControl | None
) -> ReferenceCondition:
    """The designs that the paper compares with ReferenceNet; ``path`` as ``reference_path`` of the pipeline."""
    if path in WITHOUT_TOKENS:
        image_token = torch.zeros_like(image_token)
    if control is None:
        return ReferenceCondition(latent, image_token)
    return ControlledReference(latent, image_token, control=control)


def check_given(setting: str, name: str, network: nn.Module | None, needed: bool) -> None:
    """See that a pipeline has the network ``name`` where a setting needs it, and no other; else ``InputError``."""
    if (network is not None) != needed:
        raise InputError(f"{setting}: {name} must {'' if needed else 'not '}be given")


def check_looks(path: str, net: nn.Module | None, control: nn.Module | None, resnet: nn.Module | None) -> None:
    """See that a pipeline has what looks at the reference by its ``reference_path``, and nothing else."""
    check_given(f"reference_path {path}", "reference_net", net, path in WITH_REFERENCE_NET)
    check_given(f"reference_path {path}", "reference_control", control, path in CONTROLLED)
    check_given(f"reference_path {path}", "reference_resnet", resnet, path == "resnet")


def check_pooled(path: str, pooled: bool) -> None:
    """Raises :class:`InputError` where features are to be pooled that are joined to a frame's place by place."""
    if pooled and path == "concatenated":
        raise InputError(
            "speed 'reference' is nothing for this model: its reference is not attended to; leave that word out"
        )
