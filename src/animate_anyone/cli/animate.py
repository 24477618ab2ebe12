"""``animate-anyone animate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def animate(
    character: Annotated[Path, typer.Argument(help="A picture of the character.", show_default=False)],
    driving: Annotated[
        Path,
        typer.Option(
            help="A video of somebody moving, a finished skeleton video, or poses (.npz).", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The video to write: .mp4, .mov or .mkv.")] = Path(
        "out.mp4"
    ),
    model: Annotated[str, typer.Option(help="A shipped model's name or a model folder.")] = "puppet",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the video; default: what the model saw.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    frames: Annotated[str | None, typer.Option(metavar="A:B", help="Frames of the driver, B left out.")] = None,
    fps: Annotated[str | None, typer.Option(help="Frame rate of the result; default: the driver's timing.")] = None,
    pose_estimator: Annotated[str, typer.Option(help="mediapipe or rtmlib.")] = "mediapipe",
    driving_kind: Annotated[
        str, typer.Option(help="What a driving video shows: video (of somebody), skeleton (finished drawings) or auto.")
    ] = "auto",
    person: Annotated[int, typer.Option(min=0, help="Whose movement drives: 0 is the largest, 1 the next.")] = 0,
    align: Annotated[bool, typer.Option(help="Fit the driver's skeleton to the character's body.")] = True,
    character_pose: Annotated[
        Path | None, typer.Option(help="The character's pose (.npz of one frame) where it is known.")
    ] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Frames denoised together.")] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Frames shared with the next window.")] = None,
    window_batch: Annotated[int, typer.Option(min=1, help="Windows at once: speed against memory.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    offload: Annotated[str, typer.Option(help="none, model or group: what waits beside the GPU.")] = "none",
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode large frames in tiles.")] = False,
    attention: Annotated[str, typer.Option(help="Attention backend; auto leaves it to PyTorch.")] = "auto",
    quantize: Annotated[
        str, typer.Option(help="none, bitsandbytes-8bit, bitsandbytes-4bit or torchao-int8: small weights.")
    ] = "none",
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep poses, skeletons and their overlay on the character.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would need of this machine; write nothing.")
    ] = False,
) -> None:
    """Make a video of the character moving as the driver moves."""
    from animate_anyone.cli.options import parse_fps, parse_size, shown_progress
    from animate_anyone.media import parse_range
    from animate_anyone.structures import PoseSequence
    from animate_anyone.workflows import animate as story

    settings = story.Settings(
        model=model,
        size=parse_size(size),
        steps=steps,
        guidance=guidance,
        seed=seed,
        frames=None if frames is None else parse_range(frames),
        fps=parse_fps(fps),
        pose_estimator=pose_estimator,
        driving_kind=driving_kind,
        person=person,
        align=align,
        window=window,
        overlap=overlap,
        window_batch=window_batch,
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
        print("\n".join(story.dry_run(character, driving, output, settings)))
        return
    with shown_progress() as progress:
        report = story.animate(character, driving, output, settings, character_pose=known, progress=progress)
    for line in report.lines:
        print(line)
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in report.seconds.items()))
