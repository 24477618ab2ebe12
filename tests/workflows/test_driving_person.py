"""Several people in a driving video: the poses stay with the one who was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.media import write_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.animate import Settings, check_person
from animate_anyone.workflows.driving import Driver, open_driver
from bars import RightmostFirst, picture_of
from people import person

pytest.importorskip("cv2", reason='OpenCV comes with MediaPipe: pip install "animate-anyone[pose]"')

NECK = JOINT["neck"]


def video(folder: Path, places: list[tuple[float | None, ...]]) -> Driver:
    """A folder of frames, 24 a second."""
    folder.mkdir()
    for number, there in enumerate(places):
        write_picture(folder / f"{number:03}.png", picture_of(there))
    return open_driver(folder)


@pytest.mark.parametrize("asked", [0, 1])
def test_two_people_cross(tmp_path: Path, asked: int) -> None:
    """The estimator goes over to whoever is on the right; in the middle one hides the other."""
    walks = [(60.0 + 6 * min(n, 46), 340.0 - 6 * min(n, 46)) for n in range(84)]
    poses, lines = video(tmp_path / "frames", walks).poses(RightmostFirst, person=asked)
    seen = poses.scores[:, NECK] > 0
    apart = np.array([abs(one - other) for one, other in walks]) > 60
    assert seen[apart].all()
    x = np.array([there[asked] for there in walks])
    assert np.abs(poses.keypoints[seen, NECK, 0] - x[seen]).max() < 25  # half a bar
    assert f"people in frame 0: 2; person {asked} by size was taken; another: --person N" in lines


def test_nobody_of_that_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 people were found in frame 0"):
        video(tmp_path / "frames", [(60.0, 300.0)] * 6).poses(RightmostFirst, person=2)


def test_alone_whoever_is_found_is_the_person(tmp_path: Path) -> None:
    """A cut to another place and other light: there is nobody to take the person for."""
    folder = tmp_path / "frames"
    places: list[tuple[float | None, ...]] = [(80.0, None)] * 8 + [(None, 320.0)] * 8
    poses, lines = video(folder, places).poses(RightmostFirst)
    assert (poses.scores[:, NECK] > 0).all()
    assert abs(float(poses.keypoints[12, NECK, 0]) - 320) < 5
    assert not any("people" in line for line in lines)


def test_poses_are_those_of_the_whole_frames_where_one_person_is_alone(tmp_path: Path) -> None:
    """What an estimator says of an ordinary video is left as it is."""
    driver = video(tmp_path / "frames", [(100.0 + 4 * n, None) for n in range(10)])
    plain: list[PoseSequence] = []

    class Recording(RightmostFirst):
        def estimate(self, *args: object, **options: object) -> PoseSequence:
            plain.append(super().estimate(*args, **options))  # type: ignore[arg-type]
            return plain[-1]

    poses, _ = driver.poses(Recording)
    from animate_anyone.conditions.smooth import clean

    assert np.array_equal(poses.keypoints, clean(plain[0]).keypoints)
    assert len(plain) == 1


def test_one_person_of_poses_or_skeletons_cannot_be_chosen(tmp_path: Path) -> None:
    person(3).save(tmp_path / "poses.npz")
    driver = open_driver(tmp_path / "poses.npz")
    check_person(driver, Settings())
    with pytest.raises(InputError, match="is poses, of one person; leave --person out"):
        check_person(driver, Settings(person=1))
    with pytest.raises(InputError, match="person -1: give 0 to 99"):
        Settings(person=-1)


def test_frames_are_held_in_reach_alone() -> None:
    from animate_anyone.perception.pose.frames_in_reach import FramesInReach

    read: list[int] = []

    def frames(start: int):
        for number in range(start, 50):
            read.append(number)
            yield np.full((2, 2, 3), number, np.uint8)

    reach = FramesInReach(frames, 50, kept=8)

    def number_of(frame: NDArray[np.uint8]) -> int:
        return int(frame[0, 0, 0])

    assert [number_of(reach[n]) for n in (0, 1, 7, 3, 9, 8, 1)] == [0, 1, 7, 3, 9, 8, 1]
    assert read == [*range(10), 0, 1]  # what is at hand is not read again, what is not is
    assert [number_of(frame) for frame in reach] == list(range(50))
    assert len(reach._kept) <= 8
    assert number_of(reach[-1]) == 49
    read.clear()
    assert [number_of(reach[number]) for number in reversed(range(49))] == list(reversed(range(49)))
    assert len(read) <= 2 * 50, "going back does not read everything anew for each frame"
