"""``animate_frames`` and ``replace_frames`` give, without a file, the frames that ``animate`` and ``replace`` write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import replaced
import tiny
from animate_anyone.errors import InputError
from animate_anyone.media import open_video, read_frames, read_picture
from animate_anyone.media.held_video import HeldVideo
from animate_anyone.progress import SILENT, Item, Progress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.structures import MaskTrack, PoseSequence
from animate_anyone.workflows.animate import Settings as AnimateSettings
from animate_anyone.workflows.animate import animate, animate_frames
from animate_anyone.workflows.driving import Driver, hold_driver, open_driver
from animate_anyone.workflows.replace import Settings, replace, replace_frames
from animate_anyone.workflows.source_video import Known


class Frames(Progress):
    """Keeps the frames that go through it."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.uint8]] = []

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        for item in items:
            if description == "frames":
                self.frames.append(np.asarray(item).copy())
            yield item


def held(path: Path) -> HeldVideo:
    """A video file in memory."""
    pictures = np.stack([frame for _, frame in read_frames(path)])
    return HeldVideo.of(pictures, open_video(path).info.fps, path.name)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aa2") / "model"
    tiny.environment_pipeline().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["poses", "skeleton video"])
def test_animated_frames_are_those_of_the_file(kind: str, tiny_model: Path, dancers: Path, tmp_path: Path) -> None:
    settings = AnimateSettings(
        str(tiny_model), size=(64, 64), steps=2, seed=3, frames=slice(2, 9), device="cpu", window=4, overlap=1
    )
    path = dancers / ("dance.npz" if kind == "poses" else "skeleton.mp4")
    known, written, shown = PoseSequence.load(dancers / "me.npz"), Frames(), Frames()
    animate(dancers / "me.png", path, tmp_path / "out.mp4", settings, character_pose=known, progress=written)
    source = PoseSequence.load(path) if kind == "poses" else held(path)
    pipeline = load_pipeline(tiny_model, "cpu")
    made, sizes, report = animate_frames(
        read_picture(dancers / "me.png"),
        hold_driver(source, slice(2, 9)),
        settings,
        character_pose=known,
        progress=shown,
        load=lambda model, placement: pipeline,
    )
    frames = list(made)
    assert sizes.video == (64, 64) and len(frames) == 7
    assert np.array_equal(frames, written.frames) and np.array_equal(frames, shown.frames)
    assert (kind == "poses") == any(line.startswith("body scale") for line in report.lines)


def test_held_poses_and_videos_are_the_drivers_of_files(dancers: Path) -> None:
    def facts(driver: Driver) -> tuple[Any, ...]:
        return len(driver), driver.size, driver.fps, driver.times, driver.duration, driver.is_skeleton

    for name in ("skeleton.mp4", "dance.mp4"):
        ours, files = hold_driver(held(dancers / name), slice(1, 8)), open_driver(dancers / name, slice(1, 8))
        assert facts(ours) == facts(files)
        assert all(np.array_equal(*pair) for pair in zip(ours.pictures(), files.pictures(), strict=True))
    poses = PoseSequence.load(dancers / "dance.npz")
    ours, files = hold_driver(poses, name="pose_keypoints"), open_driver(dancers / "dance.npz")
    assert facts(ours) == facts(files) and ours.ready is not None
    with pytest.raises(InputError, match="pose_keypoints has 12 frames"):
        hold_driver(poses, slice(0, 99), name="pose_keypoints")


def test_replaced_frames_are_those_of_the_file(
    model: Path, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced.look_with(monkeypatch, dancers)
    settings = Settings(str(model), steps=1, guidance=1.0, device="cpu", keep_background=True)
    written = Frames()
    report = replace(dancers / "me.png", dancers / "dance.mp4", tmp_path / "out.mp4", settings, progress=written)
    picture, driver = read_picture(dancers / "me.png"), hold_driver(held(dancers / "dance.mp4"), kind="video")
    made, ours = replace_frames(picture, driver, settings)
    assert np.array_equal(list(made), written.frames)
    assert [line for line in report.lines if "out.mp4" not in line] == ours.lines


def test_what_is_known_is_not_looked_for(model: Path, dancers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poses and masks that are given: the person's own are used, and nobody is asked for others."""
    truth = replaced.Truth(dancers)
    masks = replaced.Boxes().mask([], truth.dance)
    replaced.look_with(monkeypatch, dancers)
    settings = Settings(str(model), steps=1, guidance=1.0, device="cpu", keep_background=True)
    picture, driver = read_picture(dancers / "me.png"), hold_driver(held(dancers / "dance.mp4"), kind="video")
    sought = list(replace_frames(picture, driver, settings)[0])

    def nobody(*_: Any, **__: Any) -> None:
        raise AssertionError("was looked for")

    monkeypatch.setattr("animate_anyone.workflows.source_video.track_person", nobody)
    right = np.asarray(masks.masks).copy()
    known = Known(truth.dance, MaskTrack(right))
    given = list(replace_frames(picture, driver, settings, known=known)[0])
    near = np.abs(np.stack(given).astype(int) - np.stack(sought)).mean(axis=-1)
    assert near[~right].mean() < 2  # poses are cleaned where they were estimated; all else is the same
    right[:, :, : right.shape[2] // 2] = False
    half = list(replace_frames(picture, driver, settings, known=changed(known, person=MaskTrack(right)))[0])
    assert np.abs(np.stack(half).astype(int) - np.stack(given)).mean() > 1
    assert np.array_equal(np.stack(half)[:, :, :40], np.stack([f for f in driver.pictures()])[:, :, :40])


def test_objects_that_are_given_are_told_and_shown(model: Path, dancers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced.look_with(monkeypatch, dancers)
    settings = Settings(str(model), steps=1, guidance=1.0, device="cpu")
    picture, driver = read_picture(dancers / "me.png"), hold_driver(held(dancers / "dance.mp4"), kind="video")
    ball = np.zeros((len(driver), driver.size[1], driver.size[0]), bool)
    ball[2:6, 100:150, 100:150] = True
    _, report = replace_frames(picture, driver, settings, known=Known(objects=(MaskTrack(ball, "ball"),)))
    assert "objects: ball in 4 of 12 frames" in report.lines


def test_what_is_known_of_other_frames_is_refused(model: Path, dancers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced.look_with(monkeypatch, dancers)
    settings = Settings(str(model), steps=1, guidance=1.0, device="cpu")
    picture, driver = read_picture(dancers / "me.png"), hold_driver(held(dancers / "dance.mp4"), kind="video")
    dance = PoseSequence.load(dancers / "dance.npz")
    few = MaskTrack(np.ones((3, 256, 256), bool))
    for known, message in (
        (Known(dance[:5]), "the poses given are 5 of 256x256 pixels, and 12 frames of 256x256 are made"),
        (Known(dance.scaled_to((64, 64))), "the poses given are 12 of 64x64 pixels"),
        (Known(person=few), "the masks given of person are 3 of 256x256 pixels, and 12 frames"),
        (Known(objects=(changed(few, name="ball"),)), "the masks given of ball are 3 of"),
        (Known(changed(dance, depth=None)), "the poses given have no depth; leave them out"),
    ):
        with pytest.raises(InputError, match=message):
            replace_frames(picture, driver, settings, known=known, progress=SILENT)
