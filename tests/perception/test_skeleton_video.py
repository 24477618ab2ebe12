"""Finished skeleton drawings are told from everything else on black."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.draw import STYLES, draw_pose
from animate_anyone.errors import InputError
from animate_anyone.perception import is_skeleton_video
from people import person

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(128, 192), (256, 256), (512, 704), (1080, 1920)])
@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("parts", [True, False])
def test_our_own_drawings_are(size: tuple[int, int], style: str, parts: bool) -> None:
    assert is_skeleton_video(draw_pose(person(2), size, style=style, hands=parts, face=parts))


def test_black_frames_between_do_not_matter_alone_they_are_none() -> None:
    drawn = draw_pose(person(2), (256, 384))
    black = np.zeros_like(drawn)
    assert is_skeleton_video([*black, *drawn, *black])
    assert not is_skeleton_video(black)


def night(spread: float) -> NDArray[np.uint8]:
    """A dark street: dim noise, some bright lamps, a dim figure."""
    frame = RNG.normal(12, spread, (240, 320, 3)).clip(0, 255)
    frame[60:200, 140:190] += 40
    for _ in range(12):
        y, x = RNG.integers(5, 230), RNG.integers(5, 310)
        frame[y - 2 : y + 3, x - 2 : x + 3] = RNG.uniform(80, 255, 3)
    return frame.astype(np.uint8)


def neon() -> NDArray[np.uint8]:
    """Thick letters of pure colours on black."""
    frame = np.zeros((240, 320, 3), np.uint8)
    colours = [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]
    for number, colour in enumerate(colours):
        frame[90:130, 20 + 48 * number : 60 + 48 * number] = colour
    return frame


def line_art() -> NDArray[np.uint8]:
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[::40], frame[:, ::40] = 255, 255
    return frame


def sparks() -> NDArray[np.uint8]:
    """Fireworks: thin, saturated, of all hues, but of all brightnesses too."""
    frame = np.zeros((240, 320, 3))
    for _ in range(400):
        y, x = RNG.integers(2, 238), RNG.integers(2, 318)
        colour = np.zeros(3)
        colour[RNG.permutation(3)[:2]] = RNG.uniform(0, 1, 2) * RNG.uniform(60, 255)
        frame[y - 1 : y + 1, x - 1 : x + 1] = colour
    return frame.astype(np.uint8)


def laser() -> NDArray[np.uint8]:
    """Thin lines of one pure colour."""
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[::40, :, 1], frame[:, ::40, 1] = 255, 255
    return frame


def chalk() -> NDArray[np.uint8]:
    """A blackboard: mostly grey lines, a few in colour."""
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[::20], frame[:, ::20] = 153, 153
    colours = [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]
    for number, colour in enumerate(colours):
        frame[20 * number + 10, 20:120] = colour
    return frame


@pytest.mark.parametrize("frame", [night(3), night(12), neon(), line_art(), sparks(), laser(), chalk()])
def test_dark_videos_are_not(frame: NDArray[np.uint8]) -> None:
    assert not is_skeleton_video([frame] * 4)


def test_no_frames() -> None:
    with pytest.raises(InputError, match="no frames"):
        is_skeleton_video([])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "verdict"), [("skeleton_video.mp4", True), ("dance.mp4", False), ("street_scene.mp4", False)]
)
def test_real_videos(shared_dir: Path, name: str, verdict: bool) -> None:
    av = pytest.importorskip("av")
    with av.open(str(shared_dir / "clips" / name)) as clip:
        frames = [f.to_ndarray(format="rgb24") for f, _ in zip(clip.decode(video=0), range(20), strict=False)][::4]
    assert is_skeleton_video(frames) is verdict
    if not verdict:
        assert not is_skeleton_video([frame // 12 for frame in frames])
