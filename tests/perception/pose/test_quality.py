"""The report on estimated poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.perception import report
from animate_anyone.structures import LEFT_HAND, PoseSequence
from people import person


def holey() -> PoseSequence:
    pose = person(20)
    scores, points = pose.scores.copy() * np.float32(0.8), pose.keypoints.copy()
    scores[4:7] = 0
    scores[19] = 0
    scores[:, LEFT_HAND] = 0
    points[12:, :, 0] += 150
    return replace(pose, scores=scores, keypoints=points)


def test_what_is_there_and_what_is_not() -> None:
    quality = report(holey())
    assert quality.found == 16 and quality.missing == ((4, 7), (19, 20))
    assert quality.seen_in["body"] == 1 and quality.seen_in["left hand"] == 0 and quality.seen_in["right hand"] == 1
    assert quality.confidence["body"] == pytest.approx(0.8) and quality.confidence["left hand"] == 0
    assert quality.jumps == (12,)
    text = "\n".join(quality.lines())
    assert "16 of 20 frames; nobody in 4-6, 19" in text and "before frame 12" in text
    assert len(quality.lines()) <= 4


def test_out_of_view() -> None:
    pose = person(4)
    points = pose.keypoints.copy()
    points[:, [JOINT["right_ankle"], JOINT["left_ankle"]], 1] = 700
    assert report(replace(pose, keypoints=points)).out_of_view == pytest.approx(2 / 18)
    assert report(pose).out_of_view == 0


def test_nobody_and_too_few_are_refused() -> None:
    nobody = replace(person(8), scores=np.zeros((8, 128), np.float32))
    with pytest.raises(InputError, match=r"any of the 8 frames.*--pose-estimator rtmlib"):
        report(nobody).check()
    scores = np.zeros((8, 128), np.float32)
    scores[0] = 1
    with pytest.raises(InputError, match="only 1 of 8"):
        report(replace(person(8), scores=scores)).check()
    report(holey()).check()


def test_many_gaps_stay_one_line() -> None:
    scores = np.ones((40, 128), np.float32)
    scores[::2] = 0
    line = report(replace(person(40), scores=scores)).lines()[0]
    assert "and 14 more places" in line
