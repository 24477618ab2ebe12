"""Videos that are not as usual: mirrored, of oblong pixels, see-through, of odd times."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_clips import bar, make_clip, number_of, remux

from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, frame_times, open_video, probe, read_frames

NO_REORDERING = {"bf": "0"}
QUARTERS = np.zeros((96, 128, 3), np.uint8)
QUARTERS[:48, :64], QUARTERS[:48, 64:], QUARTERS[48:, :64] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(
    path: Path,
    pictures: list[NDArray[np.uint8]],
    codec: str = "ffv1",
    kind: str = "bgra",
    given: str = "rgb24",
    **settings: object,
) -> Path:
    """A clip of 24 frames a second; ``settings`` are of its codec or, ``display``, a call on its stream."""
    display = settings.pop("display", None)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=24, options=settings.pop("options", {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = kind
        if display is not None:
            display(stream)  # type: ignore[operator]
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format=given).reformat(format=kind)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def as_ffmpeg(picture: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """What the ``ffmpeg`` program's automatic rotation makes of a picture, by its rules (fftools/ffmpeg_filter.c)."""
    theta = -np.round(-np.degrees(np.arctan2(matrix[1], matrix[0]))) % 360
    transposed = picture.transpose(1, 0, 2)
    if theta == 90:
        return transposed if matrix[3] > 0 else transposed[:, ::-1]
    if theta == 180:
        picture = picture[:, ::-1] if matrix[0] < 0 else picture
        return picture[::-1] if matrix[4] < 0 else picture
    if theta == 270:
        return transposed[::-1, ::-1] if matrix[3] < 0 else transposed[::-1]
    return picture[::-1] if matrix[4] < 0 else picture


ORIENTATIONS = [
    (a, b, 0, c, d, 0, 0, 0, 1)
    for a, b, c, d in [
        *((x, 0, 0, y) for x in (1, -1) for y in (1, -1)),
        *((0, x, y, 0) for x in (1, -1) for y in (1, -1)),
    ]
]


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_turned_and_mirrored(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    scaled = [value * (1 << 30 if k == 8 else 1 << 16) for k, value in enumerate(matrix)]
    path = encode(
        tmp_path / "a.mov",
        [QUARTERS] * 3,
        "libx264",
        "yuv420p",
        display=lambda stream: stream.set_display_matrix(scaled),
    )
    info, (_, picture) = probe(path), next(read_frames(path))
    want = as_ffmpeg(QUARTERS, matrix)
    assert picture.shape == want.shape == (info.height, info.width, 3)
    assert np.abs(picture.astype(int) - want).mean() < 8


def test_all_eight_orientations_differ() -> None:
    shown = [as_ffmpeg(QUARTERS, matrix) for matrix in ORIENTATIONS]
    assert len(shown) == 8
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(shown, 2))


@pytest.mark.parametrize(
    ("aspect", "turned", "size"),
    [
        (Fraction(2), 0, (256, 96)),
        (Fraction(1, 2), 0, (64, 96)),
        (Fraction(2), 90, (96, 256)),
        (Fraction(8, 9), 0, (114, 96)),
        (Fraction(1000, 1001), 0, (128, 96)),
    ],
)
def test_pixels_that_are_not_square(tmp_path: Path, aspect: Fraction, turned: int, size: tuple[int, int]) -> None:
    path = encode(
        tmp_path / "a.mp4",
        [QUARTERS] * 3,
        "libx264",
        "yuv420p",
        sample_aspect_ratio=aspect,
        display=lambda stream: stream.set_display_rotation(turned),
    )
    video = open_video(path)
    assert (video.info.width, video.info.height) == size
    _, picture = next(video.frames(range(1)))
    assert picture.shape == (size[1], size[0], 3)
    want = np.rot90(np.asarray(Image.fromarray(QUARTERS).resize((round(128 * aspect), 96))), turned // 90)
    if size != (128, 96):
        assert np.abs(picture.astype(int) - want).mean() < 12
        assert "its pixels are not square" in video.remarks[0]
    else:
        assert video.remarks == ()


def see_through(number: int) -> NDArray[np.uint8]:
    """RGBA; the left half is transparent, with white under it."""
    picture = np.dstack([bar(number), np.full((96, 128), 255, np.uint8)])
    picture[:, :64] = (255, 255, 255, 0)
    return picture


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [("a.mkv", "ffv1", "bgra"), ("a.mov", "prores_ks", "yuva444p10le"), ("a.mov", "qtrle", "argb")],
)
def test_transparency_is_laid_on_black(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = encode(tmp_path / name, [see_through(k) for k in range(40, 43)], codec, kind, "rgba")
    video = open_video(path)
    assert video.remarks == ("video: its transparent parts are shown on black",)
    pictures = [picture for _, picture in video.frames(range(3))]
    assert [number_of(picture) for picture in pictures] == [40, 41, 42]
    assert all(picture[:, :60].max() <= 4 for picture in pictures)


def test_transparency_of_webm(tmp_path: Path) -> None:
    """Opacity is a stream of bits beside that of the colours, which FFmpeg's own decoder leaves out."""
    with av.open(str(tmp_path / "a.webm"), "w") as output:
        stream = output.add_stream("libvpx-vp9", rate=24, options={"deadline": "realtime", "auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for number in range(40, 44):
            frame = av.VideoFrame.from_ndarray(see_through(number), format="rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    video = open_video(tmp_path / "a.webm")
    assert video.remarks == ("video: its transparent parts are shown on black",)
    pictures = [picture for _, picture in video.frames(range(1, 4))]
    assert [number_of(picture) for picture in pictures] == [41, 42, 43]
    assert all(picture[:, :56].max() <= 8 for picture in pictures)


def test_transparent_frames_of_a_folder_are_laid_on_black_too(tmp_path: Path) -> None:
    Image.fromarray(see_through(40)).save(tmp_path / "1.png")
    _, picture = next(read_frames(tmp_path))
    assert picture[:, :64].max() == 0


def test_high_dynamic_range_is_told(tmp_path: Path) -> None:
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        path = encode(tmp_path / "a.mp4", [QUARTERS] * 2, "libx264", "yuv420p10le", color_trc=transfer)
        (remark,) = open_video(path).remarks
        assert f"high dynamic range ({name}) is not tone-mapped" in remark


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_colours_that_the_converter_does_not_know(tmp_path: Path, matrix: int) -> None:
    path = encode(tmp_path / "a.mp4", [bar(9)] * 2, "libx264", "yuv420p", colorspace=matrix)
    video = open_video(path)
    assert f"its colours (matrix {matrix}) are read as" in video.remarks[0]
    assert number_of(next(video.frames(range(1)))[1]) == 9


def increases(times: NDArray[np.float64]) -> bool:
    return bool((np.diff(times) > 0.0009).all())


def written(source: Path, path: Path) -> list[int]:
    """A video's frames written at their own times; the numbers that come back."""
    video = open_video(source)
    with VideoWriter(path, (128, 96), video.info.fps, duration=float(video.times[-1])) as writer:
        for time, picture in video.frames(range(video.info.num_frames)):
            writer.write(picture, time)
    return [number_of(picture) for _, picture in read_frames(path)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_frames_of_equal_times_play_on(tmp_path: Path, suffix: str) -> None:
    times = [k / 24 for k in range(12)]
    times[5], times[6], times[11] = times[4] + 1e-4, times[4] + 2e-4, times[10] + 1e-4  # milliseconds in the file
    path = make_clip(tmp_path / "same.mkv", 12, times=times, options=NO_REORDERING)
    got = frame_times(path)
    assert increases(got)
    np.testing.assert_allclose(got[4:8], np.linspace(4, 7, 4) / 24, atol=0.002)  # they share the time up to the next
    assert written(path, tmp_path / f"out.{suffix}") == list(range(12))


def test_all_frames_at_one_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 12, codec="mpeg4")

    def at_once(number: int, packet: av.Packet) -> bool:
        packet.pts = packet.dts = 0
        return True

    path = remux(clip, tmp_path / "once.mkv", at_once)
    assert increases(frame_times(path))
    assert written(path, tmp_path / "out.mp4") == list(range(12))


def test_times_that_run_back(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 12, codec="mpeg4")

    def back(number: int, packet: av.Packet) -> bool:
        packet.pts, packet.dts = (203 if number == 7 else 40 * number), 40 * number - 400
        return True

    path = remux(clip, tmp_path / "back.mkv", back)
    assert increases(frame_times(path))
    assert written(path, tmp_path / "out.mp4") == list(range(12))


def test_times_below_zero(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 12, options=NO_REORDERING)

    def earlier(number: int, packet: av.Packet) -> bool:
        packet.pts -= 300
        packet.dts -= 300
        return True

    path = remux(clip, tmp_path / "early.mkv", earlier)
    np.testing.assert_allclose(frame_times(path)[:-1], np.arange(12) / 24, atol=0.002)
    assert written(path, tmp_path / "out.mp4") == list(range(12))


def test_a_pause_keeps_its_length(tmp_path: Path) -> None:
    times = [k / 24 + (3600 if k >= 6 else 0) for k in range(12)]
    path = make_clip(tmp_path / "pause.mp4", 12, times=times)
    assert probe(path).fps == 24
    assert written(path, tmp_path / "out.mp4") == list(range(12))
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(3600.5, abs=0.01)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("timed", [False, True])
def test_a_last_frame_that_is_held(tmp_path: Path, suffix: str, timed: bool) -> None:
    """Once with x264's reordering, once as screen recorders write it."""
    path = tmp_path / f"held.{suffix}"
    with VideoWriter(path, (128, 96), 24, duration=2.5) as writer:
        for number in range(12):
            writer.write(bar(number), number / 24 if timed else None)
    info = probe(path)
    assert (info.fps, info.num_frames) == (24, 12)
    assert info.duration == pytest.approx(2.5, abs=0.002)
    clip = make_clip(tmp_path / "clip.mp4", 12, options=NO_REORDERING)

    def held(number: int, packet: av.Packet) -> bool:
        packet.duration = 24000 if number == 11 else packet.duration
        return True

    info = probe(remux(clip, tmp_path / f"recorded.{suffix}", held))
    assert info.num_frames == 12
    assert float(info.fps) == pytest.approx(24, rel=0.01)  # of times in milliseconds
    assert 1.5 < info.duration < 2.6


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_start_without_a_key_frame_is_told(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / f"clip.{name[2:]}", 24, options=NO_REORDERING)
    path = remux(clip, tmp_path / name, lambda number, packet: number >= 5)
    video = open_video(path)
    assert [number_of(picture) for _, picture in video.frames(range(video.info.num_frames))] == list(range(12, 24))
    assert video.remarks == ("video: it starts without a key frame; 7 frames that cannot be shown are left out",)


def test_frames_trimmed_off_by_an_edit_list_are_no_damage(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 24, options=NO_REORDERING)

    def earlier(number: int, packet: av.Packet) -> bool:
        packet.pts -= packet.time_base.denominator // 2
        packet.dts -= packet.time_base.denominator // 2
        return True

    path = remux(clip, tmp_path / "trimmed.mp4", earlier)  # what begins before 0 is stored, and not shown
    assert [number_of(picture) for _, picture in read_frames(path)] == list(range(12, 24))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.mov"])
def test_a_single_frame_lasts_as_one_of_24(tmp_path: Path, name: str) -> None:
    info = probe(make_clip(tmp_path / name, 1))
    assert info.num_frames == 1
    assert float(info.fps) == pytest.approx(24, rel=0.01)
    assert info.duration == pytest.approx(1 / 24, abs=0.002)


@pytest.mark.parametrize("suffix", ["jfif", "jpg", "dat"])
def test_a_picture_is_no_video_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(bar(1)).save(tmp_path / f"a.{suffix}", format="JPEG")
    with pytest.raises(InputError, match="is a picture, not a video"):
        probe(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_frames_here_and_there_come_from_one_opening(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = open_video(make_clip(tmp_path / name))
    opened, open_ = [], av.open

    def counting(*arguments: object, **options: object) -> object:
        opened.append(arguments)
        return open_(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(av, "open", counting)
    got = list(video.frames([0, 1, 13, 30, 31, 47]))
    assert [number_of(picture) for _, picture in got] == [0, 1, 13, 30, 31, 47]
    np.testing.assert_array_equal([time for time, _ in got], video.times[[0, 1, 13, 30, 31, 47]])
    assert len(opened) == 1


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "size", "num_frames", "remarks"),
    [
        ("base.mp4", (360, 640), 48, 0),
        ("apac_first.mov", (360, 640), 48, 1),
        ("same_time.mkv", (360, 640), 48, 0),
        ("hflip.mp4", (360, 640), 48, 0),
        ("lasthold_even.mp4", (360, 640), 24, 0),
        ("alpha.webm", (360, 640), 12, 1),
        ("sar.mp4", (360, 640), 48, 1),
    ],
)
def test_real_odd_files(shared_dir: Path, name: str, size: tuple[int, int], num_frames: int, remarks: int) -> None:
    video = open_video(shared_dir / "inputs" / name)
    assert (video.info.width, video.info.height) == size
    assert (video.info.num_frames, len(video.remarks)) == (num_frames, remarks)
    assert increases(video.times)
    if name == "hflip.mp4":
        _, mirrored = next(video.frames(range(1)))
        _, plain = next(read_frames(shared_dir / "inputs" / "base.mp4"))
        assert np.abs(mirrored[:, ::-1].astype(int) - plain).mean() < 2
