"""Clips of a data set, read for training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.preparation.reading import read_clips
from small_dataset import CLIPS, grey, masks_of, objects_of, poses_of, write


def test_any_frames_poses_and_masks(tmp_path: Path) -> None:
    clips = read_clips(write(tmp_path))
    assert [(c.num_frames, c.size, c.split) for c in clips] == [(c.num_frames, c.size, c.split) for c in CLIPS]
    for clip, wanted in zip(clips, CLIPS, strict=True):
        numbers = [3, 0, 3, wanted.num_frames - 1, 1]
        frames = clip.frames(numbers)
        assert [abs(int(frame[-2, 2, 1]) - grey(number)) < 5 for frame, number in zip(frames, numbers, strict=True)]
        assert np.allclose(clip.poses().keypoints, poses_of(wanted).keypoints)
        masks = clip.masks(numbers)
        assert masks is not None and np.array_equal(masks, masks_of(wanted)[numbers])
        assert clip.masks(numbers, "objects") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "clips/01/01c.mp4").unlink(), r"1 files of its clips are gone, such as clips/01/01c"),
        (lambda folder: (folder / "manifest.jsonl").unlink(), "give a folder that `prepare` wrote"),
        (lambda folder: (folder / "manifest.jsonl").write_text(""), "no clips were kept"),
        (lambda folder: (folder / "manifest.jsonl").write_text('{"status": "kept", "id": "a"}'), "damaged"),
    ],
)
def test_data_sets_that_cannot_be_read(tmp_path: Path, change: object, message: str) -> None:
    write(tmp_path)
    change(tmp_path)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        read_clips(tmp_path)


def test_files_of_another_clip(tmp_path: Path) -> None:
    write(tmp_path)
    files = [tmp_path / "clips/00/00c.npz", tmp_path / "clips/00/00c.masks.npz"]
    (tmp_path / "clips/01/01c.npz").rename(files[0])
    files[1].write_bytes(b"no archive")
    (tmp_path / "clips/01/01c.npz").write_bytes(b"")
    clip = read_clips(tmp_path)[0]
    with pytest.raises(InputError, match=r"00c\.npz: not the poses of this clip"):
        clip.poses()
    with pytest.raises(InputError, match=r"00c\.masks\.npz: not a file of masks"):
        clip.masks([0])
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    lines[1]["files"]["masks"] = lines[2]["files"]["masks"]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=r"01c\.masks\.npz: not the masks of this clip"):
        read_clips(tmp_path)[0].masks([0])


def test_masks_of_several_objects_are_one(tmp_path: Path) -> None:
    clip = read_clips(write(tmp_path, CLIPS[1:2], objects=True))[0]
    masks = clip.masks([2, 0], "objects")
    assert masks is not None and np.array_equal(masks, objects_of(CLIPS[1]).any(0)[[2, 0]])
