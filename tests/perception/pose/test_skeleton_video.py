"""Finished skeleton drawings are told from everything else on black."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.draw import STYLES, SkeletonStyle, draw_pose
from animate_anyone.errors import InputError
from animate_anyone.perception import is_skeleton_video
from animate_anyone.perception.pose.skeleton_look import SkeletonLook, saturation
from animate_anyone.perception.pose.skeleton_video import find_skeletons
from animate_anyone.synthetic.scenes import sample_scene_clip
from people import body_alone, person

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(128, 192), (256, 256), (512, 704), (1080, 1920)])
@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("parts", [True, False])
def test_our_own_drawings_are(size: tuple[int, int], style: str, parts: bool) -> None:
    assert is_skeleton_video(draw_pose(person(2) if parts else body_alone(person(2)), size, style=style))


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
    with pytest.raises(InputError, match="no frames"):
        find_skeletons([])


def drawn(size: tuple[int, int] = (192, 288), thin: bool = False) -> list[NDArray[np.uint8]]:
    style = SkeletonStyle(1, 1.5, 1, 1, 1) if thin else "dwpose"
    return list(draw_pose(person(3), size, style=style))


def squeezed(frames: list[NDArray[np.uint8]], quality: int = 30) -> list[NDArray[np.uint8]]:
    """As videos come: colours at half the size, and losses."""
    found = []
    for frame in frames:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        found.append(np.asarray(Image.open(file)))
    return found


def laid_on(frames: list[NDArray[np.uint8]], grey: int) -> list[NDArray[np.uint8]]:
    """The strokes on grey or white instead of black."""
    return [np.where(frame.any(axis=-1, keepdims=True), frame, np.uint8(grey)) for frame in frames]


def padded(frames: list[NDArray[np.uint8]], rows: int, columns: int, grey: int) -> list[NDArray[np.uint8]]:
    return [np.pad(f, ((rows, rows), (columns, columns), (0, 0)), constant_values=grey) for f in frames]


def scaled(frames: list[NDArray[np.uint8]], factor: float, power: float = 1) -> list[NDArray[np.uint8]]:
    return [np.rint(255 * factor * (frame / 255.0) ** power).astype(np.uint8) for frame in frames]


def shrunk(frames: list[NDArray[np.uint8]], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    return [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames]


ODD = {
    "dim": lambda: scaled(drawn(), 0.5),
    "very dim": lambda: squeezed(scaled(drawn(), 0.3), 60),
    "gamma": lambda: squeezed(scaled(drawn(), 1, 2.2), 60),
    "small": lambda: squeezed(shrunk(drawn((512, 704), thin=True), (128, 176)), 60),
    "thin": lambda: squeezed(drawn((384, 512), thin=True), 60),
    "white margins": lambda: squeezed(padded(drawn(), 0, 100, 255)),
    "white margins all around": lambda: padded(drawn(), 40, 30, 255),
    "narrow margins": lambda: padded(drawn(), 0, 6, 255),
    "grey margins": lambda: squeezed(padded(drawn(), 60, 0, 128)),
    "on white": lambda: squeezed(laid_on(drawn(), 255), 80),
    "on grey": lambda: squeezed(laid_on(drawn(), 128), 80),
    "on dark grey": lambda: laid_on(drawn(), 40),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_drawings_are_recognised_and_brought_into_the_usual_form(name: str) -> None:
    frames = ODD[name]()
    look = find_skeletons(frames)
    assert look is not None
    usual = look.usual(frames[0])
    assert usual.shape == frames[0].shape
    brightest = usual.max(axis=-1)
    assert (brightest < 32).mean() > 0.75  # on black, margins too
    colours = brightest[(saturation(usual) > 0.6) & (brightest > 100)]
    assert np.percentile(colours, 97) > 225  # joints and fingers
    assert np.mean(np.abs(colours.astype(float) - 153) < 45) > 0.25  # limbs
    assert look.line() != "taken as it is" or name == "thin"


def test_usual_drawings_are_taken_as_they_are() -> None:
    frames = drawn()
    look = find_skeletons(frames)
    assert look == SkeletonLook() and look.line() == "taken as it is"
    assert look.usual(frames[0]) is frames[0]


@pytest.mark.parametrize("grey", [0, 127, 255])
def test_people_cut_out_are_none(grey: int) -> None:
    """Figures of the studio before one colour, as if cut out, and as bright or dim as they come."""
    for seed in (0, 2, 5, 7, 10):
        clip = sample_scene_clip(seed, num_frames=2, size=(128, 128))
        frames = clip.frames.numpy().copy()
        assert find_skeletons(list(frames)) is None
        frames[~clip.mask.numpy()] = grey
        assert find_skeletons(list(frames)) is None
        assert find_skeletons(list(frames // 3)) is None


@pytest.mark.parametrize("frame", [night(3), night(12), neon(), line_art(), sparks(), laser(), chalk()])
def test_dark_or_bright_videos_are_none_however_dim(frame: NDArray[np.uint8]) -> None:
    for shown in (frame, frame // 2, 255 - frame, np.repeat(frame.max(-1, keepdims=True), 3, axis=-1)):
        assert find_skeletons([shown] * 4) is None


def test_told_skeletons_are_not_doubted() -> None:
    frame = neon()
    assert find_skeletons([frame] * 4) is None
    assert find_skeletons([frame] * 4, told=True) == SkeletonLook()
    assert find_skeletons([np.zeros_like(frame)] * 4, told=True) == SkeletonLook()


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
