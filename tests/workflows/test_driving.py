"""What drives: which frames of what, and when each is shown; and how pictures and poses are put into a frame."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, open_video, probe, read_frames, read_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.driving import DrawnPoses, SkeletonPictures, _timing, estimate_file, open_driver
from dancers import make_sound
from people import person

UNEVEN = [0.0, 0.1, 0.15, 0.4, 0.5, 0.9]


def numbered(path: Path, times: list[float] | None = None, count: int = 12, fps: int = 12) -> Path:
    """A video whose frames' brightness tells their number."""
    with VideoWriter(path, (64, 64), fps) as video:
        for number in range(count):
            picture = np.full((64, 64, 3), 20 + 18 * number, np.uint8)
            picture[:32] = 255 - picture[:32]  # no frame is dark all over
            video.write(picture, None if times is None else times[number])
    return path


def numbers(pictures: object) -> list[int]:
    """The numbers of frames of :func:`numbered`."""
    return [round((float(p[40:].mean()) - 20) / 18) for p in pictures]  # type: ignore[attr-defined]


def even(count: int, fps: int) -> NDArray[np.float64]:
    """Times of evenly spaced frames and the end of the last."""
    return np.arange(count + 1) / fps


def test_even_timing_is_kept() -> None:
    index, fps, times = _timing(even(10, 24), Fraction(24), None)
    assert index.tolist() == list(range(10))
    assert fps == 24
    assert times is None
    index, _, times = _timing(np.round(even(100, 24), 2), Fraction(24), None)  # rounded to hundredths
    assert times is None
    assert len(index) == 100


def test_uneven_timing_is_kept() -> None:
    index, fps, times = _timing(np.array([*UNEVEN, 1.0]), Fraction(6), None)
    assert index.tolist() == list(range(6))
    assert fps == 6
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
    got, fps, times = _timing(source, Fraction(24), Fraction(wanted))
    assert got.tolist() == index
    assert fps == wanted
    assert times is None


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


def test_sound_is_told_of(dancers: Path) -> None:
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


def test_skeleton_video_passes_through(dancers: Path) -> None:
    driver = open_driver(dancers / "skeleton.mp4", slice(1, 9, 2))
    assert driver.is_skeleton
    pictures = SkeletonPictures(driver, (64, 96), 2.0)
    assert len(pictures) == 4
    poses = PoseSequence.load(dancers / "dance.npz")
    drawn = [Image.fromarray(p).resize((128, 128)) for p in draw_pose(poses, (256, 256), style="dwpose")]
    shown = list(pictures)
    for number, picture in enumerate(shown):
        assert picture.shape == (192, 128, 3)
        assert not picture[:32].any()
        assert not picture[160:].any()
        off = [float(np.abs(picture[32:160].astype(float) - p).mean()) for p in drawn]
        assert int(np.argmin(off)) == 1 + 2 * number
        assert min(off) < 2
        assert np.array_equal(pictures[number], picture)
    assert np.array_equal(pictures[-1], shown[-1])
    assert all(np.array_equal(a, b) for a, b in zip(pictures[1:3], shown[1:3], strict=True))


def test_poses_are_drawn_when_asked_for() -> None:
    poses = person(5)
    poses.keypoints[:] += np.arange(5, dtype=np.float32)[:, None, None]
    drawn = DrawnPoses(poses, (100, 150), "scaled")
    want = draw_pose(poses, (100, 150), style="scaled")
    assert len(drawn) == 5
    assert np.array_equal(np.stack(list(drawn)), want)
    for number in (0, 3, -1, -5):
        assert np.array_equal(drawn[number], want[number])
    assert np.array_equal(np.stack(list(drawn[1:4:2])), want[1:4:2])
    for number in (5, -6):
        with pytest.raises(IndexError):
            drawn[number]


def test_only_videos_and_pictures_have_poses_to_be_found(dancers: Path) -> None:
    with pytest.raises(InputError, match="holds poses already"):
        estimate_file(dancers / "dance.npz")
    with pytest.raises(InputError, match="is a skeleton video"):
        estimate_file(dancers / "skeleton.mp4")


class FoundEverywhere:
    """A pose estimator that finds the same person in every frame."""

    def estimate(self, frames, size, fps, times=None, progress=None) -> PoseSequence:  # type: ignore[no-untyped-def]
        count = len(list(frames))
        return replace(person(count).scaled_to(size), fps=fps, times=times)

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence:
        return person(1).scaled_to((picture.shape[1], picture.shape[0]))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is found in every picture, with no network."""
    monkeypatch.setattr("animate_anyone.workflows.driving.load_estimator", lambda name: FoundEverywhere())


def result_of(source: Path, path: Path, frames: slice | None = None, fps: Fraction | None = None) -> Path:
    """A driver's frames and sound written as the verbs do."""
    driver = open_driver(source, frames, fps)
    with VideoWriter(
        path,
        driver.size,
        driver.fps,
        audio_from=driver.sound,
        audio_start=driver.start,
        audio_end=driver.stop,
        duration=driver.duration,
    ) as video:
        for number, picture in enumerate(driver.pictures()):
            video.write(picture, None if driver.times is None else float(driver.times[number]))
    return path


@pytest.fixture
def held(dancers: Path, tmp_path: Path) -> Path:
    """Half a second of pictures, the last of them shown until 2.5 s, and sound throughout."""
    path = tmp_path / "held.mp4"
    sound = make_sound(tmp_path / "sound.wav", 2.5)
    with VideoWriter(path, (64, 64), 12, audio_from=sound, duration=2.5) as video:
        for number in range(6):
            video.write(np.full((64, 64, 3), 20 + 18 * number, np.uint8))
    return path


def sound_length(path: Path) -> float:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return float(max(p.pts + p.duration for p in container.demux(stream) if p.size) * stream.time_base)


@pytest.mark.parametrize("frames", [None, slice(2, 6), slice(1, 6, 2)])
def test_a_last_frame_that_is_held_stays_so(held: Path, tmp_path: Path, frames: slice | None) -> None:
    first = 0 if frames is None else frames.start
    result = result_of(held, tmp_path / "out.mp4", frames)
    info = probe(result)
    near = 0.51 / float(info.fps)  # the result's clock goes in frames
    assert info.duration == pytest.approx(2.5 - first / 12, abs=near)
    assert sound_length(result) == pytest.approx(info.duration, abs=0.05)
    assert len(list(read_frames(result))) == len(range(6)[frames or slice(None)])


def test_a_held_frame_at_another_rate(held: Path, tmp_path: Path) -> None:
    result = result_of(held, tmp_path / "out.mp4", fps=Fraction(24))
    info = probe(result)
    assert (info.num_frames, info.fps) == (60, 24)
    assert info.duration == pytest.approx(2.5, abs=0.002)
    assert sound_length(result) == pytest.approx(2.5, abs=0.05)


def test_a_part_that_ends_before_the_held_frame(held: Path, tmp_path: Path) -> None:
    assert probe(result_of(held, tmp_path / "out.mp4", slice(0, 5))).duration == pytest.approx(5 / 12, abs=0.002)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_preview_of_poses_keeps_the_time(held: Path, tmp_path: Path, found: None, suffix: str) -> None:
    preview = tmp_path / f"over.{suffix}"
    estimate_file(held, preview=preview)
    assert probe(preview).duration == pytest.approx(2.5, abs=0.002)
    poses, _ = estimate_file(numbered(tmp_path / "uneven.mp4", UNEVEN, 6), preview=preview)
    video = open_video(preview)
    np.testing.assert_allclose(video.times[:-1], UNEVEN, atol=0.002)
    assert poses.times is not None


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


@pytest.mark.parametrize("name", ["a.tif", "a.jfif", "a.jpe", "a.gif", "a.PNG", "a"])
def test_poses_of_pictures_of_every_kind(tmp_path: Path, found: None, name: str) -> None:
    kinds = {".tif": "TIFF", ".gif": "GIF", ".PNG": "PNG"}
    Image.new("RGB", (96, 64), (9, 99, 9)).save(tmp_path / name, kinds.get(Path(name).suffix, "JPEG"))
    poses, _ = estimate_file(tmp_path / name, preview=tmp_path / "over.mp4")
    assert (len(poses), poses.size) == (1, (96, 64))


def test_remarks_on_a_video_reach_the_user(tmp_path: Path, found: None) -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    with av.open(str(tmp_path / "clear.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgra"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="bgra")))
        output.mux(stream.encode(None))
    remark = "video: its transparent parts are shown on black"
    assert open_driver(tmp_path / "clear.mkv").remarks == (remark,)
    assert remark in estimate_file(tmp_path / "clear.mkv")[1]


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


class Openings:
    """Counts how often files are opened for reading while it is in place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._open = 0, av.open
        monkeypatch.setattr(av, "open", self)

    def __call__(self, file: str, mode: str = "r", **options: object) -> object:
        self.count += mode == "r"
        return self._open(file, mode, **options)  # type: ignore[call-overload]


def test_a_driving_video_is_opened_a_few_times(
    dancers: Path, tmp_path: Path, found: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look it through, for a glance at some frames, twice for poses (who is there, how they move), for its sound."""
    openings = Openings(monkeypatch)
    driver = open_driver(dancers / "dance.mp4")
    assert openings.count <= 2
    driver.poses("mediapipe")
    with VideoWriter(
        tmp_path / "out.mp4", (64, 64), driver.fps, audio_from=driver.sound, audio_end=driver.stop
    ) as video:
        for _ in range(len(driver)):
            video.write(np.zeros((64, 64, 3), np.uint8))
    assert openings.count <= 5


def test_a_skeleton_video_is_opened_once_for_all_its_frames(dancers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = SkeletonPictures(open_driver(dancers / "skeleton.mp4"), (64, 64), 1.0)
    openings = Openings(monkeypatch)
    whole = list(pictures)
    assert openings.count == 1
    part = pictures[2:9:3]
    assert openings.count == 2
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[2:9:3], strict=True))


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
