"""Measures without truth on true clips with faults built in: each ranks the fault that it is meant for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from animate_anyone.evaluation.body_regions import ARMS, HEAD, LEGS, TORSO, body_regions
from animate_anyone.evaluation.without_truth import (
    MEASURES,
    background_change,
    means,
    measure,
    person_flicker,
    pose_agreement,
    without_truth_table,
)
from animate_anyone.structures import MaskTrack, Scene
from animate_anyone.synthetic.figure.bricks import Label
from faults import DANCER, parts, puppet


def test_each_ranks_its_own_faults(load_benchmark: Callable[[str], ModuleType]) -> None:
    faults = load_benchmark("without_truth")
    cases = [faults.Case(seed, 8, 96) for seed in (0, 2)]  # 1 stands before a plain background: no jitter shows
    measured = [faults.figures(case, other) for case, other in zip(cases, cases[::-1], strict=True)]
    for (fault, name), (right, of) in faults.rankings(measured).items():
        assert (right, of) == (2, 2), f"{name} of {fault}: {measured[0][fault][name]} and {measured[1][fault][name]}"
    for kind in faults.GROWING:
        (name,) = {faults.FAULTS[fault][0][0] for fault in kind[1:]}
        for figures in measured:
            found = [figures[fault][name] for fault in kind]
            assert found == sorted(found), (name, kind, found)
    # What a measure is not meant for leaves it alone.
    for figures in measured:
        for fault, names in (
            ("background jitter, 3 px", ("face", "clothes", "pose_error", "flicker", "drift")),
            ("another dance", ("face", "clothes", "background", "flicker")),
            ("moved by 1/16", ("face", "clothes", "flicker", "drift")),
            ("flicker, 9", ("pose_error", "background")),
            ("drift, 40", ("pose_error", "background")),
        ):
            for name in names:
                assert figures[fault][name] == pytest.approx(figures["none"][name], abs=1e-6), (fault, name)


def scene(seed: int = DANCER) -> Scene:
    clip, (frames, masks, _) = puppet(seed), parts(seed)
    return Scene(frames, clip.pose, MaskTrack(masks))


def test_segments_show_when_it_begins() -> None:
    true = scene()
    frames = true.frames.astype(int)  # type: ignore[union-attr]
    frames[3:] += np.where(true.person.masks[3:, ..., None], np.array([60, -30, -30]), 0)  # type: ignore[index]
    changed = replace(true, frames=frames.clip(0, 255).astype(np.uint8))
    reference = Scene(true.frames[:1], true.pose[:1], MaskTrack(true.person.masks[:1]))  # type: ignore[arg-type]
    found = measure(changed, reference, segments=3)
    assert [part["frames"] for part in found["segments"]] == [[0, 2], [2, 4], [4, 6]]
    first, middle, last = (part["colour"] for part in found["segments"])
    assert first < 3 < middle < last
    assert found["segments"][0]["clothes"] > 0.8 > found["segments"][2]["clothes"]
    assert found["drift"] > 10 and (found["pose_error"], found["pose_found"]) == (None, None)
    assert measure(changed, reference, segments=1)["drift"] is None


def test_pose_agreement_is_in_torso_lengths() -> None:
    pose = puppet(DANCER).pose
    assert pose_agreement(pose, pose) == (0.0, 1.0)
    double = replace(pose.scaled_to((256, 256)), keypoints=pose.scaled_to((256, 256)).keypoints)
    assert pose_agreement(double, pose) == pytest.approx((0.0, 1.0), abs=1e-4)  # of any size
    gone = replace(pose, scores=np.zeros_like(pose.scores))
    assert pose_agreement(gone, pose) == (1.0, 0.0)
    assert pose_agreement(pose, gone) == (None, None)
    with pytest.raises(ValueError, match="poses of 6 frames were found, and of 3 asked for"):
        pose_agreement(pose, pose[:3])


def test_regions_are_those_of_the_studio() -> None:
    """Most pixels go to the part that they show; of arms before a torso many go to that."""
    clip, (_, masks, labels) = puppet(DANCER), parts(DANCER)
    groups = {
        HEAD: (Label.HEAD, Label.HAIR, Label.HAT),
        TORSO: (Label.TORSO,),
        ARMS: (Label.LEFT_UPPER_ARM, Label.RIGHT_UPPER_ARM, Label.LEFT_LOWER_ARM, Label.RIGHT_LOWER_ARM),
        LEGS: (Label.LEFT_THIGH, Label.RIGHT_THIGH, Label.LEFT_SHIN, Label.RIGHT_SHIN),
    }
    looks = zip(masks, clip.pose.keypoints, clip.pose.scores, strict=True)
    regions = np.stack([body_regions(*look) for look in looks])
    assert np.array_equal(regions > 0, masks)
    for region, of in groups.items():
        assert (regions[np.isin(labels, of)] == region).mean() > {HEAD: 0.9, ARMS: 0.6}.get(region, 0.8), region
    assert not body_regions(np.zeros((8, 8), bool), clip.pose.keypoints[0], clip.pose.scores[0]).any()


def test_what_cannot_be_measured() -> None:
    true = scene()
    everywhere = replace(true, person=MaskTrack(np.ones_like(true.person.masks)))
    nowhere = replace(true, person=MaskTrack(np.zeros_like(true.person.masks)))
    assert background_change(everywhere) is None and person_flicker(nowhere) is None
    assert background_change(true) == 0.0  # the studio's background stands still
    found: dict[str, Any] = measure(nowhere, nowhere)
    assert {found[name] for name in MEASURES} - {found["background"]} == {None}
    report = {"videos": [{"name": "a", **found}, {"name": "b", **measure(true, true, true.pose)}]}
    report |= {"metrics": means(report["videos"]), "failed": {"c": "nobody was found"}}
    lines = without_truth_table(report).splitlines()
    assert lines[0].split("  ")[0] == "video" and "pose error (down)" in lines[0]
    assert lines[1].startswith("a ") and lines[3].startswith("mean ")
    assert lines[-1] == "not measured: c: nobody was found"
