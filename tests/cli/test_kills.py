"""A command killed while it writes; many more kills: ``python tests/kills.py``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import forked
import kills


class Forked(kills.Command):
    """A command that begins with everything imported."""

    def start(self, folder: Path) -> Any:
        return forked.Forked(forked.command_line(self.verb, *self.arguments), folder)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_killed_while_writing(dancers: Path, tiny_model: Path, tmp_path: Path) -> None:
    """So that it cannot remove what is half written; the next run, to its end, does."""
    options = ("--driving", "dance.npz", "--character-pose", "me.npz", "--model", str(tiny_model), "--steps", "1")
    animated = kills.commands()["animate"]
    arguments = ("me.png", *options, "--device", "cpu", "--keep", "kept", "-o", "out.mp4")
    command = Forked("animate", arguments, animated.results, animated.kept)
    place = kills.prepare(command, dancers, tmp_path / "place", seed=0)
    place.kill(signal.SIGKILL, soon=True)
    place.finish()
