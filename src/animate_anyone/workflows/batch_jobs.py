"""The jobs of ``batch``, one JSON object a line: read, and checked as far as that needs no picture or video."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from animate_anyone.errors import InputError, shortened
from animate_anyone.media import VIDEO_SUFFIXES, parse_fps, parse_range, parse_size
from animate_anyone.models.folder import check_verb
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.workflows import animate, replace
from animate_anyone.workflows.settings import WorkflowSettings, check_asked

WORKFLOWS: Mapping[str, ModuleType] = {"animate": animate, "replace": replace}
_VIDEOS = {"animate": "driving", "replace": "video"}  # what each calls the video


@dataclass(frozen=True)
class Job:
    """One video to make.

    Attributes:
        line: of the jobs file, from 1.
        name: the output, as it was given.
        verb: ``animate`` or ``replace``.
        character, video: the inputs.
        output: the file to write.
        settings: of the verb's workflow.
        character_pose: the character's pose (``.npz``), where it is known.
    """

    line: int
    name: str
    verb: str
    character: Path
    video: Path
    output: Path
    settings: WorkflowSettings
    character_pose: Path | None = None

    def inputs(self) -> list[Path]:
        """All files and folders that it is made from, but for the model."""
        given = [getattr(self.settings, name, None) for name in ("sam2_weights", "object_weights")]
        objects = getattr(self.settings, "objects", None)
        given += [Path(objects) if objects is not None and _is_marks(objects) else None, self.character_pose]
        return [self.character, self.video, *(path for path in given if path is not None)]


class MistakesError(InputError):
    """What is wrong in a jobs file.

    Attributes:
        mistakes: one line each, by their numbers in the file.
    """

    def __init__(self, file: Path, mistakes: list[tuple[int, str]]) -> None:
        self.mistakes = [f"{file}, line {line}: {what}" for line, what in sorted(mistakes)]
        super().__init__("; ".join(self.mistakes))


def read_jobs(file: Path, folder: Path) -> list[Job]:
    """The jobs of a file, in its order.

    Inputs are relative to the file's folder, outputs to ``folder``. Settings have the names of the command's options,
    and sizes, frames and frame rates are written as there.

    Raises:
        MistakesError: lines that are no job, settings and models that cannot be, outputs that are given twice or are
            inputs; all of them together. Whether pictures and videos are there is not looked at.
        InputError: the file cannot be read, or holds no job.
    """
    jobs, mistakes = [], []
    for line, text in _lines(file):
        try:
            jobs.append(_job(line, text, file.parent, folder))
        except InputError as error:
            mistakes.append((line, str(error)))
    mistakes += _clashes(jobs)
    mistakes += _refused_by_models(jobs)
    if mistakes:
        raise MistakesError(file, mistakes)
    if not jobs:
        raise InputError(f'{file}: holds no job; give one a line, such as {{"character": "me.png", ...}}')
    return jobs


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, text in enumerate(lines, 1):
                if text.strip():
                    yield number, text
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give a file of jobs, one a line") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is no text; give a file of jobs, one JSON object a line") from None


def _job(line: int, text: str, here: Path, folder: Path) -> Job:
    """Raises :class:`InputError` for the first mistake in a line."""
    given = _parse(text)
    verb = given.pop("verb", "animate")
    if not isinstance(verb, str) or verb not in WORKFLOWS:
        raise InputError(f"verb {_shown(verb)} is not known; give {' or '.join(WORKFLOWS)}")
    kind = WORKFLOWS[verb].Settings
    types = get_type_hints(kind)
    settings = [field.name for field in fields(kind)]
    places = ["character", _VIDEOS[verb], "output", "character_pose"]
    for name in given:
        if name not in (*places, *settings):
            raise InputError(f"{shortened(name)} is not known; {_nearest(name, verb, [*places, *settings])}")
    paths = {name: _path(name, given.pop(name, None)) for name in places}
    for name in places[:3]:
        if paths[name] is None:
            raise InputError(f'{name} is missing; give "{name}": "FILE"')
    values = {name: _value(name, types[name], value, here) for name, value in given.items()}
    name = str(paths["output"])
    output = folder / name
    if output.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"output {name}: this kind of file cannot be written; end it in {' or '.join(VIDEO_SUFFIXES)}")
    if output.is_dir():
        raise InputError(f"output {name}: is a folder; give the name of a file")
    made_with = kind(**values)
    if made_with.device.startswith("cuda:"):
        raise InputError(f"device {made_with.device}: batch shares the GPUs out itself; give auto, cuda or cpu")
    pose = paths["character_pose"]
    return Job(
        line,
        name,
        verb,
        here / str(paths["character"]),
        here / str(paths[_VIDEOS[verb]]),
        output,
        made_with,
        None if pose is None else here / pose,
    )


def _parse(text: str) -> dict[str, Any]:
    """The fields of a line, named as settings are."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"{shortened(name)} stands twice")
            found[name] = value
        return found

    try:
        given = json.loads(text, parse_constant=constant, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON ({shortened(str(error))}); give one object a line") from None
    if not isinstance(given, dict):
        raise InputError('is no JSON object; give {"character": ..., ...}')
    return {name.replace("-", "_"): value for name, value in given.items()}


def _nearest(name: str, verb: str, names: list[str]) -> str:
    if name in _VIDEOS.values():
        return f"{verb} has {_VIDEOS[verb]}"
    near = get_close_matches(name.lower(), names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: verb, {', '.join(names)}"


def _path(name: str, value: Any) -> str | None:
    if value is None or (_is_text(value) and value.strip()):
        return value
    raise InputError(f"{name} {_shown(value)}: give the name of a file")


def _value(name: str, kind: Any, value: Any, here: Path) -> Any:
    """A setting from its JSON value; paths are relative to ``here``."""
    kinds = get_args(kind) or (kind,)
    if value is None and type(None) in kinds:
        return None
    for wanted, read in _READERS.items():
        if any(one is wanted or getattr(one, "__origin__", None) is wanted for one in kinds):
            said, is_right, convert = read
            if not is_right(value):
                raise InputError(f"{name} {_shown(value)}: give {said}")
            return _place(name, convert(value), here)
    raise AssertionError(f"a setting of kind {kind}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    """Whether it is one that may be the name of a file."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


# Type of a setting -> what is to be given, whether a JSON value is that, how it is read.
_READERS: dict[Any, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool), bool),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool), int),
    float: ("a number", _is_number, float),
    Fraction: (
        'frames per second, such as 24 or "30000/1001"',
        lambda value: _is_number(value) or _is_text(value),
        lambda value: parse_fps(str(value)),
    ),
    tuple: ('"WIDTHxHEIGHT", such as "512x768"', _is_text, parse_size),
    slice: ('"A:B", such as "0:48"', _is_text, parse_range),
    Path: ("the name of a folder", _is_text, Path),
    str: ("text in quotes", _is_text, str),
}


def _place(name: str, value: Any, here: Path) -> Any:
    """Paths of settings that are relative, seen from the jobs file."""
    if isinstance(value, Path):
        return here / value
    is_file = name == "objects" and (_is_marks(value) or (here / value).is_file())
    is_folder = name == "model" and value not in SHIPPED and (here / value).is_dir()
    return str(here / value) if is_file or is_folder else value


def _is_marks(objects: str) -> bool:
    """Whether objects are marked in a file, and not names."""
    return objects.lower().endswith(".json") or Path(objects).is_file()


def _clashes(jobs: list[Job]) -> Iterator[tuple[int, str]]:
    """Results that take the place of one another, or of an input."""
    inputs = {os.path.realpath(path): job.line for job in reversed(jobs) for path in job.inputs()}
    taken: dict[str, int] = {}
    for job in jobs:
        place = os.path.realpath(job.output)
        if place in inputs:
            yield job.line, f"output {job.name}: is what line {inputs[place]} starts from; give another name"
        for what, path in (("output", place), ("keep", job.settings.keep and os.path.realpath(job.settings.keep))):
            if path and taken.setdefault(path, job.line) != job.line:
                yield job.line, f"{what} {os.path.basename(path)}: line {taken[path]} has the same; give another"


def _refused_by_models(jobs: list[Job]) -> Iterator[tuple[int, str]]:
    """Jobs whose model is none, is for the other verb, or does not go with their settings."""
    shapes: dict[tuple[str, str], AnimateAnyonePipeline | InputError] = {}
    for job in jobs:
        asked = job.settings.model, job.verb
        if asked not in shapes:
            try:
                check_verb(*asked)
                shapes[asked] = load_shapes(job.settings.model)
            except InputError as error:
                shapes[asked] = error
        found = shapes[asked]
        if isinstance(found, InputError):
            yield job.line, str(found)
            continue
        try:
            check_asked(found, job.settings)
        except InputError as error:
            yield job.line, str(error)


def _shown(value: Any) -> str:
    return shortened(json.dumps(value))
