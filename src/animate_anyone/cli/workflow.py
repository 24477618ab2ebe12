"""What ``animate`` and ``replace`` do alike: settings from options, then a video or what it would need, in lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from animate_anyone.cli.options import parse_fps, parse_size, shown_progress
from animate_anyone.cli.records import values

Settings = TypeVar("Settings")


def settings_of(kind: type[Settings], options: Any) -> Settings:
    """A workflow's settings, each from the option of its name.

    Raises:
        InputError: a text that cannot be read, or settings that are not allowed.
    """
    from animate_anyone.media import parse_range

    given = values(options)
    for name, read in (("size", parse_size), ("frames", parse_range), ("fps", parse_fps)):
        if given.get(name) is not None:
            given[name] = read(given[name])
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: given[name] for name in names if name in given})


def run_workflow(
    make: Callable[..., Any], plan: Callable[..., list[str]], job: tuple[Any, ...], pose: Path | None, dry_run: bool
) -> None:
    """Make a video and print the report.

    Args:
        make: the workflow.
        plan: its dry run, which returns lines.
        job: what both take: the character's picture, the video, the output and the settings.
        pose: file of the character's pose, where it is known.
        dry_run: print ``plan``'s lines, and make nothing.
    """
    from animate_anyone.structures import PoseSequence

    known = None if pose is None else PoseSequence.load(pose)[:1]
    if dry_run:
        print(*plan(*job), sep="\n")
        return
    with shown_progress() as progress:
        report = make(*job, character_pose=known, progress=progress)
    print(*report.lines, sep="\n")
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in report.seconds.items()))
