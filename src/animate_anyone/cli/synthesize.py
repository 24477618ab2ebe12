"""``animate-anyone synthesize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from animate_anyone.cli.options import shown_progress


def synthesize(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.", show_default=False)],
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the first clip; each has its own.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 24,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT.")] = "256x256",
    motion: Annotated[str | None, typer.Option(help="walk, dance, wave, ...; default: any.")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Characters that no training ever sees.")] = False,
    domain: Annotated[
        str, typer.Option(help="plain, or wide: light, cloth, places and cameras of photographs.")
    ] = "plain",
    scenes: Annotated[
        bool, typer.Option("--scenes", help="With objects, things in front and behind; also the parts, as videos.")
    ] = False,
) -> None:
    """Render clips of synthetic characters: video, first frame, poses, masks."""
    import numpy as np

    from animate_anyone.errors import InputError
    from animate_anyone.media import VideoWriter, parse_size, whole_file, write_picture
    from animate_anyone.synthetic.dataset import sample_clip
    from animate_anyone.synthetic.scenes import SceneClip, character_picture, sample_scene_clip

    wanted = parse_size(size)
    if not 16 <= min(wanted) <= max(wanted) <= 2048:
        raise InputError(f"--size {size}: both sides must lie between 16 and 2048")
    split = "held_out" if held_out else "train"
    how: dict[str, Any] = {"split": split, "num_frames": frames, "size": wanted, "motion": motion, "domain": domain}
    with shown_progress() as progress:
        for number in progress.track(range(seed, seed + clips), clips, "render"):
            clip = (sample_scene_clip if scenes else sample_clip)(number, **how)
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{output}: cannot be made ({error.strerror}); give a folder") from None
            name = output / f"{split}_{number:06d}"
            videos, masks = {"": clip.frames}, {"masks": clip.mask}
            if isinstance(clip, SceneClip):
                videos |= {"_environment": clip.environment, "_objects": clip.object_frames}
                masks |= {"objects": clip.object_mask, "occluders": clip.occluders, "whole": clip.person_full_mask}
                character = character_picture(number, **how)
                write_picture(Path(f"{name}_character.png"), character.picture)
                assert character.pose is not None
                character.pose.save(f"{name}_character.npz")
            for ending, shown in videos.items():
                with VideoWriter(Path(f"{name}{ending}.mp4"), wanted, clip.pose.fps) as video:
                    for picture in shown.cpu().numpy():
                        video.write(picture)
            write_picture(name.with_suffix(".png"), clip.frames[0].cpu().numpy())
            clip.pose.save(name.with_suffix(".npz"))
            clip.pose[:1].save(f"{name}_first.npz")
            with whole_file(f"{name}_masks.npz") as part, part.open("wb") as file:
                np.savez_compressed(file, **{key: mask.cpu().numpy() for key, mask in masks.items()})
    print(f"{output}: {clips} clips of {frames} frames")
