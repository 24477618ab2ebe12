"""The denoising UNet (Animate Anyone, section 3.2): diffusers' ``UNetMotionModel`` with the slots of
the method: pose features after the first convolution, the reference in spatial attention; and those of
Animate Anyone 2: the environment on the input's last channels, objects blended in after spatial attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ModelMixin as ModelMixin  # by this name diffusers finds how to load a model folder
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.models.first_convolution import ConvWithEnvironment, ConvWithPose
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.models.object_input import ObjectInput
from animate_anyone.models.pipeline_options import takes
from animate_anyone.models.reference_attention import ReferenceFeatures, spatial_attention_layers
from animate_anyone.models.reference_concatenation import PART, SeenReference, install_merging, merged_reference
from animate_anyone.models.reference_control import ReferenceResiduals
from animate_anyone.models.spatial_blending import (
    LEVELS,
    PLACES,
    START,
    Levels,
    Place,
    add_blending,
    blended_residual_blocks,
    blending_arguments,
)
from animate_anyone.models.temporal_layer import TemporalLayer
from animate_anyone.models.temporal_reference import TemporalReference, add_temporal_reference, given_to_layers

ObjectBlending = Literal["none", "input", "paper", "identity"]


class PerFrameGroupNorm(nn.GroupNorm):
    """Group normalisation of ``(batch, channels, frames, height, width)``, each frame by itself."""

    def forward(self, input: Tensor) -> Tensor:
        frames = input.transpose(1, 2)  # (batch, frames, channels, height, width)
        return super().forward(frames.flatten(0, 1)).view(frames.shape).transpose(1, 2)


class NoMotion(nn.Module):
    """Stands where a motion module would stand in a network for single frames; has no weights."""

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        return hidden_states


class DenoisingUNet(UNetMotionModel):
    """Predicts noise or velocity of a video's latents, given pose features and a reference.

    Args (those beyond ``UNetMotionModel``'s):
        use_motion_module: False builds the network of the image stage, without temporal layers.
        motion_norm_num_groups: groups of the motion modules' normalisation, which is per frame.
        reference_blocks: ``all`` (Animate Anyone) or ``mid_up`` (Animate Anyone 2): where the
            reference is attended to.
        reference_merging: ``attention``, as the papers do; or ``concatenated``, see ``reference_concatenation``.
        environment_channels: so many of ``in_channels``, the last, are the environment's (Animate Anyone 2): its
            latents and the mask, see :func:`join_environment`.
        object_blending: ``none``; or objects are blended in after each spatial attention of the middle and up
            blocks, and this is how that starts: ``paper`` (half of each) or ``identity``; or their features are added
            to the noise latents at the ``input``, the paper's ablation, see ``object_input``.
        blending_weights: ``map``, one weight per place, as every configuration says.
        blending_place: what is blended: the ``hidden`` state after the residual of spatial attention, as the paper
            does; or, as in configurations that do not say, what ``attention`` adds to it.
        blending_levels: where: levels with spatial ``attention``, as the paper does; or ``all``, for small networks
            whose finest level has none.
        temporal_reference_frames: frames before a clip, at most, that temporal attention can see.
    """

    _repeated_blocks = ("BasicTransformerBlock", "ResnetBlock2D")  # what diffusers' `compile_repeated_blocks` compiles

    @takes(UNetMotionModel)
    def __init__(
        self,
        *,
        use_motion_module: bool = True,
        motion_norm_num_groups: int = 32,
        reference_blocks: Literal["all", "mid_up"] = "all",
        reference_merging: Literal["attention", "concatenated"] = "attention",
        environment_channels: int = 0,
        object_blending: ObjectBlending = "none",
        blending_weights: Literal["map"] = "map",
        blending_place: Place = "attention",
        blending_levels: Levels = "attention",
        temporal_reference_frames: int = 0,
        **unet: Any,
    ) -> None:
        super().__init__(**unet)
        self.register_to_config(
            use_motion_module=use_motion_module,
            motion_norm_num_groups=motion_norm_num_groups,
            reference_blocks=reference_blocks,
            reference_merging=reference_merging,
            environment_channels=environment_channels,
            object_blending=object_blending,
            blending_weights=blending_weights,
            blending_place=blending_place,
            blending_levels=blending_levels,
            temporal_reference_frames=temporal_reference_frames,
        )
        for name, value, known in (
            ("reference_blocks", reference_blocks, ("all", "mid_up")),
            ("object_blending", object_blending, ("none", "input", *START)),
            ("blending_weights", blending_weights, ("map",)),
            ("blending_place", blending_place, PLACES),
            ("blending_levels", blending_levels, LEVELS),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it is {' or '.join(map(repr, known))}")
        channels = self.config["in_channels"]
        if not 0 <= environment_channels < channels:
            raise ValueError(
                f"environment_channels is {environment_channels} and in_channels {channels}, which counts them in;"
                " some must be left for the noise"
            )
        self.conv_in: nn.Module = (
            ConvWithEnvironment.over(self.conv_in, environment_channels)  # type: ignore[arg-type, has-type]
            if environment_channels
            else ConvWithPose.like(self.conv_in)  # type: ignore[arg-type, has-type]
        )
        for name, module in list(self.named_modules()):
            if isinstance(module, AnimateDiffTransformer3D):
                if use_motion_module:
                    module.norm = PerFrameGroupNorm(motion_norm_num_groups, module.norm.num_channels, module.norm.eps)
                    self.set_submodule(name, TemporalLayer.like(module))
                else:
                    self.set_submodule(name, NoMotion())
        install_merging(self, reference_merging)
        if object_blending == "input":
            self.object_input = ObjectInput(self.config["block_out_channels"][0])
        elif object_blending != "none":
            widths = self.config["block_out_channels"]
            add_blending(self, len(widths), object_blending, blending_place, blending_levels)
        if temporal_reference_frames:
            add_temporal_reference(self, temporal_reference_frames)

    @classmethod
    def from_unet2d(  # type: ignore[override]
        cls, unet: UNet2DConditionModel, motion_adapter: MotionAdapter | None = None, **options: Any
    ) -> DenoisingUNet:
        """Build from a Stable Diffusion UNet and, where given, AnimateDiff's motion modules.

        Args:
            unet: its weights are taken over, and its dtype.
            motion_adapter: ``None`` starts motion modules at zero effect, or leaves them out where
                ``use_motion_module=False`` is among the options.
            options: further arguments of the constructor, e.g. ``reference_blocks="mid_up"``. More
                ``in_channels`` than ``unet`` has start at weight zero.
        """
        known = cls._get_init_keys(cls)
        config = {k: v for k, v in unet.config.items() if k in known}
        config["down_block_types"] = _with_motion(unet.config["down_block_types"])
        config["up_block_types"] = _with_motion(unet.config["up_block_types"])
        # UNet2DConditionModel names the number of heads `attention_head_dim` in Stable Diffusion 1.
        config["num_attention_heads"] = unet.config["num_attention_heads"] or unet.config["attention_head_dim"]
        if motion_adapter is not None:
            for key in ("motion_num_attention_heads", "motion_max_seq_length", "use_motion_mid_block"):
                config[key] = motion_adapter.config[key]
        model = cls(**{**config, **options})
        weights = dict(unet.state_dict())
        more = model.config["in_channels"] - unet.config["in_channels"]
        if more < 0:
            raise ValueError(
                f"in_channels is {model.config['in_channels']}; the UNet to start from has {unet.config['in_channels']}"
            )
        weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, more))
        if motion_adapter is not None:
            weights |= motion_adapter.state_dict() | model._own_weights(".temporal_reference.")
        else:
            model.zero_motion()
            weights |= model._own_weights(".motion_modules.")
        model.load_state_dict(weights | model._object_weights() | model._own_weights(PART))
        return model if unet.dtype == torch.float32 else model.to(unet.dtype)

    def with_motion(self, **motion: Any) -> DenoisingUNet:
        """A copy with fresh motion modules of zero effect: the start of the motion stage.

        Args:
            motion: ``motion_*`` arguments of the constructor in place of this network's own.
        """
        model = type(self)(**{**_init_config(self), "use_motion_module": True, **motion})
        model.zero_motion()
        model.load_state_dict(model._own_weights(".motion_modules.") | self.state_dict())
        return model if _place(model) == _place(self) else model.to(*_place(self))

    @contextmanager
    def without_motion(self) -> Iterator[None]:
        """Every frame by itself within this context: motion modules give back what they are given."""
        layers = self.take_motion_out()
        try:
            yield
        finally:
            self.put_motion_back(layers)

    def motion_modules(self) -> dict[str, nn.Module]:
        """The temporal layers by their names; empty for a network of single frames."""
        return {name: module for name, module in self.named_modules() if isinstance(module, AnimateDiffTransformer3D)}

    def take_motion_out(self) -> dict[str, nn.Module]:
        """:meth:`motion_modules`, in whose places there is nothing from now on."""
        layers = self.motion_modules()
        for name in layers:
            self.set_submodule(name, NoMotion())
        return layers

    def put_motion_back(self, layers: Mapping[str, nn.Module]) -> None:
        """The inverse of :meth:`take_motion_out`."""
        for name, module in layers.items():
            self.set_submodule(name, module)

    def with_environment(
        self,
        environment_channels: int | None = None,
        object_blending: ObjectBlending = "paper",
        blending_place: Place = "hidden",
        reference_blocks: Literal["all", "mid_up"] = "mid_up",
        blending_levels: Levels = "attention",
    ) -> DenoisingUNet:
        """A copy that sees the environment and blends objects in: where Animate Anyone 2's training starts.

        With the ``reference_blocks`` of before and no objects it predicts what this network does, bit for bit:
        the environment's weights are zero. With objects so too within 1e-3 where ``object_blending`` is ``identity``.

        Args:
            environment_channels: how many channels join the input; ``None``: latents and a mask.
            object_blending, blending_place, reference_blocks, blending_levels: of the constructor.

        Raises:
            InputError: this network has an environment already.
        """
        if self.config["environment_channels"] or self.config["object_blending"] != "none":
            raise InputError(
                "this denoising UNet has an environment or objects already; give one of Animate Anyone, without"
            )
        more = self.config["out_channels"] + 1 if environment_channels is None else environment_channels
        changes = {
            "in_channels": self.config["in_channels"] + more,
            "environment_channels": more,
            "object_blending": object_blending,
            "blending_place": blending_place,
            "blending_levels": blending_levels,
            "reference_blocks": reference_blocks,
        }
        model = type(self)(**{**_init_config(self), **changes})
        weights = dict(self.state_dict())
        weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, more))
        model.load_state_dict(weights | model._object_weights())
        return model if _place(model) == _place(self) else model.to(*_place(self))

    def with_objects(
        self, object_blending: ObjectBlending, blending_place: Place = "hidden", blending_levels: Levels = "attention"
    ) -> DenoisingUNet:
        """A copy whose way of taking objects in is another, and new, whatever it was before; arguments as above."""
        changes = {
            "object_blending": object_blending,
            "blending_place": blending_place,
            "blending_levels": blending_levels,
        }
        model = type(self)(**{**_init_config(self), **changes})
        kept = {name: value for name, value in self.state_dict().items() if name not in self._object_weights()}
        model.load_state_dict(kept | model._object_weights())
        return model if _place(model) == _place(self) else model.to(*_place(self))

    def _object_weights(self) -> dict[str, Tensor]:
        # What takes objects in.
        return self._own_weights(".spatial_blending.") | self._own_weights("object_input.")

    def _own_weights(self, part: str) -> dict[str, Tensor]:
        # Those whose name holds `part`: what another network's weights are short of.
        return {name: value for name, value in self.state_dict().items() if part in name}

    def motion_parameters(self) -> list[nn.Parameter]:
        """The parameters of the temporal layers: all that the motion stage trains."""
        return [p for name, p in self.named_parameters() if ".motion_modules." in name]

    def zero_motion(self) -> None:
        """Zero the last projection of every motion module, so that it adds nothing yet."""
        for module in self.modules():
            if isinstance(module, AnimateDiffTransformer3D):
                nn.init.zeros_(module.proj_out.weight)
                nn.init.zeros_(module.proj_out.bias)

    @apply_forward_hook  # so that offloaded weights are brought in
    def project_reference(self, features: ReferenceFeatures, num_unconditional: int = 0) -> SeenReference:
        """Keys and values of the reference: compute once per video, hand to every :meth:`forward`."""
        layers = spatial_attention_layers(self)
        if self.config["reference_blocks"] == "mid_up":
            layers = {n: a for n, a in layers.items() if n.startswith(("mid_block.", "up_blocks."))}
        return merged_reference(self.config["reference_merging"], features, layers, num_unconditional)

    def forward(  # type: ignore[override]
        self,
        latents: Tensor,
        timestep: Tensor | int,
        image_tokens: Tensor,
        pose_features: Tensor | None = None,
        reference: SeenReference | ReferenceResiduals | None = None,
        objects: ObjectFeatures | None = None,
        temporal_reference: TemporalReference | None = None,
    ) -> Tensor:
        """Predict for one denoising step.

        Args:
            latents: ``(batch, channels, frames, height, width)``, noised; what else the network looks at
                cell by cell stands on the channels behind them.
            timestep: one for all, or ``(batch,)``.
            image_tokens: ``(batch, tokens, cross_attention_dim)``; zeros for an unconditional sample.
            pose_features: ``(batch, width of the first level, frames, height, width)`` or ``None``.
            reference: from :meth:`project_reference`; or what a ``ReferenceControl`` says, or ``None``: then
                self-attention is plain.
            objects: from the object guider, of the same samples, frames and size; ``None``: nothing is blended.
            temporal_reference: the frames before the clip (``pair_temporal_reference``); ``None``: it has none.

        Returns:
            ``(batch, out_channels, frames, height, width)``.

        Raises:
            InputError: ``objects`` for a network that blends none, or of other widths or sizes than its own.
        """
        if temporal_reference is not None:
            with given_to_layers(self, temporal_reference):
                return self.forward(latents, timestep, image_tokens, pose_features, reference, objects)
        frames = latents.shape[2]
        if objects is not None:
            self._check_objects(objects)
        residuals = reference if isinstance(reference, ReferenceResiduals) else None
        blended: dict[str, Any] = {}
        blended_too: AbstractContextManager[None] = nullcontext()
        if objects is not None and self.config["object_blending"] == "input":
            pose_features = self.object_input(objects, pose_features)
        elif objects is not None:
            blended = blending_arguments(objects, self.config["blending_place"])
            if self.config["blending_levels"] == "all":
                blended_too = blended_residual_blocks(self, objects)
        with blended_too:
            return super().forward(
                ConvWithPose.join(latents, pose_features),
                timestep,
                image_tokens.repeat_interleave(frames, 0),
                cross_attention_kwargs={"reference": None if residuals else reference, **blended},
                down_block_additional_residuals=residuals and residuals.down,
                mid_block_additional_residual=residuals and residuals.middle,
                return_dict=False,
            )[0]

    def object_widths(self) -> list[int]:
        """Channels of the object features that are taken, finest level first; none where none are."""
        widths = list(self.config["block_out_channels"])
        return {"none": [], "input": widths[:1]}.get(self.config["object_blending"], widths)

    def _check_objects(self, objects: ObjectFeatures) -> None:
        if self.config["object_blending"] == "none":
            raise InputError("this denoising UNet blends no objects; give one whose object_blending is not 'none'")
        got, want = [level.shape[1] for level in objects.levels], self.object_widths()
        if got != want:
            raise InputError(
                f"object features have widths {got}, the denoising UNet takes {want}; build both from the same"
                " block_out_channels"
            )


def join_environment(noisy: Tensor, environment: Tensor, mask: Tensor) -> Tensor:
    """The environment behind the noisy latents (and behind a reference's, where they are there), then the mask.

    Both halves under guidance see it: it says where, not who.

    Args:
        noisy: ``(batch, channels, frames, height, width)``.
        environment: ``(1 or batch, latent channels, 1 or frames, height, width)``, scaled as the VAE's latents are, of
            frames without the character.
        mask: ``(1 or batch, 1, 1 or frames, height, width)``: 1 where the character is to be made, else 0.
    """
    shape = (len(noisy), -1, *noisy.shape[2:])
    return torch.cat([noisy, environment.to(noisy.dtype).expand(shape), mask.to(noisy.dtype).expand(shape)], 1)


def _with_motion(block_types: tuple[str, ...]) -> tuple[str, ...]:
    # "CrossAttnDownBlock2D" -> "CrossAttnDownBlockMotion"
    return tuple(name.removesuffix("2D") + "Motion" for name in block_types)


def _place(model: DenoisingUNet) -> tuple[torch.device, torch.dtype]:
    return model.device, model.dtype


def _init_config(model: DenoisingUNet) -> dict[str, Any]:
    return {k: v for k, v in model.config.items() if k in model._get_init_keys(type(model))}
