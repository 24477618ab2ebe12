"""Cuts, and the pieces between them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scenedetect")

from animate_anyone.preparation.cuts import find_cuts
from animate_anyone.preparation.pieces import Piece, SourceFile, source_stages
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.sources import Source
from animate_anyone.preparation.stage import run_stages
from waving import scene, video


def test_cuts_are_found_where_the_picture_changes() -> None:
    frames = [scene(1)] * 20 + [scene(2)] * 25 + [scene(3)] * 15
    assert find_cuts(frames) == [20, 45]


def test_a_moving_camera_is_no_cut() -> None:
    wide = scene(1, (512, 192))
    assert find_cuts(np.ascontiguousarray(wide[:, 4 * k : 4 * k + 128]) for k in range(60)) == []


def _pieces(path: Path, **settings: float) -> list[Piece]:
    item = SourceFile(Source(path), PrepareSettings(**settings))  # type: ignore[arg-type]
    run_stages(source_stages(), item, {})
    return item.pieces


def test_shots_become_pieces_of_allowed_length(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", 30, 12, 60)
    assert _pieces(path, longest=4.0) == [
        Piece(0, 30),
        Piece(30, 42, too_short=True),
        Piece(42, 72),
        Piece(72, 102),
    ]


def test_two_seconds_are_two_seconds(tmp_path: Path) -> None:
    assert _pieces(video(tmp_path / "a.mp4", 24)) == [Piece(0, 24)]
    assert _pieces(video(tmp_path / "b.mp4", 23)) == [Piece(0, 23, too_short=True)]


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    for wrong in ({"fps": Fraction(0)}, {"shortest": 6.0}, {"min_height": 2}, {"max_side": 9}, {"pose_estimator": "x"}):
        with pytest.raises(ValueError, match="--"):
            PrepareSettings(**wrong)  # type: ignore[arg-type]
