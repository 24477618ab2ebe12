"""Objects marked by hand: a JSON file of boxes and points (its form: docs/perception.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.structures import ObjectMark, Size

Point = tuple[float, float]
LARGEST = 1e9  # of the numbers in a file; no picture has so many pixels a side


def read_object_file(path: str | Path, size: Size, num_frames: int) -> list[ObjectMark]:
    """The marks of a file, in pixels of ``size``, ordered by object and frame.

    Args:
        path: a JSON file.
        size: ``(width, height)`` of the video's frames.
        num_frames: length of the video.

    Raises:
        InputError: no such file, no JSON, or a mark that cannot be: the line names it.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a JSON file of objects (docs/perception.md)") from None
    except (OSError, ValueError, RecursionError) as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise InputError(f"{path}: not a JSON file ({' '.join(str(error).split())})") from None
    try:
        return parse_objects(content, size, num_frames)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_objects(content: Any, size: Size, num_frames: int) -> list[ObjectMark]:
    """As :func:`read_object_file`, from what the JSON holds."""
    top = _fields(content, "the file", {"objects"}, {"size"})
    factor = (1.0, 1.0)
    if "size" in top:
        width, height = _numbers(top["size"], 2, "size")
        if min(width, height) < 1:
            raise InputError(f"size is {top['size']}; give [width, height] in pixels")
        factor = (size[0] / width, size[1] / height)
    objects = _list(top["objects"], "objects")
    names: set[str] = set()
    marks = []
    for number, item in enumerate(objects):
        where = f"objects[{number}]"
        item = _fields(item, where, {"name", "marks"}, {"frames"})
        name = item["name"]
        if not isinstance(name, str) or not name.strip() or name in names:
            raise InputError(f"{where}.name is {name!r}; give each object a name of its own")
        names.add(name)
        lifetime = None
        if "frames" in item:
            lifetime = tuple(_frame(v, f"{where}.frames", num_frames) for v in _list(item["frames"], f"{where}.frames"))
            if len(lifetime) != 2 or lifetime[0] > lifetime[1]:
                raise InputError(f"{where}.frames is {item['frames']}; give [first, last]")
        found = [
            _mark(mark, f"{where}.marks[{index}]", name, lifetime, factor, size, num_frames)
            for index, mark in enumerate(_list(item["marks"], f"{where}.marks"))
        ]
        if len({mark.frame for mark in found}) < len(found):
            raise InputError(f"{where}.marks has a frame twice; put its box and points into one mark")
        marks += sorted(found, key=lambda mark: mark.frame)
    return marks


def _mark(
    content: Any,
    where: str,
    name: str,
    lifetime: tuple[int, ...] | None,
    factor: tuple[float, float],
    size: Size,
    num_frames: int,
) -> ObjectMark:
    mark = _fields(content, where, {"frame"}, {"box", "points", "outside"})
    frame = _frame(mark["frame"], f"{where}.frame", num_frames)
    if lifetime is not None and not lifetime[0] <= frame <= lifetime[1]:
        raise InputError(f"{where}.frame is {frame}; the object's frames are {lifetime[0]} to {lifetime[1]}")
    box = None
    if "box" in mark:
        left, top, right, bottom = _numbers(mark["box"], 4, f"{where}.box")
        box = (left * factor[0], top * factor[1], right * factor[0], bottom * factor[1])
        if not (box[0] < box[2] and box[1] < box[3] and box[0] < size[0] and box[1] < size[1] and min(box[2:]) > 0):
            raise InputError(
                f"{where}.box is {mark['box']}; give [left, top, right, bottom] in pixels, inside {size[0]}x{size[1]}"
            )
    inside, outside = (
        tuple(_point(p, f"{where}.{key}", factor, size) for p in _list(mark.get(key, []), f"{where}.{key}", empty=True))
        for key in ("points", "outside")
    )
    if box is None and not inside:
        raise InputError(f"{where} has neither a box nor points; give one of them")
    return ObjectMark(name, frame, box, inside, outside, None if lifetime is None else (lifetime[0], lifetime[1]))


def _point(content: Any, where: str, factor: tuple[float, float], size: Size) -> Point:
    x, y = _numbers(content, 2, where)
    x, y = x * factor[0], y * factor[1]
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise InputError(f"{where} has {content}; give [x, y] in pixels, inside {size[0]}x{size[1]}")
    return x, y


def _fields(content: Any, where: str, needed: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise InputError(f"{where} is {type(content).__name__}; give an object with {', '.join(sorted(needed))}")
    for key in needed - content.keys():
        raise InputError(f"{where} has no {key!r}")
    for key in content.keys() - needed - optional:
        raise InputError(f"{where} has an unknown field {key!r}; allowed: {', '.join(sorted(needed | optional))}")
    return content


def _list(content: Any, where: str, empty: bool = False) -> list[Any]:
    if not isinstance(content, list) or not (content or empty):
        raise InputError(f"{where} is {content!r}; give a list{'' if empty else ' of 1 or more'}")
    return content


def _numbers(content: Any, count: int, where: str) -> list[float]:
    good = isinstance(content, list) and len(content) == count
    if not good or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < LARGEST for v in content
    ):
        raise InputError(f"{where} is {content!r}; give a list of {count} numbers")
    return [float(v) for v in content]


def _frame(content: Any, where: str, num_frames: int) -> int:
    if not isinstance(content, int) or isinstance(content, bool) or not 0 <= content < num_frames:
        raise InputError(f"{where} is {content!r}; give a frame number from 0 to {num_frames - 1}")
    return content
