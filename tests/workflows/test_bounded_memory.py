"""What `replace` makes of a video is never held whole: memory does not grow with the number of frames."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny
from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.first_guess import frames as guessed
from animate_anyone.perception.objects.tracking import GivenMarks, find_objects
from animate_anyone.perception.person.masks import load_masker
from animate_anyone.structures import MaskTrack, ObjectMark, PoseSequence, Scene, Subject
from animate_anyone.system import frame_sequence
from animate_anyone.system.frame_sequence import MadeFrames
from animate_anyone.workflows.compositing import Compositor
from animate_anyone.workflows.scene_conditions import make_conditions
from people import person

SIZE = (144, 192)
FRAME = SIZE[0] * SIZE[1] * 3
SHORT, LONG = 10, 26

pytest.importorskip("cv2", reason='OpenCV comes with MediaPipe: pip install "animate-anyone[pose]"')


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_sequence, "KEPT_BYTES", 1)
    monkeypatch.setattr(guessed, "KEPT_BYTES", 1)


def picture(number: int) -> NDArray[np.uint8]:
    """A place of noise, in which somebody red goes to and fro."""
    shown = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    shown[mask(number)] = (200, 0, 0)
    return shown


def mask(number: int) -> NDArray[np.bool_]:
    where = np.zeros(SIZE[::-1], bool)
    left = 20 + 10 * (number % 5)
    where[25:180, left : left + 30] = True
    return where


def walking(count: int) -> PoseSequence:
    pose = person(count, SIZE, torso=40, neck=(35, 50), fps=6)  # frames some tenths of a second apart are compared
    steps = np.array([(10 * (number % 5), 0) for number in range(count)], np.float32)
    return replace(pose, keypoints=pose.keypoints + steps[:, None], depth=np.zeros_like(pose.scores))


def grows_by(work: Callable[[int], object]) -> float:
    """Bytes by which the most that ``work`` holds of a clip grows with each frame more of it."""
    work(SHORT)  # what is loaded once
    most = []
    for count in (SHORT, LONG):
        gc.collect()
        tracemalloc.start()
        work(count)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (most[1] - most[0]) / (LONG - SHORT)


def test_conditions_and_result() -> None:
    pipeline = tiny.environment_pipeline(reference_latents=True, carried_reference=True, keep_detail=True)

    def work(count: int) -> None:
        frames = MadeFrames(count, (*SIZE[::-1], 3), np.uint8, picture)
        person = MaskTrack(MadeFrames(count, SIZE[::-1], bool, mask))
        ball = MaskTrack(MadeFrames(count, SIZE[::-1], bool, lambda number: mask(number) & (np.arange(SIZE[0]) < 60)))
        scene = Scene(frames, walking(count), person, (ball,))
        crop = Crop.around(person.masks, (64, 64))
        subject = Subject(picture(0), scene.pose[:1], mask(0))
        cropped = crop.of(scene)
        conditions = make_conditions(cropped, subject, Letterbox.into(cropped.pose.size, SIZE), (48, 64), pipeline)
        assert conditions.first_guess is not None and conditions.objects is not None and conditions.depth is not None
        for kind in (
            conditions.environment,
            conditions.mask,
            conditions.objects,
            conditions.skeletons,
            conditions.depth,
        ):
            assert sum(1 for _ in kind) == count
        composed = Compositor(scene, crop, conditions, feather=2).compose(iter(conditions.first_guess))
        assert sum(1 for _ in composed) == count

    assert grows_by(work) < 0.2 * FRAME  # as arrays it was more than ten times of it


def test_perception() -> None:
    def work(count: int) -> None:
        frames = MadeFrames(count, (*SIZE[::-1], 3), np.uint8, picture)
        track = load_masker("grabcut").mask(frames, walking(count))
        ball = find_objects(frames, GivenMarks([ObjectMark("ball", 2, (40, 40, 80, 80))]))
        assert len(track) == len(ball[0]) == count

    assert grows_by(work) < 0.2 * FRAME
