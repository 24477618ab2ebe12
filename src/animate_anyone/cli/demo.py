"""``animate-anyone demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from animate_anyone.cli.options import shown_progress

if TYPE_CHECKING:
    from animate_anyone.synthetic.dataset import Clip

SEED, DRIVER_SEED, FRAMES = 0, 11, 48


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The video to write.")] = Path("out/demo.mp4"),
    seed: Annotated[int, typer.Option(min=0, help="Which character.")] = SEED,
    driver_seed: Annotated[int, typer.Option(min=0, help="Whose dance.")] = DRIVER_SEED,
    frames: Annotated[int, typer.Option(min=1, help="How many frames.")] = FRAMES,
) -> None:
    """Show the shipped model at work: a character it never saw dances somebody else's dance. Needs nothing."""
    from animate_anyone.errors import InputError
    from animate_anyone.media import VIDEO_SUFFIXES, check_writable, write_picture
    from animate_anyone.models.folder import model_folder
    from animate_anyone.workflows import animate as workflow

    if output.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"{output}: cannot be written; end the name in {' or '.join(VIDEO_SUFFIXES)}")
    model_folder("puppet")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output.parent}: cannot be made ({error.strerror}); give a folder") from None
    check_writable(output, VIDEO_SUFFIXES)
    with shown_progress() as progress:
        character, dance = demo_clips(seed, driver_seed, frames)
        picture, poses = output.with_name("character.png"), output.with_name("dance.npz")
        write_picture(picture, character.frames[0].cpu().numpy())
        dance.pose.save(poses)
        report = workflow.animate(picture, poses, output, character_pose=character.pose, progress=progress)
    print(*report.lines, sep="\n")
    print(f"the character: {picture}; the dance: {poses}")


def demo_clips(seed: int = SEED, driver_seed: int = DRIVER_SEED, frames: int = FRAMES) -> tuple[Clip, Clip]:
    """Of a held-out character one frame, and another one's dance, of which the poses alone are wanted."""
    from animate_anyone.synthetic.dataset import sample_clip

    # The picture is of somebody who stands there; what it does not show, no dance can.
    character = sample_clip(
        seed, split="held_out", num_frames=frames, motion="idle", size=(512, 512), frame_indices=[0]
    )
    dance = sample_clip(
        driver_seed, split="held_out", num_frames=frames, motion="dance", size=(128, 128), supersample=1
    )
    return character, dance
