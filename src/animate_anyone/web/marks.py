"""Objects marked by clicks on a frame, in the form of a marks file (docs/perception.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from animate_anyone.errors import InputError
from animate_anyone.media import read_picture
from animate_anyone.structures import Picture

INSIDE, OUTSIDE, BOX, PERSON = "point on the object", "point beside it", "corner of its box", "person"
CLICKS = (PERSON, BOX, INSIDE, OUTSIDE)
"""What a click says."""
LARGEST = 100_000  # letters of a marks file
MOST_NAME = 60
_COLOURS = {"box": (255, 160, 0), "points": (0, 220, 90), "outside": (240, 40, 60), "person": (80, 160, 255)}


def check_marks(text: str) -> str | None:
    """Marks as they are written to a file; ``None`` where nothing is marked.

    Raises:
        InputError: it is no JSON object, or too long. What the marks say is looked at with the video.
    """
    if not text.strip():
        return None
    if len(text) > LARGEST:
        raise InputError(f"the marks have {len(text)} letters; at most {LARGEST}")
    content = _read(text)
    if '"corner"' in text:
        raise InputError("a box has one corner; click on the other one, or clear the marks")
    return json.dumps(content) if content.get("objects") else None


def clicked(text: str, name: str, kind: str, place: tuple[int, int], frame: int, size: tuple[int, int]) -> str:
    """Marks with one click more.

    Args:
        text: the marks before, JSON, or empty.
        name: of the object.
        kind: of :data:`CLICKS`, but for the person. Two corners make a box, in whatever order.
        place: ``(x, y)`` in pixels of the frame that is shown.
        frame: its number.
        size: its ``(width, height)``.

    Raises:
        InputError: the marks before are none, are of a frame of another size, or the name is empty.
    """
    name = name.strip()[:MOST_NAME]
    if not name:
        raise InputError("the object has no name; give one, such as ball")
    content: dict[str, Any] = _read(text) if text.strip() else {"size": list(size), "objects": []}
    if content.get("size") != list(size):
        raise InputError("these marks are of another video; clear them first")
    try:
        one = next((known for known in content["objects"] if known["name"] == name), None)
        if one is None:
            one = {"name": name, "marks": []}
            content["objects"].append(one)
        mark = next((known for known in one["marks"] if known["frame"] == frame), None)
        if mark is None:
            mark = {"frame": frame}
            one["marks"].append(mark)
        _add(mark, kind, place)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError("the marks are none that were made here; clear them first") from None
    return json.dumps(content, indent=1)


def person_at(people: list[list[float]], place: tuple[int, int]) -> int | None:
    """The number of the person whose box, ``[left, top, right, bottom]``, a click is in; the nearest middle wins."""
    x, y = place
    inside = [n for n, (left, top, right, bottom) in enumerate(people) if left <= x <= right and top <= y <= bottom]

    def away(number: int) -> float:
        left, top, right, bottom = people[number]
        return abs(left + right - 2 * x) + abs(top + bottom - 2 * y)

    return min(inside, key=away, default=None)


def drawn(frame: str | Path, text: str, number: int, people: list[list[float]], chosen: int | None) -> Picture:
    """A frame with the marks of its number, and boxes around people, the chosen one's thick."""
    picture = Image.fromarray(read_picture(frame, min_side=1))
    pen = ImageDraw.Draw(picture)
    for person, box in enumerate(people):
        pen.rectangle(box, outline=_COLOURS["person"], width=6 if person == chosen else 2)
        pen.text((box[0] + 6, box[1] + 4), f"person {person}", fill=_COLOURS["person"])
    content = _read(text) if text.strip() else {}
    for one in content.get("objects", ()):
        for mark in one.get("marks", ()):
            if mark.get("frame") != number:
                continue
            if "box" in mark:
                pen.rectangle(mark["box"], outline=_COLOURS["box"], width=3)
            for key in ("points", "outside"):
                for x, y in mark.get(key, ()):
                    pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=_COLOURS[key], outline=(255, 255, 255))
    return np.asarray(picture)


def _add(mark: dict[str, Any], kind: str, place: tuple[int, int]) -> None:
    x, y = place
    if kind == BOX:
        corners = mark.pop("corner", None)
        if corners is None:
            mark["corner"] = [x, y]
            mark.pop("box", None)
            return
        left, right, top, bottom = *sorted((corners[0], x)), *sorted((corners[1], y))
        mark["box"] = [left, top, max(right, left + 1), max(bottom, top + 1)]
    else:
        mark.setdefault("points" if kind == INSIDE else "outside", []).append([x, y])


def _read(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError("the marks are no JSON object; clear them, and click again")
    return content
