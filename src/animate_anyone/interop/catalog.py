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
class WebFile:
    """One file at an address of its own, outside the hub.

    Attributes:
        name: of the file here.
        url: where it lies.
        size: bytes; about, where ``sha256`` is not known.
        licence: of the file.
        sha256: of its content, as others have published it; ``None`` where nobody has: the file is then checked when it
            is read, by the names and shapes of its tensors, and its digest is recorded when it comes.
        computed: whether the size is computed from the number of weights.
    """

    name: str
    url: str
    size: int
    licence: str
    sha256: str | None
    computed: bool = False
    into: str = ""
    revision: str = ""

    @property
    def repo(self) -> str:
        """What stands for a repository: the address."""
        return self.url

    @property
    def files(self) -> tuple[str, ...]:
        """The one file, as the patterns of a :class:`Source`."""
        return (self.name,)


@dataclass(frozen=True)
class Entry:
    """Published weights under a name of ours.

    Attributes:
        name: what is typed.
        about: what it is, one line.
        sources: where it comes from; the first is what the name means, the rest is needed beside it.
        warning: what the licence forbids, one line; ``None`` where it only asks to be named.
        model: whether ``models convert`` makes a model folder of it; the others are parts for training, or measures.
        within: folder of the kept weights in which its own folder lies.
    """

    name: str
    about: str
    sources: tuple[Source | WebFile, ...]
    warning: str | None = None
    model: bool = False
    within: str = ""

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


METRICS = "metrics"
"""The folder, below that of all kept weights, in which measures look for their networks."""
# Digests as others have published them: docs/weights.md says where. Those of VGG-16 and Inception begin with the digits
# that their authors put into the files' names.
VGG = WebFile(
    "vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    553_433_881,
    "BSD-3-Clause",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
LPIPS = WebFile(
    "lpips_v0.1_vgg.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    7_289,
    "BSD-2-Clause",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
)
INCEPTION = WebFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    95_628_359,
    APACHE,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
I3D = WebFile(
    "i3d_pretrained_400.pt",
    "https://huggingface.co/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/"
    "810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
    50_900_000,
    APACHE,
    None,
)
RESNET = WebFile(
    "resnet-50-kinetics.pth",
    "https://github.com/yjh0410/YOWOF/releases/download/yowof-weight/resnet-50-kinetics.pth",
    188_000_000,
    "MIT",
    None,
    computed=True,
)


def _metric(name: str, about: str, *files: WebFile) -> Entry:
    return Entry(name, about, files, within=METRICS)


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
    _metric("lpips", "VGG-16 and the weights of LPIPS 0.1; to measure LPIPS", VGG, LPIPS),
    _metric("fid", "Inception of the TensorFlow FID, as pytorch-fid has it; to measure FID", INCEPTION),
    _metric("fid-vid", "3-D ResNet-50 of Kinetics-400; to measure FID-VID", RESNET),
    _metric("fvd", "I3D of Kinetics-400, as VideoGPT has it; to measure FVD", I3D),
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
