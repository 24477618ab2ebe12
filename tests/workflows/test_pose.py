"""The poses in a video or a picture, and the video that shows them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.media import open_video, probe
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.pose import estimate_file
from people import FoundEverywhere
from small_videos import UNEVEN, held_last_frame, numbered


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is found in every picture, with no network."""
    monkeypatch.setattr("animate_anyone.workflows.pose.load_estimator", lambda name: FoundEverywhere())


@pytest.fixture
def held(tmp_path: Path) -> Path:
    return held_last_frame(tmp_path)


def test_only_videos_and_pictures_have_poses_to_be_found(dancers: Path) -> None:
    with pytest.raises(InputError, match="holds poses already"):
        estimate_file(dancers / "dance.npz")
    with pytest.raises(InputError, match="is a skeleton video"):
        estimate_file(dancers / "skeleton.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_preview_of_poses_keeps_the_time(held: Path, tmp_path: Path, found: None, suffix: str) -> None:
    preview = tmp_path / f"over.{suffix}"
    estimate_file(held, preview=preview)
    assert probe(preview).duration == pytest.approx(2.5, abs=0.002)
    poses, _ = estimate_file(numbered(tmp_path / "uneven.mp4", UNEVEN, 6), preview=preview)
    video = open_video(preview)
    np.testing.assert_allclose(video.times[:-1], UNEVEN, atol=0.002)
    assert poses.times is not None


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
