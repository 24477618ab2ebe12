"""What was found in a video is the same after it was written and read again."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.structures import MaskTrack, PoseSequence, Scene, Subject
from animate_anyone.system.frame_sequence import StoredFrames
from animate_anyone.workflows.decomposed import Decomposed
from people import person

SIZE, FRAMES = (45, 31), 37


def masks(seed: int) -> StoredFrames[np.bool_]:
    random = np.random.default_rng(seed)
    found: StoredFrames[np.bool_] = StoredFrames(FRAMES, SIZE[::-1], bool)
    for number in range(FRAMES):
        found[number] = random.random(SIZE[::-1]) < random.random()
    return found


@pytest.fixture
def found() -> Decomposed:
    random = np.random.default_rng(3)
    pose = replace(person(FRAMES, SIZE, torso=9, neck=(20, 8)), times=np.sort(random.random(FRAMES)))
    pose = replace(pose, depth=random.random(pose.scores.shape).astype(np.float32))
    frames = np.zeros((FRAMES, *SIZE[::-1], 3), np.uint8)
    tracks = [MaskTrack(masks(0), "person", ((3, "mask jumps"), (5, "é"))), MaskTrack(masks(1), "ball")]
    subject = Subject(random.integers(0, 256, (20, 20, 3), np.uint8), pose[:1], random.random((20, 20)) < 0.5)
    return Decomposed.of(Scene(frames, pose, tracks[0], (tracks[1],)), subject, ["one", "two: é"])


def assert_same_pose(one: PoseSequence | None, other: PoseSequence | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    for field in fields(PoseSequence):
        mine, same = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(mine, same) if isinstance(mine, np.ndarray) else mine == same, field.name


@pytest.mark.parametrize("known", [True, False])
def test_what_comes_back_is_equal(found: Decomposed, tmp_path: Path, known: bool) -> None:
    if not known:
        found = replace(found, subject=Subject(found.subject.picture, None), objects=())
    path = tmp_path / "found.zip"
    found.save(path)
    again = Decomposed.load(path)
    assert list(tmp_path.iterdir()) == [path]
    assert again.lines == found.lines
    assert_same_pose(again.pose, found.pose)
    assert_same_pose(again.subject.pose, found.subject.pose)
    assert np.array_equal(again.subject.picture, found.subject.picture)
    assert (again.subject.silhouette is None) == (not known)
    if known:
        assert np.array_equal(again.subject.silhouette, found.subject.silhouette)
    assert len(again.objects) == len(found.objects)
    for mine, same in zip((again.person, *again.objects), (found.person, *found.objects), strict=True):
        assert (mine.name, mine.flagged) == (same.name, same.flagged)
        assert np.array_equal(mine.masks, same.masks)
    scene = again.scene(np.zeros((FRAMES, *SIZE[::-1], 3), np.uint8))
    assert scene.person is again.person and len(scene.objects) == len(found.objects)


def test_what_is_damaged_is_refused(found: Decomposed, tmp_path: Path) -> None:
    path = tmp_path / "found.zip"
    with pytest.raises(InputError, match="no such file"):
        Decomposed.load(path)
    found.save(path)
    whole = path.read_bytes()
    for place in range(40, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            Decomposed.load(path)  # what is changed may be a time of day
        except InputError as error:
            assert str(path) in str(error)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a whole file of what was found in a video"):
        Decomposed.load(path)
    path.write_bytes(whole)
    assert np.array_equal(Decomposed.load(path).person.masks, found.person.masks)
