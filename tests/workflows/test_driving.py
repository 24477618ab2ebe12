"""What drives: which frames of what, and when each is shown; and how pictures and poses are put into a frame."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, read_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.driving import _resampled, _uneven, open_driver
from people import FoundEverywhere, person
from small_videos import UNEVEN, Openings, numbered, numbers


def even(count: int, fps: int) -> NDArray[np.float64]:
    """Times of evenly spaced frames and the end of the last."""
    return np.arange(count + 1) / fps


def test_even_timing_is_kept() -> None:
    assert _uneven(even(10, 24), Fraction(24)) is None
    assert _uneven(np.round(even(100, 24), 2), Fraction(24)) is None  # rounded to hundredths


def test_uneven_timing_is_kept() -> None:
    times = _uneven(np.array([*UNEVEN, 1.0]), Fraction(6))
    assert times is not None
    assert times.tolist() == UNEVEN


@pytest.mark.parametrize(
    ("source", "wanted", "index"),
    [
        (even(4, 12), 24, [0, 0, 1, 1, 2, 2, 3, 3]),
        (even(8, 24), 12, [0, 2, 4, 6]),
        (even(4, 24), 24, [0, 1, 2, 3]),
        (even(6, 30), 25, [0, 1, 2, 3, 4]),
        (even(5, 25), 30, [0, 0, 1, 2, 3, 4]),
        (even(3, 24), 1, [0]),  # shorter than a frame: one is shown
        (np.array([*UNEVEN, 1.0]), 10, [0, 1, 2, 2, 3, 4, 4, 4, 4, 5]),
    ],
)
def test_other_frame_rates_keep_the_time(source: NDArray[np.float64], wanted: int, index: list[int]) -> None:
    assert _resampled(source, Fraction(wanted)).tolist() == index


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return numbered(tmp_path / "numbered.mp4")


def test_all_of_a_video(video: Path) -> None:
    driver = open_driver(video)
    assert (len(driver), driver.size, driver.fps, driver.times) == (12, (64, 64), 12, None)
    assert numbers(driver.pictures()) == list(range(12))
    assert not driver.is_skeleton
    assert driver.sound is None


def test_part_of_a_video(video: Path) -> None:
    driver = open_driver(video, slice(3, 7))
    assert numbers(driver.pictures()) == [3, 4, 5, 6]
    assert (driver.start, driver.stop) == (pytest.approx(0.25), pytest.approx(7 / 12))
    driver = open_driver(video, slice(3, 12, 4))
    assert numbers(driver.pictures()) == [3, 7, 11]
    assert driver.fps == 3
    assert driver.times is None
    assert driver.stop == pytest.approx(1.0)


def test_other_frame_rate_of_a_video(video: Path) -> None:
    driver = open_driver(video, slice(2, 6), Fraction(24))
    assert numbers(driver.pictures()) == [2, 2, 3, 3, 4, 4, 5, 5]
    assert driver.fps == 24
    assert numbers(open_driver(video, fps=Fraction(4)).pictures()) == [0, 3, 6, 9]


def test_uneven_video(tmp_path: Path) -> None:
    driver = open_driver(numbered(tmp_path / "uneven.mp4", UNEVEN, 6))
    assert driver.times is not None
    assert driver.times == pytest.approx(UNEVEN, abs=1e-3)
    part = open_driver(tmp_path / "uneven.mp4", slice(2, 5))
    assert part.times is not None
    assert part.times == pytest.approx([0, 0.25, 0.35], abs=1e-3)
    assert part.start == pytest.approx(0.15, abs=1e-3)
    assert numbers(open_driver(tmp_path / "uneven.mp4", fps=Fraction(10)).pictures())[:9] == [0, 1, 2, 2, 3, 4, 4, 4, 4]


def test_sound_is_found(dancers: Path) -> None:
    driver = open_driver(dancers / "dance.mp4", slice(3, 9))
    assert driver.sound is not None and driver.sound.path == dancers / "dance.mp4"
    assert (driver.start, driver.stop) == (pytest.approx(0.25), pytest.approx(0.75))


def test_poses_from_a_file(dancers: Path) -> None:
    poses = PoseSequence.load(dancers / "dance.npz")
    driver = open_driver(dancers / "dance.npz")
    assert (len(driver), driver.size, driver.fps, driver.times) == (12, (256, 256), 12, None)
    got, remarks = driver.poses("mediapipe")
    assert remarks == []
    assert np.array_equal(got.keypoints, poses.keypoints)
    part, _ = open_driver(dancers / "dance.npz", slice(2, 10, 3)).poses("mediapipe")
    assert np.array_equal(part.keypoints, poses.keypoints[2:10:3])
    assert part.fps == 4


def test_poses_at_another_frame_rate_are_on_the_results_clock(dancers: Path) -> None:
    poses = PoseSequence.load(dancers / "dance.npz")
    driver = open_driver(dancers / "dance.npz", slice(0, 4), Fraction(24))
    got, _ = driver.poses("mediapipe")
    assert np.array_equal(got.keypoints, poses.keypoints[[0, 0, 1, 1, 2, 2, 3, 3]])
    assert (got.fps, got.times) == (24, None)


def test_poses_with_times(tmp_path: Path) -> None:
    replace(person(6), times=np.array(UNEVEN)).save(tmp_path / "uneven.npz")
    driver = open_driver(tmp_path / "uneven.npz", slice(1, 5))
    assert driver.times is not None
    assert driver.times == pytest.approx([0, 0.05, 0.3, 0.4])
    got, _ = driver.poses("mediapipe")
    assert got.times == pytest.approx([0, 0.05, 0.3, 0.4])


@pytest.mark.parametrize("name", ["dance.npz", "dance.mp4"])
@pytest.mark.parametrize("frames", [slice(500, 600), slice(5, 5), slice(8, 4), slice(0, 13), slice(-3, 5)])
def test_frames_that_are_not_there(dancers: Path, name: str, frames: slice) -> None:
    with pytest.raises(InputError, match=rf"{name} has 12 frames; give A:B with 0 <= A < B <= 12"):
        open_driver(dancers / name, frames)


@pytest.mark.parametrize(
    "wrong",
    [
        {"times": np.array([0, 0.3, 0.1, 0.2])},
        {"times": np.array([0, 0.1, 0.2, np.inf])},
        {"times": np.array([0, 0.1, np.nan, 0.3])},
        {"fps": Fraction(10**12)},
        {"fps": Fraction(1, 10**12)},
    ],
)
def test_poses_at_impossible_times(tmp_path: Path, wrong: dict[str, object]) -> None:
    replace(person(4), **wrong).save(tmp_path / "wrong.npz")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no usable poses; they need .* a rate from 1/1001 to 1000"):
        open_driver(tmp_path / "wrong.npz")


def test_a_frame_that_is_shown_for_hours_is_refused(tmp_path: Path) -> None:
    """MP4 cannot hold such a length beside uneven times, which the muxer says after all the work."""
    times = np.array([0.0, 0.1, 36_000.1, 36_000.2])
    PoseSequence(np.zeros((4, 128, 2), np.float32), np.zeros((4, 128), np.float32), (64, 64), times=times).save(
        tmp_path / "late.npz"
    )
    with pytest.raises(InputError, match="frame 1 is shown for 10 hours, and at most 6 are possible; give --fps"):
        open_driver(tmp_path / "late.npz")
    assert len(open_driver(tmp_path / "late.npz", fps=Fraction(1))) == 36_000


def test_a_rate_that_would_make_far_too_many_frames(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "long.mp4", (64, 64), 12, duration=40_000.0) as video:
        for _ in range(3):
            video.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="more than 1000000 frames; give a lower rate"):
        open_driver(tmp_path / "long.mp4", fps=Fraction(240))


def test_a_driving_video_is_opened_a_few_times(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look it through, for a glance at some frames, twice for poses (who is there, how they move), for its sound."""
    openings = Openings(monkeypatch)
    driver = open_driver(dancers / "dance.mp4")
    assert openings.count <= 2
    driver.poses(FoundEverywhere)
    with VideoWriter(
        tmp_path / "out.mp4", (64, 64), driver.fps, audio_from=driver.sound, audio_end=driver.stop
    ) as video:
        for _ in range(len(driver)):
            video.write(np.zeros((64, 64, 3), np.uint8))
    assert openings.count <= 5


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128), (200, 40)])
@pytest.mark.parametrize("picture", [(64, 64), (101, 67), (40, 300), (300, 40)])
def test_placing_keeps_proportions_and_fills_the_frame(picture: tuple[int, int], size: tuple[int, int]) -> None:
    placing = Letterbox.into(picture, size)
    framed = placing.apply(np.full((picture[1], picture[0], 3), 200, np.uint8))
    assert framed.shape == (size[1], size[0], 3)
    assert (framed == 200).all()
    black = placing.apply(np.full((picture[1], picture[0], 3), 200, np.uint8), black=True)
    assert abs((black > 100).all(-1).sum() - placing.inner[0] * placing.inner[1]) == 0
    assert placing.inner[0] == size[0] or placing.inner[1] == size[1]
    assert placing.inner[0] / placing.inner[1] == pytest.approx(picture[0] / picture[1], rel=0.15)


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (96, 200)])
@pytest.mark.parametrize("spot", [(30, 20), (10, 70), (75, 55)])
def test_placing_moves_poses_as_pixels(size: tuple[int, int], spot: tuple[int, int]) -> None:
    """A dot of the picture and a keypoint on it come to lie on one another."""
    picture = np.zeros((96, 80, 3), np.uint8)
    picture[spot[1] - 4 : spot[1] + 4, spot[0] - 4 : spot[0] + 4] = 255
    placing = Letterbox.into((80, 96), size)
    weight = placing.apply(picture, black=True)[..., 0].astype(float)
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5  # the centre of the top left pixel is at (0.5, 0.5)
    dot = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    keypoints = np.tile(np.array(spot, np.float32), (1, 128, 1))
    moved = placing.move(PoseSequence(keypoints, np.ones((1, 128), np.float32), (80, 96)))
    assert moved.size == size
    assert np.abs(moved.keypoints[0, 0] - dot).max() < 0.1


@pytest.mark.parametrize(("size", "times"), [((64, 64), 1), ((80, 96), 1), ((80, 192), 0.5), ((160, 96), 1)])
def test_placing_keeps_depth_in_heights_of_the_frame(size: tuple[int, int], times: float) -> None:
    """A step towards the camera stays as many pixels as one to the side: half a frame with margins is half."""
    depth = np.linspace(-0.4, 0.4, 128, dtype=np.float32)[None]
    poses = PoseSequence(np.zeros((1, 128, 2), np.float32), np.ones((1, 128), np.float32), (80, 96), depth=depth)
    placing = Letterbox.into((80, 96), size)
    moved = placing.move(poses).depth
    assert moved is not None and moved.dtype == np.float32
    assert np.array_equal(moved, depth * np.float32(times))
    assert placing.inner[1] == times * size[1]
    assert placing.move(replace(poses, depth=None)).depth is None


def test_placing_of_a_picture_that_fits_changes_nothing(dancers: Path) -> None:
    picture = read_picture(dancers / "me.png")
    assert np.array_equal(Letterbox.into((192, 256), (192, 256)).apply(picture), picture)
