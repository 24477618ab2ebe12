"""Sound that is not as usual: which track is taken, how it is mixed down, and what does not stop a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from small_clips import RATE, bar, make_clip, make_sound, replace_bytes, tones

from animate_anyone.media import VideoWriter, open_video, probe
from animate_anyone.media import sound as sound_module
from animate_anyone.media.mixdown import mix
from animate_anyone.media.sound import _Converter, _survives

UNKNOWN = b"apac"  # a codec of telephones, for spatial sound
CHANNELS_8 = 0x00800008  # QuickTime's layout FL FR FC LFE SL SR BL BR, in another order than FFmpeg's
CHANNELS_6 = 0x007A0006  # FL FR SL SR FC LFE


def carried(source: Path, path: Path) -> Path:
    """A short video with the sound of another, as the verbs write it: the track is found out first."""
    video = open_video(source)
    with VideoWriter(path, (64, 64), 24, audio_from=video.sound) as writer:
        for number in range(24):
            writer.write(bar(number, (64, 64)))
    return path


def custom_layout(path: Path, layout: str, tag: int, codec: str = "pcm_s16le") -> Path:
    """A MOV file whose ``chan`` atom names a layout that FFmpeg can only list channel by channel."""
    make_sound(path, [layout], codec)
    data = bytearray(path.read_bytes())
    at = data.index(b"chan") + 8
    data[at : at + 8] = tag.to_bytes(4, "big") + bytes(4)
    path.write_bytes(data)
    return path


def test_the_first_track_that_can_be_decoded(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "two.mov", ["stereo", "mono"])
    assert open_video(source).sound is not None
    assert open_video(source).remarks == ()
    replace_bytes(source, b"sowt", UNKNOWN)
    video = open_video(source)
    assert video.sound is not None and video.sound.track == 1
    (remark,) = video.remarks
    assert remark == ("sound: track 1 (of an unknown kind) cannot be decoded here; track 2 (pcm_s16le) is taken")
    assert tones(carried(source, tmp_path / "out.mp4")) == [{0}]


def test_no_track_can_be_decoded(tmp_path: Path) -> None:
    source = replace_bytes(make_sound(tmp_path / "one.mov"), b"sowt", UNKNOWN)
    video = open_video(source)
    assert video.sound is None
    (remark,) = video.remarks
    assert "cannot be decoded here; the result is silent" in remark
    assert not probe(carried(source, tmp_path / "out.mp4")).has_audio
    with VideoWriter(tmp_path / "direct.mp4", (64, 64), 24, audio_from=source) as writer:
        writer.write(bar(0, (64, 64)))
    assert not probe(tmp_path / "direct.mp4").has_audio


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
@pytest.mark.parametrize(
    ("layout", "tag", "left", "right"),
    [
        ("7.1", CHANNELS_8, {0, 2, 4, 6}, {1, 2, 5, 7}),
        ("5.1", CHANNELS_6, {0, 2, 4}, {1, 3, 4}),
    ],
)
def test_channels_named_one_by_one(
    tmp_path: Path, layout: str, tag: int, left: set[int], right: set[int], codec: str
) -> None:
    """PyAV 18 aborts the process at the second look at such a layout (double free)."""
    source = custom_layout(tmp_path / "custom.mov", layout, tag, codec)
    assert tones(carried(source, tmp_path / "out.mp4")) == [left, right]


def test_an_abort_is_found_out_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_sound(tmp_path / "surround.mkv", ["5.1"])
    assert _survives(source, 0)
    monkeypatch.setattr(sound_module, "_TRIAL", "import os; os.abort()")
    assert not _survives(source, 0)
    video = open_video(source)
    assert video.sound is None
    assert "the result is silent" in video.remarks[0]


@pytest.mark.parametrize("layout", ["9 channels", "16 channels", "ambisonic 1", "hexadecagonal", "3 channels"])
def test_layouts_that_ffmpeg_has_no_mixture_for(layout: str) -> None:
    count = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(np.full((1, 512 * count), 0.25, np.float32), format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    ((begin, samples),) = _Converter(layout, RATE, "stereo").convert(frame)
    assert begin == 0
    assert samples.shape[0] == 2
    assert 0 < np.abs(samples).max() < 2


def test_mixtures() -> None:
    one = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(mix(one, "ambisonic 1"), [[0.5, 0.5, 0, 0], [0.5, -0.5, 0, 0]])
    swapped = mix(one[:2, :2], "2 channels (FR+FL)")
    np.testing.assert_allclose(swapped, [[0, 1], [1, 0]])
    assert mix(np.ones((3, 5), np.float32), "5 channels").max() == pytest.approx(1)


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "nan.mkv", ["mono"], "pcm_f32le")
    data = bytearray(source.read_bytes())
    nan = np.full(200, np.nan, np.float32).tobytes()
    at = len(data) // 2
    data[at : at + len(nan)] = nan
    source.write_bytes(data)
    assert probe(carried(source, tmp_path / "out.mp4")).has_audio


def test_sound_that_changes_its_channels(tmp_path: Path) -> None:
    """As broadcasts do between programmes; two transport streams one after the other are one."""
    parts = []
    for name, layout in (("a.ts", "mono"), ("b.ts", "stereo")):
        with av.open(str(tmp_path / name), "w") as output:
            video = output.add_stream("libx264", rate=24)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            audio = output.add_stream("mp2", rate=48000, layout=layout)
            for number in range(24):
                output.mux(video.encode(av.VideoFrame.from_ndarray(bar(number, (64, 64)), format="rgb24")))
            count = 1 if layout == "mono" else 2
            frame = av.AudioFrame.from_ndarray(np.full((1, 48000 * count), 3000, np.int16), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
            output.mux(video.encode(None))
        parts.append((tmp_path / name).read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    assert probe(carried(tmp_path / "both.ts", tmp_path / "out.mp4")).has_audio


def test_packets_at_the_time_of_another(tmp_path: Path) -> None:
    """Copied sound whose times stand still or run back: the muxer would refuse it."""
    source = make_clip(tmp_path / "source.mp4", 24, size=(64, 64), sound="aac")
    video = open_video(source)
    assert video.sound is not None

    class Repeating:
        """The source's packets, every third one twice."""

        def __init__(self, track: sound_module.SoundTrack) -> None:
            self._demuxed = track._demuxed

        def __call__(self):  # type: ignore[no-untyped-def]
            for number, packet in enumerate(self._demuxed()):
                if number % 3 == 2 and packet.pts:
                    packet.pts -= 2048
                yield packet

    with VideoWriter(tmp_path / "out.mp4", (64, 64), 24, audio_from=video.sound) as writer:
        writer._sound._demuxed = Repeating(writer._sound)  # type: ignore
        for number in range(24):
            writer.write(bar(number, (64, 64)))
    assert probe(tmp_path / "out.mp4").has_audio


def test_sound_that_breaks_off_does_not_take_the_video_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_sound(tmp_path / "source.mkv")
    video, convert = open_video(source), _Converter.convert

    def breaks(self: _Converter, frame: av.AudioFrame):  # type: ignore[no-untyped-def]
        if frame.pts > 300:  # milliseconds
            raise ValueError("broken")
        return convert(self, frame)

    monkeypatch.setattr(_Converter, "convert", breaks)
    with VideoWriter(tmp_path / "out.mp4", (64, 64), 24, audio_from=video.sound) as writer:
        for number in range(24):
            writer.write(bar(number, (64, 64)))
    assert writer.remarks == ["sound: it breaks off on the way; the rest of the result is silent"]
    assert probe(tmp_path / "out.mp4").num_frames == 24


def test_a_source_that_is_gone_when_the_work_is_done(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "source.mkv")
    writer = VideoWriter(tmp_path / "out.mp4", (64, 64), 24, audio_from=open_video(source).sound)
    source.unlink()
    with writer:
        writer.write(bar(0, (64, 64)))
    assert writer.remarks == [f"sound: {source} can be read no more; the result is silent"]
    assert not probe(tmp_path / "out.mp4").has_audio
