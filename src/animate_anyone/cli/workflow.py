"""What ``animate`` and ``replace`` do alike: a video made, or what that would need; told in lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from animate_anyone.cli.options import shown_progress


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
        print("\n".join(plan(*job)))
        return
    with shown_progress() as progress:
        report = make(*job, character_pose=known, progress=progress)
    for line in report.lines:
        print(line)
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in report.seconds.items()))
