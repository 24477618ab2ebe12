"""The jobs of ``batch``, one JSON object a line: read, and checked as far as that needs no picture or video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from animate_anyone.errors import InputError, shortened
from animate_anyone.media import VIDEO_SUFFIXES
from animate_anyone.models.folder import check_verb
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.perception.joint_depth import JOINTS
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.workflows import animate, replace
from animate_anyone.workflows.setting_values import is_text, parse_object, read_value, shown
from animate_anyone.workflows.settings import WorkflowSettings, check_asked

WORKFLOWS: Mapping[str, ModuleType] = {"animate": animate, "replace": replace}
_FILES = ("sam2_weights", "object_weights", "depth", "rtmlib_detector", "rtmlib_pose")  # settings that name inputs
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
        given = [getattr(self.settings, name, None) for name in _FILES]
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
    given = parse_object(text)
    verb = given.pop("verb", "animate")
    if not isinstance(verb, str) or verb not in WORKFLOWS:
        raise InputError(f"verb {shown(verb)} is not known; give {' or '.join(WORKFLOWS)}")
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
    values = {name: _place(name, read_value(name, types[name], value), here) for name, value in given.items()}
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


def _nearest(name: str, verb: str, names: list[str]) -> str:
    if name in _VIDEOS.values():
        return f"{verb} has {_VIDEOS[verb]}"
    near = get_close_matches(name.lower(), names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: verb, {', '.join(names)}"


def _path(name: str, value: Any) -> str | None:
    if value is None or (is_text(value) and value.strip()):
        return value
    raise InputError(f"{name} {shown(value)}: give the name of a file")


def _place(name: str, value: Any, here: Path) -> Any:
    """Paths of settings that are relative, seen from the jobs file."""
    if isinstance(value, Path):
        return None if name == "depth" and str(value) == JOINTS else here / value
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
