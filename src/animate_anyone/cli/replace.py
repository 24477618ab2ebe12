"""``animate-anyone replace``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replace(
    character: Annotated[Path, typer.Argument(help="A picture of the character.", show_default=False)],
    video: Annotated[Path, typer.Option(help="A video of somebody.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The video to write: .mp4, .mov or .mkv.")] = Path(
        "out.mp4"
    ),
    model: Annotated[str, typer.Option(help="A shipped model's name or a model folder.")] = "puppet-environment",
    objects: Annotated[
        str | None, typer.Option(metavar="FILE|TEXT", help="What the person holds: a .json of marks, or names.")
    ] = None,
    keep_background: Annotated[
        bool, typer.Option("--keep-background", help="The video's size, and its own pixels outside the made region.")
    ] = False,
    crop: Annotated[
        bool, typer.Option("--crop", help="Make the part around the person alone, larger; the rest is the video's own.")
    ] = False,
    feather: Annotated[int, typer.Option(min=0, help="Pixels in which the made region fades into those.")] = 4,
    person: Annotated[int, typer.Option(min=0, help="Who is replaced: 0 is the largest, 1 the next.")] = 0,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT the model works at; default: what it saw.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    frames: Annotated[str | None, typer.Option(metavar="A:B", help="Frames of the video, B left out.")] = None,
    continuation: Annotated[
        int, typer.Option(min=0, help="Segments that go on from so many frames of the one before; 0: windows.")
    ] = 0,
    window: Annotated[int | None, typer.Option(min=1, help="Frames denoised together.")] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Frames shared with the next window.")] = None,
    window_batch: Annotated[int, typer.Option(min=1, help="Windows at once: speed against memory.")] = 1,
    pose_estimator: Annotated[str, typer.Option(help="mediapipe or rtmlib.")] = "mediapipe",
    character_pose: Annotated[
        Path | None, typer.Option(help="The character's pose (.npz of one frame) where it is known.")
    ] = None,
    masker: Annotated[str, typer.Option(help="Who cuts the person out: mediapipe, grabcut or sam2.")] = "mediapipe",
    tracker: Annotated[str, typer.Option(help="Who follows objects: classical or sam2.")] = "classical",
    sam2_weights: Annotated[Path | None, typer.Option(metavar="DIR", help="SAM2, for masker and tracker.")] = None,
    object_weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Grounding DINO, to find objects by name.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    offload: Annotated[str, typer.Option(help="none, model or group: what waits beside the GPU.")] = "none",
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode large frames in tiles.")] = False,
    attention: Annotated[str, typer.Option(help="Attention backend; auto leaves it to PyTorch.")] = "auto",
    quantize: Annotated[
        str, typer.Option(help="none, bitsandbytes-8bit, bitsandbytes-4bit or torchao-int8: small weights.")
    ] = "none",
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep masks, environment, objects and skeletons.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made; write nothing.")] = False,
) -> None:
    """Put the character into a video, in the place of the person there, with the objects that they hold."""
    from animate_anyone.cli.options import parse_size, shown_progress
    from animate_anyone.media import parse_range
    from animate_anyone.structures import PoseSequence
    from animate_anyone.workflows import replace as story

    settings = story.Settings(
        model=model,
        size=parse_size(size),
        steps=steps,
        guidance=guidance,
        seed=seed,
        frames=None if frames is None else parse_range(frames),
        pose_estimator=pose_estimator,
        person=person,
        masker=masker,
        objects=objects,
        tracker=tracker,
        sam2_weights=sam2_weights,
        object_weights=object_weights,
        keep_background=keep_background,
        crop=crop,
        feather=feather,
        window=window,
        overlap=overlap,
        window_batch=window_batch,
        continuation=continuation,
        device=device,
        dtype=dtype,
        offload=offload,
        vae_tiling=vae_tiling,
        attention=attention,
        quantize=quantize,
        keep=keep,
    )
    known = None if character_pose is None else PoseSequence.load(character_pose)[:1]
    if dry_run:
        print("\n".join(story.dry_run(character, video, output, settings)))
        return
    with shown_progress() as progress:
        report = story.replace(character, video, output, settings, character_pose=known, progress=progress)
    for line in report.lines:
        print(line)
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in report.seconds.items()))
