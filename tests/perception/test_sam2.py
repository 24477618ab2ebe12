"""SAM2's code path with a tiny random network: clicks, directions, folders. It cannot show that masks are good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from animate_anyone.errors import InputError
from animate_anyone.perception.objects.tracking import ObjectTracker, load_tracker
from animate_anyone.perception.person.masks import Sam2Masker
from animate_anyone.perception.sam2 import Sam2Tracker
from animate_anyone.structures import ObjectMark
from people import person
from tiny_sam2 import tiny_sam2

FRAMES = [np.random.default_rng(i).integers(0, 255, (48, 80, 3), np.uint8) for i in range(4)]
MARKS = [
    ObjectMark("ball", 1, (10, 12, 30, 36)),
    ObjectMark("ball", 3, None, ((20, 24),), ((60, 40),)),
    ObjectMark("bat", 0, (40, 10, 60, 30)),
]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_sam2()


def test_each_object_gets_a_track_over_all_frames(model: Any) -> None:
    tracker = Sam2Tracker(model=model)
    assert isinstance(tracker, ObjectTracker)
    ball, bat = tracker.track(FRAMES, MARKS)
    assert (ball.name, bat.name) == ("ball", "bat")
    assert ball.masks.shape == bat.masks.shape == (4, 48, 80)
    assert ball.areas.any() and bat.areas.any()
    again = tracker.track(FRAMES, MARKS)[0]
    np.testing.assert_array_equal(again.masks, ball.masks)
    assert tracker.track(FRAMES, []) == ()


def test_clicks_arrive_in_the_networks_pixels(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """80x48 is stretched to 64x64; a box is two points labelled 2 and 3, points are 1, others 0."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession as Session

    seen = []
    keep = Session.add_point_inputs
    monkeypatch.setattr(
        Session,
        "add_point_inputs",
        lambda self, i, frame, given: (seen.append((frame, given)), keep(self, i, frame, given)),
    )
    Sam2Tracker(model=model).track(FRAMES, MARKS[:2])
    (first, box), (second, points) = seen
    assert (first, second) == (1, 3)
    np.testing.assert_allclose(box["point_coords"][0, 0], [[8, 16], [24, 48]], rtol=1e-5)
    assert box["point_labels"].flatten().tolist() == [2, 3]
    np.testing.assert_allclose(points["point_coords"][0, 0], [[16, 32], [48, 160 / 3]], rtol=1e-5)
    assert points["point_labels"].flatten().tolist() == [1, 0]


def test_it_masks_a_person_and_nobody(model: Any) -> None:
    pose = person(4, (80, 48), torso=12, neck=(40, 10))
    pose.scores[2] = 0
    track = Sam2Masker(tracker=Sam2Tracker(model=model)).mask(FRAMES, pose)
    assert track.masks.shape == (4, 48, 80) and not track.masks[2].any()
    assert (2, "no person") in track.flagged
    pose.scores[:] = 0
    assert not Sam2Masker(tracker=Sam2Tracker(model=model)).mask(FRAMES, pose).masks.any()


def test_folders_are_loaded_whole_or_refused(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "whole")
    tracks = load_tracker("sam2", weights=tmp_path / "whole").track(FRAMES[:2], MARKS[2:])
    np.testing.assert_array_equal(tracks[0].masks, Sam2Tracker(model=model).track(FRAMES[:2], MARKS[2:])[0].masks)

    weights = load_file(tmp_path / "whole/model.safetensors")
    lost = next(name for name in weights if name.startswith("mask_decoder"))
    del weights[lost]
    save_file(weights, tmp_path / "whole/model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"weights are missing: {lost}"):
        load_tracker("sam2", weights=tmp_path / "whole")
    with pytest.raises(InputError, match="needs weights and none are bundled"):
        load_tracker("sam2")
    with pytest.raises(InputError, match=r"no config\.json there"):
        load_tracker("sam2", weights=tmp_path)


def test_only_frames_in_reach_are_remembered(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long video gives the same masks whether all frames are remembered or those that can be looked at again."""
    frames = [np.random.default_rng(i).integers(0, 255, (24, 40, 3), np.uint8) for i in range(70)]
    marks = [ObjectMark("ball", 30, (10, 6, 30, 18)), ObjectMark("ball", 45, None, ((20, 12),))]
    most: list[int] = []
    seen: dict[bool, list[Any]] = {True: [], False: []}
    forget, mask = Sam2Tracker._forget, Sam2Tracker._mask
    for forgets in (True, False):

        def watched(self: Sam2Tracker, session: Any, near: Any, forgets: bool = forgets) -> None:
            if forgets:
                forget(self, session, near)
                most.append(len(session.output_dict_per_obj[0]["non_cond_frame_outputs"]))

        def noted(self: Sam2Tracker, found: Any, size: Any, forgets: bool = forgets) -> Any:
            seen[forgets].append(found.pred_masks.clone())
            return mask(self, found, size)

        monkeypatch.setattr(Sam2Tracker, "_forget", watched)
        monkeypatch.setattr(Sam2Tracker, "_mask", noted)
        Sam2Tracker(model=model).track(frames, marks)
    assert len(seen[True]) == len(seen[False]) == 71
    assert all(bool((one == other).all()) for one, other in zip(seen[True], seen[False], strict=True))
    assert max(most) < 60
