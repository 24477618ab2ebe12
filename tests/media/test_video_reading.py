"""Videos are read whole, upright, on their own clock; what is wrong with them is said in one line."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_clips import bar, make_clip, number_of, smooth

from animate_anyone.errors import InputError
from animate_anyone.media import frame_range, frame_times, parse_range, probe, read_frames, write_picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", sound="aac")


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_probe(clip: Path) -> None:
    info = probe(clip)
    assert (info.width, info.height, info.num_frames) == (128, 96, 48)
    assert (info.fps, info.has_audio, info.rotation) == (Fraction(24), True, 0)
    assert info.duration == pytest.approx(2.0, abs=1e-3)


def test_frames_come_in_order_with_their_times(clip: Path) -> None:
    frames = list(read_frames(clip))
    assert [number_of(picture) for _, picture in frames] == list(range(48))
    np.testing.assert_allclose([time for time, _ in frames], np.arange(48) / 24, atol=1e-6)
    assert frames[0][1].shape == (96, 128, 3)
    assert frames[0][1].dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("closed.mp4", "libx264", {}),
        ("open.mp4", "libx264", {"x264-params": "open-gop=1:bframes=3:keyint=12"}),
        ("old.mp4", "mpeg4", {"bf": "2"}),
        ("web.webm", "libvpx-vp9", {"deadline": "realtime"}),
        ("cues.mkv", "libx264", {}),
        ("none.avi", "libx264", {}),
        ("air.ts", "libx264", {}),
    ],
)
def test_a_range_gives_the_frames_that_a_full_reading_gives(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = make_clip(tmp_path / name, codec=codec, options=options)
    everything = list(read_frames(path))
    assert [number_of(picture) for _, picture in everything] == list(range(48))
    for first, last in ((1, 3), (11, 13), (12, 14), (23, 26), (47, 48)):
        part = list(read_frames(path, slice(first, last)))
        assert [time for time, _ in part] == [time for time, _ in everything[first:last]]
        for (_, got), (_, want) in zip(part, everything[first:last], strict=True):
            np.testing.assert_array_equal(got, want)
    assert [number_of(p) for _, p in read_frames(path, range(2, 48, 20))] == [2, 22, 42]


def test_variable_frame_rate_keeps_each_frame_s_own_time(tmp_path: Path) -> None:
    times = list(np.cumsum([0.0] + [0.04, 0.1, 0.02, 0.5] * 5))
    path = make_clip(tmp_path / "uneven.mp4", len(times), times=times)
    np.testing.assert_allclose([time for time, _ in read_frames(path)], times, atol=1e-3)
    assert next(read_frames(path, slice(9, 10)))[0] == pytest.approx(times[9], abs=1e-3)
    np.testing.assert_allclose(frame_times(path)[:-1], times, atol=1e-3)
    assert float(probe(path).fps) == pytest.approx(21 / probe(path).duration, rel=0.01)


def test_times_count_from_the_first_picture(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "late.mkv", 10, first=0.7, sound="aac")
    assert [round(time * 24, 1) for time, _ in read_frames(path)] == [float(k) for k in range(10)]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:48, :64], picture[:48, 64:], picture[48:, :64] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    path = make_clip(tmp_path / "turned.mp4", 30, rotation=rotation, pictures=[picture] * 30)
    info, (_, upright) = probe(path), list(read_frames(path, slice(20, 30)))[-1]
    want = np.rot90(picture, rotation // 90)  # anticlockwise, as the file's matrix says
    assert (info.height, info.width) == want.shape[:2] == upright.shape[:2]
    assert info.rotation == rotation
    assert np.abs(upright.astype(int) - want).mean() < 8


def test_colours_have_no_bias(tmp_path: Path) -> None:
    flat = [np.full((96, 128, 3), (180, 90, 40), np.uint8)] * 2
    path = make_clip(tmp_path / "flat.mp4", 2, pictures=flat, options={"crf": "1"})
    _, picture = next(read_frames(path))
    assert np.abs(picture.mean(axis=(0, 1)) - (180, 90, 40)).max() <= 1.0


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_picture(tmp_path / f"frame{number}.png", bar(number))
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [number_of(picture) for _, picture in read_frames(tmp_path)] == [1, 2, 10]
    assert [time for time, _ in read_frames(tmp_path, slice(1, 3))] == [1 / 24, 2 / 24]
    info = probe(tmp_path)
    assert (info.num_frames, info.width, info.height, info.has_audio) == (3, 128, 96, False)
    write_picture(tmp_path / "frame11.png", bar(1, (64, 96)))
    with pytest.raises(InputError, match=r"frame11\.png: 64×96 pixels, but the first frame has 128×96"):
        list(read_frames(tmp_path))


def test_parse_range() -> None:
    assert [parse_range(text) for text in ("3:7", "3:", ":7", ":")] == [
        slice(3, 7),
        slice(3, None),
        slice(None, 7),
        slice(None, None),
    ]
    for text in ("", "3", "-1:4", "1:2:3", "a:b", "1.5:2", "٣:٤"):
        with pytest.raises(InputError, match=r"give A:B, A: or :B"):
            parse_range(text)


def test_a_range_is_held_against_the_length(clip: Path) -> None:
    assert frame_range(slice(40, None), 48, "clip") == range(40, 48)
    for wrong in (slice(500, 600), slice(40, 49), slice(5, 5), slice(9, 3), slice(-3, None)):
        with pytest.raises(InputError, match=r"has 48 frames; give A:B with 0 <= A < B <= 48") as error:
            read_frames(clip, wrong)  # at once, not at the first frame
        one_line(error)


def test_what_is_no_video(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("This is no film.\n" * 50)
    (tmp_path / "text.txt").write_text("This is no film.\n" * 50)
    write_picture(tmp_path / "still.png", bar(1))
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "missing.mp4": "no such file",
        "x" * 300 + ".mp4": "no such file",
        "empty.mp4": "the file is empty",
        "text.mp4": "not a video",
        "text.txt": "not a video",
        "still.png": "is a picture, not a video",
        "folder": "no pictures in this folder",
    }.items():
        with pytest.raises(InputError, match=reason) as error:
            probe(tmp_path / name)
        assert name in one_line(error)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video stream, only sound"):
        probe(tmp_path / "song.m4a")


def test_a_cut_file_is_never_read_short(tmp_path: Path) -> None:
    plain = make_clip(tmp_path / "plain.mp4").read_bytes()
    front = make_clip(tmp_path / "front.mp4", container_options={"movflags": "+faststart"}).read_bytes()
    matroska = make_clip(tmp_path / "front.mkv").read_bytes()
    for name, data, part, reason in (
        ("a.mp4", plain, 0.5, "cut off, its index"),
        ("b.mp4", front, 0.5, r"cut off after frame \d+ of 48"),
        ("c.mp4", front, 0.97, r"cut off after frame \d+ of 48"),
        ("d.mkv", matroska, 0.5, r"cut off after frame \d+;"),
        ("e.mkv", matroska, 0.97, r"cut off after frame \d+;"),
    ):
        (tmp_path / name).write_bytes(data[: int(len(data) * part)])
        with pytest.raises(InputError, match=reason) as error:
            list(read_frames(tmp_path / name))
        one_line(error)


@pytest.mark.parametrize("num_bytes", [1, 400])
def test_damage_in_the_middle_names_the_frame(tmp_path: Path, num_bytes: int) -> None:
    """h264 has no checksums: some damage decodes as if it were meant. Most is seen, and never shortens."""
    shuffle = random.Random(0)
    path = make_clip(tmp_path / "clip.mp4", pictures=[smooth(number) for number in range(48)])
    whole = path.read_bytes()
    start = whole.find(b"mdat")
    found = 0
    for part in range(20, 80, 6):
        data = bytearray(whole)
        place = start + (len(data) - start) * part // 100
        for k in range(place, place + num_bytes):
            data[k] ^= shuffle.randrange(1, 256)
        path.write_bytes(data)
        assert probe(path).num_frames == 48  # nothing to see without decoding
        seen = 0
        try:
            for _ in read_frames(path):
                seen += 1
        except InputError as error:
            assert f"frame {seen}" in str(error)
            assert "\n" not in str(error)
            assert abs(seen - 48 * part / 100) < 12
            found += 1
        else:
            assert seen == 48
    assert found >= 6, f"{found} of 10 seen"


def test_a_frame_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "wide.mp4", 1, size=(8448, 64), pictures=[np.zeros((64, 8448, 3), np.uint8)])
    with pytest.raises(InputError, match="8448×64 pixels; at most 8192 a side"):
        probe(path)
