"""The file of objects marked by hand: what it gives, and one line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.errors import InputError
from animate_anyone.perception.objects.marks_file import parse_objects, read_object_file
from animate_anyone.structures import ObjectMark

GOOD = {
    "size": [320, 180],
    "objects": [
        {
            "name": "ball",
            "frames": [0, 9],
            "marks": [{"frame": 5, "points": [[10, 20]], "outside": [[0, 0]]}, {"frame": 0, "box": [10, 20, 30, 40]}],
        },
        {"name": "bat", "marks": [{"frame": 2, "box": [0, 0, 320, 180], "points": [[160, 90]]}]},
    ],
}


def test_marks_come_in_the_videos_pixels_ordered_by_frame(tmp_path: Path) -> None:
    (tmp_path / "objects.json").write_text(json.dumps(GOOD))
    assert read_object_file(tmp_path / "objects.json", (640, 540), 12) == [
        ObjectMark("ball", 0, (20, 60, 60, 120), lifetime=(0, 9)),
        ObjectMark("ball", 5, None, ((20, 60),), ((0, 0),), (0, 9)),
        ObjectMark("bat", 2, (0, 0, 640, 540), ((320, 270),)),
    ]
    del GOOD["size"]
    assert parse_objects(GOOD, (320, 180), 12)[0].box == (10, 20, 30, 40)


def one(**mark: Any) -> Any:
    return {"objects": [{"name": "ball", "marks": [{"frame": 0, **mark}]}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "the file is list; give an object with objects"),
        ({}, "the file has no 'objects'"),
        ({"objects": []}, "give a list of 1 or more"),
        ({"objects": [{"name": "ball"}]}, r"objects\[0\] has no 'marks'"),
        ({"objects": [{"name": "", "marks": [{"frame": 0, "box": [1, 2, 3, 4]}]}]}, "a name of its own"),
        ({"objects": [*one(box=[1, 2, 3, 4])["objects"]] * 2}, r"objects\[1\]\.name is 'ball'"),
        (one(), "neither a box nor points"),
        (one(bbox=[1, 2, 3, 4]), "unknown field 'bbox'; allowed: box, frame, outside, points"),
        (one(box=[1, 2, 3]), "give a list of 4 numbers"),
        (one(box=[1, 2, 3, float("nan")]), "give a list of 4 numbers"),
        (one(box=[30, 2, 3, 4]), "inside 100x80"),
        (one(box=[200, 2, 300, 4]), "inside 100x80"),
        (one(points=[[1, 200]]), "inside 100x80"),
        (one(points=[1, 2]), "give a list of 2 numbers"),
        (one(box=[1, 2, 3, 4], frame=12), "is 12; give a frame number from 0 to 11"),
        (one(box=[1, 2, 3, 4], frame=True), "is True; give a frame number"),
        ({"size": [0, 5], **one(box=[1, 2, 3, 4])}, r"size is \[0, 5\]"),
        (
            {"objects": [{"name": "a", "frames": [3, 1], "marks": [{"frame": 2, "box": [1, 2, 3, 4]}]}]},
            r"\[first, last\]",
        ),
        (
            {"objects": [{"name": "a", "frames": [3, 5], "marks": [{"frame": 2, "box": [1, 2, 3, 4]}]}]},
            "frames are 3 to 5",
        ),
        ({"objects": [{"name": "a", "marks": [{"frame": 2, "box": [1, 2, 3, 4]}] * 2}]}, "has a frame twice"),
    ],
)
def test_mistakes_are_told_in_one_line(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_objects(content, (100, 80), 12)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_object_file(tmp_path / "missing.json", (8, 8), 1)
    (tmp_path / "broken.json").write_text('{"objects": [')
    with pytest.raises(InputError, match=r"broken\.json: not a JSON file"):
        read_object_file(tmp_path / "broken.json", (8, 8), 1)
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(InputError, match=r"empty\.json: the file has no 'objects'"):
        read_object_file(tmp_path / "empty.json", (8, 8), 1)
