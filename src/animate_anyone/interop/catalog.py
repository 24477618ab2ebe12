"""What is known of published weights: where they lie, what they weigh, and what one may do with them.

Facts only, and no network. Sizes are for planning: what a pull will really bring is asked of the hub before
anything is downloaded. No commit is written here: ``main`` is resolved when a folder is first pulled and
recorded in its ``source.json`` (:mod:`animate_anyone.interop.source`); that record is the pin.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from animate_anyone.errors import InputError

APACHE = "Apache-2.0"
OPEN_RAIL = "CreativeML Open RAIL-M"


@dataclass(frozen=True)
class Source:
    """Files of one repository on the hub.

    Attributes:
        repo: ``owner/name``.
        files: patterns of paths inside it, as :func:`fnmatch.fnmatchcase` reads them; each must match.
        size: of all of them together, bytes, about; as the hub's file list said.
        licence: of these files.
        computed: whether the size is computed from the number of weights instead.
        into: folder inside the local one; the path inside the repository goes below it.
        revision: branch, tag or commit that is asked for where the folder records none.
    """

    repo: str
    files: tuple[str, ...]
    size: int
    licence: str
    computed: bool = False
    into: str = ""
    revision: str = "main"


@dataclass(frozen=True)
class Entry:
    """Published weights under a name of ours.

    Attributes:
        name: what is typed.
        about: what it is, one line.
        sources: where it comes from; the first is what the name means, the rest is needed beside it.
        warning: what the licence forbids, one line; ``None`` where it only asks to be named.
        model: whether ``models convert`` makes a model folder of it; the others are parts for training.
    """

    name: str
    about: str
    sources: tuple[Source, ...]
    warning: str | None = None
    model: bool = False

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(source.size for source in self.sources)

    @property
    def licence(self) -> str:
        """Of what the name means; the parts beside it have their own."""
        return self.sources[0].licence


# The files of a model as Moore-AnimateAnyone and those who train with its code write them, without their endings.
DENOISING_UNET, REFERENCE_UNET = "denoising_unet", "reference_unet"
MOTION_MODULE, POSE_GUIDER = "motion_module", "pose_guider"
FILES = (DENOISING_UNET, REFERENCE_UNET, MOTION_MODULE, POSE_GUIDER)
NETWORKS = tuple(f"{name}.pth" for name in FILES)

# 83.65 and 303.97 million weights in float32.
VAE = Source(
    "stabilityai/sd-vae-ft-mse",
    ("config.json", "diffusion_pytorch_model.safetensors"),
    335_000_000,
    "MIT",
    into="sd-vae-ft-mse",
)
CLIP = Source(
    "lambdalabs/sd-image-variations-diffusers",
    ("image_encoder/config.json", "image_encoder/pytorch_model.bin"),
    1_220_000_000,
    "other, see its model card",
)
# The repository of the first publisher, runwayml, was withdrawn; this one holds the same files.
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD15_CONFIG = Source(SD15, ("unet/config.json",), 750, OPEN_RAIL, into="stable-diffusion-v1-5")


def _motion(version: int, file: str, size: int) -> Entry:
    source = Source("guoyww/animatediff", (file,), size, APACHE)
    return Entry(f"animatediff-v{version}", f"AnimateDiff motion modules, version {version}; to train from", (source,))


ENTRIES = (
    Entry(
        "moore",
        "Animate Anyone as trained by Moore Threads (Moore-AnimateAnyone)",
        (Source("patrolli/AnimateAnyone", NETWORKS, 8_704_000_000, APACHE), SD15_CONFIG, VAE, CLIP),
        model=True,
    ),
    Entry(
        "novita",
        "Animate Anyone as trained by Novita AI",
        (Source("novita-ai/AnimateAnyone", NETWORKS, 8_692_000_000, APACHE, computed=True), SD15_CONFIG, VAE, CLIP),
        model=True,
    ),
    Entry(
        "musepose",
        "MusePose by Tencent Music's Lyra Lab: Animate Anyone for dances",
        (
            Source(
                "TMElyralab/MusePose",
                tuple(f"MusePose/{name}" for name in NETWORKS),
                11_160_000_000,
                "non-commercial research only",
                computed=True,
            ),
            Source(CLIP.repo, ("unet/config.json",), 1_000, CLIP.licence, into="sd-image-variations-diffusers"),
            VAE,
            CLIP,
        ),
        warning="the weights are for non-commercial research only (the code is MIT, the weights are not)",
        model=True,
    ),
    _motion(1, "mm_sd_v15.ckpt", 1_670_000_000),
    _motion(2, "mm_sd_v15_v2.ckpt", 1_820_000_000),
    _motion(3, "v3_sd15_mm.ckpt", 1_673_262_583),
    Entry(
        "stable-diffusion-1.5",
        "Stable Diffusion 1.5, its UNet; to train from",
        (Source(SD15, ("unet/config.json", "unet/diffusion_pytorch_model.safetensors"), 3_440_000_000, OPEN_RAIL),),
        warning="Open RAIL-M forbids some uses (its attachment A), and what you pass on must forbid them too",
    ),
    Entry("sd-vae-ft-mse", "the autoencoder that the published weights were trained with", (VAE,)),
    Entry(
        "clip-image-encoder",
        "CLIP image encoder of sd-image-variations, which the published weights were trained with",
        (CLIP,),
        warning="the model card names research as the intended use",
    ),
)


def find(name: str, others: Collection[str] = ()) -> Entry:
    """The entry of that name.

    Args:
        name: what was typed.
        others: names that are no entries but might have been meant, such as the shipped models'.

    Raises:
        InputError: there is none; the line names the nearest, or all.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    names = [*others, *(entry.name for entry in ENTRIES)]
    near = get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
    raise InputError(f"{name}: no weights of that name are known; {hint}")


def shown_size(size: int) -> str:
    """Bytes for people, in decimal units as the hub shows them: ``3.44 GB``."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size} B"
