"""What a recipe says. Every setting has a type, a default, a meaning and a check; none is written to later."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeVar

from animate_anyone.conditions.draw import STYLES
from animate_anyone.errors import InputError
from animate_anyone.models.pipeline_options import REFERENCE_PATHS
from animate_anyone.models.shipped import SHIPPED, shipped_folder
from animate_anyone.training.distil_settings import Distil
from animate_anyone.training.environment_settings import Environment as Environment
from animate_anyone.training.frozen_settings import check_frozen
from animate_anyone.training.lora_settings import Lora

Network = TypeVar("Network")

# The least that numbers of a recipe may be.
_LEAST = {
    **dict.fromkeys(("steps", "batch", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints"), 1),
    **{f"data.{name}": 1 for name in ("frames_per_clip", "clips", "workers", "supersample", "pose_scale")},
    "objective.targets_per_reference": 1,
    "monitor.validate_every": 1,
    **{f"monitor.validation_{name}": 1 for name in ("clips", "frames", "steps")},
    **{f"objective.{name}": 0 for name in ("timestep_power", "noise_offset")},
}
DENOISING_STAGES = ("image", "motion", "environment", "distil")
"""Those that train a denoising UNet."""


@dataclass(frozen=True)
class Optimizer:
    """AdamW with a linear warm-up, then constant or a cosine down to a tenth.

    Attributes:
        kind: ``adamw8bit`` keeps its two moments in 8 bits (package bitsandbytes).
        shares: parameters that learn slower or faster: part of their name -> their share of the learning rate, such as
            ``{object_guider: 10}``; of two parts in one name the first counts.
    """

    lr: float = 1e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    max_grad_norm: float = 1.0
    kind: Literal["adamw", "adamw8bit"] = "adamw"
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, share in self.shares.items():
            if not (isinstance(share, int | float) and 0 < share < math.inf):
                raise InputError(f"recipe: optimizer.shares: {part} is {share!r}; it must be a number above 0")


@dataclass(frozen=True)
class Data:
    """Where training clips come from.

    Attributes:
        source: ``studio`` renders synthetic characters; ``videos`` reads clips that ``animate-anyone prepare`` made.
        videos: the folder with them; clips of its splits ``val`` and ``test`` are not trained on.
        studio_share: share of the steps whose clips the studio renders where the source is ``videos``.
        shapes: frames of videos are scaled to the area of ``size`` at about their own shape, those of one step alike
            (``buckets``), or to a ``square``, its middle alone (the first paper: resize, centre crop).
        domain: the studio's ``plain`` pictures or its ``wide`` ones (photographs' cloth, light, places, cameras).
        size: side of the square frames, pixels.
        frames_per_clip: how many frames of a clip are kept (image stage: spread over the clip, of a video as many as
            are taken; motion stage: in a row, of the studio's the first so many).
        consecutive: frames in a row instead of spread over the clip.
        clips: number of the studio's different clips; more are never drawn. Seeds run from ``first_seed``.
        cache: folder that keeps rendered clips, and latents of videos; ``None`` renders and encodes on the fly.
        keep_latents: have the cache keep the frames' latents too; else they are encoded in the step, unless they are
            there already.
        workers: processes that render; ``None``: as many as there are processor cores for, at most 16.
        supersample: rays per pixel side.
        pose_scale: side of the pose picture over that of the frame: 2 for the Pose Guider's ``paper``
            layout, 1 for ``open``.
        skeleton_style: a name in ``conditions.draw.STYLES``.
        reference: of the studio's clips: one of the kept frames of the ``same_clip``; any frame of the ``whole_clip``
            (the papers), whichever are kept, as of videos always; or one of a clip of the same character ``elsewhere``:
            another camera, motion and place.
        clip_length: frames of the studio's clips, of which some are kept; ``None``: 24, or as many as are kept.
        framing: of the studio's clips: ``any``; or ``throughout``, the character wholly inside in every frame, as the
            papers crop theirs.
    """

    source: Literal["studio", "videos"] = "studio"
    videos: str | None = None
    studio_share: float = 0.0
    shapes: Literal["buckets", "square"] = "buckets"
    domain: Literal["plain", "wide"] = "plain"
    size: int = 256
    frames_per_clip: int = 6
    consecutive: bool = False
    clips: int = 1_000_000
    first_seed: int = 0
    cache: str | None = None
    keep_latents: bool = True
    workers: int | None = None
    supersample: int = 2
    pose_scale: int = 2
    skeleton_style: str = "scaled"
    reference: Literal["same_clip", "whole_clip", "elsewhere"] = "same_clip"
    clip_length: int | None = None
    framing: Literal["any", "throughout"] = "any"

    def __post_init__(self) -> None:
        if (self.source == "videos") != (self.videos is not None):
            needs = "give data.videos=FOLDER, made by `animate-anyone prepare`"
            raise InputError(
                f"recipe: data.source is videos; {needs}"
                if self.videos is None
                else f"recipe: data.videos is {self.videos!r} and data.source is studio; give data.source=videos"
            )
        if self.source == "videos" and self.reference == "elsewhere":
            raise InputError("recipe: data.reference is 'elsewhere', which the studio alone has; give whole_clip")
        if self.clip_length is not None and self.clip_length < self.frames_per_clip:
            raise InputError(
                f"recipe: data.clip_length is {self.clip_length}; at least data.frames_per_clip, {self.frames_per_clip}"
            )
        if not 0 <= self.studio_share < 1:
            raise InputError(f"recipe: data.studio_share is {self.studio_share}; it must lie in [0, 1)")
        if self.source == "studio" and self.studio_share:
            raise InputError(
                f"recipe: data.studio_share is {self.studio_share} and data.source is studio; it mixes the studio's "
                "clips with those of videos: give data.source=videos"
            )

    @property
    def pose_size(self) -> int:
        """Side of the pose pictures, pixels."""
        return self.size * self.pose_scale


@dataclass(frozen=True)
class Objective:
    """The loss (Animate Anyone, eq. 1, in the prediction type of the model's noise schedule).

    Attributes:
        condition_dropout: share of samples trained without reference and image token, for guidance.
        carry_dropout: share of samples whose carried reference is the reference itself, for drivers and
            characters whose poses are not known.
        person_weight: how much more an error on the latents of the person, and of objects (Animate Anyone 2), counts
            than on the background.
        timestep_power: timesteps are drawn with a density of ``t`` to this power: 0 is uniform; above it, more
            are drawn where the conditions alone must say what is in the frame.
        min_snr_gamma: errors count ``min(SNR, gamma) / (SNR + 1)`` by the timestep's signal-to-noise ratio (for
            velocity prediction alone, see ``min_snr``); ``None``: 1.
        noise_offset: standard deviation of what is added to a frame's noise, one number a channel.
        targets_per_reference: image stage: frames of a clip that are predicted from one reference.
        crop: autoencoder: side of the crops that three of four steps train on; ``None``: whole frames.
        kl_weight: autoencoder: weight of the Kullback-Leibler term per latent value.
        temperature: image encoder: softmax temperature of the contrastive loss.
    """

    condition_dropout: float = 0.1
    carry_dropout: float = 0.1
    person_weight: float = 1.0
    timestep_power: float = 0.0
    min_snr_gamma: float | None = None
    noise_offset: float = 0.0
    targets_per_reference: int = 1
    crop: int | None = None
    kl_weight: float = 1e-6
    temperature: float = 0.1


@dataclass(frozen=True)
class Monitor:
    """What is recorded of a run beside ``log.jsonl``; it changes nothing of the weights.

    Attributes:
        tensorboard: write the log's figures for TensorBoard too (package tensorboard), and TFLOP/s.
        validate_every: steps after which the averaged weights are tried on clips that are never trained on (stages
            ``image``, ``motion``, ``environment``); after the last step too. ``None``: never.
        validation_clips, validation_frames: how many clips, of how many frames each.
        validation_steps: denoising steps; ``None``: the model's default.
    """

    tensorboard: bool = False
    validate_every: int | None = None
    validation_clips: int = 4
    validation_frames: int = 16
    validation_steps: int | None = None


@dataclass(frozen=True)
class Networks:
    """What to build where a stage starts from nothing. Keys are those of the networks' own configurations.

    Attributes:
        vae: ``AutoencoderKL``.
        image_encoder: ``CLIPVisionConfig``.
        unet: ``UNet2DConditionModel``, for the denoising UNet and what looks at the reference alike.
        pose_guider: ``PoseGuider``.
        motion: ``motion_*`` keys of the denoising UNet.
        resnet: ``ReferenceResNet``'s beyond its layers, where ``reference_path`` is ``resnet``.
        scheduler: ``DDIMScheduler``.
        pipeline: options that travel with the model, see ``AnimateAnyonePipeline``.
    """

    vae: dict[str, Any] = field(default_factory=dict)
    image_encoder: dict[str, Any] = field(default_factory=dict)
    unet: dict[str, Any] = field(default_factory=dict)
    pose_guider: dict[str, Any] = field(default_factory=dict)
    motion: dict[str, Any] = field(default_factory=dict)
    resnet: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    pipeline: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in vars(self):
            for key, value in getattr(self, name).items():
                most = 1000 if "layers" in str(key) else 10**6
                for number in value if isinstance(value, list | tuple) else (value,):
                    if isinstance(number, int) and abs(number) > most:  # building it would not come to an end
                        raise InputError(f"recipe: networks.{name}.{key} is too large; it must be at most {most}")

    def build(self, name: str, kind: Callable[..., Network]) -> Network:
        """A network of this kind from the settings of this name."""
        try:
            return kind(**getattr(self, name))
        except Exception as error:  # a setting of a wrong kind is met anywhere in the libraries, by errors of any class
            raise InputError(f"recipe: networks.{name}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        stage: what is trained: ``autoencoder``, ``image_encoder``, ``image`` (ReferenceNet, Pose Guider
            and denoising UNet on single frames), ``motion`` (temporal layers on clips), ``environment``
            (Animate Anyone 2: all of them and the object guider, on single frames or on clips), ``distil`` (the
            denoising UNet of a whole model learns to sample in few steps).
        output: folder for checkpoints, the log and the result ``model/``.
        init: model folder to start from, which the stage before this one wrote, or a shipped model's name.
            ``init/vae`` and ``init/image_encoder`` may be all that is there.
        init_motion: AnimateDiff's file, or a folder with one or with a ``MotionAdapter``: where temporal layers start
            that ``init`` lacks; ``None`` starts them at zero effect.
        steps: optimiser steps.
        batch: clips per optimiser step and process.
        accumulate: micro-batches that one optimiser step is cut into.
        precision: ``bfloat16`` (autocast) or ``float32``; ``auto``: bfloat16 where the device has units for it.
        gradient_checkpointing: activations are recomputed in the backward pass: less memory, a third more time.
        sharding: of weights, gradients, moments and average among the processes: ``none``, every process has all
            (DistributedDataParallel); ``fsdp``, among all; ``hsdp``, among those of a machine.
        ema: decay of the moving average of the weights, which is what is saved; 0 turns it off.
        max_shard_size: of the resulting model's files, e.g. ``14MB``.
        save_dtype: of the resulting model's files; training itself keeps float32 weights.
        keep_checkpoints: so many of the last checkpoints are kept, as ``checkpoint-STEP``; 1: as ``checkpoint``.
        seed: everything random follows from it and the step number.
        environment: of stage ``environment`` and of no other. distil: of stage ``distil`` and of no other.
        frozen: parts that are not trained, see ``frozen_settings``; ``None``: the stage's own choice.
        lora: of the stages that train a denoising UNet: adapters are trained in place of its weights.
    """

    stage: Literal["autoencoder", "image_encoder", "image", "motion", "environment", "distil"]
    output: str
    init: str | None = None
    init_motion: str | None = None
    steps: int = 10_000
    batch: int = 8
    accumulate: int = 1
    precision: Literal["bfloat16", "float32", "auto"] = "auto"
    gradient_checkpointing: bool = False
    sharding: Literal["none", "fsdp", "hsdp"] = "none"
    ema: float = 0.999
    max_shard_size: str = "5GB"
    save_dtype: Literal["float32", "float16"] = "float32"
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 1
    optimizer: Optimizer = field(default_factory=Optimizer)
    data: Data = field(default_factory=Data)
    objective: Objective = field(default_factory=Objective)
    networks: Networks = field(default_factory=Networks)
    environment: Environment | None = None
    distil: Distil | None = None
    monitor: Monitor = field(default_factory=Monitor)
    lora: Lora | None = None
    frozen: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = attrgetter(name)(self)
            if value is not None and value < least:
                raise InputError(f"recipe: {name} is {value}; it must be at least {least}")
        for name in ("ema", "objective.condition_dropout"):
            value = attrgetter(name)(self)
            if not 0 <= value < 1:
                raise InputError(f"recipe: {name} is {value}; it must lie in [0, 1)")
        gamma = self.objective.min_snr_gamma
        if gamma is not None and not gamma > 0:
            raise InputError(f"recipe: objective.min_snr_gamma is {gamma}; it must be above 0")
        if self.batch % self.accumulate:
            raise InputError(f"recipe: batch {self.batch} cannot be cut into accumulate={self.accumulate} equal parts")
        if self.sharding != "none" and self.optimizer.kind != "adamw":
            raise InputError(
                f"recipe: optimizer.kind is {self.optimizer.kind!r}, which cannot be sharded; give "
                "optimizer.kind=adamw or sharding=none"
            )
        singly = 1 + self.objective.targets_per_reference
        of_stage = {"image": singly, "image_encoder": 2, **dict.fromkeys(("environment", "distil"), singly)}
        needed = 1 if self.in_a_row else of_stage.get(self.stage, 1)
        if self.data.frames_per_clip < needed:
            raise InputError(f"recipe: data.frames_per_clip is {self.data.frames_per_clip}; this needs {needed}")
        if self.stage == "motion" and not self.data.consecutive:
            raise InputError("recipe: stage motion needs frames in a row; give data.consecutive=true")
        if self.init_motion is not None and not (self.stage in ("motion", "environment") and self.data.consecutive):
            raise InputError(
                f"recipe: init_motion is {self.init_motion!r}, and this trains no temporal layers; leave it out, or "
                "give it to stage motion, or to stage environment with data.consecutive=true"
            )
        for stage, settings in (("environment", self.environment), ("distil", self.distil)):
            if (self.stage == stage) != (settings is not None):
                needs = f"needs its settings: give {stage}={{}}" if settings is None else f"takes no {stage}"
                raise InputError(f"recipe: stage {self.stage} {needs}")
        if self.environment is not None:
            self.environment.temporal_reference.check_beside(self.data.consecutive, self.data.frames_per_clip)
        if self.distil is not None:
            self.distil.check_beside(self.objective.min_snr_gamma, self.networks.pipeline, self.lora is not None)
        if self.data.source == "videos" and self.stage in ("autoencoder", "image_encoder"):
            raise InputError(f"recipe: stage {self.stage} trains on the studio alone; give data.source=studio")
        if self.lora is not None and self.stage not in DENOISING_STAGES:
            raise InputError(f"recipe: lora: stage {self.stage} trains no denoising UNet; leave it out")
        check_frozen(self.frozen, self.stage)
        if self.data.reference == "elsewhere" and self.stage not in ("image", "motion", "distil"):
            raise InputError(f"recipe: data.reference is 'elsewhere'; stage {self.stage} takes it from the same clip")
        crop = self.objective.crop
        if crop is not None and (crop % 8 or not 8 <= crop <= self.data.size):
            raise InputError(f"recipe: objective.crop is {crop}; give a multiple of 8, at most data.size")
        if self.data.skeleton_style not in STYLES:
            raise InputError(f"recipe: data.skeleton_style must be {' or '.join(STYLES)}")
        path = self.networks.pipeline.get("reference_path", REFERENCE_PATHS[0])
        if path not in REFERENCE_PATHS:
            raise InputError(
                f"recipe: networks.pipeline.reference_path is {path!r}; it must be {' or '.join(REFERENCE_PATHS)}"
            )
        if self.data.size % 8 or self.data.size < 32:
            raise InputError(f"recipe: data.size is {self.data.size}; it must be a multiple of 8, at least 32")

    @property
    def in_a_row(self) -> bool:
        """Whether it trains a denoising UNet on clips, all frames of each, and not on single frames."""
        return self.stage == "motion" or (self.data.consecutive and self.stage in ("environment", "distil"))

    @property
    def init_folder(self) -> Path | None:
        """Where :attr:`init` is; the name of a shipped model is its folder, unless there is one of that name here."""
        if self.init in SHIPPED and not Path(self.init).is_dir():
            return shipped_folder(self.init)
        return None if self.init is None else Path(self.init)

    @property
    def scenes(self) -> bool:
        """Whether its clips are scenes with objects (Animate Anyone 2)."""
        return self.stage == "environment"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, as in the YAML file."""
        return dataclasses.asdict(self)
