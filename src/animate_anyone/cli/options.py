"""Options that several verbs have, each declared once, how their texts are read, and what is done with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from animate_anyone.cli.records import values
from animate_anyone.progress import SILENT, Progress, TerminalProgress

Settings = TypeVar("Settings")


def _models(incomplete: str) -> list[str]:
    """Shipped models, and folders here, that begin so, for the shell."""
    from glob import escape, glob

    from animate_anyone.models.shipped import SHIPPED

    folders = [f"{path}/" for path in sorted(glob(f"{escape(incomplete)}*")) if Path(path).is_dir()]
    return [*(name for name in SHIPPED if name.startswith(incomplete)), *folders]


Character = Annotated[Path, typer.Argument(help="A picture of the character.", show_default=False)]
OutputVideo = Annotated[Path, typer.Option("--output", "-o", help="The video to write: .mp4, .mov or .mkv.")]
Model = Annotated[str, typer.Option(help="A shipped model's name or a model folder.", autocompletion=_models)]
VideoFrames = Annotated[str | None, typer.Option(metavar="A:B", help="Frames of the video, B left out.")]
PoseEstimatorName = Annotated[str, typer.Option(help="mediapipe or rtmlib.")]
FirstGuess = Annotated[
    bool, typer.Option("--first-guess", help="Write the small model's first guess without what its networks add.")
]
ObjectWeights = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Finds objects: Grounding DINO by name, Qwen-VL when asked.")
]
Depth = Annotated[
    str | None,
    typer.Option(
        metavar="joints|DIR",
        help="How far limbs are: as the poses say (joints), or by Depth Anything or Sapiens2's point map.",
    ),
]
CharacterPose = Annotated[Path | None, typer.Option(help="The character's pose (.npz of one frame) where it is known.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the model's.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale; default: the model's.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be made; write nothing.")]
Ray = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Work by Ray: local, auto, or HOST:PORT of a cluster.")
]
Like = Annotated[
    Path | None,
    typer.Option(metavar="RESULT", help="Settings of a result (.mp4 or its .json), where none are typed here."),
]
Align = Annotated[bool, typer.Option(help="Fit the driver's skeleton to the character's body.")]
Layout = Annotated[str, typer.Option(help="Of the folders: plain, ubc, tiktok or ted.")]
DType = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]


@dataclass(frozen=True)
class Rtmlib:
    """The networks of ``--pose-estimator rtmlib``; without files those of its mode, where it has them already."""

    rtmlib_mode: Annotated[
        str, typer.Option(help="Of rtmlib's own networks: lightweight, balanced or performance.")
    ] = "balanced"
    rtmlib_detector: Annotated[
        Path | None, typer.Option(metavar="ONNX", help="rtmlib's detector of people in place of the mode's: YOLOX.")
    ] = None
    rtmlib_pose: Annotated[
        Path | None, typer.Option(metavar="ONNX", help="rtmlib's network of poses likewise: DWPose or RTMW.")
    ] = None


@dataclass(frozen=True)
class Denoising:
    """How a video is denoised."""

    steps: Steps = None
    guidance: Guidance = None
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0
    speed: Annotated[
        str,
        typer.Option(help="exact, all, or some of guidance,solver,features,reference: faster, frames differ a little."),
    ] = "exact"


@dataclass(frozen=True)
class Windows:
    """How a long video is divided."""

    window: Annotated[int | None, typer.Option(min=1, help="Frames denoised together.")] = None
    overlap: Annotated[int | None, typer.Option(min=0, help="Frames shared with the next window.")] = None
    window_batch: Annotated[int, typer.Option(min=1, help="Windows at once: speed against memory.")] = 1


@dataclass(frozen=True)
class Placement:
    """How a model is put onto this machine."""

    device: Device = "auto"
    dtype: DType = "auto"
    offload: Annotated[str, typer.Option(help="none, model or group: what waits beside the GPU.")] = "none"
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode large frames in tiles.")] = False
    attention: Annotated[str, typer.Option(help="Attention backend; auto leaves it to PyTorch.")] = "auto"
    quantize: Annotated[
        str, typer.Option(help="none, bitsandbytes-8bit, bitsandbytes-4bit or torchao-int8: small weights.")
    ] = "none"
    compile: Annotated[bool, typer.Option("--compile", help="On a GPU: slower to start, then faster.")] = False


def bars() -> AbstractContextManager[Progress]:
    """Progress bars on the terminal, none where nobody looks at one."""
    return TerminalProgress() if sys.stderr.isatty() else nullcontext(SILENT)


def shown_progress() -> AbstractContextManager[Progress]:
    """:func:`bars`, and the model libraries' own turned off; their import takes seconds."""
    from animate_anyone.sampling.quiet import quiet_model_libraries

    quiet_model_libraries()
    return bars()


def settings_like(verb: str, kind: type[Settings], options: Any, context: typer.Context) -> Settings:
    """As :func:`settings_of`; where an option was not typed, and ``--like`` names a result, the setting is of that.

    Raises:
        InputError: as :func:`settings_of`, or the result cannot be read, or was made by another verb.
    """
    from animate_anyone.workflows.result_settings import read_settings

    if options.like is None:
        return settings_of(kind, options)
    found = read_settings(options.like, verb, kind)
    sources = {name: context.get_parameter_source(name) for name in found}
    kept = {name for name, source in sources.items() if source is None or source.name in ("DEFAULT", "DEFAULT_MAP")}
    return settings_of(kind, options, {name: found[name] for name in kept})


def settings_of(kind: type[Settings], options: Any, instead: Mapping[str, Any] | None = None) -> Settings:
    """A workflow's settings, each from the option of its name; those in ``instead`` from there.

    Raises:
        InputError: a text that cannot be read, or settings that are not allowed.
    """
    from animate_anyone.media import parse_fps, parse_range, parse_size
    from animate_anyone.perception.joint_depth import parse_depth

    given = values(options)
    for name, read in (("size", parse_size), ("frames", parse_range), ("fps", parse_fps), ("depth", parse_depth)):
        if given.get(name) is not None:
            given[name] = read(given[name])
    given |= instead or {}
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: given[name] for name in names if name in given})


def run_workflow(
    make: Callable[..., Any], plan: Callable[..., list[str]], job: tuple[Any, ...], pose: Path | None, dry_run: bool
) -> None:
    """Make a video with ``animate`` or ``replace`` and print the report.

    Args:
        make: the workflow.
        plan: its dry run, which returns lines.
        job: what both take: the character's picture, the video, the output and the settings.
        pose: file of the character's pose, where it is known.
        dry_run: print ``plan``'s lines, and make nothing.
    """
    from animate_anyone.sampling.ranks import Ranks
    from animate_anyone.structures import PoseSequence

    known = None if pose is None else PoseSequence.load(pose)[:1]
    if dry_run:
        print(*plan(*job), sep="\n")
        return
    ranks = Ranks.join()
    with shown_progress() as progress:
        report = make(*job, character_pose=known, progress=progress if ranks.is_first else SILENT, ranks=ranks)
    if not ranks.is_first:
        return
    print(*report.lines, sep="\n")
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in report.seconds.items()))
