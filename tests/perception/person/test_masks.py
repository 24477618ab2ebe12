"""Cutting people out: against the studio's truth, on real clips, and preparation which masks to doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.media import read_picture
from animate_anyone.perception.classical import grow
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.mask_checks import (
    BESIDE,
    CUT,
    EMPTY,
    JUMPS,
    NOBODY,
    SPILLS,
    UNCOVERED,
    flag_masks,
)
from animate_anyone.perception.person.masks import MASKERS, PersonMasker, load_masker, person_mark
from animate_anyone.structures import MaskTrack, PoseSequence
from animate_anyone.synthetic.dataset import sample_clip
from people import person

SIZE = (240, 360)
FLAT_GROUND = 3  # studio seed: somebody seen to the hips before one colour


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


@pytest.fixture(scope="module")
def puppet() -> tuple[list[NDArray[np.uint8]], PoseSequence, NDArray[np.bool_]]:
    clip = sample_clip(FLAT_GROUND, num_frames=4, size=(192, 256), supersample=1)
    assert (clip.description["background"], clip.description["framing"]) == ("flat", "half")
    return list(clip.frames.numpy()), clip.pose, clip.mask.numpy()


@pytest.mark.parametrize(("name", "least"), [("grabcut", 0.75), ("mediapipe", 0.75)])
def test_a_puppet_is_cut_out(name: str, least: float, puppet: tuple) -> None:
    frames, pose, truth = puppet
    masker = load_masker(name)
    assert isinstance(masker, PersonMasker)
    track = masker.mask(iter(frames), pose)
    measured = [overlap(mask, true) for mask, true in zip(track.masks, truth, strict=True)]
    assert min(measured) > least, f"overlap with the truth {np.round(measured, 2)}; {least} is needed"
    assert track.flagged == ()
    np.testing.assert_array_equal(load_masker(name).mask(frames, pose).masks, track.masks)


def test_who_leaves_and_returns_is_told_and_nothing_breaks(puppet: tuple) -> None:
    frames, pose, truth = puppet
    gone = replace(pose, scores=pose.scores.copy())
    gone.scores[1:3] = 0
    track = load_masker("grabcut").mask(frames, gone)
    assert not track.masks[1:3].any() and overlap(track.masks[3], truth[3]) > 0.7
    assert track.flagged == ((1, NOBODY), (2, NOBODY))
    assert track.lines() == ["person: no person in frame 1, 2"]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dance", "street_scene"])
def test_real_clips(name: str, shared_dir: Path) -> None:
    """No truth is known; the joints lie on the mask, it is of one piece, and little is doubted."""
    from animate_anyone.media import probe, read_frames
    from animate_anyone.perception import load_estimator

    path = shared_dir / f"clips/{name}.mp4"
    info = probe(path)
    frames = [frame for _, frame in read_frames(path, slice(0, 48, 8))]
    pose = load_estimator("mediapipe").estimate(frames, (info.width, info.height), info.fps)
    track = load_masker("mediapipe").mask(frames, pose)
    others = [doubt for doubt in track.flagged if doubt[1] != BESIDE]  # told of the curtain; so far apart it stays
    assert len(others) <= 1, track.lines()
    assert track.areas.min() > 0.08 and track.areas.max() < 0.3


@pytest.mark.shared
def test_the_curtain_beside_the_boy_is_cut_off(shared_dir: Path) -> None:
    from animate_anyone.media import probe, read_frames
    from animate_anyone.perception import load_estimator

    path = shared_dir / "clips/street_scene.mp4"
    info = probe(path)
    frames = [frame for _, frame in read_frames(path, slice(0, 18))]
    pose = clean(load_estimator("mediapipe").estimate(frames, (info.width, info.height), info.fps))
    track = load_masker("mediapipe").mask(frames, pose)
    curtain, cap, jacket = (track.masks[0, y, x] for x, y in ((617, 433), (743, 217), (760, 500)))
    assert not curtain and cap and jacket
    told = [frame for frame, reason in track.flagged if reason == CUT]
    assert set(told) >= set(range(6)), f"cut off and told in frames {told}; 0 to 5 are wanted"


def standing(frames: int = 3) -> tuple[NDArray[np.bool_], PoseSequence]:
    """Somebody, and the masks of a body around the skeleton."""
    pose = person(frames, SIZE, torso=70, neck=(120, 70))
    sure, maybe = body_hulls(pose.keypoints[0], pose.scores[0], SIZE)
    assert (sure <= maybe).all() or (sure & ~maybe).mean() < 0.001
    return np.repeat((grow(sure, 12) & maybe)[None], frames, axis=0), pose


def test_a_good_mask_is_not_doubted_and_bad_ones_are() -> None:
    masks, pose = standing()
    assert flag_masks(masks, pose) == ()
    for change, reason in (
        (np.zeros(SIZE[::-1], bool), EMPTY),
        (np.ones(SIZE[::-1], bool), SPILLS),
        (masks[1] & (np.arange(SIZE[1]) < 120)[:, None], UNCOVERED),
    ):
        changed = masks.copy()
        changed[1] = change
        assert (1, reason) in flag_masks(changed, pose), reason
        assert not any(frame == 0 for frame, _ in flag_masks(changed, pose))
    half = masks.copy()
    half[2] &= np.arange(SIZE[0]) < 120
    assert (2, JUMPS) in flag_masks(half, pose)


def test_a_mask_that_moves_with_the_body_does_not_jump() -> None:
    masks, pose = standing(2)
    moved = pose.keypoints.copy()
    moved[1] += [60, 0]
    masks[1] = np.roll(masks[1], 60, axis=1)
    assert flag_masks(masks, replace(pose, keypoints=moved)) == ()


def test_hips_below_the_frame_leave_the_trunk_in_reach() -> None:
    pose = person(1, SIZE, torso=150, neck=(120, 260))
    pose.scores[:, [JOINT[f"{side}_{j}"] for side in ("right", "left") for j in ("hip", "knee", "ankle")]] = 0
    _, maybe = body_hulls(pose.keypoints[0], pose.scores[0], SIZE)
    assert maybe[359, 100:140].all() and not maybe[359, 0]


def test_a_person_as_a_mark_lies_inside_the_frame() -> None:
    pose = person(2, SIZE, torso=150, neck=(120, 60))
    mark = person_mark(pose, 1)
    assert mark.frame == 1 and mark.box is not None
    left, top, right, bottom = mark.box
    assert 0 <= left < right <= SIZE[0] and 0 <= top < bottom <= SIZE[1]
    assert all(left <= x <= right and top <= y <= bottom for x, y in mark.points)


def test_mistakes_are_told_in_one_line() -> None:
    _, pose = standing(2)
    with pytest.raises(InputError, match=f"no person masker 'magic'; there are: {', '.join(MASKERS)}"):
        load_masker("magic")
    with pytest.raises(InputError, match="has no option 'speed'; there are: side"):
        load_masker("grabcut", speed=2)
    with pytest.raises(InputError, match="side of 8 pixels"):
        load_masker("grabcut", side=8)
    blank = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    with pytest.raises(InputError, match="1 frames and 2 poses"):
        load_masker("grabcut").mask([blank], pose)
    with pytest.raises(InputError, match=r"MaskTrack\.masks is uint8"):
        MaskTrack(np.zeros((1, 2, 2), np.uint8))  # type: ignore[arg-type]


class FollowingGraph:
    """A segmentation graph that follows: it masks where it found somebody in the first picture that it was shown."""

    opened: ClassVar[list[FollowingGraph]] = []

    def __init__(self, **_: object) -> None:
        self.first: NDArray[np.float32] | None = None
        self.opened.append(self)

    def process(self, picture: NDArray[np.uint8]) -> SimpleNamespace:
        if self.first is None:
            self.first = (picture.max(axis=-1) > 0).astype(np.float32)
        return SimpleNamespace(segmentation_mask=self.first)

    def close(self) -> None:
        self.opened.remove(self)


def test_a_picture_is_not_the_next_frame_of_the_video_before(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    from animate_anyone.perception.person import mediapipe_masks as module

    networks = SimpleNamespace(
        pose=SimpleNamespace(Pose=FollowingGraph),
        selfie_segmentation=SimpleNamespace(SelfieSegmentation=FollowingGraph),
    )
    monkeypatch.setattr(module, "load_solutions", lambda: networks)
    left, right = np.zeros((2, 60, 80, 3), np.uint8)
    left[:, :40], right[:, 40:] = 255, 255
    masker = load_masker("mediapipe")
    asked: list[NDArray[np.float32] | None] = []

    def seen(name: str, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        found = answer(name, picture)
        asked.extend([found] if name == "pose" else [])
        return found

    answer = masker._answer  # type: ignore[attr-defined]
    monkeypatch.setattr(masker, "_answer", seen)
    pose = person(2, size=(80, 60), torso=15, neck=(40, 15))
    masker.mask([left, left], pose)
    masker.mask([right], pose[:1])
    assert asked[1] is not None and asked[1][:, :40].all()
    assert asked[2] is not None and asked[2][:, 40:].all() and not asked[2][:, :40].any()


@pytest.mark.parametrize(("answers", "found"), [((0.9, 0.9, 0.9), True), ((0.9, 0.9, 0.3), False), ((0.9, 0.9), False)])
def test_beyond_the_skeletons_reach_all_three_networks_must_agree(
    answers: tuple[float, ...], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hat ends above them; the third answer is the pose network's, which may find nobody."""
    pytest.importorskip("mediapipe", reason="the masker is of MediaPipe")
    masker: Any = load_masker("mediapipe")
    pose = person(size=(120, 160), torso=30, neck=(60, 60))
    frame, body = np.zeros((160, 120, 3), np.uint8), np.zeros((160, 120), bool)
    body[4:145, 50:70] = True
    frame[body] = 200, 30, 30
    said = [body * np.float32(answer) for answer in answers]
    monkeypatch.setattr(masker, "_in_window", lambda frame, maybe: said[:2])
    monkeypatch.setattr(masker, "_answer", lambda name, frame: said[2] if len(said) > 2 else None)
    _, maybe = body_hulls(pose.keypoints[0], pose.scores[0], pose.size)
    top = int(np.flatnonzero(maybe[:, 60])[0])
    mask = masker.mask([frame], pose).masks[0]
    assert mask[top + 3 : 140, 56:64].all()
    assert mask[top - 13 : top - 2, 56:64].mean() == (1.0 if found else 0.0)
    assert not mask[: top - 16].any()  # half a torso length is 15 pixels


def test_graphs_are_closed_when_their_masker_is_gone(dancers: Path) -> None:
    pytest.importorskip("mediapipe", reason="the masker is of MediaPipe")
    masker = load_masker()
    frame = read_picture(dancers / "me.png")
    everywhere = np.ones(frame.shape[:2], np.uint8)
    masker.chance(frame, frame, everywhere, everywhere, 20.0)  # type: ignore[attr-defined]
    graphs = list(masker._graphs.values())  # type: ignore[attr-defined]
    assert len(graphs) == 3 and all(graph._graph is not None for graph in graphs)
    del masker
    assert all(graph._graph is None for graph in graphs)  # what MediaPipe's ``close`` leaves
