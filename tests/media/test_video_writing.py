"""What is written can be played anywhere, is in step with its sound, and is there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from small_clips import RATE, bar, chirp, heard, lag, make_clip, number_of, smooth

from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, check_writable, frame_times, probe, read_frames


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, (128, 96), 24, crf=8) as video:
        for number in range(48):
            video.write(smooth(number))
    info = probe(path)
    assert (info.num_frames, info.fps, info.width, info.height) == (48, Fraction(24), 128, 96)
    assert info.duration == pytest.approx(2.0, abs=1e-6)
    assert not info.has_audio
    with av.open(str(path)) as source:
        coder = source.streams.video[0].codec_context
        assert (coder.name, coder.pix_fmt) == ("h264", "yuv420p")
        assert (coder.colorspace, coder.color_primaries, coder.color_trc, coder.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat"), "the index must come first"
    errors = np.stack([picture.astype(float) - smooth(k) for k, (_, picture) in enumerate(read_frames(path))])
    assert np.abs(errors).mean() < 1.5, "measured 0.9; chroma half a pixel aside gives 2.7"
    assert np.abs(errors.mean(axis=(0, 1, 2))).max() < 0.5, "colours drift"


@pytest.mark.parametrize(
    "fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25), Fraction(12), Fraction(60)]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_frame_rates_come_back(tmp_path: Path, fps: Fraction, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with VideoWriter(path, (64, 64), fps) as video:
        for number in range(30):
            video.write(bar(number, (64, 64)))
    assert (probe(path).fps, probe(path).num_frames) == (fps, 30)
    np.testing.assert_allclose(frame_times(path), np.arange(31) / float(fps), atol=2e-3)


def test_own_times(tmp_path: Path) -> None:
    times = [0.0, 0.05, 0.2, 0.21, 1.0]
    with VideoWriter(tmp_path / "out.mp4", (64, 64), 24) as video:
        for number, time in enumerate(times):
            video.write(bar(number, (64, 64)), time)
        with pytest.raises(ValueError, match="does not come after"):
            video.write(bar(9, (64, 64)), 1.0)
        with pytest.raises(ValueError, match="every frame brings a time"):
            video.write(bar(9, (64, 64)))
    np.testing.assert_allclose(frame_times(tmp_path / "out.mp4")[:-1], times, atol=1e-4)
    assert [number_of(picture) for _, picture in read_frames(tmp_path / "out.mp4")] == [0, 1, 2, 3, 4]


def test_an_odd_size_repeats_the_edge(tmp_path: Path) -> None:
    picture = np.zeros((95, 127, 3), np.uint8)
    picture[:, 64:] = 200
    with VideoWriter(tmp_path / "out.mp4", (127, 95), 24) as video:
        video.write(picture)
    _, got = next(read_frames(tmp_path / "out.mp4"))
    assert got.shape == (96, 128, 3)
    assert np.abs(got[95].astype(int) - got[94]).max() <= 3
    assert (got[:, 127] > 190).all()


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        with VideoWriter(tmp_path / name, (128, 96), 24) as video:
            for number in range(24):
                video.write(smooth(number))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


WRITES = """
import sys, time
import numpy as np
from animate_anyone.media import VideoWriter
pause, *files = sys.argv[1:]
grain = np.random.default_rng(0).integers(0, 256, (18, 28, 3), np.uint8).repeat(8, 0).repeat(8, 1)
for source, path in zip(files[::2], files[1::2]):
    with VideoWriter(path, (224, 144), 24, audio_from=source) as video:
        for number in range(36):
            frame = np.roll(grain, 3 * number, 1)
            frame[number : number + 40, number * 5 : number * 5 + 50] = 255, 30, 80
            video.write(frame)
            time.sleep(float(pause))
"""


def test_the_same_frames_and_sound_give_the_same_file(tmp_path: Path) -> None:
    """In processes that are slow or fast, and whose new memory holds other values (glibc's MALLOC_PERTURB_)."""
    codecs, suffixes = ("aac", "flac"), ("mp4", "mkv", "mov")
    sources = {codec: make_clip(tmp_path / f"{codec}.mkv", 36, size=(64, 64), sound=codec) for codec in codecs}
    written = []
    for pause, holds in (("0", "1"), ("0.01", "170"), ("0", "254")):
        paths = {(c, s): tmp_path / f"{c}_{holds}.{s}" for c in codecs for s in suffixes}
        files = [str(file) for (codec, _), path in paths.items() for file in (sources[codec], path)]
        command = [sys.executable, "-c", WRITES, pause, *files]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": holds})
        written.append({name: path.read_bytes() for name, path in paths.items()})
    for name, first in written[0].items():
        assert first == written[1][name] == written[2][name], name


@pytest.mark.parametrize("codec", ["aac", "flac", "libmp3lame"])
@pytest.mark.parametrize("first", [0.0, 0.4])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_is_in_step(tmp_path: Path, codec: str, first: float, suffix: str) -> None:
    source = make_clip(tmp_path / "source.mkv", 96, size=(64, 64), sound=codec, first=first)
    path = tmp_path / f"out.{suffix}"
    with VideoWriter(path, (64, 64), 24, audio_from=source, audio_start=1.0, audio_end=3.0) as video:
        for _, picture in read_frames(source, slice(24, 72)):
            video.write(picture)
    assert probe(path).has_audio
    begin = round((first + 1.0) * RATE)
    late, alike = lag(chirp(first + 4.0)[begin : begin + 2 * RATE], heard(path, 2.0))
    assert abs(late) < 0.003, f"{late * 1000:.1f} ms late, 3 allowed"
    assert alike > 0.97
    with av.open(str(path)) as output:
        assert output.streams.audio[0].codec_context.name == "aac"
    ends = dict(sorted(_packets(path)))  # the last of each kind
    assert 1.9 < ends["audio"] <= ends["video"] + 0.001


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source.mp4", 96, size=(64, 64), sound="aac")
    with VideoWriter(tmp_path / "out.mp4", (64, 64), 24, audio_from=source) as video:
        for number in range(12):
            video.write(bar(number, (64, 64)))
    sound = heard(tmp_path / "out.mp4", 3.0)
    assert np.abs(sound[: RATE // 4]).max() > 0.1
    assert np.abs(sound[round(0.53 * RATE) :]).max() == 0


def test_sound_and_pictures_are_interleaved(tmp_path: Path) -> None:
    """Longer than the ten seconds that the muxer would wait by itself."""
    source = make_clip(tmp_path / "source.mp4", 64, size=(64, 64), fps=4, sound="aac")
    with VideoWriter(tmp_path / "out.mp4", (64, 64), 4, audio_from=source, gop_size=4) as video:
        for _, picture in read_frames(source):
            video.write(picture)
    latest, apart = {"video": 0.0, "audio": 0.0}, 0.0
    for kind, end in _packets(tmp_path / "out.mp4"):
        latest[kind] = max(latest[kind], end)
        apart = max(apart, abs(latest["video"] - latest["audio"]))
    assert apart < 2.0, f"{apart:.1f} s apart, 2 allowed"


def test_a_silent_source_is_no_error(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source.mp4", 4)
    with VideoWriter(tmp_path / "out.mp4", (64, 64), 24, audio_from=source) as video:
        video.write(bar(0, (64, 64)))
    assert not probe(tmp_path / "out.mp4").has_audio


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupt_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    old = tmp_path / "out.mp4"
    old.write_bytes(b"the result of yesterday")
    source = make_clip(tmp_path / "source.mp4", 4, sound="aac")
    for path in (old, tmp_path / "new.mp4"):
        with pytest.raises(failure), VideoWriter(path, (64, 64), 24, audio_from=source) as video:
            for number in range(60):
                video.write(bar(number, (64, 64)))
            raise failure
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out.mp4", "source.mp4"]
    assert old.read_bytes() == b"the result of yesterday"


def test_the_name_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, (64, 64), 24) as video:
        for number in range(30):
            video.write(bar(number, (64, 64)))
            assert not path.exists()
    assert path.exists()
    assert [f.name for f in tmp_path.iterdir()] == ["out.mp4"]


def test_a_video_of_no_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"), VideoWriter(tmp_path / "out.mp4", (64, 64), 24):
        pass
    assert not list(tmp_path.iterdir())


def test_frames_of_another_form_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", (64, 48), 24) as video:
        for wrong in (np.zeros((64, 48, 3), np.uint8), np.zeros((48, 64, 3), np.float32), np.zeros((48, 64), np.uint8)):
            with pytest.raises(ValueError, match=r"it must be uint8 \(48, 64, 3\)"):
                video.write(wrong)
        video.write(np.zeros((48, 64, 3), np.uint8))


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    source = make_clip(tmp_path / "source.mp4", 4, sound="aac")
    for path, reason in (
        (tmp_path / "none" / "out.mp4", "there is no folder"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "out.webm", r"end the name in \.mp4 or \.mov or \.mkv"),
        (tmp_path / "out", r"end the name in \.mp4"),
        (tmp_path / ("x" * 300 + ".mp4"), "too long"),
        (Path("/proc/out.mp4"), "cannot be written"),
        (source / "out.mp4", "there is no folder"),
    ):
        with pytest.raises(InputError, match=reason) as error:
            VideoWriter(path, (64, 64), 24)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="is what the work starts from"):
        VideoWriter(source, (64, 64), 24, audio_from=source)
    with pytest.raises(InputError, match="no such file"):
        VideoWriter(tmp_path / "out.mp4", (64, 64), 24, audio_from=tmp_path / "none.mp4")
    with pytest.raises(InputError, match="not an ordinary file"):
        check_writable("/dev/null")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["folder.mp4", "source.mp4"]


@pytest.mark.shared
def test_a_real_clip(shared_dir: Path, tmp_path: Path) -> None:
    """Frames 100 to 124 of a real dance, with their sound."""
    source, path = shared_dir / "clips" / "dance.mp4", tmp_path / "out.mp4"
    info, times = probe(source), frame_times(source)
    assert (info.width, info.height, info.num_frames, info.has_audio) == (1080, 1920, 288, True)
    start, end = float(times[100]), float(times[124])
    with VideoWriter(
        path, (info.width, info.height), info.fps, audio_from=source, audio_start=start, audio_end=end
    ) as v:
        for _, picture in read_frames(source, slice(100, 124)):
            v.write(picture)
    whole = heard(source, info.duration)
    late, alike = lag(whole[round(start * RATE) : round(end * RATE)], heard(path, end - start))
    assert abs(late) < 0.05, f"{late * 1000:.1f} ms late, 50 allowed"
    assert alike > 0.95
    _, first = next(read_frames(path))
    _, want = next(read_frames(source, slice(100, 101)))
    assert np.abs(first.astype(float) - want).mean() < 2


def _packets(path: Path) -> list[tuple[str, float]]:
    """The kind of each packet and when it ends, in file order."""
    with av.open(str(path)) as source:
        return [(p.stream.type, float((p.pts + p.duration) * p.time_base)) for p in source.demux() if p.size]
